"""Models and versions as pages show them: the manifest, what it measured, and where it runs."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_controller.store.tables import Alarm, Assignment, Running, StopOrder, Version
from muster_controller.store.views.alarms import AlarmFilter, AlarmView, list_alarms
from muster_controller.store.views.history import RunView, list_runs
from muster_controller.store.views.instants import instant
from muster_controller.store.views.names import VersionRef, name_versions, refer
from muster_controller.store.views.paging import Page, cut, number_cursor
from muster_models.manifest import Manifest, Threshold, parse

DETAIL_ROWS = 50


@dataclass(frozen=True)
class ThresholdView:
    """An acceptance threshold with what was measured.

    Attributes:
        waiver: The signed reason why a version that misses the threshold was released; empty without one.
        value: None when the metric was not measured, which counts as a miss.
    """

    metric: str
    minimum: float | None
    maximum: float | None
    value: float | None
    met: bool
    waiver: str


@dataclass(frozen=True)
class DatasetView:
    """Where data of the version's lineage came from."""

    name: str
    role: str
    source: str
    licence: str
    digest: str
    rows: int


@dataclass(frozen=True)
class VersionView:
    """One version, as lists show it.

    Attributes:
        bytes: All files together.
        running, assigned: Devices.
    """

    digest: str
    model: str
    version: str
    name: str
    release: int
    runtime: str
    description: str
    published_at: dt.datetime
    withdrawn_at: dt.datetime | None
    bytes: int
    metrics: dict[str, float]
    thresholds: tuple[ThresholdView, ...]
    running: int
    assigned: int


@dataclass(frozen=True)
class VersionDetail:
    """One version with its whole manifest and the devices that ran it last (at most 50)."""

    version: VersionView
    manifest: dict[str, Any]
    parent: VersionRef | None
    datasets: tuple[DatasetView, ...]
    runs: tuple[RunView, ...]


@dataclass(frozen=True)
class VersionCount:
    """How many devices run one version.

    Attributes:
        fallback: What it answers after a stop order; None where its calls fail then.
    """

    version: VersionRef
    devices: int
    fallback: float | None


@dataclass(frozen=True)
class ModelView:
    """One model, as lists show it.

    Attributes:
        newest: The version with the greatest release number that was not withdrawn.
        running: Most devices first.
        stop_ordered: Every device is told to answer with the fallback.
        stopped: Devices that say they do.
        firing: Alarms.
    """

    model: str
    versions: int
    newest: VersionRef | None
    running: tuple[VersionCount, ...]
    assigned: int
    stop_ordered: bool
    stopped: int
    firing: int


@dataclass(frozen=True)
class ModelDetail:
    """One model with its newest versions and alarms (at most 50 of each)."""

    model: ModelView
    versions: tuple[VersionView, ...]
    alarms: tuple[AlarmView, ...]


def list_models(session: Session) -> tuple[ModelView, ...]:
    """Return every model by name."""
    names = session.exec(select(Version.model).distinct().order_by(col(Version.model))).all()
    return tuple(_model(session, name) for name in names)


def find_model(session: Session, model: str) -> ModelDetail | None:
    """Return one model, None when it has no version."""
    versions = list_versions(session, model=model, limit=DETAIL_ROWS).items
    if not versions:
        return None
    alarms = list_alarms(session, AlarmFilter(model=model), limit=DETAIL_ROWS).items
    return ModelDetail(_model(session, model), versions, alarms)


def list_versions(
    session: Session, *, model: str | None = None, limit: int, cursor: str | None = None
) -> Page[VersionView]:
    """Return versions, latest published first."""
    # Publishing times differ: one version is inserted per transaction.
    query = select(Version).order_by(col(Version.published_at).desc()).limit(limit + 1)
    if model is not None:
        query = query.where(col(Version.model) == model)
    before = number_cursor(cursor)
    if before is not None:
        query = query.where(col(Version.published_at) < before)
    rows = session.exec(query).all()
    running, assigned = _counts(session, [row.digest for row in rows])
    return cut(
        rows, limit, view=lambda row: _version(row, running, assigned), key=lambda row: row.published_at
    )


