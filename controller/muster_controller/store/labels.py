"""The truth about predictions: which are labelled, and counts per device, version and window as they came."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import delete, func, insert
from sqlmodel import Session, col, select

from muster_controller.domain.labels.counts import Counts, from_document, total
from muster_controller.domain.labels.detector import Round
from muster_controller.store.engine import ask, table, upsert
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import Labelled, LabelRecord, LabelState, Version

_AT_ONCE = 500  # SQLite takes a limited number of parameters
# One seek in the index per version, however many labels there are.
_RECORDS, _STATES = table(LabelRecord).c, table(LabelState).c
_NEWEST = sqlalchemy.select(
    table(Version).c.digest,
    sqlalchemy.select(func.max(_RECORDS.id))
    .where(_RECORDS.digest == table(Version).c.digest)
    .scalar_subquery(),
)
_WATCHED = sqlalchemy.select(_STATES.digest, _STATES.upto, _STATES.active)
_OLDEST = (
    sqlalchemy.select(func.min(table(Labelled).c.at)),
    sqlalchemy.select(func.min(_RECORDS.end)),
)


@dataclass(frozen=True)
class Cell:
    """Whose predictions are counted; ``start`` and ``end`` are Unix seconds by the device's clock."""

    device: str
    model: str
    digest: str
    start: float
    end: float


@dataclass(frozen=True)
class Entry:
    """What a push said about one cell.

    Attributes:
        correction: Of labels that were given before: ``counts`` are what to add to the earlier ones.
        key: Of counts that the application made; None where ids were pushed.
    """

    cell: Cell
    counts: Counts
    correction: bool = False
    key: bytes | None = None


@dataclass(frozen=True)
class Stored:
    """An entry with its place in the order of arrival, and the push that it belongs to."""

    id: int
    push: int
    entry: Entry


@dataclass(frozen=True)
class Received:
    """When an entry came, Unix seconds, and who pushed it."""

    at: float
    actor: str


@dataclass(frozen=True)
class Known:
    """A prediction that is labelled; ``at`` is when it was predicted, Unix seconds."""

    key: bytes
    label: str
    at: float


@dataclass(frozen=True)
class Watched:
    """What is watched of a version.

    Attributes:
        upto: Number of the newest entry that is in ``state``.
        active: An alarm stands.
        state: Bytes that the domain made.
    """

    upto: int
    active: bool
    state: bytes


@dataclass(frozen=True)
class Wanted:
    """Which counts are asked for: of one model, of windows that end in [start, end), Unix seconds.

    Attributes:
        devices: None asks for all.
        limit: The newest windows are kept when there are more entries.
    """

    model: str
    start: float
    end: float
    devices: Sequence[str] | None = None
    limit: int = 20_000


