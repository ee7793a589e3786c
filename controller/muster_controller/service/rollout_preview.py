"""What a rollout would do, as values for people: nothing is stored, and nothing starts."""

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from shlex import quote
from typing import Any, Final

import msgspec
from sqlmodel import Session

from muster_controller.domain import selector
from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts.foreseeing.eligibility import Known, Lack
from muster_controller.domain.rollouts.foreseeing.foresight import GatePower
from muster_controller.domain.rollouts.foreseeing.power import POWER
from muster_controller.domain.rollouts.foreseeing.preview import Preview, preview
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.judging.rounds import take_in
from muster_controller.domain.rollouts.planning.file import file_of, write_plan_file
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.service.context import Context
from muster_controller.service.rollout_plans import (
    RolloutRequest,
    find_obstacles,
    keep_seed,
    make_plan,
)
from muster_controller.service.rollout_views import StageView, view_stages
from muster_controller.service.versions import resolve
from muster_controller.stepping import course_of
from muster_controller.store import devices, requests, versions, windows
from muster_controller.store.facts import start_facts, window_facts
from muster_controller.store.versions import Release
from muster_controller.store.views.names import VersionRef, name_versions
from muster_models.manifest import RuntimeKind
from muster_models.publish.targets import Needs, find_lack, needs_of

# Windows of the time before that power is computed from: enough for the noise, and read in under a second.
MAX_HISTORY: Final = 2_000
MAX_INELIGIBLE: Final = 1_000
MAX_READ_BYTES: Final = 64 * 1024**2  # of a model file that is opened to see what it asks of an engine


@dataclass(frozen=True)
class IneligibleView:
    """A device that the version will not reach, or not now, and why."""

    device: str
    reason: str
    detail: str


@dataclass(frozen=True)
class StageTimesView:
    """How long a stage takes at least, in seconds.

    Attributes:
        number: Of the stage, counted from 1.
        windows: Until the maintenance windows of all its devices have opened.
        pace: That rate ramp and byte budget take.
        trial: In shadow and on probation.
        soak: As the plan says, or that the rounds take which evidence needs.
        rounds: That evidence needs; None: so few devices may never show that the version is healthy.
    """

    number: int
    windows: float
    pace: float
    trial: float
    soak: float
    rounds: int | None
    seconds: float


@dataclass(frozen=True)
class PlanView:
    """What a rollout would do.

    Attributes:
        plan: Every field, defaults written out; ``file`` is the same as a file, without the defaults.
        cohort: Devices that the selector chooses; ``reachable`` of them were heard of lately.
        control: Devices that would stay on ``previous`` while stages are judged.
        ineligible: Devices that the version will not reach, or not now: the first 1,000 by id of
            ``ineligible_total``.
        bytes_each: What a device fetches that has nothing of the version; ``bytes_total`` of all devices,
            deltas aside.
        starts_at: And how many seconds before it must first be seen.
        finish_at: The earliest; None: it would hold and wait for a person.
        power: Probability with which the smallest effects of ``powers`` are caught.
        reproduce: How to check the draw by hand.
        obstacles: Why it cannot start now, in words; empty when it can.
    """

    plan: dict[str, Any]
    file: str
    version: VersionRef
    previous: VersionRef | None
    cohort: int
    reachable: int
    control: tuple[str, ...]
    stages: tuple[StageView, ...]
    ineligible: tuple[IneligibleView, ...]
    ineligible_total: int
    bytes_each: int
    bytes_total: int
    starts_at: dt.datetime
    before_seconds: float
    times: tuple[StageTimesView, ...]
    finish_at: dt.datetime | None
    power: float
    powers: tuple[GatePower, ...]
    reproduce: str
    obstacles: tuple[str, ...]


def plan_rollout(
    context: Context, request: RolloutRequest, author: str = "", *, number: int | None = None
) -> PlanView:
    """Return what a rollout would do, and what stands in the way of ``author``; nothing is stored.

    Args:
        context: Of this controller.
        request: What is asked for.
        author: Who asks for it, or edits it.
        number: Of the rollout that would have this plan instead of its own; None for a new one.

    Raises:
        NotFoundError: No such version or rollout.
        RequestError: A field of the plan is not of the expected form.
    """
    authors = frozenset({author})
    with context.reading() as session:
        if number is not None:
            course = course_of(session, number)
            request, authors = keep_seed(request, course.plan), authors | course.state.authors
        plan = make_plan(context, session, request)
        facts = start_facts(
            session,
            plan.model,
            plan.digest,
            number=number,
            now=context.clock(),
            reachable_seconds=context.settings.reachable_seconds,
        )
        known = _known(context, session, plan, facts)
        ledger = _history(context, session, plan, facts)
        names = name_versions(session, (plan.digest, plan.previous))
        obstacles = find_obstacles(session, plan, facts, authors=authors, number=number)
    seen = preview(plan, known, facts, ledger)
    return _view(plan, facts, seen, names=names, obstacles=obstacles)


