"""When two versions agree, row by row, and how what was counted about it adds up. Pure.

What is compared is the prediction as each manifest declares it: the class with the highest score, by its
label, so that two versions may order their labels differently; or the value, within ``wire.TOLERANCE``
standard deviations of the incumbent's baseline. A class is read as its sketch reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import ClassOutput, Manifest, ValueOutput
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.features import VALUE
from muster_models.wire import LATENCY_EDGES_MS, TOLERANCE, ShadowCounts

Array = NDArray[np.generic]
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Compared:
    """What one call gave.

    Attributes:
        difference: Sum over rows of the absolute difference of two values; 0 for classes.
    """

    rows: int
    agreed: int
    difference: float = 0.0


class Comparison:
    """Compares the answers of a candidate with those of the version that runs.

    Args:
        incumbent: Manifest of the version that runs.
        baseline: Its own; the tolerance of values follows from it.
        candidate: Manifest of the other one.

    Raises:
        PredictionError: One predicts classes and the other a value (``wrong-shape``).
    """

    def __init__(self, incumbent: Manifest, baseline: Baseline, candidate: Manifest) -> None:
        self._ours = incumbent.prediction
        self._theirs = candidate.prediction
        if type(self._ours) is not type(self._theirs):
            raise PredictionError(
                Reason.WRONG_SHAPE,
                f"{incumbent.name} predicts {_kind(self._ours)}, {candidate.name} {_kind(self._theirs)}",
            )
        columns = {column.name: column for column in baseline.columns}
        value = columns.get(VALUE)
        self.tolerance = TOLERANCE * value.sd if value is not None else 0.0
        self._classes = _classes(self._ours, self._theirs)

    @property
    def output(self) -> str:
        """Name of the incumbent's output that is compared; the others need not be kept."""
        return self._ours.output

    def __call__(self, ours: Array, theirs: Outputs) -> Compared:
        """Compare one call.

        Args:
            ours: The incumbent's ``output``.
            theirs: Every output of the candidate.

        Raises:
            PredictionError: The candidate answered another number of rows, or text (``wrong-shape``).
        """
        first, second = _rows(ours), _rows(theirs[self._theirs.output])
        if len(first) != len(second):
            raise PredictionError(
                Reason.WRONG_SHAPE, f"expected {len(first)} rows as of the current version, got {len(second)}"
            )
        if self._classes is None:
            apart = np.abs(first[:, 0] - second[:, 0])
            agreed = int((apart <= self.tolerance).sum())
            return Compared(len(first), agreed, float(apart[np.isfinite(apart)].sum()))
        translated = np.take(self._classes, second.argmax(axis=1), mode="clip")
        return Compared(len(first), int((first.argmax(axis=1) == translated).sum()))


def _kind(prediction: ClassOutput | ValueOutput) -> str:
    return "classes" if isinstance(prediction, ClassOutput) else "a value"


def _classes(ours: ClassOutput | ValueOutput, theirs: ClassOutput | ValueOutput) -> NDArray[np.int64] | None:
    """Return which of our classes each of theirs is, -1 for none; None where values are predicted."""
    if not isinstance(ours, ClassOutput) or not isinstance(theirs, ClassOutput):
        return None
    known = {label: number for number, label in enumerate(ours.labels)}
    return np.array([known.get(label, -1) for label in theirs.labels] or [0])


def _rows(output: Array) -> NDArray[np.float64]:
    try:
        array = output.astype(np.float64)
    except ValueError as error:
        raise PredictionError(Reason.WRONG_SHAPE, f"a prediction has to be numbers: {error}") from error
    return array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)


def nothing(candidate: str) -> ShadowCounts:
    """Return the counts of a candidate that was asked nothing yet: adding them changes nothing."""
    return ShadowCounts(candidate, 0, 0, 0, 0, 0, (0,) * (len(LATENCY_EDGES_MS) + 1))


def add(first: ShadowCounts, second: ShadowCounts) -> ShadowCounts:
    """Return the counts of both.

    Raises:
        ValueError: They are about two candidates, or their latencies have other bins.
    """
    if first.candidate != second.candidate:
        raise ValueError(f"counts of {first.candidate[:12]} and {second.candidate[:12]} do not add up")
    return replace(
        first,
        calls=first.calls + second.calls,
        rows=first.rows + second.rows,
        agreed=first.agreed + second.agreed,
        errors=first.errors + second.errors,
        dropped=first.dropped + second.dropped,
        latency=tuple(a + b for a, b in zip(first.latency, second.latency, strict=True)),
        difference=first.difference + second.difference,
    )
