"""Which bytes of two files belong together: an export that gained a name moves all weights behind it.

Guesses, by counting equal bytes; a wrong one makes a patch longer and never wrong.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from muster_models.delta.difference import MAX_RUNS, Run

Bytes = NDArray[np.uint8]

BLOCK_BYTES: Final = 512
REACH_BYTES: Final = 1024  # how far weights move between two neighbours in a file
# Weights that were trained further keep about the highest of four bytes: 0.25 of all are equal.
SAME: Final = 0.18  # share of equal bytes at which nothing better is looked for
BETTER: Final = 0.08  # by which another place must be better
PATIENCE: Final = 2000  # searches in vain; then the files are taken to have little in common


def find_shifts(base: bytes, new: bytes) -> list[int]:
    """Return for each block of ``new`` how many bytes further on in the base what belongs to it lies."""
    return list(_shifts(np.frombuffer(base, np.uint8), np.frombuffer(new, np.uint8)))


def align(base: bytes, new: bytes, *, shifts: list[int], width: int) -> list[Run]:
    """Return runs that cover ``new``, each with a word boundary where it starts.

    Args:
        base: What is there.
        new: What is wanted.
        shifts: Of each block, as ``find_shifts`` returns them.
        width: Bytes of a word.
    """
    known, wanted = np.frombuffer(base, np.uint8), np.frombuffer(new, np.uint8)
    starts = [
        (at * BLOCK_BYTES + _phase(known, wanted, at, shift, width), shift) for at, shift in enumerate(shifts)
    ]
    runs = list(_merged(starts, len(new), width)) if starts else []
    return runs if len(runs) <= MAX_RUNS else [Run(len(new), 0)]


def _shifts(base: Bytes, new: Bytes) -> Iterator[int]:
    shift, patience = 0, PATIENCE
    for at in range(0, len(new), BLOCK_BYTES):
        block = new[at : at + BLOCK_BYTES]
        score = _score(base, block, at + shift)
        if score < SAME and patience:
            patience -= 1
            found, best = _search(base, block, at + shift)
            if best > score + BETTER:
                shift, patience = found - at, PATIENCE
        yield shift


def _score(base: Bytes, block: Bytes, start: int) -> float:
    held = base[max(start, 0) : max(start, 0) + len(block)]
    return float(np.mean(held == block)) if start >= 0 and len(held) == len(block) else 0.0


def _search(base: Bytes, block: Bytes, start: int) -> tuple[int, float]:
    """Return where around ``start`` a block has the most equal bytes, and their share."""
    first = max(0, start - REACH_BYTES)
    near = base[first : max(first, start + REACH_BYTES) + len(block)]
    if len(near) < len(block):
        return start, 0.0
    equal = np.mean(sliding_window_view(near, len(block)) == block, axis=1)
    best = int(np.argmax(equal))
    return first + best, float(equal[best])


def _phase(base: Bytes, new: Bytes, at: int, shift: int, width: int) -> int:
    """Return where the first whole word of a block starts: its high bytes are the ones that are equal."""
    start = at * BLOCK_BYTES
    block = new[start : start + BLOCK_BYTES]
    held = base[max(start + shift, 0) : max(start + shift, 0) + len(block)]
    if width == 1 or len(block) < BLOCK_BYTES or len(held) < len(block) or start + shift < 0:
        return 0
    equal = (block == held).reshape(-1, width).sum(axis=0)
    return (int(np.argmax(equal)) + 1) % width


def _merged(starts: list[tuple[int, int]], length: int, width: int) -> Iterator[Run]:
    """Yield runs of neighbours whose words and shifts agree; the first starts at the start of the file."""
    groups = [next(group) for _, group in groupby(starts, key=lambda held: (held[0] % width, held[1]))]
    groups = [(0 if number == 0 else start, shift) for number, (start, shift) in enumerate(groups)]
    ends = [start for start, _ in groups[1:]] + [length]
    yield from (Run(end - start, shift) for (start, shift), end in zip(groups, ends, strict=True))
