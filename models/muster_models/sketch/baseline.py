"""The baseline: the bins of every column, and what the evaluation set looked like in them.

An anchored histogram. Edges are quantiles of the reference, repeated values stand alone between ``v`` and
the next float, both extremes are edges, and four tail edges a side grow by a factor of four. Bins are half
open, [edge, next). A category has one bin for each of its most frequent values and one for all others. Behind
these ordinary bins come two: infinite values, and missing ones (NaN).
"""

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import ArrayLike, DTypeLike, NDArray

from muster_models.errors import SketchError
from muster_models.sketch import axes as principal
from muster_models.sketch import categories, edges, pairs, scores
from muster_models.sketch.axes import Axes
from muster_models.sketch.edges import anchored_edges
from muster_models.sketch.features import Column
from muster_models.sketch.histogram import count_values
from muster_models.sketch.pairs import Pairs
from muster_models.sketch.rows import Array, Rows, as_rows

COMPONENTS = scores.COMPONENTS
CONFIDENCE_BINS = 32
MAX_BYTES = 4 * 1024 * 1024
MAX_BINS = 1024
MAX_VALUES = 256  # of a category that have a bin of their own
USUAL_VALUES = 32
_FIRST_FORMAT = 1  # without a bin for infinite values; nothing in it is a category
_ADDED = ("values", "reveal")  # to a column since then

Edges = Annotated[tuple[float, ...], Meta(max_length=MAX_BINS)]
Value = Annotated[str, Meta(max_length=categories.MAX_NAME)]
Origin = Literal["reference", "declared", "fleet"]


class ColumnBaseline(Struct, frozen=True, forbid_unknown_fields=True):
    """One column's bins and reference.

    Attributes:
        edges: Ascending; bin i holds ``edges[i-1] <= value < edges[i]``. For a class column, class i
            is bin i + 1 and the first bin is always empty. A category has none.
        counts: Reference rows per bin: the ordinary ones, then infinite, then missing.
        mean, sd: Of the finite reference values.
        lag: Lag-one correlation of the reference in its given order.
        unit: Shown to people.
        values: Of a category, the most frequent first; value i is bin i, and the bin behind them is for all
            others.
        reveal: Names of other values may leave the device.
    """

    name: str
    kind: Column
    edges: Edges
    counts: tuple[int, ...]
    mean: float
    sd: float
    lag: float = 0.0
    unit: str = ""
    values: Annotated[tuple[Value, ...], Meta(max_length=MAX_VALUES)] = ()
    reveal: bool = False

    @property
    def ordinary(self) -> int:
        """Number of ordinary bins: they come first, and values that are numbers or names fall into them."""
        return (len(self.values) if self.kind == "category" else len(self.edges)) + 1

    @property
    def infinite(self) -> int | None:
        """The bin of infinite values; None in the first format, which had none."""
        return self.ordinary if self.bins > self.ordinary + 1 else None

    @property
    def bins(self) -> int:
        """Number of all bins; the last one is for missing values."""
        return len(self.counts)

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
        """Return the score matrix, shape (bins, 4).

        Under the reference every score has mean 0 and variance 1. The bins of infinite and missing values
        score 0: they have a leg of their own. Ordered bins: Legendre polynomials of the mid-rank, so
        location, scale, skew and tails. A category: rows that move from frequent to rare values, then each of
        the three most frequent values. With up to five ordinary bins that sees every change of their shares;
        with more an exchange between two rarer values hardly shows. Other values have a leg of their own.
        """
        return _scores(self.kind, self.counts, self.ordinary)

    def tail_bins(self) -> NDArray[np.bool_]:
        """Return which bins lie outside everything the reference held; of a category, that of all others."""
        return _tail_bins(self)


