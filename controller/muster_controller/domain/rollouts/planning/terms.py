"""The forms in which people write amounts, in a plan's file, in a form or on a command line. Pure.

Each form is read by one function and written by another, and what was written reads back as the same number.
"""

import re
from typing import Any, Final

from muster_models.errors import RequestError

PERCENT: Final = 100
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?) ?(ms|s|min|m|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?([kMGT]?i?B)", re.ASCII)
_BYTES: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "kiB": 2**10, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d(?:\.\d{1,9})?))?\s?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)
_CYCLE_DAYS: Final = 146_097  # of 400 years
_EPOCH: Final = 719_468  # days from the first of March of the year 0 to 1970-01-01
_YEAR_10000: Final = 253_402_300_800  # Unix seconds
_LAST_MICROSECOND: Final = 59.9999995  # of a minute; what is later would be written as second 60
_EXACT: Final = 1e15  # whole numbers below are written as such


def parse_stages(text: str) -> list[dict[str, Any]]:
    """Return the stages of a text such as ``1, 25%, 100%``: a share of the cohort, or a number of devices.

    Raises:
        RequestError: One is neither of the two.
    """
    return [parse_stage(part.strip()) for part in text.split(",")]


def parse_stage(text: str) -> dict[str, Any]:
    """Return one stage of ``parse_stages``.

    Raises:
        RequestError: Neither of the two forms.
    """
    try:
        if text.endswith("%"):
            return {"percent": _percent(text)}
        return {"count": parse_whole(text)}
    except RequestError as error:
        raise RequestError(
            f"a stage is a share such as 25%, at most 100%, or a number of devices, got {text[:40]!r}"
        ) from error


def parse_share(text: str) -> float:
    """Return a share between 0 and 1 from ``25%`` or ``0.25``.

    Raises:
        RequestError: Neither of the two forms, or not between 0 and 1.
    """
    share = parse_number(text)
    if not 0 <= share <= 1:
        raise RequestError(f"a share is between 0 and 1, such as 25%, got {text[:40]!r}")
    return share


def parse_number(text: str) -> float:
    """Return a number; ``25%`` is 0.25.

    Raises:
        RequestError: Neither of the two forms.
    """
    words = text.strip()
    if words.endswith("%"):
        return _number(words[:-1].rstrip(), text) / PERCENT
    return _number(words, text)


def parse_whole(text: str) -> int:
    """Return a whole number.

    Raises:
        RequestError: Not one.
    """
    if _WHOLE.fullmatch(text.strip()) is None:
        raise RequestError(f"expected a whole number, got {text[:40]!r}")
    return int(text)


def parse_duration(text: str) -> float:
    """Return the seconds of ``90s``, ``10m``, ``1h 30m`` or ``2d``.

    Raises:
        RequestError: Not of this form; a number without its unit is not, 0 alone excepted.
    """
    words = text.strip()
    if words == "0":
        return 0.0
    parts = _DURATION.findall(words)
    if not parts or _DURATION.sub("", words).strip():
        raise RequestError(f"expected a duration such as 90s, 10m or 24h, got {text[:40]!r}")
    return sum(float(count) * _SECONDS[unit] for count, unit in parts)


def parse_size(text: str) -> int:
    """Return the bytes of ``200 MB`` or ``64 MiB``.

    Raises:
        RequestError: Not of this form, or no whole number of bytes.
    """
    found = _SIZE.fullmatch(text.strip())
    size = float(found[1]) * _BYTES.get(found[2], 0) if found is not None else 0.0
    if found is None or found[2] not in _BYTES or size != int(size):
        raise RequestError(f"expected a size such as 200 MB or 64 MiB, got {text[:40]!r}")
    return int(found[1]) * _BYTES[found[2]] if found[1].isdigit() else int(size)


