"""The baseline: the bins of every column, and what the evaluation set looked like in them.

An anchored histogram. Edges are quantiles of the reference, repeated values stand alone between ``v`` and
the next float, both extremes are edges, and four tail edges a side grow by a factor of four. Bins are half
open, [edge, next). The last bin counts missing values (NaN); infinities fall into the outermost bins.
"""

import functools
import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import ArrayLike, DTypeLike, NDArray

from muster_models.errors import SketchError
from muster_models.sketch.features import Column
from muster_models.sketch.histogram import count_values

BINS = 40  # a multiple of ten, so that deciles (PSI) nest exactly
CONFIDENCE_BINS = 32
TAILS = 4
TAIL_FACTOR = 4.0
COMPONENTS = 4  # location, scale, skew, tails
MAX_BYTES = 4 * 1024 * 1024
MAX_BINS = 1024

Edges = Annotated[tuple[float, ...], Meta(max_length=MAX_BINS)]


class ColumnBaseline(Struct, frozen=True, forbid_unknown_fields=True):
    """One column's bins and reference.

    Attributes:
        edges: Ascending; bin i holds ``edges[i-1] <= value < edges[i]``. For a class column, class i
            is bin i + 1 and the first bin is always empty.
        counts: Reference rows per bin, the missing bin last; ``len(edges) + 2`` entries.
        mean, sd: Of the finite reference values.
        lag: Lag-one correlation of the reference in its given order.
        unit: Shown to people.
    """

    name: str
    kind: Column
    edges: Edges
    counts: tuple[int, ...]
    mean: float
    sd: float
    lag: float = 0.0
    unit: str = ""

    @property
    def bins(self) -> int:
        """Number of bins, the missing bin included."""
        return len(self.edges) + 2

    @property
    def rows(self) -> int:
        """Reference rows."""
        return sum(self.counts)

    def edge_array(self, dtype: DTypeLike = np.float64) -> NDArray[np.floating]:
        """Return the edges as an array for comparing values of ``dtype`` (32- or 64-bit floats).

        A 32-bit value lies below an edge exactly when it lies below the first 32-bit number from the edge on.
        """
        return _edge_array(self.edges) if dtype == np.float64 else _narrow_edge_array(self.edges)

    def probabilities(self) -> NDArray[np.float64]:
        """Return the reference probability of each bin, smoothed so that none is zero (half a row each)."""
        counts = np.asarray(self.counts, dtype=np.float64) + 0.5
        return np.asarray(counts / counts.sum())

    def scores(self) -> NDArray[np.float64]:
        """Return the score matrix, shape (bins, 4): orthonormal Legendre polynomials of the mid-rank.

        Under the reference every score has mean 0 and variance 1, for any distribution of the values, so the
        mean score of n rows times sqrt(n) is close to a standard normal. The missing bin scores 0: missing
        values have a leg of their own. (Neyman's smooth test, 1937.)
        """
        return _scores(self.counts)

    def tail_bins(self) -> NDArray[np.bool_]:
        """Return which bins lie outside everything the reference held."""
        counts = np.asarray(self.counts)
        outside = np.zeros(self.bins, dtype=bool)
        if self.kind == "numeric" and counts[:-1].any():
            held = np.flatnonzero(counts[:-1])
            outside[: held[0]] = True
            outside[held[-1] + 1 : -1] = True
        return outside