class Baseline(Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """The baselines of all columns of a version, in the order of its sketches.

    What is computed from one is cached by it, so its hash is kept: that of some hundred numbers costs time.

    Attributes:
        axes: Principal axes of the inputs of which a projection or the residual is sketched.
        pairs: Columns whose correlation is sketched.
        origin: Of what it was made: reference rows, ranges that were declared, or windows of the fleet.
    """

    columns: tuple[ColumnBaseline, ...]
    format: Literal[1, 2] = 2
    axes: tuple[Axes, ...] = ()
    pairs: Pairs | None = None
    origin: Origin = "reference"

    def encode(self) -> bytes:
        """Return the canonical bytes, whose SHA-256 names the baseline; they name only an unusual origin."""
        plain: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))  # as MessagePack has them
        if self.format > _FIRST_FORMAT:
            return msgspec.msgpack.encode(
                {k: v for k, v in plain.items() if k != "origin" or v != "reference"}
            )
        columns = [{k: v for k, v in column.items() if k not in _ADDED} for column in plain["columns"]]
        return msgspec.msgpack.encode({"columns": columns, "format": self.format})

    @property
    def digest(self) -> str:
        """SHA-256 of the encoded baseline, in hex."""
        return _digest(self)

    @property
    def categories(self) -> tuple[ColumnBaseline, ...]:
        """The columns that are categories."""
        return tuple(column for column in self.columns if column.kind == "category")


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
def _tail_bins(column: ColumnBaseline) -> NDArray[np.bool_]:
    counts = np.asarray(column.counts)
    outside = np.zeros(column.bins, dtype=bool)
    held = np.flatnonzero(counts[: column.ordinary])
    if column.kind == "numeric" and len(held):
        outside[: held[0]] = True
        outside[held[-1] + 1 : column.ordinary] = True
    if column.kind == "category":
        outside[column.ordinary - 1] = True
    if column.infinite is not None:
        outside[column.infinite] = counts[column.infinite] == 0
    outside.flags.writeable = False
    return outside


@functools.lru_cache(maxsize=1024)
def _scores(kind: Column, counts: tuple[int, ...], ordinary: int) -> NDArray[np.float64]:
    make = scores.by_name if kind == "category" else scores.by_rank
    matrix = np.zeros((len(counts), scores.COMPONENTS))
    matrix[:ordinary] = make(counts[:ordinary])
    matrix.flags.writeable = False
    return matrix


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
        _check_column(column, baseline.format)
    if baseline.format == _FIRST_FORMAT and (
        baseline.axes or baseline.pairs or baseline.origin != "reference"
    ):
        raise SketchError("baseline: format 1 has neither axes nor pairs, and says no origin")
    for one in baseline.axes:
        principal.check(one)
    if baseline.pairs is not None:
        kinds = [column.ordinary if column.kind in _PAIRED else None for column in baseline.columns]
        pairs.check(baseline.pairs, kinds)
    return baseline


_PAIRED = ("numeric", "confidence")


def _check_column(column: ColumnBaseline, form: int) -> None:
    bins = column.ordinary + (1 if form == _FIRST_FORMAT else 2)
    if len(column.counts) != bins:
        raise SketchError(f"{column.name!r}: expected {bins} counts, got {len(column.counts)}")
    if min(column.counts) < 0 or sum(column.counts) <= 0 or sum(column.counts) >= 2**48:
        raise SketchError(f"{column.name!r}: counts must be non-negative and not all zero")
    edges_of = column.edge_array()
    if not (np.isfinite(edges_of).all() and (edges_of[1:] > edges_of[:-1]).all()):
        raise SketchError(f"{column.name!r}: edges must be finite and ascending")
    if not (np.isfinite(column.mean) and np.isfinite(column.sd) and column.sd >= 0):
        raise SketchError(f"{column.name!r}: mean and sd must be finite")
    is_category = column.kind == "category"
    if is_category and (
        form == _FIRST_FORMAT or column.edges or len(set(column.values)) < len(column.values)
    ):
        raise SketchError(f"{column.name!r}: a category has values that differ, no edges, and format 2")
    if not is_category and (column.values or column.reveal):
        raise SketchError(f"{column.name!r}: only a category has values, and names to reveal")


