"""What candidates answered in shadow, as pages show it."""

import datetime as dt
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from sqlmodel import Session, col, select

from muster_controller.store.tables import ShadowRecord
from muster_controller.store.views.instants import instant
from muster_controller.store.views.names import VersionRef, name_versions
from muster_models.wire import LATENCY_EDGES_MS

MEDIAN, SLOW = 0.5, 0.95
_BATCH: Final = 500  # devices named in one query


@dataclass(frozen=True)
class CallsView:
    """How one of the two versions took its calls.

    Attributes:
        median_ms, slow_ms: Half of the calls, and 95 in 100, took at most so long: the upper edge of the bin.
            None where no call was seen, or it lies beyond the last edge.
    """

    calls: int
    errors: int
    median_ms: float | None
    slow_ms: float | None


@dataclass(frozen=True)
class ShadowView:
    """How a candidate that answered in shadow compares with the version that answered.

    Everything that it ever answered beside that version on these devices is in the counts: two versions do
    not change, so an earlier rollout of the same two says the same.

    Attributes:
        devices: That reported about it.
        rows: That both answered; ``agreed`` of them alike, which is the share ``agreement`` (None for none).
        difference: Mean absolute difference of two values; 0 for classes, None where nothing was compared.
        dropped: Calls drawn that the candidate was not asked: busy, or over its share of the processor.
        beside: The version that answered, over the windows in which the candidate was asked.
    """

    candidate: VersionRef
    version: VersionRef
    devices: int
    rows: int
    agreed: int
    agreement: float | None
    difference: float | None
    dropped: int
    calls: CallsView
    beside: CallsView
    since: dt.datetime
    until: dt.datetime


def of_candidate(session: Session, candidate: str, devices: Collection[str]) -> tuple[ShadowView, ...]:
    """Return how a candidate did on some devices, beside each version that answered there."""
    rows: list[ShadowRecord] = []
    named = sorted(devices)
    for start in range(0, len(named), _BATCH):
        some = named[start : start + _BATCH]
        query = select(ShadowRecord).where(
            ShadowRecord.candidate == candidate, col(ShadowRecord.device).in_(some)
        )
        rows += session.exec(query)
    return _views(session, rows)


def of_device(session: Session, device: str, limit: int) -> tuple[ShadowView, ...]:
    """Return the candidates that answered in shadow on one device, the latest first."""
    query = (
        select(ShadowRecord)
        .where(ShadowRecord.device == device)
        .order_by(col(ShadowRecord.until).desc())
        .limit(limit)
    )
    return _views(session, session.exec(query).all())


def reached(latency: Sequence[int], share: float) -> float | None:
    """Return within how many milliseconds a share of the calls was answered; None where that is not known."""
    total = sum(latency)
    at = bisect_left(list(accumulate(latency)), share * total) if total else len(latency)
    return LATENCY_EDGES_MS[at] if at < len(LATENCY_EDGES_MS) else None


def _views(session: Session, rows: Sequence[ShadowRecord]) -> tuple[ShadowView, ...]:
    names = name_versions(session, {digest for row in rows for digest in (row.digest, row.candidate)})
    pairs: dict[tuple[str, str], list[ShadowRecord]] = {}
    for row in rows:
        pairs.setdefault((row.candidate, row.digest), []).append(row)
    return tuple(
        _view(names[candidate], names[digest], found) for (candidate, digest), found in pairs.items()
    )


def _view(candidate: VersionRef, version: VersionRef, rows: Sequence[ShadowRecord]) -> ShadowView:
    compared, agreed = sum(row.rows for row in rows), sum(row.agreed for row in rows)
    since, until = (instant(min(row.since for row in rows)), instant(max(row.until for row in rows)))
    return ShadowView(
        candidate=candidate,
        version=version,
        devices=len({row.device for row in rows}),
        rows=compared,
        agreed=agreed,
        agreement=agreed / compared if compared else None,
        difference=sum(row.difference for row in rows) / compared if compared else None,
        dropped=sum(row.dropped for row in rows),
        calls=_calls((row.calls, row.errors, row.latency) for row in rows),
        beside=_calls((row.beside_calls, row.beside_errors, row.beside_latency) for row in rows),
        since=since,
        until=until,
    )


def _calls(counted: Iterable[tuple[int, int, list[int]]]) -> CallsView:
    calls, errors, latencies = zip(*counted, strict=True)
    latency = [sum(bins) for bins in zip(*latencies, strict=True)]
    return CallsView(sum(calls), sum(errors), reached(latency, MEDIAN), reached(latency, SLOW))