class Baseline(Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """The baselines of all columns of a version, in the order of its sketches.

    What is computed from one is cached by it, so its hash is kept: that of some hundred numbers costs time.
    """

    columns: tuple[ColumnBaseline, ...]
    format: Literal[1] = 1

    def encode(self) -> bytes:
        """Return the canonical bytes, whose SHA-256 names the baseline."""
        return msgspec.msgpack.encode(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the encoded baseline, in hex."""
        return _digest(self)


@functools.lru_cache(maxsize=64)
def _digest(baseline: Baseline) -> str:
    return hashlib.sha256(baseline.encode()).hexdigest()


@functools.lru_cache(maxsize=1024)
def _edge_array(edges: tuple[float, ...]) -> NDArray[np.float64]:
    array = np.asarray(edges, dtype=np.float64)
    array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=1024)
def _narrow_edge_array(edges: tuple[float, ...]) -> NDArray[np.float32]:
    exact = _edge_array(edges)
    with np.errstate(over="ignore"):  # beyond the largest 32-bit number lies only infinity
        array = exact.astype(np.float32)
        array = np.where(array < exact, np.nextafter(array, np.float32(np.inf)), array)
    array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=1024)
def _scores(counts: tuple[int, ...]) -> NDArray[np.float64]:
    held = np.asarray(counts[:-1], dtype=np.float64)
    matrix = np.zeros((len(counts), COMPONENTS))
    if held.sum() > 0:
        weights = held / held.sum()
        rank = 2 * (np.cumsum(weights) - weights / 2) - 1
        powers = np.vander(rank, COMPONENTS + 1, increasing=True)
        # Gram-Schmidt under the reference, by the QR of the weighted polynomials.
        _, upper = np.linalg.qr(np.sqrt(weights)[:, None] * powers)
        matrix[:-1] = _solve_triangular(powers, upper)[:, 1:]
    matrix.flags.writeable = False
    return matrix


def _solve_triangular(powers: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the polynomials that are orthonormal; those the reference cannot tell apart become 0."""
    result = np.zeros_like(powers)
    for k in range(powers.shape[1]):
        if abs(upper[k, k]) > 1e-6:  # noqa: PLR2004 - fewer distinct values than polynomials
            result[:, k] = (powers[:, k] - result[:, :k] @ upper[:k, k]) / upper[k, k]
    # The sign that makes "larger values" a positive first score.
    return np.asarray(result * np.where(np.diag(upper) < 0, -1.0, 1.0))


def decode_baseline(data: bytes) -> Baseline:
    """Parse a baseline.

    Raises:
        SketchError: Too large, not the expected form, or a column contradicts itself.
    """
    if len(data) > MAX_BYTES:
        raise SketchError(f"a baseline has at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        baseline = msgspec.msgpack.decode(data, type=Baseline)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SketchError(f"baseline: {error}") from error
    for column in baseline.columns:
        _check_column(column)
    return baseline


def _check_column(column: ColumnBaseline) -> None:
    if len(column.counts) != column.bins:
        raise SketchError(f"{column.name!r}: expected {column.bins} counts, got {len(column.counts)}")
    if min(column.counts) < 0 or sum(column.counts) <= 0 or sum(column.counts) >= 2**48:
        raise SketchError(f"{column.name!r}: counts must be non-negative and not all zero")
    edges = column.edge_array()
    if not (np.isfinite(edges).all() and (edges[1:] > edges[:-1]).all()):
        raise SketchError(f"{column.name!r}: edges must be finite and ascending")
    if not (np.isfinite(column.mean) and np.isfinite(column.sd) and column.sd >= 0):
        raise SketchError(f"{column.name!r}: mean and sd must be finite")


def make_baseline(
    matrix: ArrayLike,
    kinds: Mapping[str, Column],
    *,
    classes: int = 0,
    units: Mapping[str, str] | None = None,
) -> Baseline:
    """Measure a baseline on reference rows.

    Args:
        matrix: Shape (rows, columns), in the order of ``kinds``.
        kinds: Name and kind of each column.
        classes: Number of classes, for ``class`` and ``confidence`` columns.
        units: Units by column name.

    Raises:
        SketchError: No rows, or the shape does not match.
    """
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(kinds) or len(rows) == 0:  # noqa: PLR2004 - rows by columns
        raise SketchError(f"expected rows of {len(kinds)} columns, got shape {rows.shape}")
    return Baseline(
        tuple(
            _measure(name, kind, rows[:, index], classes=classes, unit=(units or {}).get(name, ""))
            for index, (name, kind) in enumerate(kinds.items())
        )
    )


def _measure(
    name: str, kind: Column, values: NDArray[np.float64], *, classes: int, unit: str
) -> ColumnBaseline:
    match kind:
        case "numeric":
            edges = anchored_edges(values)
        case "class":
            edges = np.arange(classes + 1, dtype=np.float64)
        case "confidence":
            edges = np.linspace(1 / max(classes, 2), 1.0, CONFIDENCE_BINS + 1)[1:-1]
    counts = count_values(values, edges)
    finite = values[np.isfinite(values)]
    return ColumnBaseline(
        name=name,
        kind=kind,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        mean=_mean(finite),
        sd=_deviation(finite),
        lag=_lag(finite),
        unit=unit,
    )


def anchored_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bin edges of a numeric reference; non-finite values are left out."""
    finite = np.sort(values[np.isfinite(values)])
    if len(finite) == 0:
        return np.zeros(1)
    quantiles = np.quantile(finite, np.linspace(0, 1, BINS + 1), method="inverted_cdf")
    distinct, repeats = np.unique(quantiles, return_counts=True)
    atoms = distinct[repeats > 1]
    low, high = distinct[0], distinct[-1]
    # A constant reference has no scale of its own: its size is the natural unit.
    scale = _deviation(finite) or abs(float(low)) or 1.0
    with np.errstate(over="ignore"):  # beyond the largest number there is no edge
        steps = scale * TAIL_FACTOR ** np.arange(TAILS) / TAIL_FACTOR
        after_high = np.nextafter(high, np.inf)
        edges = np.concatenate(
            [low - steps, distinct, np.nextafter(atoms, np.inf), [after_high], after_high + steps]
        )
    return np.unique(edges[np.isfinite(edges)])


def _units(finite: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return values below one, whose sums and squares cannot overflow, and by which power of two."""
    exponent = int(np.frexp(np.abs(finite).max())[1])
    return np.ldexp(finite, -exponent), exponent


def _mean(finite: NDArray[np.float64]) -> float:
    if len(finite) == 0:
        return 0.0
    units, exponent = _units(finite)
    return float(np.ldexp(units.mean(), exponent))


def _deviation(finite: NDArray[np.float64]) -> float:
    if len(finite) == 0:
        return 0.0
    units, exponent = _units(finite)
    return float(np.ldexp(units.std(), exponent))


def _lag(finite: NDArray[np.float64]) -> float:
    if len(finite) < 3:  # noqa: PLR2004 - two pairs at least
        return 0.0
    units, _ = _units(finite)
    centred = units - units.mean()
    squares = float((centred * centred).sum())
    return float((centred[1:] * centred[:-1]).sum()) / squares if squares else 0.0
