"""A patch makes its file or says that it does not, whatever the bytes; and never more than was signed."""

import bz2
import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from muster_models import delta
from muster_models.delta.difference import MAX_RUNS
from muster_models.delta.packing import pack_bz2, pack_zstd
from muster_models.errors import TransferError
from support.mutation import mutate

FORMS = sorted(delta.known_forms())
CHANCE = np.random.default_rng(20)
WEIGHTS = (CHANCE.standard_normal(3000) * 0.05).astype(np.float32)
HEAD = CHANCE.bytes(333)


def made(form: str, base: bytes, patch: bytes, length: int) -> bytes:
    pieces = (patch[at : at + 100] for at in range(0, len(patch), 100))
    return b"".join(delta.decode(form, base, pieces, length=length))


def pairs() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield kinds of changes between two versions of a file."""
    base, noise = HEAD + WEIGHTS.tobytes(), CHANCE.standard_normal(3000)
    tuned = (WEIGHTS * (1 + 0.001 * noise)).astype(np.float32).tobytes()
    half = WEIGHTS.astype(np.float16)
    yield "equal", base, base
    yield "metadata only", base, b"another name" + base
    yield "trained further", base, HEAD + tuned
    yield "trained further and moved", base, b"a name" + HEAD + tuned[:5001] + b"one more" + tuned[5001:]
    yield "float16 trained further", half.tobytes(), (half * np.float16(1.01)).tobytes()
    yield "int8", (WEIGHTS * 500).astype(np.int8).tobytes(), (WEIGHTS * 505).astype(np.int8).tobytes()
    yield "a part removed", base, base[:4000] + base[9001:]
    yield "nothing in common", base, CHANCE.bytes(7001)
    yield "from nothing", b"", base
    yield "to nothing", base, b""


PAIRS = {name: (base, new) for name, base, new in pairs()}


@given(base=st.binary(max_size=3000), new=st.binary(max_size=3000))
def test_every_form_gives_any_file_back(base: bytes, new: bytes) -> None:
    patches = delta.try_forms(base, new)

    assert sorted(patch.form for patch in patches) == FORMS
    assert [made(patch.form, base, patch.data, len(new)) for patch in patches] == [new] * len(FORMS)


@given(
    base=st.binary(min_size=600, max_size=3000),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    between=st.binary(max_size=9),
)
def test_every_form_gives_a_file_of_moved_pieces_back(base: bytes, cuts: list[int], between: bytes) -> None:
    edges = sorted({0, len(base), *(min(cut, len(base)) for cut in cuts)})
    new = between.join(base[start:end] for start, end in pairwise(edges))

    patches = delta.try_forms(base, new)

    assert [made(patch.form, base, patch.data, len(new)) for patch in patches] == [new] * len(FORMS)


@pytest.mark.parametrize(("base", "new"), PAIRS.values(), ids=PAIRS.keys())
def test_every_form_gives_every_kind_of_change_back(base: bytes, new: bytes) -> None:
    patches = delta.try_forms(base, new)

    assert [made(patch.form, base, patch.data, len(new)) for patch in patches] == [new] * len(FORMS)
    assert [len(patch.data) for patch in patches] == sorted(len(patch.data) for patch in patches)


@given(data=st.data())
def test_another_base_or_length_never_passes_for_the_file(data: st.DataObject) -> None:
    base, new = PAIRS[data.draw(st.sampled_from(["metadata only", "trained further"]))]
    patch = data.draw(st.sampled_from(delta.try_forms(base, new)))
    length = data.draw(st.integers(0, 2 * len(new)))

    try:
        found = made(patch.form, data.draw(st.sampled_from([base, base[:-1], b""])), patch.data, length)
    except TransferError:
        return
    assert len(found) == length == len(new)


@pytest.mark.parametrize("form", FORMS)
def test_mutated_patches_are_refused_or_give_no_more_than_was_signed(form: str) -> None:
    attack(form, mutations=2000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", FORMS)
def test_a_million_mutated_patches_do_no_harm(form: str) -> None:
    attack(form, mutations=1_000_000 // len(FORMS), seed=2)


def attack(form: str, *, mutations: int, seed: int) -> None:
    """Decode damaged patches: frames, and what they hold (which a frame's mutation rarely reaches)."""
    chance = random.Random(f"{seed}/{form}")
    base = HEAD + WEIGHTS[:200].tobytes()
    new = b"a name" + HEAD + (WEIGHTS[:200] * np.float32(1.01)).tobytes()
    (patch,) = (one.data for one in delta.try_forms(base, new) if one.form == form)
    inner = content(form, patch)
    for _ in range(mutations):
        if inner is not None and chance.random() < 0.5:
            damaged = packed(form, mutate(inner, chance))
        else:
            damaged = mutate(patch, chance)
        size = 0
        try:
            for piece in delta.decode(form, base, [damaged], length=len(new)):
                size += len(piece)
        except TransferError:
            assert size <= len(new)
        else:
            assert size == len(new)


def content(form: str, patch: bytes) -> bytes | None:
    """Return what a patch holds; None where that is the file itself."""
    if form == "zstd-patch":
        return None
    if form == "subtract-bz2":
        return bz2.decompress(patch)
    return zstandard.ZstdDecompressor().decompressobj().decompress(patch)


def packed(form: str, inner: bytes) -> bytes:
    return pack_bz2(inner) if form == "subtract-bz2" else pack_zstd(inner, 1)


def test_a_frame_that_holds_far_more_is_not_unpacked() -> None:
    for form in FORMS:
        with pytest.raises(TransferError):
            made(form, b"", packed(form, bytes(50_000_000)), 1000)


def test_a_frame_that_wants_more_memory_than_files_of_that_length_is_refused() -> None:
    wide = pack_zstd(random.Random(1).randbytes(3_000_000), 1, base=b"x")

    with pytest.raises(TransferError):
        made("zstd-patch", b"x", wide, 1000)


def test_more_runs_than_any_publisher_makes_are_refused() -> None:
    with pytest.raises(TransferError, match="at most"):
        made("subtract-bz2", b"", pack_bz2((MAX_RUNS + 1).to_bytes(4, "little")), 10)


def test_a_form_of_tomorrow_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="'better-than-all'"):
        made("better-than-all", b"", b"", 0)


def test_a_device_without_zstandard_takes_the_form_that_python_unpacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("muster_models.delta.codec.has_zstd", lambda: False)
    base, new = PAIRS["metadata only"]
    (patch,) = delta.try_forms(base, new)

    assert delta.known_forms() == {"subtract-bz2"} == {patch.form}
    assert made(patch.form, base, patch.data, len(new)) == new
