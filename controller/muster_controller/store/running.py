"""What each device last reported to run, and the history of which version ran where and when."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import Run, Running, Version
from muster_models.errors import Reason
from muster_models.wire import ModelReport, Phase


@dataclass(frozen=True)
class Stamp:
    """Where a report stands among all that one device says.

    Attributes:
        at: Unix seconds by the device's clock.
    """

    device: str
    epoch: int
    sequence: int
    at: float


@dataclass(frozen=True)
class State:
    """What one device last reported of one model.

    Attributes:
        at: Unix seconds by the device's clock.
    """

    device: str
    model: str
    current: str | None
    previous: str | None
    target: str | None
    phase: Phase
    reason: Reason | None
    detail: str
    tries: int
    stopped: bool
    at: float


def apply(session: Session, stamp: Stamp, report: ModelReport) -> None:
    """Remember what a device reports of one model, unless something newer is known already."""
    row = session.get(Running, (stamp.device, report.model))
    is_new = row is None
    if row is None:
        row = Running(device=stamp.device, model=report.model, at=0)
    elif row.epoch == stamp.epoch and row.sequence > stamp.sequence:
        return
    current = None if report.current is None else report.current.manifest
    if current != row.current:
        _change_run(session, stamp, model=report.model, digest=current)
    row.current = current
    row.previous = None if report.previous is None else report.previous.manifest
    row.target, row.phase, row.reason = report.target, report.phase, report.reason
    row.detail, row.tries, row.stopped = report.detail, report.tries, report.stopped
    row.at, row.epoch, row.sequence = milliseconds(stamp.at), stamp.epoch, stamp.sequence
    session.add(row)
    if is_new:
        session.flush()  # so that the next report of a batch finds it; the others are written together


def of_model(session: Session, model: str) -> dict[str, State]:
    """Return what every device last reported of one model."""
    return {row.device: _state(row) for row in session.exec(select(Running).where(Running.model == model))}


def moved_on(session: Session, model: str, baseline: str, *, before: float) -> frozenset[str]:
    """Return the devices that run a version of another baseline, since before an instant (Unix seconds)."""
    query = (
        select(Run.device)
        .join(Version, col(Version.digest) == col(Run.digest))
        .where(Run.model == model, col(Run.until).is_(None), Version.baseline != baseline)
        .where(Run.since < milliseconds(before))
    )
    return frozenset(session.exec(query))


def left(session: Session, model: str, digest: str) -> frozenset[str]:
    """Return the devices that run another version of a model than the one with a digest."""
    query = select(Run.device).where(Run.model == model, col(Run.until).is_(None), Run.digest != digest)
    return frozenset(session.exec(query))


def _change_run(session: Session, stamp: Stamp, *, model: str, digest: str | None) -> None:
    at = milliseconds(stamp.at)
    open_run = session.exec(
        select(Run).where(Run.device == stamp.device, Run.model == model, col(Run.until).is_(None))
    ).first()
    if open_run is not None:
        open_run.until = max(at, open_run.since)  # a device's clock may jump back
        session.add(open_run)
    if digest is not None:
        session.add(Run(device=stamp.device, model=model, digest=digest, since=at))


def _state(row: Running) -> State:
    return State(
        device=row.device,
        model=row.model,
        current=row.current,
        previous=row.previous,
        target=row.target,
        phase=Phase(row.phase),
        reason=None if row.reason is None else Reason(row.reason),
        detail=row.detail,
        tries=row.tries,
        stopped=row.stopped,
        at=seconds(row.at),
    )
