"""Everything that drift detection remembers, between two calls and in the store."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_controller.domain.drift.measures import SHARES, SUMS, Entry, Measure
from muster_controller.domain.sequential import DETECTOR_BETS, RATE_FACTORS
from muster_models.errors import SketchError
from muster_models.sketch.baseline import COMPONENTS, Baseline

FORMAT = 2
SIDES = np.array([1.0, -1.0], dtype=np.float32)
MAX_BYTES = 1 << 30

Store = NDArray[np.float32]
Float = TypeVar("Float", np.float32, np.float64)
Level = Literal["device", "group", "fleet"]
Kind = Literal["data-drift", "prediction-drift", "data-quality", "performance", "concept-drift"]
Part = Literal["data", "performance"]
LEVELS: tuple[Level, ...] = ("device", "group", "fleet")
PARTS: tuple[Part, ...] = ("data", "performance")


class Moved(Struct, frozen=True):
    """A column that has moved.

    Attributes:
        column: Index into the baseline.
        leg: ``location``, ``scale``, ``skew``, ``tails``, ``missing`` or ``outside``.
        effect: In standard deviations of the score, or as a share of the rows; signed.
        evidence: Logarithm of the column's detector.
        normal: What the devices were like before: a mean of the score, or a share of the rows.
    """

    column: int
    leg: str
    effect: float
    evidence: float
    normal: float = 0.0


class Incident(Struct, frozen=True):
    """An alarm that is pending or firing.

    Attributes:
        subject: Device id, ``label=value``, or ``all``.
        devices: Its scope: what it explains is not reported again.
        began: End of the last round in which the detector said nothing; Unix seconds.
        held: Rounds since it became pending, or since it was last attributed elsewhere.
        calm: Rounds in a row without effect.
        value, bound: Logarithms of the detector, and of what it had to reach.
        moved: Strongest first.
    """

    level: Level
    subject: str
    devices: tuple[str, ...]
    since: float
    began: float = 0.0
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
        scores: Shape (subjects, columns, 4 components, 2 directions, bets); R itself.
        shares: Shape (subjects, columns, 2 shares, bets on a rate); R itself.
        quiet: End of the last round in which the subject's detector said nothing; Unix seconds.
    """

    names: tuple[str, ...]
    scores: Store
    shares: Store
    quiet: NDArray[np.float64]

    @classmethod
    def new(cls, columns: int) -> Self:
        """Return a bank of no subject."""
        scores = np.zeros((0, columns, COMPONENTS, len(SIDES), len(DETECTOR_BETS)), dtype=np.float32)
        shares = np.zeros((0, columns, SHARES, len(RATE_FACTORS)), dtype=np.float32)
        return cls((), scores, shares, np.zeros(0))

    def with_names(self, names: Sequence[str]) -> Self:
        """Return a bank that has these subjects too, each new one with R = 0."""
        known = set(self.names)
        added = [name for name in names if name not in known]
        if not added:
            return self
        more = len(added)
        names = (*self.names, *added)
        return type(self)(
            names, _grown(self.scores, more), _grown(self.shares, more), _grown(self.quiet, more)
        )

    def without(self, names: frozenset[str]) -> Self:
        """Return a bank that has forgotten some subjects."""
        kept = [at for at, name in enumerate(self.names) if name not in names]
        names_kept = tuple(self.names[at] for at in kept)
        return type(self)(names_kept, self.scores[kept], self.shares[kept], self.quiet[kept])

    def index(self) -> dict[str, int]:
        """Return where each subject is."""
        return {name: at for at, name in enumerate(self.names)}

    def reset(self, at: NDArray[np.intp]) -> Self:
        """Return a bank in which the detectors of some subjects start anew."""
        if not len(at):
            return self
        scores, shares = self.scores.copy(), self.shares.copy()
        scores[at], shares[at] = 0, 0
        return replace(self, scores=scores, shares=shares)


