"""What a model sees, against its baseline: for the fleet, one group, or one device, over recent windows."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlmodel import Session

from muster_controller.domain.drift.groups import groups_of
from muster_controller.service.context import Context
from muster_controller.service.drift_figures import (
    MAX_SUBJECTS,
    Period,
    Scene,
    add_latency,
    by_bucket,
    compare_features,
    compare_subjects,
)
from muster_controller.service.drift_views import BaselineView, DriftView, Level
from muster_controller.service.drift_watch import Watch, read_state, with_watch
from muster_controller.service.reporting import current
from muster_controller.store import devices, versions
from muster_controller.store import drift as drift_store
from muster_controller.store.views.alarms import AlarmFilter, AlarmView, list_alarms
from muster_controller.store.views.names import VersionRef, name_versions
from muster_controller.store.views.windows import Recent, count_baselines, list_baselines, list_windows
from muster_models.errors import NotFoundError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.window import Sketch

BUCKETS = 60
MAX_WINDOWS = 4000
ALL = "all"


@dataclass(frozen=True)
class DriftQuery:
    """What is looked at.

    Attributes:
        subject: ``all``, a group as ``label=value``, or a device id.
        baseline: None takes the one that most recent windows have.
        seconds: How far back; None takes 60 windows.
    """

    subject: str = ALL
    baseline: str | None = None
    seconds: float | None = None


def show_drift(context: Context, model: str, query: DriftQuery) -> DriftView:
    """Return what a model saw, against its baseline.

    Raises:
        NotFoundError: No such model, baseline, group or device.
    """
    watched = context.settings.drift.group_labels
    label = _label(query.subject, watched)
    period = _period(context, query)
    with context.reading() as session:
        members = devices.members(session)
        groups = {member.id: member.labels.get(label) for member in members}
        wanted = _wanted(model, query, period, label, groups)
        found = _find(session, wanted, query.baseline)
        baseline = context.sketches.baseline(found.baseline)
        wanted = _bounded(context, wanted, baseline)
        windows = list_windows(session, wanted, found.baseline)
        manifest = versions.get(session, found.digests[0]).manifest
        alarms = tuple(_open_alarms(session, model, found.baseline))
        judged = drift_store.judged(session, model, found.baseline)
    sketched = [window for window in windows if window.sketch]
    decoded = context.sketches.decoded(sketched, baseline)
    scene = Scene(query.subject, _level(query.subject), label, groups, alarms)
    sketches = [(window, one.sketch) for window, one in zip(sketched, decoded, strict=True)]
    parts = [context.sketches.merged(bucket, baseline) for bucket in by_bucket(sketches, period)]
    state = read_state(None if judged is None else judged.state, baseline)
    watch = Watch(state, context.settings.drift, period, scene, wanted.devices, baseline)
    view = DriftView(
        model=model,
        subject=scene.subject,
        level=scene.level,
        baseline=found.baseline,
        versions=found.versions,
        baselines=found.choices,
        choices=tuple(sorted({name for one in members for name in groups_of(one.labels, watched)})),
        start=_moment(period.start),
        end=_moment(period.end),
        bucket_seconds=period.bucket,
        buckets=tuple(_moment(period.start + at * period.bucket) for at in range(period.buckets)),
        devices=len({window.device for window in windows}),
        windows=len(windows),
        truncated=len(windows) == wanted.limit,
        rows=sum(window.rows for window in windows),
        calls=sum(window.calls for window in windows),
        errors=sum(window.errors for window in windows),
        latency=add_latency(windows),
        features=compare_features(parts, baseline, manifest, scene),
        subjects=compare_subjects(sketches, baseline, scene),
        alarms=scene.alarms,
        origin=baseline.origin,
        left_out=dict(state.counted),
    )
    measured = [(window, one.measure) for window, one in zip(sketched, decoded, strict=True)]
    return with_watch(view, watch, windows=windows, measured=measured)


def list_sketches(context: Context, model: str, query: DriftQuery) -> tuple[Baseline, list[Sketch]]:
    """Return the baseline of a model and the sketches of recent windows over it, oldest first.

    Raises:
        NotFoundError: No such model, baseline, group or device.
    """
    label = _label(query.subject, context.settings.drift.group_labels)
    with context.reading() as session:
        groups = {member.id: member.labels.get(label) for member in devices.members(session)}
        wanted = _wanted(model, query, _period(context, query), label, groups)
        found = _find(session, wanted, query.baseline)
        baseline = context.sketches.baseline(found.baseline)
        windows = list_windows(session, _bounded(context, wanted, baseline), found.baseline)
    sketched = [window for window in windows if window.sketch]
    return baseline, [one.sketch for one in context.sketches.decoded(sketched, baseline)]


def _period(context: Context, query: DriftQuery) -> Period:
    step = current(context).window_seconds
    span = query.seconds or step * BUCKETS
    bucket = max(step, span / BUCKETS)
    buckets = max(1, round(span / bucket))
    # Whole buckets, so that a bucket holds the same windows each time it is looked at.
    end = (context.clock() // bucket + 1) * bucket
    return Period(end - buckets * bucket, bucket, buckets)


def _wanted(
    model: str, query: DriftQuery, period: Period, label: str, groups: Mapping[str, str | None]
) -> Recent:
    return Recent(model, period.start, period.end, _devices(query.subject, label, groups), MAX_WINDOWS)


def _bounded(context: Context, wanted: Recent, baseline: Baseline) -> Recent:
    # What is not kept would be decoded at each look: a model with many features shows fewer windows.
    return replace(wanted, limit=min(MAX_WINDOWS, context.sketches.room(baseline)))


@dataclass(frozen=True)
class _Found:
    baseline: str
    digests: tuple[str, ...]
    versions: tuple[VersionRef, ...]
    choices: tuple[BaselineView, ...]


def _find(session: Session, wanted: Recent, baseline: str | None) -> _Found:
    known = list_baselines(session, wanted.model)
    if not known:
        raise NotFoundError(f"no model {wanted.model!r}")
    counted = count_baselines(session, wanted)
    # Without windows the newest version's baseline is shown, empty.
    chosen = baseline or max(known, key=lambda one: counted[one])
    if chosen not in known:
        raise NotFoundError(f"{wanted.model} has no baseline {chosen[:80]!r}")
    names = name_versions(session, (digest for digests in known.values() for digest in digests))
    choices = tuple(
        BaselineView(one, tuple(names[digest] for digest in digests), counted[one])
        for one, digests in known.items()
    )
    refs = tuple(names[digest] for digest in known[chosen])
    return _Found(chosen, known[chosen], refs, choices)


def _devices(subject: str, label: str, groups: Mapping[str, str | None]) -> tuple[str, ...] | None:
    match _level(subject):
        case "fleet":
            return None
        case "group":
            key, _, value = subject.partition("=")
            members = tuple(device for device, held in groups.items() if key == label and held == value)
        case "device":
            members = tuple(device for device in groups if device == subject)
    if not members:
        raise NotFoundError(f"no device is {subject[:80]!r}; groups are values of the label {label!r}")
    return members


def _label(subject: str, watched: Sequence[str]) -> str:
    """Return the label by which devices are compared: that of the group that is looked at, or the first."""
    key, is_group, _ = subject.partition("=")
    if is_group and key in watched:
        return key
    return watched[0] if watched else ""


def _level(subject: str) -> Level:
    if subject == ALL:
        return "fleet"
    return "group" if "=" in subject else "device"


def _open_alarms(session: Session, model: str, baseline: str) -> Iterable[AlarmView]:
    for state in ("firing", "pending"):
        page = list_alarms(session, AlarmFilter(model=model, state=state), limit=MAX_SUBJECTS)
        yield from (alarm for alarm in page.items if alarm.baseline == baseline)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
