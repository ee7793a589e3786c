"""The second format of baselines and sketches as first written down: other versions of Muster read them.

A change that makes this fail is a new format: raise the number in the first byte, and keep reading this one.
"""

from dataclasses import replace

import numpy as np
import pytest

from muster_models.sketch import codec
from muster_models.sketch.axes import Axes
from muster_models.sketch.baseline import Baseline, ColumnBaseline, decode_baseline
from muster_models.sketch.categories import Others
from muster_models.sketch.pairs import Pair, PairedColumn, Pairs
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import Sketch, empty, sketch_rows

PLAIN = Baseline(
    (
        ColumnBaseline(
            "temperature", "numeric", (-10.0, 0.0, 10.0), (0, 40, 30, 30, 0, 0), 4.5, 8.25, 0.5, "°C"
        ),
    )
)
FULL = Baseline(
    (
        ColumnBaseline("speed", "numeric", (0.0, 10.0), (20, 60, 20, 0, 0), 5.0, 6.0),
        ColumnBaseline(
            "gear", "category", (), (70, 20, 10, 0, 0), 0.0, 0.0, values=("drive", "park"), reveal=True
        ),
        ColumnBaseline("driver", "category", (), (60, 40, 0, 0), 0.0, 0.0, values=("7",)),
        ColumnBaseline("prediction:value", "numeric", (1.0,), (50, 50, 0, 0), 1.0, 0.5),
    ),
    axes=(Axes("x", bytes.fromhex("0000803f00000040"), bytes.fromhex("0000803f00000000")),),
    pairs=Pairs(
        (PairedColumn(0, (-11, 0, 11)), PairedColumn(3, (-8, 8))),
        (Pair(0, 1, 1760, 0.75), Pair(1, 0, 1760, 0.75)),
    ),
)
ROWS = Rows(
    np.array([[-5.0, 0.5], [5.0, 1.5], [15.0, 2.5], [np.nan, 0.5], [-np.inf, 1.5], [np.inf, np.inf]]),
    (
        np.array(["drive", "drive", "tow", "zürich", "tow", None], dtype=object),
        np.array([7, 7, 7, 8, 9, 1000]),
    ),
)
WINDOW = sketch_rows(ROWS, FULL)
MANY = replace(
    empty(FULL),
    rows=1000,
    counts=tuple(
        np.eye(1, column.bins, column.ordinary - 1, dtype=np.int64)[0] * 1000 for column in FULL.columns
    ),
    others=(Others(1000, (("tow", 600), ("", 3)), bytes(range(32)) * 2), Others(1000, (), b"\x01" * 64)),
    pairs=np.array([-88_000, 88_000]),
)
BASELINES = {
    "numbers": (
        PLAIN,
        (
            "84a7636f6c756d6e73918aa46e616d65ab74656d7065726174757265a46b696e64a76e756d65726963a5656467657393"
            "cbc024000000000000cb0000000000000000cb4024000000000000a6636f756e74739600281e1e0000a46d65616ecb40"
            "12000000000000a27364cb4020800000000000a36c6167cb3fe0000000000000a4756e6974a3c2b043a676616c756573"
            "90a672657665616cc2a6666f726d617402a46178657390a57061697273c0"
        ),
    ),
    "everything": (
        FULL,
        (
            "84a7636f6c756d6e73948aa46e616d65a57370656564a46b696e64a76e756d65726963a5656467657392cb0000000000"
            "000000cb4024000000000000a6636f756e747395143c140000a46d65616ecb4014000000000000a27364cb4018000000"
            "000000a36c6167cb0000000000000000a4756e6974a0a676616c75657390a672657665616cc28aa46e616d65a4676561"
            "72a46b696e64a863617465676f7279a5656467657390a6636f756e74739546140a0000a46d65616ecb00000000000000"
            "00a27364cb0000000000000000a36c6167cb0000000000000000a4756e6974a0a676616c75657392a56472697665a470"
            "61726ba672657665616cc38aa46e616d65a6647269766572a46b696e64a863617465676f7279a5656467657390a6636f"
            "756e7473943c280000a46d65616ecb0000000000000000a27364cb0000000000000000a36c6167cb0000000000000000"
            "a4756e6974a0a676616c75657391a137a672657665616cc28aa46e616d65b070726564696374696f6e3a76616c7565a4"
            "6b696e64a76e756d65726963a5656467657391cb3ff0000000000000a6636f756e74739432320000a46d65616ecb3ff0"
            "000000000000a27364cb3fe0000000000000a36c6167cb0000000000000000a4756e6974a0a676616c75657390a67265"
            "7665616cc2a6666f726d617402a4617865739183a5696e707574a178a46d65616ec4080000803f00000040a776656374"
            "6f7273c4080000803f00000000a5706169727382a7636f6c756d6e739282a6636f6c756d6e00a673636f72657393f500"
            "0b82a6636f6c756d6e03a673636f72657392f808a570616972739284a5666972737400a67365636f6e6401a870726f64"
            "75637473cd06e0a876617269616e6365cb3fe800000000000084a5666972737401a67365636f6e6400a870726f647563"
            "7473cd06e0a876617269616e6365cb3fe8000000000000"
        ),
    ),
}
SKETCHES: dict[str, tuple[Sketch, Baseline, str]] = {
    "a window of numbers": (
        sketch_rows(ROWS.numbers[:, :1], PLAIN),
        PLAIN,
        ("0200495306c22beb3b9bbc173d000057b0"),
    ),
    "nothing": (
        empty(FULL),
        FULL,
        ("0200378b00abba0000007e007e00c00000007e007e0300000000000000"),
    ),
    "a window": (
        WINDOW,
        FULL,
        (
            "0200378b060000713dabbeab3ecd38fd3d00bc0042340203746f7702077ac3bc72696368010b000000000000"
            "0030004000038101e201ea010c00000003f0000040fe0000000600c6630000003daf3618"
        ),
    ),
    "all rows where few are expected": (
        MANY,
        FULL,
        (
            "0201378be807abba0000007e007e00c00000007e007e530203746f77d80400032e03000123456784653a56d7"
            "c31cb3d35db7e1c7973e9d7b770123456784653a56d7c31cb3d35db7e1c7973e9d7b7700120000aaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaaaaa1100a71ff098006378c1cec0c00022601800"
        ),
    ),
}
DIGESTS = {
    "numbers": "4953820c4c56a762b250ba9760277bc86785e560de655951c57f328173651df5",
    "everything": "378ba2ca4321331d2dddd1697d93d4f8c0b89bc2d1cf589093b46486c351cf91",
}


