"""whylogs: a profile of each window against that of the reference, with its default algorithm and thresholds.

Its rule: Kolmogorov-Smirnov on the sketches' quantiles, drift where p < 0.05. Usage reports are switched off
by the caller's environment.
"""

import sys
from pathlib import Path

import pandas as pd
import whylogs
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

from drift.peers.asked import Asked, Flag, answer


def flag(asked: Asked) -> list[Flag]:
    """Return what is categorised as drift."""
    reference = whylogs.log(pd.DataFrame(asked.reference, columns=asked.names)).view()
    flags: list[Flag] = []
    for device, window, rows in asked.each():
        view = whylogs.log(pd.DataFrame(rows, columns=asked.names)).view()
        scores = calculate_drift_scores(view, reference, with_thresholds=True)
        for column, name in enumerate(asked.names):
            score = scores.get(name)
            if score is not None and score["drift_category"] == "DRIFT":
                flags.append((device, window, column))
    return flags


def profile_bytes(asked: Asked) -> float:
    """Return the serialised size of a profile per feature."""
    _, _, rows = next(iter(asked.each()))
    view = whylogs.log(pd.DataFrame(rows, columns=asked.names)).view()
    return len(view.serialize()) / len(asked.names)


if __name__ == "__main__":
    windows = Asked(Path(sys.argv[1]))
    answer(windows, "whylogs drift scores", flag, bytes_sent=profile_bytes(windows))
