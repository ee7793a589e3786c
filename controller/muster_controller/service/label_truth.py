"""What a label means for the version that predicted: counts of one prediction, or of a window's. Pure."""

import hashlib
import math
from collections.abc import Mapping

from muster_controller.domain.labels.counts import Cell, Counts, of_class, of_value
from muster_controller.service.label_lines import Form, Label
from muster_models.errors import MessageError
from muster_models.manifest import ClassOutput, Manifest
from muster_models.prediction_id import ClassAnswer, PredictionId, ValueAnswer

MAX_ROWS = 2**40
_ROUNDING = 1e-6  # of sums that an application added up in its own order


def truth_of(label: Label, manifest: Manifest, named: PredictionId) -> int | float:
    """Return the index of the true class, or the true value.

    Raises:
        MessageError: The version has no such class, or the label or the prediction is of the other kind.
    """
    match manifest.prediction, named.answer:
        case ClassOutput(labels=labels), ClassAnswer(index=index):
            if index >= len(labels):
                raise MessageError(f"{manifest.name} has {len(labels)} classes, the id names number {index}")
            return class_of(str(label), labels)
        case ClassOutput(), _:
            raise MessageError(f"{manifest.name} predicts classes, the id names a value")
        case _, ValueAnswer():
            return _number(label)
        case _:
            raise MessageError(f"{manifest.name} predicts a value, the id names a class")


def class_of(label: str, labels: tuple[str, ...]) -> int:
    """Return the index of the class with a name; a whole number that is no name is the index.

    Raises:
        MessageError: There is no such class.
    """
    if label in labels:
        return labels.index(label)
    if (
        label.isascii()
        and label.isdigit()
        and len(label) <= len(str(len(labels)))
        and int(label) < len(labels)
    ):
        return int(label)
    shown = ", ".join(labels[:12]) + (", …" if len(labels) > 12 else "")  # noqa: PLR2004 - a line's worth
    raise MessageError(f"expected a class out of {shown}, got {label[:40]!r}")


def _number(label: Label) -> float:
    try:
        value = float(label)
    except (ValueError, OverflowError) as error:
        raise MessageError(f"expected a number, got {str(label)[:40]!r}") from error
    if not math.isfinite(value):
        raise MessageError(f"expected a finite number, got {value}")
    return value


def counts_of(named: PredictionId, truth: float) -> Counts:
    """Return the counts of one prediction whose truth is known.

    Raises:
        MessageError: The two are too far apart to be counted.
    """
    match named.answer:
        case ClassAnswer(index=index, confidence=confidence):
            return of_class(index, int(truth), confidence=confidence)
        case ValueAnswer(value=value):
            return of_value(value, truth)


def summed(form: Form, manifest: Manifest) -> Counts:
    """Return the counts that an application made.

    Raises:
        MessageError: They are of the other kind, or contradict each other.
    """
    if isinstance(manifest.prediction, ClassOutput):
        return _confusion(form, manifest.prediction.labels)
    sums = (form.sum_error, form.sum_abs_error, form.sum_sq_error)
    if form.confusion is not None or form.n is None or any(one is None for one in sums):
        raise MessageError(
            f"{manifest.name} predicts a value: expected n, sum_error, sum_abs_error and sum_sq_error"
        )
    error, absolute, square = (float(one or 0.0) for one in sums)
    is_sound = (
        0 < form.n < MAX_ROWS
        and all(map(math.isfinite, (error, absolute, square)))
        and abs(error) <= absolute * (1 + _ROUNDING)
        and absolute * absolute <= square * form.n * (1 + _ROUNDING)
    )
    if not is_sound:
        raise MessageError(
            f"sums contradict each other: n {form.n}, sum_error {error:g}, sum_abs_error {absolute:g}, "
            f"sum_sq_error {square:g}"
        )
    return Counts(form.n, error=error, absolute=absolute, square=square)


def _confusion(form: Form, labels: tuple[str, ...]) -> Counts:
    if form.confusion is None or any(
        one is not None for one in (form.n, form.sum_error, form.sum_abs_error, form.sum_sq_error)
    ):
        raise MessageError("the version predicts classes: expected confusion and no sums")
    cells: dict[Cell, int] = {}
    for predicted, row in form.confusion.items():
        for true, n in row.items():
            cell = class_of(predicted, labels), class_of(true, labels)
            cells[cell] = cells.get(cell, 0) + n
            if not 0 <= n < MAX_ROWS:
                raise MessageError(f"expected counts from 0 on, got {n} for {predicted!r} and {true!r}"[:200])
    n = sum(cells.values())
    if n == 0:
        raise MessageError("expected confusion of at least one prediction, got none")
    return Counts(n, {cell: held for cell, held in cells.items() if held})


def key_of(parts: Mapping[str, str | float]) -> bytes:
    """Return what names counts of an application, so that a repeat is known."""
    named = "\n".join(f"{name}={value}" for name, value in parts.items())
    return hashlib.sha256(named.encode()).digest()[:16]


def is_nothing(change: Counts, counts: Counts) -> bool:
    """Tell whether a change is no change: sums may differ by what rounding does."""
    return (
        change.n == 0
        and not change.confusion
        and abs(change.error) <= _ROUNDING * max(1.0, counts.absolute)
        and abs(change.absolute) <= _ROUNDING * max(1.0, counts.absolute)
        and abs(change.square) <= _ROUNDING * max(1.0, counts.square)
    )
