"""What became known of a model's predictions: by labels, without them, and of a rollout's arms."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from muster_controller.domain.drift.groups import groups_of
from muster_controller.domain.labels.counts import total
from muster_controller.domain.labels.detector import promise_of
from muster_controller.domain.rollouts import draw
from muster_controller.service import label_figures as figures
from muster_controller.service.context import Context
from muster_controller.service.label_views import (
    ArmsView,
    ArmTruthView,
    LabelsView,
    Level,
    VersionTruthView,
)
from muster_controller.stepping import course_of
from muster_controller.store import devices, labels, versions
from muster_controller.store.labels import Entry, Wanted
from muster_controller.store.versions import Release
from muster_controller.store.views.alarms import AlarmFilter, AlarmView, list_alarms
from muster_controller.store.views.names import refer
from muster_controller.store.views.windows import Recent, WindowBytes, list_windows
from muster_models.errors import NotFoundError
from muster_models.manifest import Manifest, ValueOutput

BUCKETS = 60
MAX_WINDOWS = 4000  # of a version; MAX_ENTRIES of all
MAX_ENTRIES = 20_000
MAX_ALARMS = 50
DAY_SECONDS = 86_400.0
ALL = "all"
CONCEPT_DRIFT = "concept-drift"


@dataclass(frozen=True)
class LabelQuery:
    """What is looked at.

    Attributes:
        subject: ``all``, a group as ``label=value``, or a device id.
        seconds: How far back, by the time of the prediction; None takes as long as windows are kept.
    """

    subject: str = ALL
    seconds: float | None = None


@dataclass(frozen=True)
class _Scene:
    """What is looked at, read."""

    subject: str
    level: Level
    start: float
    end: float
    groups: Mapping[str, Sequence[str]]
    entries: Mapping[str, Sequence[Entry]]
    windows: Mapping[str, Sequence[WindowBytes]]
    alarms: tuple[AlarmView, ...]

    @property
    def is_truncated(self) -> bool:
        entries, windows = self.entries.values(), self.windows.values()
        return sum(map(len, entries)) >= MAX_ENTRIES or any(len(one) >= MAX_WINDOWS for one in windows)

    @property
    def bucket(self) -> float:
        return (self.end - self.start) / BUCKETS


def show_labels(context: Context, model: str, query: LabelQuery) -> LabelsView:
    """Return what became known of a model's predictions.

    Raises:
        NotFoundError: No such model, group or device.
    """
    end = context.clock()
    start = end - (query.seconds or context.settings.window_days * DAY_SECONDS)
    with context.reading() as session:
        releases = versions.of_model(session, model)
        if not releases:
            raise NotFoundError(f"no model {model!r}")
        scene = _read(context, session, model, query.subject, start=start, end=end)
    concerned = [one for one in releases if one.digest in scene.entries or one.digest in scene.windows]
    return LabelsView(
        model=model,
        subject=query.subject,
        level=scene.level,
        start=_moment(start),
        end=_moment(end),
        bucket_seconds=scene.bucket,
        buckets=tuple(_moment(start + index * scene.bucket) for index in range(BUCKETS)),
        truncated=scene.is_truncated,
        versions=tuple(_version(context, one, scene) for one in concerned),
        alarms=scene.alarms,
    )


def show_arms(context: Context, number: int) -> ArmsView:
    """Return what labels say of a rollout's arms, of predictions since it started.

    Raises:
        NotFoundError: No such rollout.
    """
    with context.reading() as session:
        course = course_of(session, number)
        plan, state = course.plan, course.state
        manifest = versions.get(session, plan.digest).manifest
        wanted = Wanted(plan.model, state.started_at, context.clock() + DAY_SECONDS)
        found = labels.between(session, wanted) if state.members else []
    entries = [entry for entry in found if entry.cell.start >= state.started_at]
    drawn = {device: member.arm for device, member in state.members.items()}
    treated = [
        entry
        for entry in entries
        if entry.cell.digest == plan.digest and drawn.get(entry.cell.device, draw.CONTROL) != draw.CONTROL
    ]
    control = [
        entry
        for entry in entries
        if entry.cell.digest != plan.digest and drawn.get(entry.cell.device) == draw.CONTROL
    ]
    arms = _arm("treated", treated, manifest), _arm("control", control, manifest)
    return ArmsView(number, _moment(state.started_at), arms)


def _read(
    context: Context, session: Session, model: str, subject: str, *, start: float, end: float
) -> _Scene:
    names = context.settings.drift.group_labels
    members = {one.id: groups_of(one.labels, names) for one in devices.members(session)}
    chosen = _devices(subject, members)
    found = labels.between(session, Wanted(model, start, end + DAY_SECONDS, chosen, MAX_ENTRIES))
    windows: dict[str, list[WindowBytes]] = {}
    recent = Recent(model, start, end + DAY_SECONDS, chosen, MAX_WINDOWS)
    for baseline in {one.baseline for one in versions.of_model(session, model)}:
        for window in list_windows(session, recent, baseline):
            windows.setdefault(window.digest, []).append(window)
    open_ones = [
        alarm
        for state in ("firing", "pending")
        for alarm in list_alarms(
            session, AlarmFilter(model=model, state=state, kind=CONCEPT_DRIFT), limit=MAX_ALARMS
        ).items
    ]
    return _Scene(
        subject=subject,
        level=_level(subject),
        start=start,
        end=end,
        groups=members,
        entries=_by_version(found),
        windows=windows,
        alarms=tuple(open_ones),
    )


def _by_version(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.cell.digest, []).append(entry)
    return found


def _devices(subject: str, members: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    match _level(subject):
        case "fleet":
            return None
        case "group":
            chosen = tuple(device for device, groups in members.items() if subject in groups)
        case "device":
            chosen = tuple(device for device in members if device == subject)
    if not chosen:
        raise NotFoundError(f"no device is {subject[:80]!r}")
    return chosen


def _level(subject: str) -> Level:
    if subject == ALL:
        return "fleet"
    return "group" if "=" in subject else "device"


def _version(context: Context, release: Release, scene: _Scene) -> VersionTruthView:
    manifest = release.manifest
    entries, windows = scene.entries.get(release.digest, ()), scene.windows.get(release.digest, ())
    counts = total(entry.counts for entry in entries)
    baseline = context.sketches.baseline(release.baseline)
    decoded = context.sketches.decoded([window for window in windows if window.sketch], baseline)
    of_all = figures.seen([one.sketch for one in decoded], baseline)
    settings = context.settings.labels
    promise = promise_of(
        manifest, accuracy_tolerance=settings.accuracy_tolerance, error_tolerance=settings.error_tolerance
    )
    metric, method = figures.metric_of(manifest)
    firing = frozenset((alarm.level, alarm.subject) for alarm in scene.alarms if alarm.state == "firing")
    return VersionTruthView(
        version=refer(release.digest, manifest.model, manifest.version),
        metric=metric,
        unit=_unit(manifest),
        method=method,
        signed=None if promise is None else promise.signed,
        allowed=None if promise is None else promise.said(promise.allowed),
        measure=figures.measure(counts, manifest),
        bias=counts.error / counts.n if metric == "mae" and counts.n else None,
        series=figures.series(entries, manifest, start=scene.start, bucket=scene.bucket, buckets=BUCKETS),
        confusion=figures.confusion(counts, manifest),
        subjects=figures.subjects(entries, manifest, scene.groups, level=scene.level, firing=firing),
        selection=figures.selection(counts, of_all, sum(window.rows for window in windows)),
        estimate=figures.estimated(manifest, of_all),
    )


def _unit(manifest: Manifest) -> str:
    return manifest.prediction.unit if isinstance(manifest.prediction, ValueOutput) else ""


def _arm(name: str, entries: Sequence[Entry], manifest: Manifest) -> ArmTruthView:
    metric, method = figures.metric_of(manifest)
    return ArmTruthView(
        arm="treated" if name == "treated" else "control",
        devices=len({entry.cell.device for entry in entries}),
        metric=metric,
        method=method,
        measure=figures.measure(total(entry.counts for entry in entries), manifest),
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