def make_baseline(
    rows: Rows | ArrayLike,
    kinds: Mapping[str, Column],
    *,
    classes: int = 0,
    units: Mapping[str, str] | None = None,
    values: Mapping[str, int] | None = None,
    reveal: Collection[str] = (),
    axes: tuple[Axes, ...] = (),
    paired: Sequence[tuple[str, str]] = (),
) -> Baseline:
    """Measure a baseline on reference rows.

    Args:
        rows: Of the columns of ``kinds``, in that order; a matrix where none is a category.
        kinds: Name and kind of each column.
        classes: Number of classes, for ``class`` and ``confidence`` columns.
        units: Units by column name.
        values: How many values get a bin, by name of category; 32 where it is not said.
        reveal: Categories whose other values may leave the device by name.
        axes: With which the rows were made.
        paired: Names of columns whose correlation is sketched.

    Raises:
        SketchError: No rows, the shape does not match, or a pair cannot be.
    """
    cells = sum(kind == "category" for kind in kinds.values())
    held = as_rows(rows, numbers=len(kinds) - cells, categories=cells)
    if len(held) == 0:
        raise SketchError(f"expected rows of {len(kinds)} columns, got shape {held.numbers.shape}")
    numbers, texts = iter(held.numbers.astype(np.float64).T), iter(held.categories)
    columns = []
    for name, kind in kinds.items():
        unit = (units or {}).get(name, "")
        if kind == "category":
            most = (values or {}).get(name, USUAL_VALUES)
            columns.append(_measure_category(name, next(texts), most, unit=unit, reveal=name in reveal))
        else:
            columns.append(_measure(name, kind, next(numbers), classes=classes, unit=unit))
    made = tuple(columns)
    return Baseline(made, axes=axes, pairs=_measure_pairs(made, held.numbers, paired) if paired else None)


def fixed_edges(kind: Column, classes: int) -> NDArray[np.float64]:
    """Return the edges of a ``class`` or a ``confidence`` column, which do not depend on the reference."""
    if kind == "class":
        return np.arange(classes + 1, dtype=np.float64)
    return np.linspace(1 / max(classes, 2), 1.0, CONFIDENCE_BINS + 1)[1:-1]


def _measure(
    name: str, kind: Column, values: NDArray[np.float64], *, classes: int, unit: str
) -> ColumnBaseline:
    held = anchored_edges(values) if kind == "numeric" else fixed_edges(kind, classes)
    finite = values[np.isfinite(values)]
    return ColumnBaseline(
        name=name,
        kind=kind,
        edges=tuple(held.tolist()),
        counts=tuple(count_values(values, held).tolist()),
        mean=edges.mean(finite),
        sd=edges.deviation(finite),
        lag=edges.lag(finite),
        unit=unit,
    )


def _measure_category(name: str, values: Array, most: int, *, unit: str, reveal: bool) -> ColumnBaseline:
    tally = categories.tally(values)
    names = categories.most_frequent(tally, most)
    counts, _ = categories.count(tally, names, reveal=reveal)
    return ColumnBaseline(
        name=name,
        kind="category",
        edges=(),
        counts=tuple(counts.tolist()),
        mean=0.0,
        sd=0.0,
        unit=unit,
        values=names,
        reveal=reveal,
    )


def _measure_pairs(
    columns: Sequence[ColumnBaseline], numbers: NDArray[np.floating], paired: Sequence[tuple[str, str]]
) -> Pairs:
    index = {column.name: at for at, column in enumerate(columns) if column.kind in _PAIRED}
    unknown = sorted({name for pair in paired for name in pair} - index.keys())
    if unknown or any(first == second for first, second in paired):
        raise SketchError(
            f"pairs: expected two different numbers of {sorted(index)}, got {unknown or paired}"
        )
    wanted = [(index[first], index[second]) for first, second in paired]
    used = sorted({column for pair in wanted for column in pair})
    place = {at: number for number, at in enumerate(i for i, c in enumerate(columns) if c.kind != "category")}
    return pairs.measure(
        used,
        wanted=wanted,
        counts=[columns[at].counts[: columns[at].ordinary] for at in used],
        values=[(numbers[:, place[at]], columns[at].edge_array(numbers.dtype)) for at in used],
    )