def labels_of(session: Session, keys: Iterable[bytes]) -> dict[bytes, str]:
    """Return the labels of those predictions that are labelled."""
    wanted = list(keys)
    found: dict[bytes, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        query = select(Labelled.key, Labelled.label).where(col(Labelled.key).in_(part))
        found |= dict(session.exec(query).all())
    return found


def counted(session: Session, key: bytes) -> Counts | None:
    """Return the counts that an application gave under a key, corrections included; None for never."""
    rows = session.exec(select(LabelRecord.counts).where(LabelRecord.key == key)).all()
    return total(map(from_document, rows)) if rows else None


def remember(session: Session, known: Iterable[Known]) -> None:
    """Store the labels of predictions, in place of earlier ones."""
    rows = [{"key": one.key, "label": one.label, "at": milliseconds(one.at)} for one in known]
    upsert(session, Labelled, rows)


def add(session: Session, entries: Sequence[Entry], *, actor: str, now: float) -> None:
    """Store what one push said."""
    newest = session.exec(select(func.max(LabelRecord.id))).one()
    rows = [
        {
            "push": (newest or 0) + 1,
            "device": entry.cell.device,
            "model": entry.cell.model,
            "digest": entry.cell.digest,
            "start": milliseconds(entry.cell.start),
            "end": milliseconds(entry.cell.end),
            "correction": entry.correction,
            "counts": entry.counts.document(),
            "key": entry.key,
            "actor": actor,
            "received_at": milliseconds(now),
        }
        for entry in entries
    ]
    if rows:
        session.execute(insert(table(LabelRecord)), rows)


def after(session: Session, digest: str, *, upto: int, limit: int) -> list[Stored]:
    """Return the entries of a version that came after the one numbered ``upto``, oldest first."""
    query = (
        select(LabelRecord)
        .where(LabelRecord.digest == digest, col(LabelRecord.id) > upto)
        .order_by(col(LabelRecord.id))
        .limit(limit)
    )
    return [_stored(row) for row in session.exec(query)]


def history(session: Session, digest: str, *, until: float, limit: int) -> list[tuple[Received, Stored]]:
    """Return the newest ``limit`` entries of a version that came up to an instant, oldest first."""
    query = (
        select(LabelRecord)
        .where(LabelRecord.digest == digest, LabelRecord.received_at <= milliseconds(until))
        .order_by(col(LabelRecord.id).desc())
        .limit(limit)
    )
    rows = reversed(session.exec(query).all())
    return [(Received(seconds(row.received_at), row.actor), _stored(row)) for row in rows]


def rounds(entries: Iterable[Stored]) -> list[Round]:
    """Return what each push says about each window; corrections are no new evidence."""
    found: dict[tuple[int, float, float], dict[str, Counts]] = {}
    for stored in entries:
        cell = stored.entry.cell
        if not stored.entry.correction:
            held = found.setdefault((stored.push, cell.end, cell.start), {})
            held[cell.device] = held.get(cell.device, Counts()) + stored.entry.counts
    return [Round(end, counts) for (_, end, _), counts in sorted(found.items(), key=lambda one: one[0])]


def between(session: Session, wanted: Wanted) -> list[Entry]:
    """Return the entries about some windows, newest window first."""
    query = (
        select(LabelRecord)
        .where(
            LabelRecord.model == wanted.model,
            LabelRecord.end >= milliseconds(wanted.start),
            LabelRecord.end < milliseconds(wanted.end),
        )
        .order_by(col(LabelRecord.end).desc())
        .limit(wanted.limit)
    )
    if wanted.devices is not None:
        query = query.where(col(LabelRecord.device).in_(wanted.devices))
    return [_stored(row).entry for row in session.exec(query)]


def pending(session: Session) -> list[str]:
    """Return the digests of versions of which there is news, or an alarm that stands."""
    watched = ask(session, _WATCHED).all()
    upto = {digest: number for digest, number, _ in watched}
    news = {
        digest for digest, last in ask(session, _NEWEST) if digest not in upto or (last or 0) > upto[digest]
    }
    return sorted(news | {digest for digest, _, is_active in watched if is_active})


def watched(session: Session, digest: str) -> Watched | None:
    """Return what is watched of a version, None before its first label."""
    row = session.get(LabelState, digest)
    return None if row is None else Watched(row.upto, row.active, row.state)


def save(session: Session, digest: str, held: Watched, *, now: float) -> None:
    """Store what is watched of a version."""
    values: Mapping[str, object] = {
        "digest": digest,
        "upto": held.upto,
        "active": held.active,
        "state": held.state,
        "updated_at": milliseconds(now),
    }
    upsert(session, LabelState, [values])


def has_older(session: Session, before: float) -> bool:
    """Tell whether there are labels of predictions, or counts, from before an instant."""
    found: list[int | None] = [ask(session, query).scalar_one() for query in _OLDEST]
    return any(at is not None and at < milliseconds(before) for at in found)


def prune(session: Session, before: float, limit: int) -> int:
    """Remove up to ``limit`` labels and entries about what is older, and return how many went."""
    old = select(col(Labelled.key)).where(Labelled.at < milliseconds(before)).limit(limit)
    gone = session.execute(delete(Labelled).where(col(Labelled.key).in_(old)).returning(col(Labelled.at)))
    entries = select(col(LabelRecord.id)).where(LabelRecord.end < milliseconds(before)).limit(limit)
    left = session.execute(
        delete(LabelRecord).where(col(LabelRecord.id).in_(entries)).returning(col(LabelRecord.id))
    )
    return len(gone.all()) + len(left.all())


def _stored(row: LabelRecord) -> Stored:
    assert row.id is not None
    cell = Cell(row.device, row.model, row.digest, seconds(row.start), seconds(row.end))
    return Stored(row.id, row.push, Entry(cell, from_document(row.counts), row.correction, row.key))
