"""Natural drift: the rows of a set as they came, dealt to the devices that measured them.

The first part is the reference. What is reported about the rest is shown, and not called false: seasons and
strikes are real.
"""

import numpy as np

from drift.fleet import Block, Setting
from drift.sources import Source

REFERENCE = 0.25  # share of each device's rows
PER_WINDOW = {"weather": 24 * 5, "flights": 1000, "seattle": 30}  # rows: five days, about three, and a month


class Replay:
    """The windows of an ordered set; the ``Fleet`` of natural drift."""

    def __init__(self, source: Source) -> None:
        rows = PER_WINDOW[source.name]
        who = np.array(source.devices)
        self.names = tuple(sorted(set(source.devices)))
        own = [source.table[who == name].astype(np.float32) for name in self.names]
        held = min(len(table) for table in own)
        first = int(held * REFERENCE)
        windows = (held - first) // rows
        self.columns = source.columns
        self._reference = np.concatenate([table[:first] for table in own])
        self._blocks = [
            np.stack([table[first + index * rows : first + (index + 1) * rows] for table in own])
            for index in range(windows)
        ]
        calibration = Setting().calibration
        self.setting = Setting(
            devices=len(own), rows=rows, columns=len(source.columns), offsets=0.0,
            windows=max(0, windows - calibration), reference_rows=len(self._reference),
        )  # fmt: skip

    def reference(self) -> Block:
        """Return the first part of every device's rows."""
        return self._reference

    def windows(self) -> list[Block]:
        """Return the rest, window by window."""
        return self._blocks
