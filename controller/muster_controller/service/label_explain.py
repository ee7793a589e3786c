"""An alarm of concept drift explained: what its detector said, computed again from the ledger of labels."""

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from muster_controller.domain.alarms.alarm import LEVELS
from muster_controller.domain.drift.groups import groups_of
from muster_controller.domain.labels.detector import Fall, Promise, promise_of
from muster_controller.domain.labels.falls import Terms
from muster_controller.domain.labels.replay import Asked, Push, Step, Told, replay
from muster_controller.service.context import Context
from muster_controller.service.explain_frame import CLOSE, FrameView, frame, moment, unlike, unlike_times
from muster_controller.store import devices, labels, versions
from muster_controller.store.labels import Received, Stored
from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.names import VersionRef, refer
from muster_models.errors import RequestError

MAX_ENTRIES = 200_000  # of the ledger that are judged again
SAME = 1e-6


@dataclass(frozen=True)
class LabelStepView:
    """One round: what one push says about one window. Logarithms are natural.

    Attributes:
        at, actor: When the labels came, and who pushed them.
        end: Of the window that they are about.
        devices: Devices of the subject that the round says something about.
        labels, bad: Labels of these, and how many were wrong, or the sum of the sizes of errors.
        value, bound: Of the subject's detector, and what one has to reach to raise an alarm.
        who, highest: Whose detector is highest, of the subject and its devices in this round, and how high.
        recent: Accuracy, or mean error, of the subject of late.
        state: Of an alarm about the subject: ``quiet``, ``firing`` or ``resolved``.
    """

    at: dt.datetime
    actor: str
    end: dt.datetime
    devices: int
    labels: int
    bad: float
    value: float
    bound: float
    who: str
    highest: float
    recent: float
    state: str


@dataclass(frozen=True, kw_only=True)
class LabelExplainView(FrameView):
    """The evidence of one alarm of concept drift.

    Attributes:
        metric: ``accuracy`` or ``mae``.
        signed, allowed: What the version was signed with, and what raises no alarm.
        entries: Of the ledger that were judged again.
        corrections: Of labels that were judged before, which are no new evidence.
    """

    version: VersionRef
    metric: str
    signed: float
    allowed: float
    steps: tuple[LabelStepView, ...]
    entries: int
    corrections: int
    how: Literal["labels"] = "labels"


def explain_labels(context: Context, alarm: AlarmView, *, rounds: int) -> LabelExplainView:
    """Compute an alarm of concept drift again from the stored labels.

    Args:
        rounds: How many rounds up to the end of the alarm are shown; all of them are judged.

    Raises:
        NotFoundError: Its version is gone.
        RequestError: The alarm does not say of which version it is, or that one promises nothing.
    """
    name = str(alarm.evidence.get("version", "")).rpartition("@")[2]
    if not name:
        raise RequestError(f"alarm {alarm.id} does not say of which version it is: no labels explain it")
    settings, now = context.settings, context.clock()
    until = alarm.resolved_at.timestamp() if alarm.resolved_at else now
    with context.reading() as session:
        release = versions.find(session, alarm.model, name)
        held = labels.history(session, release.digest, until=until, limit=MAX_ENTRIES)
        named = settings.drift.group_labels
        groups = {one.id: groups_of(one.labels, named) for one in devices.members(session)}
    promise = promise_of(
        release.manifest,
        accuracy_tolerance=settings.labels.accuracy_tolerance,
        error_tolerance=settings.labels.error_tolerance,
    )
    if promise is None:
        raise RequestError(f"{release.manifest.name} was signed with no metric that labels are held against")
    level = next(one for one in LEVELS if one == alarm.level)
    terms = Terms(promise, groups, settings.labels.run_length)
    told = replay(_pushes(held), terms, Asked(level, alarm.subject))
    kept = release.published_at >= now - settings.labels.days * 86_400
    return LabelExplainView(
        **frame(alarm, _differences(alarm, told, promise), complete=len(held) < MAX_ENTRIES and kept),
        version=refer(release.digest, alarm.model, name),
        metric=promise.metric,
        signed=promise.signed,
        allowed=promise.said(promise.allowed),
        steps=tuple(_step(step, promise) for step in told.steps[-rounds:]),
        entries=len(held),
        corrections=sum(stored.entry.correction for _, stored in held),
    )


def _pushes(held: Sequence[tuple[Received, Stored]]) -> Iterator[Push]:
    for _, part in itertools.groupby(held, key=lambda one: one[1].push):
        entries = list(part)
        received, _ = entries[0]
        yield Push(received.at, received.actor, labels.rounds(stored for _, stored in entries))


def _step(step: Step, promise: Promise) -> LabelStepView:
    return LabelStepView(
        at=moment(step.at),
        actor=step.actor,
        end=moment(step.end),
        devices=step.devices,
        labels=step.n,
        bad=step.bad,
        value=step.value,
        bound=step.bound,
        who=step.who,
        highest=step.highest,
        recent=promise.said(step.rate),
        state=step.state,
    )


def _differences(alarm: AlarmView, told: Told, promise: Promise) -> Iterator[str]:
    """Yield what is stored otherwise than it was computed again."""
    stored = alarm.evidence
    since = alarm.since.timestamp()
    again = min(told.falls, key=lambda fall: abs(fall.since - since), default=None)
    for name, computed in (("signed", promise.signed), ("allowed", promise.said(promise.allowed))):
        yield from unlike(name, float(stored[name]), computed, close=SAME)
    if again is None:
        yield "the stored labels raise no alarm about this subject: older labels, groups or settings did"
        return
    yield from unlike_times("fired", since, again.since)
    yield from unlike_times("began", float(stored["began"]), again.began)
    for name, computed in (("value", again.value), ("bound", again.bound)):
        yield from unlike(name, float(stored[name]), computed, close=CLOSE)
    if set(again.devices) != set(stored["devices"]):
        yield f"devices: {', '.join(stored['devices'])} is stored, {', '.join(again.devices)} was computed"
    yield from _outcome(alarm, again, told, promise)


def _outcome(alarm: AlarmView, again: Fall, told: Told, promise: Promise) -> Iterator[str]:
    """Yield what differs of how the alarm stands now, or how it ended."""
    is_standing = bool(told.steps) and told.steps[-1].state == "firing" and again == told.falls[-1]
    if is_standing and alarm.state == "resolved":
        yield (
            "state: resolved is stored, firing was computed: its devices run another version by now, or "
            "drift of their inputs became the alarm"
        )
    if not is_standing and alarm.state != "resolved":
        yield f"state: {alarm.state} is stored, resolved was computed"
    if is_standing and alarm.state == "firing":
        yield from unlike("labels", float(alarm.evidence["labels"]), float(again.n), close=0.5)
        yield from unlike("now", float(alarm.evidence["now"]), promise.said(again.badness), close=SAME)
