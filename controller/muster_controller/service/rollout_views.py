"""A rollout's page as values: its stages, its devices, what would happen."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts.machine import RolloutPhase, State, is_live
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.store.views.devices import FAILED
from muster_controller.store.views.history import AuditView, EventView
from muster_controller.store.views.names import VersionRef
from muster_controller.store.views.rollouts import EvidenceView, RolloutView
from muster_controller.store.views.shadows import ShadowView

Outcome = Literal[
    "control",
    "waiting",
    "due",
    "updating",
    "updated",
    "failed",
    "retrying",
    "unreachable",
    "returning",
    "returned",
    "moved-on",
]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
MAX_NAMED: Final = 100


@dataclass(frozen=True)
class StageView:
    """One stage.

    Attributes:
        number: Counted from 1.
        percent, count: As the plan says; one of the two.
        devices: That this stage adds; ``total`` with the stages before it.
        names: Of the devices it adds, at most 100.
    """

    number: int
    percent: float | None
    count: int | None
    soak_seconds: float
    minimum_rounds: int
    devices: int
    total: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class RolloutDetail:
    """One rollout.

    Attributes:
        plan: Every field of ``domain.plan.Plan``; ``file`` says the same as a file, without the defaults.
        digest: Of plan, version and evidence as they stand: what an approval or an edit is about.
        unreturned: Devices that have not confirmed a rollback.
        evidence: The newest; None before there is any.
        shadow: What the version answered in shadow, beside each version that answered; empty without one.
        history: Evidence that was worth a record, newest first, at most 50.
        notes: What the rollout told of its course, newest first, at most 50.
        audit: What operators did, newest first.
    """

    rollout: RolloutView
    plan: dict[str, Any]
    file: str
    digest: str
    stages: tuple[StageView, ...]
    control: tuple[str, ...]
    cohort: int
    unreturned: tuple[str, ...]
    evidence: EvidenceView | None
    shadow: tuple[ShadowView, ...]
    history: tuple[EvidenceView, ...]
    notes: tuple[EventView, ...]
    audit: tuple[AuditView, ...]


@dataclass(frozen=True)
class RolloutDeviceView:
    """One device of the cohort.

    Attributes:
        arm: ``control``, or ``stage`` and its number, counted from 1.
        wanted: What the rollout wants it to run now; None for nothing.
        outcome: Where the device is on its way; ``due`` when it may have the version and waits for a window,
            the rate or the byte budget; ``retrying`` when it failed and is to be given the version again;
            ``moved-on`` when the rollout is over and something newer decides for the device.
        reason, detail: Why the version failed on it, also after the device has gone back; else why the device
            is where it is.
        given_at: When it was given the version; ``tries`` is how often again by itself, the next at
            ``retry_at``.
        withdrawn: Why this one device was sent back by order.
        acknowledged: A person has accepted its failure.
    """

    device: str
    labels: dict[str, str]
    arm: str
    outcome: Outcome
    wanted: VersionRef | None
    current: VersionRef | None
    phase: str
    reason: str
    detail: str
    last_seen: dt.datetime | None
    given_at: dt.datetime | None = None
    tries: int = 0
    retry_at: dt.datetime | None = None
    withdrawn: str = ""
    acknowledged: bool = False


def view_stages(plan: Plan, drawn: Mapping[str, int]) -> tuple[StageView, ...]:
    """Return the stages with the devices that were drawn into each."""
    views: list[StageView] = []
    total = 0
    for index, stage in enumerate(plan.stages):
        names = sorted(device for device, arm in drawn.items() if arm == index)
        total += len(names)
        views.append(
            StageView(
                number=index + 1,
                percent=stage.percent,
                count=stage.count,
                soak_seconds=stage.soak_seconds,
                minimum_rounds=stage.minimum_rounds,
                devices=len(names),
                total=total,
                names=tuple(names[:MAX_NAMED]),
            )
        )
    return tuple(views)


def view_device(
    plan: Plan,
    state: State,
    facts: Facts,
    *,
    device: str,
    arm: int,
    wanted: str | None,
    overtaken: bool,
    names: Mapping[str, VersionRef],
) -> RolloutDeviceView:
    """Return one device of the cohort."""
    held = facts.devices[device]
    over = overtaken and not is_live(state)
    member = state.members.get(device, Member(arm))
    failure = member.failure
    return RolloutDeviceView(
        device=device,
        labels=dict(held.labels),
        arm="control" if arm == draw.CONTROL else f"stage {arm + 1}",
        outcome="moved-on" if over else _outcome(plan, state, facts, held=held, member=member, wanted=wanted),
        wanted=names[wanted] if wanted else None,
        current=names[held.current] if held.current else None,
        phase=held.phase,
        reason=failure.reason if failure is not None else held.reason or "",
        detail=failure.detail if failure is not None else held.detail,
        last_seen=_moment(held.seen),
        given_at=_moment(member.given),
        tries=member.tries,
        retry_at=_moment(member.retry_at),
        withdrawn=member.withdrawn,
        acknowledged=member.acknowledged,
    )


def _moment(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def _outcome(
    plan: Plan, state: State, facts: Facts, *, held: DeviceFacts, member: Member, wanted: str | None
) -> Outcome:
    if wanted == plan.digest:
        return _on_its_way(plan, facts, held)
    if member.arm == draw.CONTROL:
        return "control"
    if member.arm >= state.admitted:
        return "waiting"
    if is_under_way(state) and not member.withdrawn:
        return "due" if member.failure is None else "retrying"
    return "returned" if held.current == wanted else "returning"


def _on_its_way(plan: Plan, facts: Facts, held: DeviceFacts) -> Outcome:
    if held.current == plan.digest:
        return "updated"
    if held.target == plan.digest and held.phase in FAILED:
        return "failed"
    return "updating" if facts.is_reachable(held) else "unreachable"


def is_under_way(state: State) -> bool:
    """Tell whether a rollout still gives its version to devices."""
    return state.phase in {RolloutPhase.RUNNING, RolloutPhase.PAUSED}
