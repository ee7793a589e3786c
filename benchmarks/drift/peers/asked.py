"""What a peer is given, and what it has to answer. Needs nothing but numpy."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Flag = tuple[int, int, int]  # device, window, column


class Asked:
    """The windows of some devices.

    Attributes:
        reference: Rows of the evaluation set.
        blocks: Shape (devices, windows, rows, columns).
        first: Window from which on flags count; those before are for detectors that learn.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as archive:
            self.reference: NDArray[np.float64] = archive["reference"].astype(np.float64)
            self.blocks: NDArray[np.float64] = archive["blocks"].astype(np.float64)
            self.first = int(archive["first"])
            self.names = [f"c{index}" for index in range(self.reference.shape[1])]

    @property
    def feature_windows(self) -> int:
        """Windows of features that flags can be about."""
        devices, windows, _, columns = self.blocks.shape
        return int(devices * (windows - self.first) * columns)

    def each(self) -> Iterable[tuple[int, int, NDArray[np.float64]]]:
        """Yield device, window and rows of all that is judged."""
        for device, windows in enumerate(self.blocks):
            for window in range(self.first, len(windows)):
                yield device, window, windows[window]


def answer(asked: Asked, method: str, flag: Callable[[Asked], list[Flag]], *, bytes_sent: float) -> None:
    """Run a method once, and print what it flagged and the CPU time of that per feature-window."""
    began = time.process_time()
    flags = flag(asked)
    seconds = time.process_time() - began
    document = {
        "method": method,
        "flags": sorted({(int(d), int(w), int(c)) for d, w, c in flags if w >= asked.first}),
        "feature_windows": asked.feature_windows,
        "cpu": seconds / asked.feature_windows,
        "bytes": bytes_sent,
    }
    print(json.dumps(document))


def raw_bytes(asked: Asked) -> float:
    """Return the bytes per feature-window of a method that needs the rows themselves, as 32-bit floats."""
    return float(4 * asked.blocks.shape[2])