@pytest.mark.parametrize("case", BASELINES)
def test_a_baseline_is_written_and_read_as_it_always_was(case: str) -> None:
    baseline, written = BASELINES[case]

    assert baseline.encode().hex() == written
    assert baseline.digest == DIGESTS[case]
    assert decode_baseline(bytes.fromhex(written)) == baseline


@pytest.mark.parametrize("case", SKETCHES)
def test_a_sketch_is_written_and_read_as_it_always_was(case: str) -> None:
    sketch, baseline, written = SKETCHES[case]
    read = codec.decode(bytes.fromhex(written), baseline)

    assert codec.encode(sketch, baseline).hex() == written
    assert read == sketch
    assert read.others == sketch.others


def test_the_window_is_what_its_rows_have() -> None:
    assert [held.tolist() for held in WINDOW.counts] == [
        [1, 1, 1, 2, 1],
        [2, 0, 3, 0, 1],
        [3, 3, 0, 0],
        [2, 3, 1, 0],
    ]
    assert WINDOW.others[0].heavy == (("tow", 2), ("zürich", 1))
    assert WINDOW.pairs.tolist() == [2 * 88, 2 * 88]


def test_the_first_byte_is_the_format_and_the_third_and_fourth_are_of_the_baseline() -> None:
    heads = {bytes.fromhex(written)[:4] for _, _, written in SKETCHES.values()}

    assert {head[0] for head in heads} == {codec.FORMAT} == {2}
    assert {head[2:].hex() for head in heads} == {digest[:4] for digest in DIGESTS.values()}
