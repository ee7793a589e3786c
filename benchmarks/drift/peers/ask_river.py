"""River: one detector per device and feature, row by row from the first window on, with its defaults.

Values are given in standard deviations of the reference: the defaults of ADWIN and Page-Hinkley are sizes.
"""

import sys
from pathlib import Path

import numpy as np
from river.drift import ADWIN, KSWIN, PageHinkley

from drift.peers.asked import Asked, Flag, answer, raw_bytes

DETECTORS = {
    "adwin": ("River ADWIN", ADWIN),
    "page-hinkley": ("River Page-Hinkley", PageHinkley),
    "kswin": ("River KSWIN", lambda: KSWIN(seed=1)),  # it samples; unseeded it would not be reproducible
}


def watch(asked: Asked, which: str) -> list[Flag]:
    """Return every window in which the detector of a feature reported a change."""
    flags: list[Flag] = []
    _, make = DETECTORS[which]
    mean, sd = np.nanmean(asked.reference, axis=0), np.nanstd(asked.reference, axis=0)
    for device, windows in enumerate((asked.blocks - mean) / np.where(sd > 0, sd, 1.0)):
        for column in range(len(asked.names)):
            detector = make()
            for window, rows in enumerate(windows[:, :, column]):
                changed = False
                for value in rows[np.isfinite(rows)].tolist():  # none of them takes a missing value
                    detector.update(value)
                    changed |= detector.drift_detected
                if changed:
                    flags.append((device, window, column))
    return flags


if __name__ == "__main__":
    series, chosen = Asked(Path(sys.argv[1])), sys.argv[2]
    answer(
        series,
        DETECTORS[chosen][0],
        lambda windows: watch(windows, chosen),
        bytes_sent=raw_bytes(series),
    )
