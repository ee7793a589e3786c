"""A fleet as a controller sees it: windows of real digits, or of made-up columns that look like them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.facts import WindowFacts
from muster_models.manifest import ClassOutput, FeatureSpec, Summary
from muster_models.runtime.load import load
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.features import CLASS, CONFIDENCE, Column, column_kinds, extract
from muster_models.sketch.window import Sketch, sketch_rows
from muster_models.wire import LATENCY_EDGES_MS

Array = NDArray[np.float64]

ZOO = Path(__file__).parents[2] / "models/zoo"
SITES = ("berlin", "lyon", "oslo", "porto")
DEVICES = tuple(f"{site}-{number}" for site in SITES for number in (1, 2))
GROUPS = {device: (f"site={device.rpartition('-')[0]}",) for device in DEVICES}
PIXELS = (21, 26, 28, 33, 36, 42, 46, 60)
SUMMARIES: tuple[Summary, ...] = ("brightness", "contrast", "sharpness", "ink")
CLASSES = 10


def window(
    device: str,
    start: float,
    *,
    manifest: str,
    sketch: Sketch | None,
    baseline: Baseline | None,
    seconds: float = 1.0,
    errors: int = 0,
    milliseconds: float = 0.3,
) -> WindowFacts:
    """Return one window whose calls all took the same time."""
    rows = sketch.rows if sketch is not None else 0
    latency = [0] * (len(LATENCY_EDGES_MS) + 1)
    latency[int(np.searchsorted(LATENCY_EDGES_MS, milliseconds, side="right"))] = rows
    return WindowFacts(
        device=device,
        manifest=manifest,
        start=start,
        end=start + seconds,
        calls=rows,
        errors=errors,
        latency=latency,
        sketch=sketch,
        baseline=baseline,
    )


class Digits:
    """A released version of ``digits`` on real images, seen through instruments of different gain."""

    def __init__(self, version: str) -> None:
        folder = ZOO / "digits" / version
        with np.load(folder / "evaluation.npz") as archive:
            self.images: NDArray[np.float32] = archive["image"]
        self._runtime = load("onnx", folder / "model.onnx")
        self._features = (
            *(FeatureSpec(name, "image", summary=name) for name in SUMMARIES),
            *(FeatureSpec(f"pixel {column}", "image", column=column) for column in PIXELS),
        )
        self._prediction = ClassOutput("probabilities", tuple("0123456789"))
        self._known: dict[float, Array] = {}
        kinds = column_kinds(self._features, self._prediction)
        self.baseline = make_baseline(self.matrix(1.0), kinds, classes=CLASSES)

    def matrix(self, gain: float) -> Array:
        """Return the columns of all images seen through an instrument with this gain."""
        if gain not in self._known:
            images: NDArray[np.float32] = (self.images * gain).astype(np.float32)
            inputs: dict[str, NDArray[np.generic]] = {"image": images}
            outputs = self._runtime.run(inputs)
            rows = extract(self._features, self._prediction, inputs=inputs, outputs=outputs)
            self._known[gain] = np.asarray(rows.numbers, dtype=np.float64)
        return self._known[gain]

    def sketch(self, gain: float, rows: int, chance: np.random.Generator) -> Sketch:
        """Return the sketch of so many images drawn at random."""
        matrix = self.matrix(gain)
        return sketch_rows(matrix[chance.integers(len(matrix), size=rows)], self.baseline)


@dataclass
class Made:
    """Fourteen made-up columns, correlated as those of digits are, for many seeds in little time.

    Attributes:
        memory: Correlation of a row with the one before it, 0 for independent rows.
    """

    memory: float = 0.0
    baseline: Baseline = field(init=False)

    def __post_init__(self) -> None:
        numbers = (*SUMMARIES, *(f"pixel {column}" for column in PIXELS))
        names: dict[str, Column] = dict.fromkeys(numbers, "numeric")
        names |= {CONFIDENCE: "confidence", CLASS: "class"}
        chance = np.random.default_rng(1)
        reference = self.rows(2000, chance, offset=np.zeros(5))
        self.baseline = make_baseline(reference, names, classes=CLASSES)

    def rows(self, count: int, chance: np.random.Generator, *, offset: Array, gain: float = 1.0) -> Array:
        """Return rows; ``offset`` moves the five hidden causes of everything."""
        hidden = chance.standard_normal((count, 5))
        if self.memory:
            for i in range(1, count):
                hidden[i] = self.memory * hidden[i - 1] + (1 - self.memory**2) ** 0.5 * hidden[i]
        hidden += offset
        bright = np.maximum(5 + hidden[:, 0], 0.1) * gain
        contrast = np.exp(0.3 * hidden[:, 1] + 0.2 * hidden[:, 0]) * gain
        sharp = contrast * (1 + 0.2 * np.tanh(hidden[:, 2]))
        ink = np.clip(0.3 + 0.05 * hidden[:, 3], 0, 1)
        mixes = np.linspace(-1, 1, len(PIXELS))
        lit = np.outer(hidden[:, 4], mixes) + hidden[:, [1]] / 2
        pixels = np.clip(np.round(8 + 6 * lit), 0, 16) * gain
        confidence = 1 / (1 + np.exp(-2.5 - hidden[:, 2] + 3 * abs(1 - gain)))
        label = np.floor(np.clip((hidden[:, 4] / 6 + 0.5) * CLASSES, 0, CLASSES - 1))
        return np.column_stack([bright, contrast, sharp, ink, pixels, np.clip(confidence, 0.1, 1), label])

    def sketch(self, rows: int, chance: np.random.Generator, *, offset: Array, gain: float = 1.0) -> Sketch:
        """Return the sketch of fresh rows."""
        return sketch_rows(self.rows(rows, chance, offset=offset, gain=gain), self.baseline)


def rounds(
    source: Made, seed: int, count: int, *, spread: float = 0.1, drift: Mapping[str, float] | None = None
) -> Iterator[tuple[float, list[WindowFacts]]]:
    """Yield so many seconds of a fleet: the end of each second and every device's window of it.

    Args:
        spread: Standard deviation of what is peculiar to a device.
        drift: Gain of the instrument by device, from the beginning.
    """
    chance = np.random.default_rng(seed)
    offsets = {device: spread * chance.standard_normal(5) for device in DEVICES}
    sizes = {device: int(chance.integers(60, 200)) for device in DEVICES}
    for index in range(count):
        yield (
            float(index + 1),
            [
                window(
                    device,
                    float(index),
                    manifest="a" * 64,
                    sketch=source.sketch(
                        max(30, sizes[device] + int(chance.integers(-20, 20))),
                        chance,
                        offset=offsets[device],
                        gain=(drift or {}).get(device, 1.0),
                    ),
                    baseline=source.baseline,
                )
                for device in DEVICES
            ],
        )
