"""What columns beyond plain numbers cost: categories, pairs, and summaries of rows."""

from collections.abc import Callable
from itertools import combinations, cycle

import datasketches
import numpy as np
from figure import Figure, at_most, interleave, publish
from numpy.typing import NDArray
from sketch_cost import BLOCKS, FEATURES, NAMES, ROWS, VALUES

from muster_models.manifest import FeatureSpec, ValueOutput
from muster_models.sketch.axes import fit_all
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.features import Column, extract
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import sketch_rows

Array = NDArray[np.generic]
WINDOW = 1000  # rows
CITIES = np.array([f"city {index}" for index in range(200)], dtype=object)
PAIRS = tuple(combinations(NAMES, 2))
PEER = "DataSketches frequent items and HLL"
IMAGE = tuple(FeatureSpec(name, "x", summary=name) for name in ("brightness", "contrast", "sharpness"))
SOUND = tuple(FeatureSpec(name, "x", summary=name) for name in ("level", "crossings", "centroid"))
EMBEDDING = (
    FeatureSpec("norm", "x", summary="norm"),
    FeatureSpec("residual", "x", summary="residual"),
    *(FeatureSpec(f"axis {k}", "x", summary="projection", component=k) for k in range(8)),
)


def towns(chance: np.random.Generator, rows: int) -> Rows:
    """Return rows of one category of which the 32 most frequent of 200 values have a bin."""
    shares = 1 / np.arange(1, len(CITIES) + 1) ** 1.5
    return Rows(np.zeros((rows, 0)), (chance.choice(CITIES, rows, p=shares / shares.sum()),))


def related(chance: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Return rows of twenty features with four common causes."""
    mixes = np.random.default_rng(0).normal(size=(4, FEATURES))
    return (chance.normal(size=(rows, 4)) @ mixes + chance.normal(size=(rows, FEATURES))).astype(np.float32)


def feed_peer(items: list[str]) -> int:
    """Return the bytes of the peer's sketches of some values."""
    frequent, distinct = datasketches.frequent_strings_sketch(6), datasketches.hll_sketch(6)
    for item in items:
        frequent.update(item)
        distinct.update(item)
    return len(frequent.serialize()) + len(distinct.serialize_compact())


def measure_categories(chance: np.random.Generator) -> list[Figure]:
    """Return cost and bytes of one category."""
    baseline = make_baseline(towns(chance, 20_000), {"city": "category"})
    blocks = [towns(chance, ROWS) for _ in range(BLOCKS)]
    ours, theirs = cycle(blocks), cycle([block.categories[0].tolist() for block in blocks])
    seconds = interleave(
        {"ours": lambda: sketch_rows(next(ours), baseline), "peer": lambda: feed_peer(next(theirs))},
        rounds=BLOCKS,
    )
    windows = [towns(chance, WINDOW) for _ in range(BLOCKS)]
    sizes = [len(encode(sketch_rows(window, baseline), baseline)) for window in windows]
    peers = [feed_peer(window.categories[0].tolist()) for window in windows]
    cost = {name: value / ROWS * 1e9 for name, value in seconds.items()}
    return [
        at_most(
            "category, CPU per value", ours=cost["ours"], peer=(PEER, cost["peer"]), unit="ns", ratio=0.8
        ),
        at_most(
            "category, bytes per window",
            ours=float(np.mean(sizes)),
            peer=(PEER, float(np.mean(peers))),
            unit="B",
            ratio=0.25,
        ),
    ]


def measure_pairs(chance: np.random.Generator) -> list[Figure]:
    """Return cost and bytes of all 190 pairs of twenty features."""
    kinds: dict[str, Column] = dict.fromkeys(NAMES, "numeric")
    reference = related(chance, 20_000)
    plain, paired = make_baseline(reference, kinds), make_baseline(reference, kinds, paired=PAIRS)
    blocks = [related(chance, ROWS) for _ in range(BLOCKS)]
    first, second = cycle(blocks), cycle(blocks)
    seconds = interleave(
        {
            "with": lambda: sketch_rows(next(first), paired),
            "without": lambda: sketch_rows(next(second), plain),
        },
        rounds=BLOCKS,
    )
    windows = [related(chance, WINDOW) for _ in range(BLOCKS)]

    def size(baseline: Baseline) -> float:
        return float(np.mean([len(encode(sketch_rows(window, baseline), baseline)) for window in windows]))

    cost = {name: value / VALUES * 1e9 for name, value in seconds.items()}
    return [
        at_most(
            "190 pairs, CPU per value",
            ours=cost["with"],
            peer=("without", cost["without"]),
            unit="ns",
            ratio=5,
        ),
        at_most(
            "bytes per pair and window",
            ours=(size(paired) - size(plain)) / len(PAIRS),
            peer=("half-precision number", 2.0),
            unit="B",
            ratio=1,
        ),
    ]


def summarise(features: tuple[FeatureSpec, ...], rows: Array) -> Callable[[Array], object]:
    """Return what computes the summaries of rows like these."""
    axes, prediction = fit_all(features, {"x": rows}), ValueOutput("y")

    def run(block: Array) -> object:
        answers: dict[str, Array] = {"y": np.zeros((len(block), 1), dtype=block.dtype)}
        return extract(features, prediction, inputs={"x": block}, outputs=answers, axes=axes)

    return run


def measure_summaries(name: str, features: tuple[FeatureSpec, ...], blocks: list[Array]) -> Figure:
    """Return the cost per row in 32-bit floats, against the same in 64-bit floats."""
    run = summarise(features, np.concatenate(blocks[:20]))
    narrow, wide = cycle(blocks), cycle([block.astype(np.float64) for block in blocks])
    seconds = interleave({"narrow": lambda: run(next(narrow)), "wide": lambda: run(next(wide))}, rounds=50)
    cost = {key: value / len(blocks[0]) * 1e6 for key, value in seconds.items()}
    return at_most(name, ours=cost["narrow"], peer=("64-bit floats", cost["wide"]), unit="us", ratio=1)


def main() -> None:
    """Measure, and print the figures."""
    chance = np.random.default_rng(3)
    sounds: list[Array] = [chance.normal(size=(16, 16_000)).astype(np.float32) for _ in range(25)]
    vectors: list[Array] = [chance.normal(size=(256, 768)).astype(np.float32) for _ in range(25)]
    images: list[Array] = [chance.random((4, 224, 224, 3)).astype(np.float32) for _ in range(25)]
    publish(
        *measure_categories(chance),
        *measure_pairs(chance),
        measure_summaries("one second of sound at 16 kHz, three summaries, CPU per row", SOUND, sounds),
        measure_summaries("image of 224 by 224 by 3, three summaries, CPU per row", IMAGE, images),
        measure_summaries("embedding of 768 values, ten summaries, CPU per row", EMBEDDING, vectors),
    )


if __name__ == "__main__":
    main()
