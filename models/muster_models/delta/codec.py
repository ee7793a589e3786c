"""Patches in every form: the publisher tries them all, a device makes a file of one.

    zstd-patch         one frame that knows the base: names, metadata, new layers
    subtract-bz2       differences of bytes: some weights, quantised weights
    xor-planes-zstd    differing bits of 4-byte words, in planes: float32
    words-planes-zstd  differences of 4-byte words, in planes: float32 that was trained further
    halves-planes-zstd the same of 2-byte words: float16, int16

A patch is decoded only after its signed hash was checked, and what it makes is held against the signed hash
of the whole file. So what is bounded here bounds the mistake of a publisher, and an error is no attack.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from muster_models.delta.alignment import align, find_shifts
from muster_models.delta.difference import BLOCK_BYTES, Scheme, add, subtract
from muster_models.delta.packing import PLAIN_WINDOW, has_zstd, pack_bz2, pack_zstd, read_bz2, read_zstd

WORTH: Final = 0.8  # a patch is shipped below this share of the file, which travels uncompressed
LEAST_SAVED: Final = 1024  # bytes; naming a patch costs every device about 190 in the manifest
PIECE_BYTES: Final = 256 * 1024
ZSTD_PATCH: Final = "zstd-patch"
SUBTRACT_BZ2: Final = "subtract-bz2"
SCHEMES: Final = {
    SUBTRACT_BZ2: Scheme(1),
    "xor-planes-zstd": Scheme(4, is_xor=True),
    "words-planes-zstd": Scheme(4),
    "halves-planes-zstd": Scheme(2),
}
QUICK, THOROUGH, LARGE = 3, 19, 9  # levels: to compare, to ship, to ship what is large
_LARGE_BYTES: Final = 32 * 1024 * 1024  # above, level 19 takes minutes
_OVERHEAD: Final = (1 << PLAIN_WINDOW) + 8 * BLOCK_BYTES  # a window, and a block on its way


@dataclass(frozen=True)
class Patch:
    """What makes a new file of a base."""

    form: str
    data: bytes


def known_forms() -> frozenset[str]:
    """Return the forms that this machine can make and decode: one without zstandard."""
    return frozenset({ZSTD_PATCH, *SCHEMES}) if has_zstd() else frozenset({SUBTRACT_BZ2})


def is_worth(patch: int, full: int) -> bool:
    """Tell whether a patch of so many bytes is shipped for a file of ``full`` bytes."""
    return patch < WORTH * full and patch + LEAST_SAVED <= full


def encode(base: bytes, new: bytes) -> Patch | None:
    """Return the smallest patch, or None where none is worth it."""
    best = try_forms(base, new)[0]
    return best if is_worth(len(best.data), len(new)) else None


def try_forms(base: bytes, new: bytes) -> list[Patch]:
    """Return a patch in every form that is known here, smallest first.

    Of the differences that zstd packs only the best is packed thoroughly: the others take as long, and are
    made to compare them.
    """
    shifts = find_shifts(base, new)
    contents = {
        form: subtract(base, new, runs=align(base, new, shifts=shifts, width=scheme.width), scheme=scheme)
        for form, scheme in SCHEMES.items()
    }
    tried = {SUBTRACT_BZ2: pack_bz2(contents.pop(SUBTRACT_BZ2))}
    if has_zstd():
        level = THOROUGH if len(new) <= _LARGE_BYTES else LARGE
        quick = {form: pack_zstd(content, QUICK) for form, content in contents.items()}
        best = min(quick, key=lambda form: len(quick[form]))
        quick[best] = min(quick[best], pack_zstd(contents[best], level), key=len)
        tried |= quick | {ZSTD_PATCH: pack_zstd(new, level, base=base)}
    return sorted((Patch(form, data) for form, data in tried.items()), key=lambda patch: len(patch.data))


def decode(form: str, base: bytes, patch: Iterable[bytes], *, length: int) -> Iterator[bytes]:
    """Yield the new file piece by piece, never more than ``length`` bytes of it.

    Args:
        form: Of ``known_forms``.
        base: The whole base.
        patch: The patch, in order.
        length: Of the new file, as signed.

    Raises:
        TransferError: The patch is no such patch, or makes fewer or more bytes.
        ValueError: The form is not known here.
    """
    if form not in known_forms():
        raise ValueError(f"form must be one of {sorted(known_forms())}, got {form!r}")
    if form == ZSTD_PATCH:
        reader = read_zstd(patch, base=base, length=length)
        for at in range(0, length, PIECE_BYTES):
            yield reader.read(min(PIECE_BYTES, length - at))
    else:
        reader = read_bz2(patch) if form == SUBTRACT_BZ2 else read_zstd(patch, base=None, length=length)
        yield from add(base, reader, length, SCHEMES[form])
    reader.end()


def memory_needed(form: str, *, base: int, new: int) -> int:
    """Return about how many bytes decoding takes at its peak, for files of so many bytes."""
    # zstandard holds a copy of the base, and as its window all that was made of the new file.
    return 2 * base + new + _OVERHEAD if form == ZSTD_PATCH else base + _OVERHEAD
