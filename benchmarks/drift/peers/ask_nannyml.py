"""NannyML: ``UnivariateDriftCalculator`` with its default method and thresholds, a chunk for each window.

Its rule: Jensen-Shannon distance more than three standard deviations above the mean of reference chunks.
Fitted once on the reference; usage reports are switched off by the caller's environment.
"""

import sys
import warnings
from pathlib import Path

import nannyml
import pandas as pd

from drift.peers.asked import Asked, Flag, answer, raw_bytes


def flag(asked: Asked) -> list[Flag]:
    """Return what the calculator alerts about."""
    rows = asked.blocks.shape[2]
    reference = pd.DataFrame(asked.reference, columns=asked.names)
    calculator = nannyml.UnivariateDriftCalculator(column_names=asked.names, chunk_size=rows).fit(reference)
    flags: list[Flag] = []
    for device, windows in enumerate(asked.blocks):
        judged = windows[asked.first :].reshape(-1, len(asked.names))
        result = calculator.calculate(pd.DataFrame(judged, columns=asked.names))
        table = result.filter(period="analysis").to_df()
        for column, name in enumerate(asked.names):
            for method in {part for key, part, _ in table.columns if key == name}:
                alerts = table[name, method, "alert"].fillna(value=False).to_numpy(dtype=bool)
                flags += [(device, asked.first + int(at), column) for at in alerts.nonzero()[0]]
    return flags


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # it warns that ten reference chunks are few; its own default is ten
    windows = Asked(Path(sys.argv[1]))
    answer(windows, "NannyML univariate", flag, bytes_sent=raw_bytes(windows))
