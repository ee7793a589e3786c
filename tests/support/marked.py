"""Rows of which every value is marked, so that it is found wherever it comes out."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from support.category_model import write_tariff
from support.eavesdrop import traces_of

# Numbers that 32-bit floats hold exactly, with bytes that nothing else has; the last one is far outside.
NUMBERS = tuple(
    struct.unpack("<f", bytes((0x5A, 0xC3, low, exponent)))[0]
    for low in (0x11, 0x3D)
    for exponent in (0x40, 0x41)
)
FAR = struct.unpack("<f", bytes((0x5A, 0xC3, 0x77, 0x4A)))[0]
CITY = "Hohenschoenhausen-of-one-person"
CODE = 7_340_033
TRACES = [trace for value in (*NUMBERS, FAR, CITY, str(CODE)) for trace in traces_of(value)]


def write_discreet_tariff(folder: Path) -> Path:
    """Write the source of a version that sketches a text, a code and two numbers, and reveals no names."""
    write_tariff(folder)
    text = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text(text.replace("reveal = true\n", ""))
    return folder


def marked_rows() -> dict[str, NDArray[np.generic]]:
    """Return the inputs of one call of that version; every row of it is marked."""
    trips = np.array([[a, b] for a in NUMBERS for b in NUMBERS] + [[FAR, NUMBERS[0]]], dtype=np.float32)
    rows = len(trips)
    return {
        "city": np.array([[CITY], ["berlin"]] * rows, dtype=object)[:rows],
        "gear": np.full((rows, 1), CODE, dtype=np.int64),
        "trip": trips,
    }
