"""The bytes of a sketch and of a baseline as first written down: other versions of Muster read them.

A change that makes this fail is a new format: raise the number in the first byte, and keep reading this one.
"""

import numpy as np
import pytest

from muster_models.sketch import codec
from muster_models.sketch.baseline import Baseline, ColumnBaseline, decode_baseline
from muster_models.sketch.window import Sketch, empty, sketch_rows

BASELINE = Baseline(
    (
        ColumnBaseline(
            "temperature", "numeric", (-10.0, 0.0, 10.0, 20.0), (0, 40, 30, 30, 0, 0), 4.5, 8.25, 0.5, "°C"
        ),
        ColumnBaseline("prediction:confidence", "confidence", (0.5, 0.75), (10, 20, 70, 0), 0.8, 0.125),
        ColumnBaseline("prediction:class", "class", (0.0, 1.0, 2.0), (0, 60, 40, 0, 0), 0.4, 0.5),
    ),
    format=1,
)
ROWS = np.array(
    [
        [-5.0, 0.625, 0],
        [5.0, 0.875, 1],
        [15.0, 0.875, 0],
        [np.nan, 1.0, 0],
        [-np.inf, 0.75, 1],
        [25.0, 0.5, np.nan],
    ]
)
WINDOW = sketch_rows(ROWS, BASELINE)
FAR = Sketch(
    BASELINE.digest,
    1000,
    tuple(np.eye(1, column.bins, column.bins - 2, dtype=np.int64)[0] * 1000 for column in BASELINE.columns),
    empty(BASELINE).moments,
)
BASELINE_BYTES = (
    "82a7636f6c756d6e739388a46e616d65ab74656d7065726174757265a46b696e64a76e756d65726963a5656467657394"
    "cbc024000000000000cb0000000000000000cb4024000000000000cb4034000000000000a6636f756e74739600281e1e"
    "0000a46d65616ecb4012000000000000a27364cb4020800000000000a36c6167cb3fe0000000000000a4756e6974a3c2"
    "b04388a46e616d65b570726564696374696f6e3a636f6e666964656e6365a46b696e64aa636f6e666964656e6365a565"
    "6467657392cb3fe0000000000000cb3fe8000000000000a6636f756e7473940a144600a46d65616ecb3fe99999999999"
    "9aa27364cb3fc0000000000000a36c6167cb0000000000000000a4756e6974a088a46e616d65b070726564696374696f"
    "6e3a636c617373a46b696e64a5636c617373a5656467657393cb0000000000000000cb3ff0000000000000cb40000000"
    "00000000a6636f756e747395003c280000a46d65616ecb3fd999999999999aa27364cb3fe0000000000000a36c6167cb"
    "0000000000000000a4756e6974a0a6666f726d617401"
)
SKETCHES: dict[str, tuple[Sketch, str]] = {
    "nothing": (empty(BASELINE), "0100005db80000007e007e66c60000007e007e00000000"),
    "a window": (WINDOW, "01000655396c3d9bbcf84077b3603dcdc0663e0000d5b58300"),
    "all rows where none are expected": (
        FAR,
        "0101e8075db80000007e007e66c60000007e007e63606078c1ce0006401a00",
    ),
}
DIGEST = "8b296cb67f3beb004efe89fff31d3559c9c2255f78c8b7a10fb46574a1b17c91"


def test_a_baseline_is_written_as_it_always_was() -> None:
    assert BASELINE.encode().hex() == BASELINE_BYTES
    assert BASELINE.digest == DIGEST


def test_a_baseline_is_read_as_it_always_was() -> None:
    assert decode_baseline(bytes.fromhex(BASELINE_BYTES)) == BASELINE


@pytest.mark.parametrize("case", SKETCHES)
def test_a_sketch_is_written_as_it_always_was(case: str) -> None:
    sketch, written = SKETCHES[case]

    assert codec.encode(sketch, BASELINE).hex() == written


@pytest.mark.parametrize("case", SKETCHES)
def test_a_sketch_is_read_as_it_always_was(case: str) -> None:
    sketch, written = SKETCHES[case]

    assert codec.decode(bytes.fromhex(written), BASELINE) == sketch


def test_the_counts_of_the_window_are_those_that_its_rows_have() -> None:
    assert [held.tolist() for held in WINDOW.counts] == [
        [1, 1, 1, 1, 1, 1],
        [0, 2, 4, 0],
        [0, 3, 2, 0, 1],
    ]


def test_both_ways_of_writing_counts_are_among_the_cases() -> None:
    assert {bytes.fromhex(written)[1] for _, written in SKETCHES.values()} == {codec.RICE, codec.DEFLATE}


def test_the_first_byte_is_the_format() -> None:
    assert {bytes.fromhex(written)[0] for _, written in SKETCHES.values()} == {codec.FIRST} == {1}
