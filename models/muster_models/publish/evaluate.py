"""Judging a model: it answers its evaluation rows, and the answers become metrics and golden vectors."""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import ManifestError, PredictionError, Reason
from muster_models.golden import Golden, Vector
from muster_models.manifest import ClassOutput, ValueOutput
from muster_models.publish.source import Source
from muster_models.quantised import real
from muster_models.runtime.protocol import Runtime
from muster_models.tensors import pack

Array = NDArray[np.generic]
BATCH = 256  # rows of one call where the model takes any number
VECTORS = 10
VECTORS_BYTES = 4 * 1024 * 1024  # inputs of all golden vectors; every device downloads them
DIGITS = 6  # metrics are rounded, so that kernels that differ in the last bit give the same manifest
# Measured: two kernels of one engine differ by up to 48 of 256 steps on one 8-bit model.
EIGHT_BIT_TOLERANCE = 0.2
TOLERANCE = 1e-3
LATENCY_CALLS = 30


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model answered.

    Attributes:
        outputs: The predicted output over all rows, by name, as real numbers.
        latency_ms: Median time of one call with as few rows as the model takes.
    """

    outputs: Mapping[str, Array]
    latency_ms: float


def evaluate(runtime: Runtime, source: Source) -> Evaluation:
    """Answer every evaluation row.

    Raises:
        ManifestError: The inputs do not fit, the model fails, or the answer is not what is declared.
    """
    name = source.declared.prediction.output
    output = answer(runtime, source.inputs, source.declared.prediction)[name]
    if not np.isfinite(output.astype(np.float64)).all():
        raise ManifestError(
            f"output {name!r}: expected finite values on the evaluation set", Reason.NOT_FINITE
        )
    return Evaluation({name: output}, _latency(runtime, source, _fewest(runtime)))


def answer(
    runtime: Runtime, inputs: Mapping[str, Array], prediction: ClassOutput | ValueOutput
) -> dict[str, Array]:
    """Return the predicted output over all rows, by name, as real numbers.

    Raises:
        ManifestError: The inputs do not fit, the model fails, or the answer is not what is declared.
    """
    name = prediction.output
    size = _batch_size(runtime, len(next(iter(inputs.values()))))
    answers = [_answer(runtime, batch, name) for batch in _batches(inputs, size)]
    output = real(runtime.outputs, {name: np.concatenate(answers)})[name]
    if isinstance(prediction, ClassOutput):
        _check_classes(output, prediction)
    return {name: output}


def measure(
    prediction: ClassOutput | ValueOutput, outputs: Mapping[str, Array], answers: Array
) -> dict[str, float]:
    """Return the metrics of a model on its evaluation set.

    Classes: ``accuracy`` and ``confidence`` (the mean of the largest score). Values: ``mae`` and ``rmse``.
    """
    given = outputs[prediction.output].astype(np.float64).reshape(len(answers), -1)
    match prediction:
        case ClassOutput():
            accuracy = float((given.argmax(axis=1) == answers).mean())
            metrics = {"accuracy": accuracy, "confidence": float(given.max(axis=1).mean())}
        case ValueOutput():
            errors = given[:, 0] - answers.astype(np.float64)
            metrics = {"mae": float(np.abs(errors).mean()), "rmse": float(np.sqrt(np.square(errors).mean()))}
    return {name: round(value, DIGITS) for name, value in metrics.items()}


def make_golden(runtime: Runtime, source: Source) -> Golden:
    """Return golden vectors that span the evaluation set: rows evenly spaced by their right answer.

    Raises:
        ManifestError: The model fails on them.
    """
    size = _fewest(runtime)
    row_bytes = sum(array.nbytes // len(array) for array in source.inputs.values())
    count = max(1, min(VECTORS, VECTORS_BYTES // max(1, row_bytes * size), len(source.answers) // size))
    order = np.argsort(source.answers, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, count * size).round().astype(int)].reshape(count, size)
    calls = [_take(source.inputs, rows) for rows in chosen]
    if _takes_any(runtime) and count > 1:
        calls[-1] = _take(source.inputs, chosen[:4].ravel())  # several rows in one call answer alike
    vectors = tuple(_vector(runtime, inputs) for inputs in calls)
    absolute, relative = _tolerances(runtime, source)
    return Golden(vectors, absolute, relative)


def _tolerances(runtime: Runtime, source: Source) -> tuple[float, float]:
    declared = source.declared.golden
    eight_bit = any(spec.dtype in ("int8", "uint8") for spec in runtime.outputs)
    absolute = EIGHT_BIT_TOLERANCE if eight_bit else TOLERANCE
    return (
        absolute if declared.absolute is None else declared.absolute,
        TOLERANCE if declared.relative is None else declared.relative,
    )


def _vector(runtime: Runtime, inputs: Mapping[str, Array]) -> Vector:
    return Vector(pack(inputs), pack(_run(runtime, inputs)))


def _takes_any(runtime: Runtime) -> bool:
    return all(spec.shape and spec.shape[0] is None for spec in runtime.inputs)


def _fewest(runtime: Runtime) -> int:
    """Return the rows of the smallest call that a model takes."""
    fixed = {spec.shape[0] for spec in runtime.inputs if spec.shape}
    return next((size for size in fixed if size is not None), 1)


def _batch_size(runtime: Runtime, rows: int) -> int:
    size = BATCH if _takes_any(runtime) else _fewest(runtime)
    if size < 1 or (not _takes_any(runtime) and rows % size):
        raise ManifestError(f"the model takes {size} rows a call, expected a multiple of it, got {rows} rows")
    return size


def _batches(inputs: Mapping[str, Array], size: int) -> Iterator[dict[str, Array]]:
    rows = len(next(iter(inputs.values())))
    for start in range(0, rows, size):
        yield _take(inputs, np.arange(start, min(start + size, rows)))


def _take(inputs: Mapping[str, Array], rows: NDArray[np.intp]) -> dict[str, Array]:
    return {name: array[rows] for name, array in inputs.items()}


def _run(runtime: Runtime, inputs: Mapping[str, Array]) -> dict[str, Array]:
    try:
        return runtime.run(inputs)
    except PredictionError as error:
        raise ManifestError(f"the model does not answer: {error}", error.reason) from error


def _answer(runtime: Runtime, batch: Mapping[str, Array], name: str) -> Array:
    outputs = _run(runtime, batch)
    rows = len(next(iter(batch.values())))
    output = outputs.get(name)
    if output is None or output.ndim == 0 or len(output) != rows or output.dtype.kind not in "biuf":
        got = sorted(outputs) if output is None else f"{output.dtype.name}{list(output.shape)}"
        raise ManifestError(f"output {name!r}: expected numbers in {rows} rows, got {got}")
    return output


def _check_classes(output: Array, prediction: ClassOutput) -> None:
    scores = output.reshape(len(output), -1).shape[1]
    if scores != len(prediction.labels):
        wanted = f"{len(prediction.labels)} scores a row, one per label"
        raise ManifestError(f"output {prediction.output!r}: expected {wanted}, got {scores}")


def _latency(runtime: Runtime, source: Source, size: int) -> float:
    inputs = _take(source.inputs, np.arange(min(size, len(source.answers))))
    times = []
    for _ in range(LATENCY_CALLS):
        started = time.perf_counter()
        _run(runtime, inputs)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000
