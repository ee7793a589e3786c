"""Windows: the sketches that devices sent, still encoded, in the order in which they came."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy
from sqlalchemy import Row, Select, bindparam, delete, func, insert
from sqlmodel import Session, col, select

from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import WindowRecord
from muster_models.wire import Window

AT_ONCE = 500  # rows of a long answer that are in memory together
PAGE = 2_000

_COLUMNS = table(WindowRecord).c
_ADD = insert(table(WindowRecord))
# Columns, not rows, because each is read in every pass.
_NEWER: Select[Any] = (
    sqlalchemy.select(*_COLUMNS)
    .where(_COLUMNS.model == bindparam("model"), _COLUMNS.id > bindparam("upto"))
    .order_by(_COLUMNS.id)
    .limit(bindparam("limit"))
)
_AFTER = _NEWER.where(_COLUMNS.baseline == bindparam("baseline"))
_OLDER = sqlalchemy.select(_COLUMNS.id).where(_COLUMNS.received_at < bindparam("before")).limit(1)


@dataclass(frozen=True)
class StoredWindow:
    """A window as it was received.

    Attributes:
        id: Grows in the order of arrival.
        start, end: Unix seconds by the device's clock.
        rows: Rows in the sketch.
        latency: Counts per bin of ``wire.LATENCY_EDGES_MS``.
        counters: What the application counted, by name.
    """

    id: int
    device: str
    model: str
    digest: str
    baseline: str
    start: float
    end: float
    rows: int
    calls: int
    errors: int
    latency: tuple[int, ...]
    sketch: bytes
    parts: int
    counters: Mapping[str, int] = field(default_factory=dict)


def add(session: Session, windows: Iterable[tuple[Window, int]], now: float) -> None:
    """Store windows, each with the rows in its sketch; that they are new is for ``inbox`` to say."""
    rows = [
        {
            "device": window.device,
            "model": window.model,
            "digest": window.manifest,
            "baseline": window.baseline,
            "start": milliseconds(window.start),
            "end": milliseconds(window.end),
            "rows": sampled,
            "calls": window.calls,
            "errors": window.errors,
            "latency": list(window.latency),
            "sketch": window.sketch,
            "parts": window.parts,
            "counters": window.counters or None,
            "received_at": milliseconds(now),
        }
        for window, sampled in windows
    ]
    if rows:
        session.execute(_ADD, rows)


def after(session: Session, model: str, baseline: str, *, upto: int, limit: int) -> list[StoredWindow]:
    """Return the windows of a model on a baseline that came after the one numbered ``upto``, oldest first."""
    found = ask(session, _AFTER, model=model, baseline=baseline, upto=upto, limit=limit)
    return [_window(row) for row in found]


def history(
    session: Session, model: str, baseline: str, *, until: float, limit: int
) -> list[tuple[float, StoredWindow]]:
    """Return the newest ``limit`` windows of a model on a baseline that came up to an instant, oldest first.

    Each with the time when it came, Unix seconds by the controller's clock.
    """
    query = (
        select(WindowRecord)
        .where(WindowRecord.model == model, WindowRecord.baseline == baseline)
        .where(col(WindowRecord.received_at) <= milliseconds(until))
        .order_by(col(WindowRecord.id).desc())
        .limit(limit)
    )
    return [(seconds(row.received_at), _window(row)) for row in reversed(session.exec(query).all())]


def newer(session: Session, model: str, *, upto: int, limit: int) -> list[StoredWindow]:
    """Return the windows of a model, on any baseline, that came after ``upto``, oldest first."""
    return [_window(row) for row in ask(session, _NEWER, model=model, upto=upto, limit=limit)]


def recent(session: Session, model: str, digest: str, *, since: float, limit: int) -> list[StoredWindow]:
    """Return the newest ``limit`` windows of a version that ended after an instant, oldest first."""
    query = (
        select(WindowRecord)
        .where(WindowRecord.model == model, WindowRecord.digest == digest)
        .where(col(WindowRecord.end) > milliseconds(since))
        .order_by(col(WindowRecord.id).desc())
        .limit(limit)
    )
    return [_window(row) for row in reversed(session.exec(query).all())]


def first(
    session: Session, digest: str, model: str, baseline: str, *, each: int, limit: int
) -> list[StoredWindow]:
    """Return the windows of one version that came first and hold rows, up to ``each`` of every device.

    Args:
        digest: Of the version; ``model`` and ``baseline`` are its own.
        limit: Of all devices together.
    """
    query = (
        select(WindowRecord)
        .where(
            WindowRecord.model == model,
            WindowRecord.baseline == baseline,
            WindowRecord.digest == digest,
            WindowRecord.rows > 0,
        )
        .order_by(col(WindowRecord.id))
    )
    taken: Counter[str] = Counter()
    found: list[StoredWindow] = []
    for row in session.exec(query.execution_options(yield_per=AT_ONCE)):
        if taken[row.device] < each and len(found) < limit:
            taken[row.device] += 1
            found.append(_window(row))
        if len(found) == limit:
            break
    return found


def of_devices(
    session: Session, model: str, devices: Sequence[str], *, since: float, upto: int, limit: int
) -> list[StoredWindow]:
    """Return the windows of a model that some devices sent, up to one by its number, in order of arrival.

    Args:
        since: Windows that ended earlier are left out, Unix seconds.
    """
    found: list[StoredWindow] = []
    for start in range(0, len(devices), AT_ONCE):
        query = select(WindowRecord).where(
            WindowRecord.model == model,
            col(WindowRecord.device).in_(devices[start : start + AT_ONCE]),
            WindowRecord.end >= milliseconds(since),
            col(WindowRecord.id) <= upto,
        )
        found += [_window(row) for row in session.exec(query.limit(limit - len(found)))]
    return sorted(found, key=lambda window: window.id)


def count_of_versions(
    session: Session, model: str, digests: Sequence[str], *, since: float, upto: int
) -> int:
    """Return how many windows of some versions there are, as ``of_versions`` yields them."""
    query = _of_versions(select(func.count()), model, digests, since=since, upto=upto)
    return int(session.exec(query).one())


def of_versions(
    session: Session, model: str, digests: Sequence[str], *, since: float, upto: int
) -> Iterator[list[StoredWindow]]:
    """Yield the windows of some versions up to one by its number, in order of arrival, some at a time.

    Args:
        since: Windows that ended earlier are left out, Unix seconds.
    """
    last = 0
    while True:
        query = _of_versions(select(WindowRecord), model, digests, since=since, upto=upto)
        rows = session.exec(
            query.where(col(WindowRecord.id) > last).order_by(col(WindowRecord.id)).limit(PAGE)
        )
        found = [_window(row) for row in rows]
        if not found:
            return
        yield found
        last = found[-1].id


def _of_versions(query: Any, model: str, digests: Sequence[str], *, since: float, upto: int) -> Any:
    return query.where(
        WindowRecord.model == model,
        col(WindowRecord.digest).in_(digests),
        WindowRecord.end >= milliseconds(since),
        col(WindowRecord.id) <= upto,
    )


def has_older(session: Session, before: float) -> bool:
    """Tell whether a window was received before an instant."""
    return ask(session, _OLDER, before=milliseconds(before)).first() is not None


def prune(session: Session, before: float, limit: int) -> int:
    """Remove up to ``limit`` windows that were received before an instant, and return how many went."""
    old = (
        select(col(WindowRecord.id))
        .where(WindowRecord.received_at < milliseconds(before))
        .order_by(col(WindowRecord.received_at))
        .limit(limit)
    )
    gone = session.execute(
        delete(WindowRecord).where(col(WindowRecord.id).in_(old)).returning(col(WindowRecord.id))
    )
    return len(gone.all())


def _window(row: WindowRecord | Row[Any]) -> StoredWindow:
    assert row.id is not None
    return StoredWindow(
        id=row.id,
        device=row.device,
        model=row.model,
        digest=row.digest,
        baseline=row.baseline,
        start=seconds(row.start),
        end=seconds(row.end),
        rows=row.rows,
        calls=row.calls,
        errors=row.errors,
        latency=tuple(row.latency),
        sketch=row.sketch,
        parts=row.parts,
        counters=row.counters or {},
    )
