"""Bytes per feature and window of 1,000 rows, moments included: against KLL, whylogs, the entropy bound."""

import datasketches
import numpy as np
import pandas as pd
import whylogs
from figure import Figure, at_most, publish
from numpy.typing import NDArray
from sketch_cost import FEATURES, NAMES, draw

from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.window import Sketch, sketch_rows

ROWS = 1000
WINDOWS = 40
MOMENT_BYTES = 8  # four half-precision numbers
GOAL_BYTES = 30.0


def entropy_bytes(sketch: Sketch, baseline: Baseline) -> float:
    """Return the mean bytes per feature that any code of these counts needs, given the reference."""
    from math import lgamma, log  # noqa: PLC0415 - used here only

    bits = 0.0
    for counts, column in zip(sketch.counts, baseline.columns, strict=True):
        held = counts.tolist()
        logs = np.log(column.probabilities())
        bits -= lgamma(sum(held) + 1) - sum(lgamma(count + 1) for count in held) + float(counts @ logs)
    return float(bits / log(2) / 8 / len(baseline.columns))


def kll_bytes(block: NDArray[np.float32]) -> float:
    """Return the mean serialized size of one KLL sketch per feature."""
    total = 0
    for index in range(FEATURES):
        sketch = datasketches.kll_floats_sketch(200)
        sketch.update(np.ascontiguousarray(block[:, index]))
        total += len(sketch.serialize())
    return total / FEATURES


def main() -> None:
    """Measure, and print three figures."""
    chance = np.random.default_rng(2)
    baseline = make_baseline(draw(chance, 20_000).astype(np.float64), dict.fromkeys(NAMES, "numeric"))
    blocks = [draw(chance, ROWS) for _ in range(WINDOWS)]
    sketches = [sketch_rows(block, baseline) for block in blocks]
    ours = float(np.mean([len(encode(sketch, baseline)) for sketch in sketches])) / FEATURES
    bound = float(np.mean([entropy_bytes(sketch, baseline) for sketch in sketches]))
    kll = float(np.mean([kll_bytes(block) for block in blocks[:5]]))
    profile = len(whylogs.log(pd.DataFrame(blocks[0], columns=NAMES)).view().serialize()) / FEATURES
    goal = f"<= {GOAL_BYTES:g} B and 40 x less"
    publish(
        Figure(
            "bytes per feature and window", ours, kll, "DataSketches KLL k=200", "B", ours / kll, goal,
            met=ours <= GOAL_BYTES and ours / kll <= 1 / 40,
        ),
        at_most(
            "bytes per feature and window", ours=ours, peer=("whylogs", profile), unit="B", ratio=1 / 40
        ),
        at_most(
            "counts per feature and window",
            ours=ours - MOMENT_BYTES,
            peer=("entropy bound", bound),
            unit="B",
            ratio=1.15,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
