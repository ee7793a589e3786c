"""The short forms in which people write stages and shares, in a form or on a command line. Pure."""

from typing import Any

from muster_models.errors import RequestError

PERCENT = 100


def parse_stages(text: str) -> list[dict[str, Any]]:
    """Return the stages of a text such as ``1, 25%, 100%``: a share of the cohort, or a number of devices.

    Raises:
        RequestError: One is neither of the two.
    """
    return [_parse_stage(part.strip()) for part in text.split(",")]


def parse_share(text: str) -> float:
    """Return a share between 0 and 1 from ``25%`` or ``0.25``.

    Raises:
        RequestError: Neither of the two forms, or not between 0 and 1.
    """
    try:
        share = _parse_percent(text) / PERCENT if text.endswith("%") else float(text)
    except ValueError as error:
        raise RequestError(f"a share is such as 25% or 0.25, got {text[:40]!r}") from error
    if not 0 <= share <= 1:
        raise RequestError(f"a share is between 0 and 1, such as 25%, got {text[:40]!r}")
    return share


def _parse_stage(part: str) -> dict[str, Any]:
    try:
        return {"percent": _parse_percent(part)} if part.endswith("%") else {"count": int(part)}
    except ValueError as error:
        raise RequestError(
            f"a stage is a share such as 25% or a number of devices, got {part[:40]!r}"
        ) from error


def _parse_percent(text: str) -> float:
    percent = float(text.removesuffix("%"))
    if not 0 <= percent <= PERCENT:  # NaN is neither
        raise ValueError(text)
    return percent