@dataclass(frozen=True)
class Levels:
    """What each device is like when nothing is wrong, and how far it is from that now.

    Attributes:
        manifests: Version that each device was calibrated on.
        rounds, rows: Of the calibration.
        mean, scatter, variance: Of the score means: level, rows times squared distance from it, of one row.
        apart, apart_scatter: The same of the distance from the middle device of the round.
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
    apart: Store
    apart_scatter: Store
    hits: Store
    recent: Store
    recent_shares: Store

    @classmethod
    def new(cls, columns: int) -> Self:
        """Return the levels of no device."""
        one, scores = np.zeros(0, np.float32), np.zeros((0, columns, COMPONENTS), np.float32)
        shares = np.zeros((0, columns, SHARES), np.float32)
        return cls((), (), one, one, scores, scores, scores, scores, scores, shares, scores, shares)

    def with_devices(self, names: Sequence[str], manifests: Sequence[str]) -> Self:
        """Return levels that have some more devices, uncalibrated; a copy."""
        grown = {f.name: _grown(getattr(self, f.name), len(names)) for f in fields(self)[2:]}
        return type(self)((*self.names, *names), (*self.manifests, *manifests), **grown)

    def without(self, names: frozenset[str]) -> Self:
        """Return levels that have forgotten some devices."""
        kept = [index for index, name in enumerate(self.names) if name not in names]
        cut = {f.name: getattr(self, f.name)[kept] for f in fields(self)[2:]}
        return type(self)(tuple(self.names[i] for i in kept), tuple(self.manifests[i] for i in kept), **cut)

    def index(self) -> dict[str, int]:
        """Return where each device is."""
        return {name: at for at, name in enumerate(self.names)}


Held = Mapping[int, Mapping[str, Entry]]
Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Watched:
    """All detectors of one part of what windows say: of the columns, or of how calls went.

    Attributes:
        open: Rounds that are not closed yet: by index, then device.
        waiting: What devices measured in closed rounds that were too small to be tested alone.
    """

    columns: int
    levels: Levels
    banks: dict[Level, Bank]
    incidents: tuple[Incident, ...] = ()
    open: Held = field(default_factory=dict)
    waiting: Mapping[str, Entry] = field(default_factory=dict)

    @classmethod
    def new(cls, columns: int) -> Self:
        """Return what has seen nothing."""
        return cls(columns, Levels.new(columns), {level: Bank.new(columns) for level in LEVELS})


@dataclass(frozen=True)
class DriftState:
    """All detectors of one model on one baseline.

    Attributes:
        spans: Start and end of the newest windows of each device that were taken in, in order; Unix seconds.
        counted: Windows that were left out, or placed apart, by reason.
    """

    baseline: str
    parts: dict[Part, Watched]
    spans: Mapping[str, Spans] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def new(cls, baseline: Baseline) -> Self:
        """Return the state that has seen nothing."""
        pairs = len(baseline.pairs.pairs) if baseline.pairs else 0
        data = Watched.new(len(baseline.columns) + pairs)
        return cls(baseline.digest, {"data": data, "performance": Watched.new(1)})

    def encode(self) -> bytes:
        """Return the bytes for the store."""
        document = {
            "format": FORMAT,
            "baseline": self.baseline,
            "parts": {name: _plain(part) for name, part in self.parts.items()},
            "spans": self.spans,
            "counted": self.counted,
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
        return DriftState(
            str(document["baseline"]),
            {part: _restore(document["parts"][part]) for part in PARTS},
            msgspec.convert(document["spans"], dict[str, Spans]),
            {str(reason): int(count) for reason, count in document["counted"].items()},
        )
    except (zlib.error, msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SketchError(f"drift state: {error}") from error


def _plain(part: Watched) -> dict[str, Any]:
    return {
        "columns": part.columns,
        "levels": [getattr(part.levels, f.name) for f in fields(Levels)],
        "banks": {level: [getattr(bank, f.name) for f in fields(Bank)] for level, bank in part.banks.items()},
        "incidents": part.incidents,
        "open": {
            index: {device: _parts(entry) for device, entry in held.items()}
            for index, held in part.open.items()
        },
        "waiting": {device: _parts(entry) for device, entry in part.waiting.items()},
    }


def _restore(document: dict[str, Any]) -> Watched:
    columns = int(document["columns"])
    names, manifests, *arrays = document["levels"]
    empty = Levels.new(columns)
    held = {f.name: array for f, array in zip(fields(Levels)[2:], arrays, strict=True)}
    levels = replace(empty, names=tuple(names), manifests=tuple(manifests), **held)
    _check(levels, empty)
    banks: dict[Level, Bank] = {}
    for level in LEVELS:
        subjects, *of_bank = document["banks"][level]
        banks[level] = Bank(tuple(subjects), *of_bank)
        _check(banks[level], Bank.new(columns))
    return Watched(
        columns=columns,
        levels=levels,
        banks=banks,
        incidents=msgspec.convert(document["incidents"], tuple[Incident, ...]),
        open={
            int(index): {device: _entry(columns, *parts) for device, parts in held_in.items()}
            for index, held_in in document["open"].items()
        },
        waiting={device: _entry(columns, *parts) for device, parts in document["waiting"].items()},
    )


def _check(got: Levels | Bank, empty: Levels | Bank) -> None:
    for f in fields(got):
        array, expected = getattr(got, f.name), getattr(empty, f.name)
        if isinstance(expected, np.ndarray) and (
            array.shape != (len(got.names), *expected.shape[1:]) or array.dtype != expected.dtype
        ):
            raise SketchError(f"drift state: {f.name} has shape {array.shape} of {array.dtype}")


def _parts(entry: Entry) -> list[Any]:
    return [entry.manifest, entry.measure.rows, entry.measure.sums]


def _entry(columns: int, manifest: str, rows: float, sums: NDArray[np.float64]) -> Entry:
    if sums.shape != (columns, SUMS):
        raise SketchError(f"drift state: a measure has shape {sums.shape}")
    return Entry(str(manifest), Measure(float(rows), sums))


def _grown(array: NDArray[Float], more: int) -> NDArray[Float]:
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), dtype=array.dtype)])


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
