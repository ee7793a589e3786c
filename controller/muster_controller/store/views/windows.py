"""Recent windows of a model, still encoded: what the drift page is made of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_controller.store.engine import table
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


@dataclass(frozen=True)
class Taken:
    """What the windows of a model took.

    Attributes:
        rows: Sketched ones; ``calls`` were asked for.
        sketches: Bytes.
        days: Sum over windows of their length: days that all devices together were measured for.
    """

    devices: int = 0
    windows: int = 0
    rows: int = 0
    calls: int = 0
    sketches: int = 0
    days: float = 0.0


def taken(session: Session, wanted: Recent, baseline: str) -> Taken:
    """Return what the windows of a model on one baseline took in a period."""
    columns = table(WindowRecord).c
    query = sqlalchemy.select(
        func.count(func.distinct(columns.device)),
        func.count(),
        func.sum(columns.rows),
        func.sum(columns.calls),
        func.sum(func.length(columns.sketch)),
        func.sum(columns.end - columns.start),
    ).where(
        columns.model == wanted.model,
        columns.baseline == baseline,
        columns.end >= milliseconds(wanted.start),
        columns.end < milliseconds(wanted.end),
    )
    held, count, rows, calls, sketches, length = session.execute(query).one()
    return Taken(held, count, rows or 0, calls or 0, sketches or 0, seconds(length or 0) / 86_400)


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
    columns = table(WindowRecord).c
    # Columns and no rows: objects of the session cost more than all that is done with some thousand windows.
    query = (
        sqlalchemy.select(
            columns.id,
            columns.device,
            columns.digest,
            columns.end,
            columns.rows,
            columns.calls,
            columns.errors,
            columns.latency,
            columns.sketch,
        )
        .where(
            columns.model == wanted.model,
            columns.baseline == baseline,
            columns.end >= milliseconds(wanted.start),
            columns.end < milliseconds(wanted.end),
        )
        .order_by(columns.end.desc())
        .limit(wanted.limit)
    )
    if wanted.devices is not None:
        query = query.where(columns.device.in_(wanted.devices))
    return [
        WindowBytes(number, device, digest, seconds(end), rows, calls, errors, tuple(latency), sketch)
        for number, device, digest, end, rows, calls, errors, latency, sketch in session.execute(query)
    ]
