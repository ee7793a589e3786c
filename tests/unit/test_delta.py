"""Which form wins for which change, and when none is shipped."""

import numpy as np
import pytest

from muster_models import delta

CHANCE = np.random.default_rng(4)
HEAD = CHANCE.bytes(1003)
WEIGHTS = (CHANCE.standard_normal(50_000) * 0.05).astype(np.float32)
BASE = HEAD + WEIGHTS.tobytes()
INT8 = (CHANCE.standard_normal(200_000) * 30).clip(-127, 127).astype(np.int8)
HALF = WEIGHTS.astype(np.float16)
NOISE = CHANCE.standard_normal(50_000)
FEW = CHANCE.random(200_000) < 0.05
STEPS = np.where(FEW, CHANCE.choice([-1, 1], 200_000), 0).astype(np.int8)


def tuned(share: float) -> bytes:
    return (WEIGHTS * (1 + share * NOISE)).astype(np.float32).tobytes()


MOVED = b"a name" + HEAD + tuned(0.001)
SHIFTED = (HALF * (1 + 0.001 * NOISE)).astype(np.float16)
CHANGES = {
    # what changed           base            new                      form                  at most
    "metadata":             (BASE,           b"a version" + BASE,     "zstd-patch",         0.001),
    "weights, by 1 %":      (BASE,           HEAD + tuned(0.01),      "words-planes-zstd",  0.63),
    "weights, by 0.1 %":    (BASE,           HEAD + tuned(0.001),     "words-planes-zstd",  0.51),
    "the same, and moved":  (BASE,           MOVED,                   "words-planes-zstd",  0.51),
    "5 % of int8, by one":  (INT8.tobytes(), (INT8 + STEPS).tobytes(), "subtract-bz2",     0.06),
    "float16, by 0.1 %":    (HALF.tobytes(), SHIFTED.tobytes(),       "halves-planes-zstd", 0.2),
}  # fmt: skip


@pytest.mark.parametrize(("base", "new", "form", "share"), CHANGES.values(), ids=CHANGES.keys())
def test_each_kind_of_change_has_its_form(base: bytes, new: bytes, form: str, share: float) -> None:
    patch = delta.encode(base, new)

    assert patch is not None
    assert patch.form == form
    assert len(patch.data) <= share * len(new)


def test_a_file_that_has_nothing_in_common_is_sent_whole() -> None:
    assert delta.encode(BASE, CHANCE.bytes(100_000)) is None


@pytest.mark.parametrize(
    ("patch", "full", "worth"),
    [
        (7_999, 10_000, True),
        (8_000, 10_000, False),  # 0.8 of it
        (0, 1_023, False),  # naming it in the manifest costs every device
        (0, 1_024, True),
    ],
)
def test_a_patch_must_save_a_fifth_and_a_kilobyte(patch: int, full: int, worth: bool) -> None:  # noqa: FBT001 - a parameter of the table
    assert delta.is_worth(patch, full) is worth


def test_only_the_frame_that_knows_the_base_takes_memory_for_the_whole_file() -> None:
    megabyte = 1024 * 1024
    patch = delta.memory_needed("zstd-patch", base=100 * megabyte, new=100 * megabyte)
    planes = delta.memory_needed("words-planes-zstd", base=100 * megabyte, new=100 * megabyte)

    assert 300 * megabyte < patch < 320 * megabyte
    assert 100 * megabyte < planes < 120 * megabyte
