"""Everything that drift detection remembers, between two calls and in the store."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_controller.domain.drift.measures import SHARES, Measure
from muster_controller.domain.sequential import BETS, RATE_FACTORS
from muster_models.errors import SketchError
from muster_models.sketch.baseline import COMPONENTS, Baseline

FORMAT = 1
SIDES = np.array([1.0, -1.0])
MAX_BYTES = 1 << 30

Store = NDArray[np.float32]
Level = Literal["device", "group", "fleet"]
Kind = Literal["data-drift", "prediction-drift", "data-quality"]


class Moved(Struct, frozen=True):
    """A column that has moved.

    Attributes:
        column: Index into the baseline.
        leg: ``location``, ``scale``, ``skew``, ``tails``, ``missing`` or ``outside``.
        effect: In standard deviations of the score, or as a share of the rows; signed.
        evidence: Logarithm of the column's detector.
    """

    column: int
    leg: str
    effect: float
    evidence: float


class Incident(Struct, frozen=True):
    """An alarm that is pending or firing.

    Attributes:
        devices: Its scope: what it explains is not reported again.
        held: Rounds since it became pending, or since it was last attributed elsewhere.
        calm: Rounds in a row without effect.
        moved: Strongest first.
    """

    level: Level
    subject: str
    devices: tuple[str, ...]
    since: float
    fired_at: float | None = None
    held: int = 0
    calm: int = 0
    value: float = 0.0
    bound: float = 0.0
    moved: tuple[Moved, ...] = ()

    @property
    def name(self) -> tuple[Level, str]:
        """What the alarm is about."""
        return self.level, self.subject


@dataclass(frozen=True)
class Bank:
    """Detectors of some subjects, by name.

    Attributes:
        scores: Shape (subjects, columns, 4 components, 2 directions, bets); logarithms.
        shares: Shape (subjects, columns, 2 shares, bets on a rate).
    """

    names: tuple[str, ...]
    scores: Store
    shares: Store

    @classmethod
    def new(cls, columns: int) -> Self:
        """Return a bank of no subject."""
        scores = np.zeros((0, columns, COMPONENTS, len(SIDES), len(BETS)), dtype=np.float32)
        return cls((), scores, np.zeros((0, columns, SHARES, len(RATE_FACTORS)), dtype=np.float32))

    def with_names(self, names: Sequence[str]) -> Self:
        """Return a bank that has these subjects too, each new one with R = 0; a copy."""
        known = set(self.names)
        added = [name for name in names if name not in known]
        return type(self)(
            (*self.names, *added),
            _grown(self.scores, len(added), -np.inf),
            _grown(self.shares, len(added), -np.inf),
        )

    def without(self, names: frozenset[str]) -> Self:
        """Return a bank that has forgotten some subjects."""
        kept = [at for at, name in enumerate(self.names) if name not in names]
        return type(self)(tuple(self.names[at] for at in kept), self.scores[kept], self.shares[kept])

    def index(self) -> dict[str, int]:
        """Return where each subject is."""
        return {name: at for at, name in enumerate(self.names)}

    def reset(self, index: int) -> None:
        """Start the detectors of one subject anew."""
        self.scores[index] = -np.inf
        self.shares[index] = -np.inf


@dataclass(frozen=True)
class Levels:
    """What each device is like when nothing is wrong, and how far it is from that now.

    Attributes:
        manifests: Version that each device was calibrated on.
        rounds, rows: Of the calibration.
        mean, scatter, variance: Of the score means: level, rows times squared distance from it, of one row.
        hits: Rows of the calibration that were missing or outside.
        recent, recent_shares: Moving averages of the distance from the level, and of the shares.
    """

    names: tuple[str, ...]
    manifests: tuple[str, ...]
    rounds: Store
    rows: Store
    mean: Store
    scatter: Store
    variance: Store
    hits: Store
    recent: Store
    recent_shares: Store

    @classmethod
    def new(cls, columns: int) -> Self:
        """Return the levels of no device."""
        one, scores = np.zeros(0, np.float32), np.zeros((0, columns, COMPONENTS), np.float32)
        shares = np.zeros((0, columns, SHARES), np.float32)
        return cls((), (), one, one, scores, scores, scores, shares, scores, shares)

    def with_device(self, name: str, manifest: str) -> Self:
        """Return levels that have one more device, uncalibrated; a copy."""
        grown = {f.name: _grown(getattr(self, f.name), 1, 0.0) for f in fields(self)[2:]}
        return type(self)((*self.names, name), (*self.manifests, manifest), **grown)

    def without(self, names: frozenset[str]) -> Self:
        """Return levels that have forgotten some devices."""
        kept = [index for index, name in enumerate(self.names) if name not in names]
        cut = {f.name: getattr(self, f.name)[kept] for f in fields(self)[2:]}
        return type(self)(tuple(self.names[i] for i in kept), tuple(self.manifests[i] for i in kept), **cut)


@dataclass(frozen=True)
class DriftState:
    """All detectors of one model on one baseline.

    Attributes:
        open: Rounds that are not closed yet: by index, then device, the version and what it measured.
        waiting: What devices measured in closed rounds that were too small to be tested alone.
    """

    baseline: str
    columns: int
    levels: Levels
    banks: dict[Level, Bank]
    incidents: tuple[Incident, ...] = ()
    open: dict[int, dict[str, tuple[str, Measure]]] = field(default_factory=dict)
    waiting: dict[str, tuple[str, Measure]] = field(default_factory=dict)

    @classmethod
    def new(cls, baseline: Baseline) -> Self:
        """Return the state that has seen nothing."""
        columns = len(baseline.columns)
        names: tuple[Level, ...] = ("device", "group", "fleet")
        return cls(baseline.digest, columns, Levels.new(columns), {name: Bank.new(columns) for name in names})

    def encode(self) -> bytes:
        """Return the bytes for the store."""
        document = {
            "format": FORMAT,
            "baseline": self.baseline,
            "columns": self.columns,
            "levels": [getattr(self.levels, f.name) for f in fields(Levels)],
            "banks": {name: [bank.names, bank.scores, bank.shares] for name, bank in self.banks.items()},
            "incidents": self.incidents,
            "open": {
                index: {device: _parts(entry) for device, entry in held.items()}
                for index, held in self.open.items()
            },
            "waiting": {device: _parts(entry) for device, entry in self.waiting.items()},
        }
        return zlib.compress(msgspec.msgpack.encode(document, enc_hook=_pack), 1)


def decode_state(data: bytes) -> DriftState:
    """Return the state that ``encode`` made.

    Raises:
        SketchError: Damaged, or of another format.
    """
    try:
        inflater = zlib.decompressobj()
        document: dict[str, Any] = msgspec.msgpack.decode(
            inflater.decompress(data, MAX_BYTES), ext_hook=_unpack, strict=False
        )
        if document["format"] != FORMAT:
            raise SketchError(f"expected drift state of format {FORMAT}, got {document['format']!r}")
        return _restore(document)
    except (zlib.error, msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SketchError(f"drift state: {error}") from error


def _restore(document: dict[str, Any]) -> DriftState:
    columns = int(document["columns"])
    names, manifests, *arrays = document["levels"]
    empty = Levels.new(columns)
    held = {f.name: array for f, array in zip(fields(Levels)[2:], arrays, strict=True)}
    levels = replace(empty, names=tuple(names), manifests=tuple(manifests), **held)
    _check(levels, empty)
    banks: dict[Level, Bank] = {}
    levels_named: tuple[Level, ...] = ("device", "group", "fleet")
    for name in levels_named:
        subjects, scores, shares = document["banks"][name]
        banks[name] = Bank(tuple(subjects), scores, shares)
        _check(banks[name], Bank.new(columns))
    return DriftState(
        baseline=str(document["baseline"]),
        columns=columns,
        levels=levels,
        banks=banks,
        incidents=msgspec.convert(document["incidents"], tuple[Incident, ...]),
        open={
            int(index): {device: _entry(*parts) for device, parts in held_in.items()}
            for index, held_in in document["open"].items()
        },
        waiting={device: _entry(*parts) for device, parts in document["waiting"].items()},
    )


def _check(got: Levels | Bank, empty: Levels | Bank) -> None:
    for f in fields(got):
        array, expected = getattr(got, f.name), getattr(empty, f.name)
        if isinstance(expected, np.ndarray) and array.shape != (len(got.names), *expected.shape[1:]):
            raise SketchError(f"drift state: {f.name} has shape {array.shape}")


def _parts(entry: tuple[str, Measure]) -> list[Any]:
    manifest, measure = entry
    return [manifest, measure.rows, measure.scores, measure.squares, measure.hits]


def _entry(manifest: str, *parts: Any) -> tuple[str, Measure]:
    return manifest, Measure(*parts)


def _grown(array: Store, more: int, value: float) -> Store:
    added = np.full((more, *array.shape[1:]), value, dtype=array.dtype)
    return np.concatenate([array, added])


def _pack(array: object) -> msgspec.msgpack.Ext:
    assert isinstance(array, np.ndarray)
    head = msgspec.msgpack.encode([array.dtype.str, array.shape])
    return msgspec.msgpack.Ext(1, len(head).to_bytes(2, "little") + head + array.tobytes())


def _unpack(code: int, data: memoryview) -> NDArray[np.generic]:
    length = int.from_bytes(data[:2], "little")
    dtype, shape = msgspec.msgpack.decode(data[2 : 2 + length], type=tuple[str, tuple[int, ...]])
    if code != 1 or dtype not in {"<f4", "<f8"}:
        raise ValueError(f"expected an array of floats, got {dtype!r}")
    # A copy, because what comes from bytes cannot be written.
    return np.frombuffer(data[2 + length :], dtype=dtype).reshape(shape).copy()
