"""CPU per value of sketching twenty features, against DataSketches KLL and whylogs on the same blocks."""

from itertools import cycle

import datasketches
import numpy as np
import pandas as pd
import whylogs
from figure import at_most, interleave, publish
from numpy.typing import NDArray

from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.window import sketch_rows

FEATURES = 20
ROWS = 1024  # what the recorder collects before it sketches
BLOCKS = 50  # rotated, because a repeated block lets the branch predictor learn it
VALUES = FEATURES * ROWS
NAMES = [f"x{index}" for index in range(FEATURES)]


def draw(chance: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Return rows of twenty features: normal, lognormal, heavy-tailed and zero-inflated in turn."""
    columns = [
        (
            chance.normal(size=rows),
            chance.lognormal(size=rows),
            chance.standard_t(2, size=rows),
            np.where(chance.random(rows) < 0.5, 0.0, chance.gamma(2, size=rows)),
        )[index % 4]
        for index in range(FEATURES)
    ]
    return np.column_stack(columns).astype(np.float32)


def main() -> None:
    """Measure, and print two figures."""
    chance = np.random.default_rng(1)
    baseline = make_baseline(draw(chance, 20_000).astype(np.float64), dict.fromkeys(NAMES, "numeric"))
    blocks = [draw(chance, ROWS) for _ in range(BLOCKS)]
    ours, kll, frames = (
        cycle(blocks),
        cycle(blocks),
        cycle([pd.DataFrame(block, columns=NAMES) for block in blocks]),
    )
    quantiles = [datasketches.kll_floats_sketch(200) for _ in range(FEATURES)]

    def feed_kll() -> None:
        block = next(kll)
        for index, sketch in enumerate(quantiles):
            sketch.update(np.ascontiguousarray(block[:, index]))

    seconds = interleave(
        {
            "muster": lambda: sketch_rows(next(ours), baseline),
            "kll": feed_kll,
            "whylogs": lambda: whylogs.log(next(frames)),
        },
        rounds=BLOCKS,
    )
    nanoseconds = {name: value / VALUES * 1e9 for name, value in seconds.items()}
    publish(
        at_most(
            "sketch CPU per value",
            ours=nanoseconds["muster"],
            peer=("DataSketches KLL k=200", nanoseconds["kll"]),
            unit="ns",
            ratio=0.5,
        ),
        at_most(
            "sketch CPU per value",
            ours=nanoseconds["muster"],
            peer=("whylogs", nanoseconds["whylogs"]),
            unit="ns",
            ratio=0.02,
        ),
    )


if __name__ == "__main__":
    main()
