"""What each device last reported to run, and the history of which version ran where and when."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import Run, Running, Version
from muster_models.errors import Reason
from muster_models.wire import ModelReport, Phase

_OF_DEVICES = select(Running).where(col(Running.device).in_(bindparam("devices", expanding=True)))
_RUNS, _VERSIONS = table(Run).c, table(Version).c
_MOVED_ON = (
    sqlalchemy.select(_RUNS.device)
    .join(table(Version), _VERSIONS.digest == _RUNS.digest)
    .where(_RUNS.model == bindparam("model"), _RUNS.until.is_(None))
    .where(_VERSIONS.baseline != bindparam("baseline"), _RUNS.since < bindparam("before"))
)
_OPEN_RUN = select(Run).where(
    Run.device == bindparam("device"), Run.model == bindparam("model"), col(Run.until).is_(None)
)


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


class Book:
    """What some devices last reported: read at once, and written together when the session is.

    A batch has one, and nobody else writes these rows meanwhile.
    """

    def __init__(self, session: Session, devices: Collection[str]) -> None:
        self._session = session
        known = session.exec(_OF_DEVICES, params={"devices": list(devices)})
        self._rows = {(row.device, row.model): row for row in known}

    def apply(self, stamp: Stamp, report: ModelReport) -> None:
        """Remember what a device reports of one model, unless something newer is known already."""
        key = stamp.device, report.model
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Running(device=stamp.device, model=report.model, at=0)
        elif row.epoch == stamp.epoch and row.sequence > stamp.sequence:
            return
        current = None if report.current is None else report.current.manifest
        if current != row.current:
            _change_run(self._session, stamp, model=report.model, digest=current)
        for name, value in _said(stamp, report).items():
            # Most of it was said before, and to compare is cheaper than to set.
            if getattr(row, name) != value:
                setattr(row, name, value)
        self._session.add(row)


def of_model(session: Session, model: str) -> dict[str, State]:
    """Return what every device last reported of one model."""
    return {row.device: _state(row) for row in session.exec(select(Running).where(Running.model == model))}


def moved_on(session: Session, model: str, baseline: str, *, before: float) -> frozenset[str]:
    """Return the devices that run a version of another baseline, since before an instant (Unix seconds)."""
    moved = ask(session, _MOVED_ON, model=model, baseline=baseline, before=milliseconds(before))
    return frozenset(moved.scalars())


def left(session: Session, model: str, digest: str) -> frozenset[str]:
    """Return the devices that run another version of a model than the one with a digest."""
    query = select(Run.device).where(Run.model == model, col(Run.until).is_(None), Run.digest != digest)
    return frozenset(session.exec(query))


def _said(stamp: Stamp, report: ModelReport) -> dict[str, object]:
    return {
        "current": None if report.current is None else report.current.manifest,
        "previous": None if report.previous is None else report.previous.manifest,
        "target": report.target,
        "phase": report.phase,
        "reason": report.reason,
        "detail": report.detail,
        "tries": report.tries,
        "stopped": report.stopped,
        "at": milliseconds(stamp.at),
        "epoch": stamp.epoch,
        "sequence": stamp.sequence,
    }


def _change_run(session: Session, stamp: Stamp, *, model: str, digest: str | None) -> None:
    at = milliseconds(stamp.at)
    open_run = session.exec(_OPEN_RUN, params={"device": stamp.device, "model": model}).first()
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
