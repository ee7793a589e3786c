"""Rice codes (Rice and Plaunt, 1971): a unary quotient, a zero bit, then the low bits of a small number.

A message is two parameters and then bits. One parameter says how many low bits numbers have where much is
expected ("dense"), the other for the rest. Messages are decoded many at a time, because only that makes use
of arrays: where a number begins is known when the one before it has been read.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

MAX_LOW = 30  # low bits of one number
_FEW = 8  # messages up to which it is quicker to walk through each alone
_WORD = 5  # bytes that hold the low bits of one number, wherever they begin
_PADDING = 7  # bits at most behind the last number


def encode(values: Integers, dense: NDArray[np.bool_], *, most: int) -> bytes | None:
    """Return the message of non-negative numbers; None when its bits would fill more than ``most`` bytes."""
    parameters = _best_parameter(values[dense]), _best_parameter(values[~dense])
    low = np.where(dense, *parameters)
    quotients = values >> low
    lengths = quotients + 1 + low
    if lengths.sum() > 8 * most:
        return None
    starts = np.cumsum(lengths) - lengths
    bits = np.zeros(int(lengths.sum()), dtype=np.uint8)
    within = np.arange(int(quotients.sum())) - np.repeat(np.cumsum(quotients) - quotients, quotients)
    bits[np.repeat(starts, quotients) + within] = 1
    for bit in range(max(parameters)):
        has = low > bit
        bits[(starts + quotients + 1 + bit)[has]] = ((values >> np.maximum(low - 1 - bit, 0)) & 1)[has]
    return bytes(parameters) + np.packbits(bits).tobytes()


def _best_parameter(values: Integers) -> int:
    """Return the first of the parameters that make the message shortest."""
    if not len(values):
        return 0
    # Low bits beyond those of the largest number only add to the message.
    low = np.arange(min(MAX_LOW, int(values.max()).bit_length()) + 1)
    sizes = (values >> low[:, None]).sum(axis=1) + len(values) * (1 + low)
    return int(sizes.argmin())


def decode(messages: Sequence[bytes], dense: NDArray[np.bool_]) -> tuple[Integers, list[str | None]]:
    """Return the numbers of each message, and what is wrong with it.

    Args:
        messages: Of any origin; time and memory are bounded by their size and that of ``dense``.
        dense: Shape (numbers, messages): which parameter holds.

    Returns:
        Numbers of the shape of ``dense``, and for each message None or why its numbers mean nothing.
    """
    problems = [_problem_of_head(message) for message in messages]
    sound = [
        message if problem is None else b"\0\0" for message, problem in zip(messages, problems, strict=True)
    ]
    data = np.frombuffer(b"".join(message[2:] for message in sound) + bytes(_WORD), dtype=np.uint8)
    stops = 8 * np.cumsum([len(message) - 2 for message in sound], dtype=np.int64)
    begins = np.append(0, stops[:-1])
    parameters = np.array([tuple(message[:2]) for message in sound], dtype=np.int64)
    low = np.where(dense, parameters[:, 0], parameters[:, 1])
    starts, ends = _walk(_following(data[:-_WORD]), begins, low + 1)
    values = ((ends - starts[:-1]) << low) | _low_bits(data, ends + 1, low)
    ending = _problems_of_end(sound, stops - starts[-1], count=len(dense))
    return values, [head or end for head, end in zip(problems, ending, strict=True)]


def _problem_of_head(message: bytes) -> str | None:
    if len(message) < 2 or max(message[:2]) > MAX_LOW:  # noqa: PLR2004 - two parameters
        return "the Rice parameters are missing or out of range"
    return None


def _problems_of_end(messages: Sequence[bytes], left: Integers, *, count: int) -> list[str | None]:
    """Return what is wrong with messages of which so many bits are left behind the last number."""
    lasts = np.array([message[-1] if len(message) > 2 else 0 for message in messages])  # noqa: PLR2004 - parameters
    padding = lasts & ((1 << np.clip(left, 0, _PADDING)) - 1)
    problems: list[str | None] = [None] * len(messages)
    for index in np.flatnonzero((left < 0) | (left > _PADDING) | (padding != 0)):
        early = left[index] < 0
        problems[index] = (
            f"expected {count} counts, the data end early"
            if early
            else "there are data behind the last count"
        )
    return problems


def _following(data: NDArray[np.uint8]) -> Integers:
    """Return for each bit, and for the end, where the next zero is: what ends a quotient from there on."""
    size = 8 * len(data)
    zeros = np.append(np.flatnonzero(np.unpackbits(data) == 0), size)
    return np.repeat(zeros, np.diff(zeros, prepend=-1))


def _walk(following: Integers, begins: Integers, skips: Integers) -> tuple[Integers, Integers]:
    """Return where the quotients of each message start, with where the last number stops, and where they end.

    A message that ends early runs on into the next: its last number then stops behind its own end.
    """
    starts = np.empty((len(skips) + 1, len(begins)), dtype=np.int64)
    ends = np.empty_like(skips)
    starts[0] = begins
    if len(begins) > _FEW:
        for start, end, skip, after in zip(starts[:-1], ends, skips, starts[1:], strict=True):
            following.take(start, out=end, mode="clip")
            np.add(end, skip, out=after)
    else:
        table = following.tolist() + [len(following) - 1] * (MAX_LOW + 1)
        for message, begin in enumerate(begins.tolist()):
            ends[:, message] = _walk_alone(table, begin, skips[:, message].tolist())
        np.add(ends, skips, out=starts[1:])
    return starts, ends


def _walk_alone(following: list[int], at: int, skips: list[int]) -> list[int]:
    ends: list[int] = []
    for skip in skips:
        end = following[at]
        ends.append(end)
        at = end + skip
    return ends


def _low_bits(data: NDArray[np.uint8], at: Integers, low: Integers) -> Integers:
    """Return ``low`` bits from each position on; ``data`` has a word of zeros behind it."""
    wide = data.astype(np.int64)
    count = len(wide) - _WORD + 1
    words = sum(wide[byte : byte + count] << (8 * (_WORD - 1 - byte)) for byte in range(_WORD))
    held = np.take(words, at >> 3, mode="clip")
    return np.asarray((held >> (8 * _WORD - (at & 7) - low)) & ((1 << low) - 1))
