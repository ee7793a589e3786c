"""Counts of labelled predictions; adding them up is all that ever happens to them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from muster_models.errors import MessageError

Cell = tuple[int, int]  # the class that was predicted, the class that was true


@dataclass(frozen=True)
class Counts:
    """What is known of some labelled predictions; of a correction the difference, which may be negative.

    Attributes:
        n: Predictions.
        confusion: Of classes: how often each was predicted for each truth.
        confidence, sure: Of classes: sum of the scores, and of how many predictions it is known.
        error, absolute, square: Of values: sums of prediction less truth, of its size, of its square.
    """

    n: int = 0
    confusion: Mapping[Cell, int] = field(default_factory=dict)
    confidence: float = 0.0
    sure: int = 0
    error: float = 0.0
    absolute: float = 0.0
    square: float = 0.0

    @property
    def wrong(self) -> int:
        """Predictions of another class than the true one."""
        return sum(n for (predicted, truth), n in self.confusion.items() if predicted != truth)

    def __add__(self, other: Self) -> "Counts":
        """Return both together."""
        cells = self.confusion.keys() | other.confusion.keys()
        summed = {cell: self.confusion.get(cell, 0) + other.confusion.get(cell, 0) for cell in cells}
        return Counts(
            self.n + other.n,
            {cell: n for cell, n in summed.items() if n},
            self.confidence + other.confidence,
            self.sure + other.sure,
            self.error + other.error,
            self.absolute + other.absolute,
            self.square + other.square,
        )

    def __neg__(self) -> "Counts":
        """Return what takes these away."""
        return Counts(
            -self.n,
            {cell: -n for cell, n in self.confusion.items()},
            -self.confidence,
            -self.sure,
            -self.error,
            -self.absolute,
            -self.square,
        )

    def document(self) -> dict[str, Any]:
        """Return the form in which they are stored; what is zero is left out."""
        sums = {name: getattr(self, name) for name in _SUMS}
        cells = [[*cell, n] for cell, n in sorted(self.confusion.items())]
        return {name: value for name, value in {"n": self.n, "confusion": cells, **sums}.items() if value}


_SUMS = ("confidence", "sure", "error", "absolute", "square")


def from_document(document: Mapping[str, Any]) -> Counts:
    """Return the counts that ``Counts.document`` wrote."""
    cells = {(predicted, truth): n for predicted, truth, n in document.get("confusion", ())}
    return Counts(document.get("n", 0), cells, **{name: document.get(name, 0) for name in _SUMS})


def total(counts: Iterable[Counts]) -> Counts:
    """Return all together."""
    return sum(counts, Counts())


def of_class(predicted: int, truth: int, *, confidence: float) -> Counts:
    """Return the counts of one prediction of a class."""
    return Counts(1, {(predicted, truth): 1}, confidence, 1)


def of_value(predicted: float, truth: float) -> Counts:
    """Return the counts of one prediction of a value.

    Raises:
        MessageError: They are so far apart that the square of it is no number.
    """
    error = predicted - truth
    if not error * error < float("inf"):
        raise MessageError(f"expected a label near the prediction {predicted:g}, got {truth:g}")
    return Counts(1, error=error, absolute=abs(error), square=error * error)
