"""Recent windows of a model, still encoded: what the drift page is made of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import Version, WindowRecord


@dataclass(frozen=True)
class Recent:
    """Which windows are asked for.

    Attributes:
        start, end: The windows that ended in [start, end), Unix seconds by the devices' clocks.
        devices: None asks for all.
        limit: The newest are kept when there are more.
    """

    model: str
    start: float
    end: float
    devices: Sequence[str] | None
    limit: int


@dataclass(frozen=True)
class WindowBytes:
    """One window as it was received.

    Attributes:
        end: Unix seconds by the device's clock.
    """

    id: int
    device: str
    digest: str
    end: float
    rows: int
    calls: int
    errors: int
    latency: tuple[int, ...]
    sketch: bytes


def count_baselines(session: Session, wanted: Recent) -> Counter[str]:
    """Return how many windows each baseline has in the period, of all devices."""
    query = (
        select(WindowRecord.baseline, func.count())
        .where(
            col(WindowRecord.model) == wanted.model,
            col(WindowRecord.end) >= milliseconds(wanted.start),
            col(WindowRecord.end) < milliseconds(wanted.end),
        )
        .group_by(col(WindowRecord.baseline))
    )
    return Counter(dict(session.exec(query).all()))


def list_baselines(session: Session, model: str) -> dict[str, tuple[str, ...]]:
    """Return the baselines of a model, newest release first, each with the digests of its versions."""
    query = (
        select(Version.baseline, Version.digest)
        .where(col(Version.model) == model)
        .order_by(col(Version.release).desc())
    )
    found: dict[str, tuple[str, ...]] = {}
    for baseline, digest in session.exec(query):
        found[baseline] = (*found.get(baseline, ()), digest)
    return found


def list_windows(session: Session, wanted: Recent, baseline: str) -> list[WindowBytes]:
    """Return the windows on one baseline, newest first."""
    query = (
        select(WindowRecord)
        .where(
            col(WindowRecord.model) == wanted.model,
            col(WindowRecord.baseline) == baseline,
            col(WindowRecord.end) >= milliseconds(wanted.start),
            col(WindowRecord.end) < milliseconds(wanted.end),
        )
        .order_by(col(WindowRecord.end).desc())
        .limit(wanted.limit)
    )
    if wanted.devices is not None:
        query = query.where(col(WindowRecord.device).in_(wanted.devices))
    return [_window(row) for row in session.exec(query)]


def _window(row: WindowRecord) -> WindowBytes:
    assert row.id is not None
    return WindowBytes(
        row.id,
        row.device,
        row.digest,
        seconds(row.end),
        row.rows,
        row.calls,
        row.errors,
        tuple(row.latency),
        row.sketch,
    )
