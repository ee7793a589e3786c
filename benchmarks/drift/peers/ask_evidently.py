"""Evidently: ``DataDriftPreset`` of each window against the reference, with every default.

Its rule for a column: at most 1,000 reference rows, Kolmogorov-Smirnov with p < 0.05; more, the Wasserstein
distance in standard deviations from 0.1 on; columns of few values, other tests.
"""

import sys
from pathlib import Path

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

from drift.peers.asked import Asked, Flag, answer, raw_bytes


def flag(asked: Asked) -> list[Flag]:
    """Return what the preset calls drifted."""
    reference = pd.DataFrame(asked.reference, columns=asked.names)
    flags: list[Flag] = []
    for device, window, rows in asked.each():
        told = Report([DataDriftPreset()]).run(pd.DataFrame(rows, columns=asked.names), reference).dict()
        for metric in told["metrics"]:
            config = metric["config"]
            if "column" in config and drifted(config["method"], float(metric["value"]), config["threshold"]):
                flags.append((device, window, asked.names.index(config["column"])))
    return flags


def drifted(method: str, value: float, threshold: float) -> bool:
    """Apply the threshold that Evidently chose in the direction that it documents for the method."""
    return value < threshold if "p_value" in method else value >= threshold


if __name__ == "__main__":
    windows = Asked(Path(sys.argv[1]))
    answer(windows, "Evidently DataDriftPreset", flag, bytes_sent=raw_bytes(windows))