def list_withdrawn(session: Session) -> tuple[VersionView, ...]:
    """Return the withdrawn versions that devices should still run, or do."""
    rows = session.exec(select(Version).where(col(Version.withdrawn_at).is_not(None))).all()
    running, assigned = _counts(session, [row.digest for row in rows])
    held = [row for row in rows if running.get(row.digest) or assigned.get(row.digest)]
    return tuple(_version(row, running, assigned) for row in held)


def find_version(session: Session, digest: str) -> VersionDetail | None:
    """Return one version, None when no manifest has the digest."""
    row = session.get(Version, digest)
    if row is None:
        return None
    manifest = parse(row.document)
    names = name_versions(session, [manifest.parent])
    running, assigned = _counts(session, [digest])
    return VersionDetail(
        version=_version(row, running, assigned),
        manifest=msgspec.to_builtins(manifest),
        parent=names[manifest.parent] if manifest.parent else None,
        datasets=tuple(DatasetView(**msgspec.to_builtins(dataset)) for dataset in manifest.datasets),
        runs=list_runs(session, digest=digest, limit=DETAIL_ROWS).items,
    )


def judge_thresholds(manifest: Manifest) -> tuple[ThresholdView, ...]:
    """Return every acceptance threshold with its outcome."""
    waived = {waiver.metric: waiver.reason for waiver in manifest.waivers}
    return tuple(
        _threshold(threshold, manifest.metrics.get(threshold.metric), waived.get(threshold.metric, ""))
        for threshold in manifest.thresholds
    )


def _threshold(threshold: Threshold, value: float | None, waiver: str) -> ThresholdView:
    low = threshold.minimum if threshold.minimum is not None else float("-inf")
    high = threshold.maximum if threshold.maximum is not None else float("inf")
    met = value is not None and low <= value <= high
    return ThresholdView(threshold.metric, threshold.minimum, threshold.maximum, value, met, waiver)


def _counts(session: Session, digests: Sequence[str]) -> tuple[dict[str | None, int], dict[str, int]]:
    running = session.exec(
        select(Running.current, func.count())
        .where(col(Running.current).in_(digests))
        .group_by(col(Running.current))
    ).all()
    assigned = session.exec(
        select(Assignment.digest, func.count())
        .where(col(Assignment.digest).in_(digests))
        .group_by(col(Assignment.digest))
    ).all()
    return dict(running), dict(assigned)


def _version(row: Version, running: dict[str | None, int], assigned: dict[str, int]) -> VersionView:
    manifest = parse(row.document)
    return VersionView(
        digest=row.digest,
        model=row.model,
        version=row.version,
        name=manifest.name,
        release=row.release,
        runtime=manifest.runtime,
        description=manifest.description,
        published_at=instant(row.published_at),
        withdrawn_at=instant(row.withdrawn_at),
        bytes=manifest.total_length,
        metrics=dict(manifest.metrics),
        thresholds=judge_thresholds(manifest),
        running=running.get(row.digest, 0),
        assigned=assigned.get(row.digest, 0),
    )


def _model(session: Session, model: str) -> ModelView:
    versions = session.exec(
        select(Version.digest, Version.version, Version.withdrawn_at)
        .where(col(Version.model) == model)
        .order_by(col(Version.release).desc())
    ).all()
    listed = [(digest, version) for digest, version, withdrawn in versions if withdrawn is None]
    running = session.exec(
        select(Running.current, func.count())
        .where(col(Running.model) == model, col(Running.current).is_not(None))
        .group_by(col(Running.current))
        .order_by(func.count().desc())
    ).all()
    names = name_versions(session, (digest for digest, _ in running))
    assigned = select(func.count()).where(col(Assignment.model) == model)
    stopped = select(func.count()).where(col(Running.model) == model, col(Running.stopped))
    firing = select(func.count()).where(col(Alarm.model) == model, col(Alarm.state) == "firing")
    return ModelView(
        model=model,
        versions=len(versions),
        newest=refer(listed[0][0], model, listed[0][1]) if listed else None,
        running=tuple(
            VersionCount(names[digest], count, _fallback(session, digest))
            for digest, count in running
            if digest
        ),
        assigned=session.exec(assigned).one(),
        stop_ordered=session.get(StopOrder, model) is not None,
        stopped=session.exec(stopped).one(),
        firing=session.exec(firing).one(),
    )


def _fallback(session: Session, digest: str) -> float | None:
    row = session.get(Version, digest)
    return None if row is None else parse(row.document).fallback
