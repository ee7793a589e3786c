"""A rollout's page as values: its stages, its devices, what would happen."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts.machine import State, is_live
from muster_controller.domain.rollouts.plan import Plan
from muster_controller.store.views.devices import FAILED
from muster_controller.store.views.history import AuditView
from muster_controller.store.views.names import VersionRef
from muster_controller.store.views.rollouts import EvidenceView, RolloutView
from muster_controller.store.views.shadows import ShadowView

Outcome = Literal[
    "control", "waiting", "updating", "updated", "failed", "unreachable", "returning", "returned", "moved-on"
]
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
class PlanView:
    """What a rollout would do.

    Attributes:
        plan: Every field, defaults written out.
        cohort: Devices that the selector chooses; ``reachable`` of them were heard of lately.
        control: Devices that would stay on ``previous`` while stages are judged.
        obstacles: Why it cannot start now, in words; empty when it can.
    """

    plan: dict[str, Any]
    version: VersionRef
    previous: VersionRef | None
    cohort: int
    reachable: int
    control: tuple[str, ...]
    stages: tuple[StageView, ...]
    obstacles: tuple[str, ...]


@dataclass(frozen=True)
class RolloutDetail:
    """One rollout.

    Attributes:
        plan: Every field of ``domain.plan.Plan``.
        unreturned: Devices that have not confirmed a rollback.
        evidence: The newest; None before there is any.
        shadow: What the version answered in shadow, beside each version that answered; empty without one.
        history: Evidence that was worth a record, newest first, at most 50.
        audit: What operators did, newest first.
    """

    rollout: RolloutView
    plan: dict[str, Any]
    stages: tuple[StageView, ...]
    control: tuple[str, ...]
    cohort: int
    unreturned: tuple[str, ...]
    evidence: EvidenceView | None
    shadow: tuple[ShadowView, ...]
    history: tuple[EvidenceView, ...]
    audit: tuple[AuditView, ...]


@dataclass(frozen=True)
class RolloutDeviceView:
    """One device of the cohort.

    Attributes:
        arm: ``control``, or ``stage`` and its number, counted from 1.
        wanted: What the rollout wants it to run now; None for nothing.
        outcome: Where the device is on its way; ``moved-on`` when the rollout is over and something newer
            decides for the device.
        reason, detail: Why the version failed on it, also after the device has gone back; else why the device
            is where it is.
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
    failure = state.failures.get(device)
    return RolloutDeviceView(
        device=device,
        labels=dict(held.labels),
        arm="control" if arm == draw.CONTROL else f"stage {arm + 1}",
        outcome="moved-on" if over else _outcome(plan, state, facts, held=held, arm=arm, wanted=wanted),
        wanted=names[wanted] if wanted else None,
        current=names[held.current] if held.current else None,
        phase=held.phase,
        reason=failure.reason if failure is not None else held.reason or "",
        detail=failure.detail if failure is not None else held.detail,
        last_seen=None if held.seen is None else dt.datetime.fromtimestamp(held.seen, dt.UTC),
    )


def _outcome(
    plan: Plan, state: State, facts: Facts, *, held: DeviceFacts, arm: int, wanted: str | None
) -> Outcome:
    if wanted == plan.digest:
        if held.current == plan.digest:
            return "updated"
        if held.target == plan.digest and held.phase in FAILED:
            return "failed"
        return "updating" if facts.is_reachable(held) else "unreachable"
    if arm == draw.CONTROL:
        return "control"
    if arm >= state.admitted:
        return "waiting"
    return "returned" if held.current == wanted else "returning"