def parse_instant(text: str) -> float:
    """Return the Unix seconds of ``2027-01-15T08:00:00Z``, of another offset from UTC, or of ``@1800000000``.

    Raises:
        RequestError: Not of this form, no such day, or without its offset.
    """
    words = text.strip()
    if words.startswith("@"):
        return parse_number(words[1:])
    found = _INSTANT.fullmatch(words)
    if found is not None:
        year, month, day, hour, minute = (int(found[index]) for index in range(1, 6))
        second, offset = float(found[6] or 0), _offset(found[7])
        days = _days(year, month, day)
        if _date(days) == (year, month, day) and hour < 24 and minute < 60 and second < 60:  # noqa: PLR2004 - a day
            return days * 86_400 + hour * 3600 + minute * 60 + second - offset
    raise RequestError(f"expected an instant such as 2027-01-15T08:00:00Z, got {text[:40]!r}")


def write_number(value: float) -> str:
    """Return a number in the shortest form that reads back as the same."""
    return str(int(value)) if value == int(value) and abs(value) < _EXACT else repr(float(value))


def write_share(value: float) -> str:
    """Return a share in per cent where that reads back as the same, else as a number."""
    written = f"{write_number(round(value * PERCENT, 9))}%"
    return written if parse_number(written) == value else write_number(value)


def write_duration(seconds: float) -> str:
    """Return a duration in the largest unit that needs no fraction."""
    for unit, least in (("d", 2), ("h", 1), ("m", 1)):
        count = seconds / _SECONDS[unit]
        if count >= least and count == int(count) < _EXACT:
            return f"{int(count)}{unit}"
    return f"{write_number(seconds)}s"


def write_size(length: int) -> str:
    """Return a number of bytes with the largest decimal prefix that needs no fraction."""
    for unit in ("TB", "GB", "MB", "kB"):
        if length and length % _BYTES[unit] == 0:
            return f"{length // _BYTES[unit]} {unit}"
    return f"{length} B"


def write_instant(seconds: float) -> str:
    """Return Unix seconds as a time in UTC where that reads back as the same, else as ``@seconds``."""
    if 0 <= seconds < _YEAR_10000:
        days, rest = divmod(seconds, 86_400)
        year, month, day = _date(int(days))
        minutes, second = divmod(rest, 60)
        hour, minute = divmod(int(minutes), 60)
        told = f"{second:09.6f}".rstrip("0").removesuffix(".")
        written = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{told}Z"
        if second < _LAST_MICROSECOND and parse_instant(written) == seconds:
            return written
    return f"@{write_number(seconds)}"


def _percent(text: str) -> float:
    percent = _number(text.removesuffix("%").strip(), text)
    if not 0 <= percent <= PERCENT:
        raise RequestError(f"expected a share up to 100%, got {text[:40]!r}")
    return percent


def _number(words: str, text: str) -> float:
    value = float(words) if _NUMBER.fullmatch(words) is not None else float("inf")
    if abs(value) == float("inf"):
        raise RequestError(f"expected a number, or a share such as 25%, got {text[:40]!r}")
    return value


def _offset(text: str) -> int:
    """Return the seconds by which a clock with this offset is ahead of UTC."""
    if text in "Zz":
        return 0
    seconds = int(text[1:3]) * 3600 + int(text[-2:]) * 60
    return -seconds if text[0] == "-" else seconds


# Days and dates of the Gregorian calendar, counted in eras of 400 years that begin in March, so that a leap
# day is the last of its year: H. Hinnant, "chrono-compatible low-level date algorithms".


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date."""
    era, year_of_era = divmod(year - (month <= 2), 400)  # noqa: PLR2004 - January and February
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _CYCLE_DAYS + day_of_era - _EPOCH


def _date(days: int) -> tuple[int, int, int]:
    """Return year, month and day of a number of days from 1970-01-01."""
    era, day_of_era = divmod(days + _EPOCH, _CYCLE_DAYS)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9  # noqa: PLR2004 - March is 0
    return year + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1  # noqa: PLR2004