def _known(context: Context, session: Session, plan: Plan, facts: Facts) -> Known:
    release = resolve(session, plan.digest)
    wanted = {entry.sha256: entry.length for entry in release.manifest.files}
    chosen = selector.parse(plan.selector)
    revoked = devices.revoked(session)
    waiting = [row.device for row in requests.listed(session, context.clock()) if row.state == "pending"]
    return Known(
        manifest=release.manifest,
        digest=plan.digest,
        held={
            other.digest: sum(wanted.get(entry.sha256, 0) for entry in other.manifest.files)
            for other in versions.of_model(session, plan.model)
        },
        lack=_lack_of(context, release),
        revoked=tuple(
            name for name, labels in revoked.items() if chosen.matches(selector.known_by(name, labels))
        ),
        pending=tuple(name for name in waiting if chosen.matches(selector.known_by(name, {}))),
        pinned={
            name: facts.devices[name].labels[draw.PINNED]
            for name in draw.chosen(plan, facts.devices)
            if draw.PINNED in facts.devices[name].labels
        },
    )


def _lack_of(context: Context, release: Release) -> Lack:
    """Return what tells what an engine lacks for the version; of what cannot be read nothing is said."""
    model = release.manifest.file("model")
    readable = model.length <= MAX_READ_BYTES and context.blobs.has(model.sha256)
    needs = _needs(release.manifest.runtime, context.blobs.path(model.sha256)) if readable else Needs()
    return partial(find_lack, needs)


@lru_cache(maxsize=64)
def _needs(kind: RuntimeKind, path: Path) -> Needs:
    try:
        return needs_of(kind, path)
    except Exception:  # noqa: BLE001 - the readers are a publisher's extra, and each fails in its own way
        return Needs()


def _history(context: Context, session: Session, plan: Plan, facts: Facts) -> Ledger:
    """Return what the windows of the time before teach about the devices that would be compared."""
    if plan.previous is None:
        return Ledger()
    names = draw.cohort(plan, facts.devices)
    arms = draw.witnesses(plan, draw.arms(plan, draw.draw(plan, names), names))
    since = facts.now - plan.before_seconds
    stored = windows.recent(session, plan.model, plan.previous, since=since, limit=MAX_HISTORY)
    found = window_facts([one for one in stored if one.device in arms], context.sketches.baselines)
    return take_in(plan, Ledger(), found, arms=arms, started=facts.now, now=facts.now)


def _view(
    plan: Plan,
    facts: Facts,
    seen: Preview,
    *,
    names: dict[str, VersionRef],
    obstacles: tuple[str, ...],
) -> PlanView:
    previous = names[plan.previous] if plan.previous else None
    file = file_of(plan, version=names[plan.digest].name, previous=previous.name if previous else None)
    return PlanView(
        plan=msgspec.to_builtins(plan),
        file=write_plan_file(file),
        version=names[plan.digest],
        previous=previous,
        cohort=len(seen.drawn),
        reachable=sum(facts.is_reachable(facts.devices[device]) for device in seen.drawn),
        control=tuple(sorted(device for device, arm in seen.drawn.items() if arm == draw.CONTROL)),
        stages=view_stages(plan, seen.drawn),
        ineligible=tuple(
            IneligibleView(one.device, one.bar, one.detail) for one in seen.ineligible[:MAX_INELIGIBLE]
        ),
        ineligible_total=len(seen.ineligible),
        bytes_each=seen.bytes_each,
        bytes_total=seen.bytes_total,
        starts_at=_moment(seen.starts),
        before_seconds=seen.before,
        times=tuple(
            StageTimesView(number, one.windows, one.pace, one.trial, one.soak, one.rounds, one.seconds)
            for number, one in enumerate(seen.times, start=1)
        ),
        finish_at=None if seen.finish is None else _moment(seen.finish),
        power=POWER,
        powers=seen.powers,
        reproduce=(
            f"order devices by: printf '%s\\n%s\\n%s' {quote(plan.model)} {quote(plan.seed)} DEVICE"
            " | sha256sum | cut -c1-16;"
            f" the first {sum(arm == draw.CONTROL for arm in seen.drawn.values())} are the control,"
            " the stages follow in order"
        ),
        obstacles=obstacles,
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
