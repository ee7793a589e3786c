"""Categories: values that are names. Those of the baseline have a bin each, all others share one.

Of the others a sketch keeps two things of bounded size that can be merged:

- *heavy hitters*: at most eight counters (Misra and Gries, 1982; merged as by Agarwal and others, 2012). A
  counter is never too high, and at most ``Others.error`` too low, which is at most a ninth of the rows.
- *how many there are*: 64 registers (HyperLogLog; Flajolet and others, 2007), merged by the larger of two;
  the standard error is 13 %.

Names of other values leave the device only where the baseline says ``reveal``: one that occurs once may be a
person's. Otherwise a counter is known by eight bits of a hash, which a 256th of all names share.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, log

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch.rows import Array

MAX_NAME = 64  # characters; a longer value is known by its beginning and a hash
HEAVY = 8  # counters
REGISTERS = 64
MAX_RANK = 31
FEWEST_ROWS = 5  # of the reference that a value needs to be named in the baseline
_HASH_BITS, _PLACE_BITS, _KEY_BITS = 64, 6, 8
_RANK_BITS = _HASH_BITS - _PLACE_BITS - _KEY_BITS
_REMEMBERED = 4096  # hashes of names: values come again, and a hash takes a microsecond
_ALPHA = 0.709  # of HyperLogLog with 64 registers


@dataclass(frozen=True)
class Others:
    """The values of a category that have no bin of their own.

    Attributes:
        rows: That held one.
        heavy: Counters by name, or by ``#`` and two digits of a hash; the highest first.
        registers: For ``distinct``, one byte each.
    """

    rows: int = 0
    heavy: tuple[tuple[str, int], ...] = ()
    registers: bytes = bytes(REGISTERS)

    @property
    def error(self) -> int:
        """By how many rows a counter may be too low, and how many a value without a counter may have."""
        return (self.rows - sum(count for _, count in self.heavy)) // (HEAVY + 1)

    @property
    def distinct(self) -> float:
        """About how many different values there were."""
        empty = self.registers.count(0)
        raw = _ALPHA * REGISTERS**2 / sum(2.0**-rank for rank in self.registers)
        # With few values the registers that none fell into say more.
        return REGISTERS * log(REGISTERS / empty) if empty and raw <= 2.5 * REGISTERS else raw


NONE = Others()


def name_of(value: object) -> str | None:
    """Return the name of a value, the same for a number whatever its type; None for a missing one."""
    match value:
        case str() if len(value) <= MAX_NAME and value.isascii():
            return value
        case None:
            return None
        case float() if isnan(value):
            return None
        case float() if value.is_integer():
            text = str(int(value))
        case bool() | int():
            text = str(int(value))
        case bytes():
            text = value.decode(errors="replace")
        case _:
            text = str(value)
    if len(text) > MAX_NAME:
        return f"{_clean(text[: MAX_NAME - 9])}…{_hash(text):016x}"[:MAX_NAME]
    return _clean(text)


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()  # half a surrogate pair has no UTF-8


def tally(values: Array) -> dict[str | None, int]:
    """Return the rows of each name; None counts the missing.

    Raises:
        SketchError: A value is a list or the like.
    """
    try:
        held = Counter(values.tolist())
    except TypeError as error:
        raise SketchError(f"expected text or numbers in a category: {error}") from error
    named: dict[str | None, int] = {}
    for value, rows in held.items():
        name = name_of(value)
        named[name] = named.get(name, 0) + rows
    return named


def most_frequent(held: Mapping[str | None, int], most: int) -> tuple[str, ...]:
    """Return the names that get a bin, the most frequent first: none that fewer than five rows hold."""
    named = [(-rows, name) for name, rows in held.items() if name is not None and rows >= FEWEST_ROWS]
    return tuple(name for _, name in sorted(named)[:most])


def count(
    held: Mapping[str | None, int], names: Sequence[str], *, reveal: bool
) -> tuple[NDArray[np.int64], Others]:
    """Return the rows of each name, of all others and of the missing (with none between), and the others."""
    known = {name: held.get(name, 0) for name in names}
    others = {name: rows for name, rows in held.items() if name is not None and name not in known}
    counts = [*known.values(), sum(others.values()), 0, held.get(None, 0)]
    return np.array(counts, dtype=np.int64), _summarise(others, reveal=reveal) if others else NONE


def _summarise(others: Mapping[str, int], *, reveal: bool) -> Others:
    registers = bytearray(REGISTERS)
    counters: dict[str, int] = {}
    for name, rows in others.items():
        place, hidden, rank = _parts(name)
        registers[place] = max(registers[place], rank)
        key = name if reveal else hidden
        counters[key] = counters.get(key, 0) + rows
    return Others(sum(others.values()), _keep(counters), bytes(registers))


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_HASH_BITS // 8).digest()
    return int.from_bytes(digest, "little")


@functools.lru_cache(maxsize=_REMEMBERED)
def _parts(name: str) -> tuple[int, str, int]:
    """Return a register, what stands for a hidden name, and how rare the rest of its hash is."""
    hashed = _hash(name)
    place = hashed & (REGISTERS - 1)
    key = (hashed >> _PLACE_BITS) & ((1 << _KEY_BITS) - 1)
    rest = hashed >> (_PLACE_BITS + _KEY_BITS)
    return place, f"#{key:02x}", min(_RANK_BITS - rest.bit_length() + 1, MAX_RANK)


def _keep(counters: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Return at most eight counters: each gives up what the ninth has."""
    ordered = sorted(counters.items(), key=lambda counter: (-counter[1], counter[0]))
    least = ordered[HEAVY][1] if len(ordered) > HEAVY else 0
    return tuple((name, rows - least) for name, rows in ordered[:HEAVY] if rows > least)


def merge(first: Others, second: Others) -> Others:
    """Return what is known about the rows of both; the errors of the counters add up at most."""
    registers = bytes(map(max, first.registers, second.registers))
    counters = Counter(dict(first.heavy))
    counters.update(dict(second.heavy))
    return Others(first.rows + second.rows, _keep(counters), registers)
