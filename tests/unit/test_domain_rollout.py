"""The course of rollouts on a small fleet with real models."""

import functools
from dataclasses import replace

import pytest

from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.judge import NO_CONTROL
from muster_controller.domain.rollouts.machine import (
    Abort,
    Pause,
    Promote,
    Resume,
    RolloutPhase,
    Start,
    State,
    Step,
    assignments,
    from_json,
    is_live,
    needs_ticks,
    to_json,
)
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.rollouts import NEW, OLD, Answer, World, answer_with, make_plan
from support.windows import DEVICES, Digits


@functools.lru_cache
def version(name: str) -> Digits:
    return Digits(name)


def answers(old: str, new: str) -> Answer:
    return answer_with({OLD: version(old), NEW: version(new)})


def started(
    old: str = "1.0.0", new: str = "1.1.0", *, seed: int = 0, before: int = 12, **plan: object
) -> World:
    world = World(make_plan(seed=str(seed), **plan), answers(old, new), seed=seed)
    world.run_before(before)
    world.start()
    return world


def run(world: World, *phases: RolloutPhase, most: int = 120) -> int:
    """Let the world go on until a phase is reached; return the ticks that took."""
    for ticks in range(1, most + 1):
        world.tick()
        if world.state.phase in phases:
            return ticks
    raise AssertionError(f"still {world.state.phase}, {world.state.step}: {world.state.waiting}")


def arm(world: World, index: int) -> set[str]:
    return {name for name, member in world.state.members.items() if member.arm == index}


def failures(world: World) -> dict[str, str]:
    return {name: m.failure.reason for name, m in world.state.members.items() if m.failure is not None}


def stored(state: State) -> State:
    """Return a state as the store gives it back."""
    return from_json(to_json(state), state.members)


@pytest.mark.parametrize("seed", range(3))
def test_a_better_version_reaches_the_whole_fleet(seed: int) -> None:
    world = started("1.0.0", "1.1.0", seed=seed)

    ticks = run(world, RolloutPhase.COMPLETED)
    world.tick(5)

    assert ticks <= 60
    assert world.running(NEW) == set(DEVICES)


@pytest.mark.parametrize("seed", range(3))
def test_a_badly_quantised_version_goes_back_from_the_canary_stage(seed: int) -> None:
    world = started("1.1.0", "1.2.0", seed=seed)
    canaries, reached = arm(world, 0), set[str]()

    for _ in range(15):
        world.tick()
        reached |= world.running(NEW)

    assert world.state.phase is RolloutPhase.ROLLED_BACK
    assert reached == canaries
    assert world.running(OLD) == set(DEVICES)
    assert world.state.reason.startswith("unhealthy: confidence")


def test_control_keeps_the_previous_version_until_completion() -> None:
    world = started()
    control = arm(world, CONTROL)

    seen: list[tuple[RolloutPhase, set[str | None]]] = []
    for _ in range(60):
        world.tick()
        wanted = assignments(world.plan, world.state)
        seen.append((world.state.phase, {wanted[name] for name in control}))

    assert {phase for phase, _ in seen} == {RolloutPhase.RUNNING, RolloutPhase.COMPLETED}
    assert all(got == {NEW if phase is RolloutPhase.COMPLETED else OLD} for phase, got in seen)


def test_evidence_names_gates_denominators_and_what_is_missing() -> None:
    world = started()
    world.tick(6)
    evidence = world.state.evidence

    assert evidence is not None
    assert {"failures", "failed calls", "errors", "latency", "confidence", "class mix"} <= {
        gate.name for gate in evidence.gates
    }
    assert (evidence.denominators.targeted, evidence.denominators.control) == (2, 2)
    assert "1 of 6 rounds" in evidence.missing


def test_a_stage_waits_for_its_soak() -> None:
    world = started()

    run_until_step(world, Step.SOAK)
    began = world.now
    run_until_step(world, Step.ANALYSE, stage=0, also_stage=1)

    assert world.now - began >= 10


def run_until_step(world: World, step: Step, *, stage: int = 0, also_stage: int | None = None) -> None:
    for _ in range(120):
        world.tick()
        if world.state.step is step and world.state.stage == stage:
            return
        if also_stage is not None and world.state.stage == also_stage:
            return
    raise AssertionError(f"still {world.state.step}: {world.state.waiting}")


def test_a_version_that_crashes_goes_back_at_once() -> None:
    world = started()
    world.faults = dict.fromkeys(DEVICES, Reason.CRASHED)

    ticks = run(world, RolloutPhase.ROLLING_BACK)

    assert ticks <= 6
    assert world.state.reason == "unhealthy: failures: 2 of 2: crashed"
    assert world.running(NEW) == set()


def test_a_version_that_was_committed_and_then_crashes_in_a_loop_does_not_count_as_running() -> None:
    world = started()
    run_until_step(world, Step.SOAK)
    canaries = arm(world, 0)
    assert world.running(NEW) == canaries
    for name in canaries:
        world.devices[name] = replace(
            world.devices[name], current=OLD, target=NEW, phase=Phase.ROLLED_BACK, reason=Reason.CRASHED
        )
        world.offline.add(name)  # from here on it only reports the same

    world.tick()

    assert world.state.phase is RolloutPhase.ROLLING_BACK
    assert world.state.reason == "unhealthy: failures: 2 of 2: crashed"


def test_a_rollout_says_why_it_went_back_and_remembers_it_of_each_device() -> None:
    world = started()
    first, second = sorted(arm(world, 0))
    world.faults = {first: Reason.CRASHED, second: Reason.OUT_OF_MEMORY}

    run(world, RolloutPhase.ROLLED_BACK)

    assert world.state.reason == "unhealthy: failures: 2 of 2: crashed 1, out-of-memory 1"
    assert failures(world) == {first: "crashed", second: "out-of-memory"}
    assert stored(world.state) == world.state


def test_a_failure_is_forgotten_when_the_version_runs_after_all() -> None:
    world = started()
    world.faults = dict.fromkeys(arm(world, 0), Reason.NO_SPACE)
    world.tick(8)
    assert failures(world).keys() == arm(world, 0)

    world.faults = {}
    for name in arm(world, 0):
        world.devices[name] = replace(world.devices[name], current=NEW, phase=Phase.COMMITTED, reason=None)
    world.tick()

    assert failures(world) == {}


@pytest.mark.parametrize("admitted", [0, 1])
def test_a_rollout_whose_devices_were_all_revoked_asks_for_a_person(admitted: int) -> None:
    world = started(before=12 if admitted else 0)
    if admitted:
        run_until_step(world, Step.SOAK)
    assert world.state.admitted == admitted
    gone = arm(world, 0)
    kept, world.names = world.devices, tuple(name for name in world.names if name not in gone)
    world.devices = {name: kept[name] for name in world.names}
    world.tick()
    since = world.state.since
    world.tick()

    assert (world.state.phase, world.state.step) == (RolloutPhase.RUNNING, Step.HOLD)
    assert world.state.waiting == "an operator, or: a device that 'all' chooses for this stage"
    assert world.state.since == since

    world.names, world.devices = tuple(kept), {**kept, **world.devices}

    assert run(world, RolloutPhase.COMPLETED) > 0


def test_a_full_disk_is_no_fault_of_the_version_but_nothing_is_promoted_on_it() -> None:
    world = started(stage_deadline_seconds=40.0)
    world.faults = dict.fromkeys(DEVICES, Reason.NO_SPACE)
    world.tick(60)

    assert (world.state.phase, world.state.step, world.state.stage) == (RolloutPhase.RUNNING, Step.HOLD, 0)
    assert world.state.evidence is not None
    assert world.state.evidence.failures == {"no-space": 2}


def test_an_offline_canary_neither_stalls_nor_counts_as_success() -> None:
    world = started()
    absent = min(arm(world, 0))
    world.tick(8)
    world.offline = {absent}
    run(world, RolloutPhase.COMPLETED)
    evidence = world.state.evidence

    assert evidence is not None
    assert evidence.denominators.targeted == 6
    assert evidence.denominators.reachable == 5


def test_a_stage_that_is_offline_as_a_whole_is_not_promoted() -> None:
    world = started(stage_deadline_seconds=40.0)
    world.offline = arm(world, 0)
    world.tick(80)

    assert (world.state.stage, world.state.step) == (0, Step.HOLD)


def test_a_silent_fleet_admits_nothing() -> None:
    world = World(make_plan(stage_deadline_seconds=40.0), lambda *_: None)
    world.start()
    world.tick(80)

    assert (world.state.admitted, world.state.step, world.running(NEW)) == (0, Step.HOLD, set())
    assert "from before the rollout" in world.state.waiting


def test_a_hold_ends_when_the_evidence_becomes_sufficient() -> None:
    world = started(before=0, stage_deadline_seconds=4.0)
    world.tick(5)
    held = world.state.step

    run(world, RolloutPhase.COMPLETED)

    assert held is Step.HOLD


def test_a_first_install_is_judged_by_absolute_limits() -> None:
    world = World(make_plan(previous=None), answers("1.0.0", "1.0.0"))
    world.start()
    run(world, RolloutPhase.COMPLETED)
    world.tick(5)

    assert world.running(NEW) == set(DEVICES)


def test_a_first_install_that_fails_leaves_the_devices_without_the_model() -> None:
    world = World(make_plan(previous=None), answers("1.0.0", "1.0.0"), faults={DEVICES[0]: Reason.HUNG})
    world.faults = dict.fromkeys(DEVICES, Reason.HUNG)
    world.start()
    run(world, RolloutPhase.ROLLED_BACK)
    wanted = assignments(world.plan, world.state)

    assert set(wanted.values()) == {None}
    assert len(wanted) == 2


def test_devices_that_do_not_come_back_are_named() -> None:
    world = started("1.1.0", "1.2.0")
    canaries = sorted(arm(world, 0))
    run(world, RolloutPhase.ROLLING_BACK)
    world.offline = {canaries[0]}
    run(world, RolloutPhase.ROLLBACK_INCOMPLETE)
    named = world.state.unreturned
    world.offline = set()
    run(world, RolloutPhase.ROLLED_BACK)

    assert named == (canaries[0],)
    assert world.running(OLD) == set(DEVICES)


def test_a_paused_rollout_admits_and_promotes_nothing_but_still_rolls_back() -> None:
    world = started("1.1.0", "1.2.0")
    run_until_step(world, Step.ADMIT)
    world.order(Pause("anna", "lunch", world.now))

    assert world.state.phase is RolloutPhase.PAUSED
    run(world, RolloutPhase.ROLLED_BACK)


def test_resume_goes_on_where_the_pause_began() -> None:
    world = started()
    run_until_step(world, Step.SOAK)
    world.order(Pause("anna", "", world.now))
    world.tick(30)
    paused = world.state
    world.order(Resume("anna", "", world.now))

    assert (paused.stage, paused.phase, paused.deadline) == (0, RolloutPhase.PAUSED, None)
    assert (world.state.step, world.state.deadline) == (Step.SOAK, world.now + 10)
    run(world, RolloutPhase.COMPLETED)


def test_resume_acknowledges_the_failures_seen_so_far() -> None:
    world = started(stage_deadline_seconds=30.0)
    canaries = sorted(arm(world, 0))
    world.faults = {canaries[0]: Reason.NO_SPACE}
    run_until_step(world, Step.HOLD)
    world.order(Resume("anna", "its disk is known to be full", world.now))

    assert {name for name, m in world.state.members.items() if m.acknowledged} == {canaries[0]}
    run(world, RolloutPhase.COMPLETED)


def test_an_operator_may_promote_and_is_named() -> None:
    world = started(before=0)
    world.order(Promote("anna", "no traffic yet", world.now))
    admitted = world.state.admitted
    world.order(Promote("anna", "still none", world.now))
    decision = world.order(Promote("anna", "and done", world.now))

    assert (admitted, world.state.phase) == (1, RolloutPhase.COMPLETED)
    assert decision.notes == ("promoted by anna: and done",)


def test_abort_keeps_what_devices_have_or_takes_all_back() -> None:
    kept, reverted = started(), started()
    for world in (kept, reverted):
        run_until_step(world, Step.SOAK)
    kept.order(Abort("anna", "enough", "keep", kept.now))
    kept.tick(5)
    reverted.order(Abort("anna", "enough", "revert", reverted.now))
    run(reverted, RolloutPhase.ROLLED_BACK)

    assert (kept.state.phase, kept.running(NEW)) == (RolloutPhase.ABORTED, arm(kept, 0))
    assert reverted.running(NEW) == set()


def test_a_command_that_does_not_fit_changes_nothing_and_says_why() -> None:
    world = started()
    again = world.order(Start("anna", "", world.facts(())))
    resumed = world.order(Resume("anna", "", world.now))

    assert again.refused == "only a draft can be started, this rollout is running"
    assert resumed.refused == "only a paused or holding rollout can be resumed, this one is running"
    assert again.state is resumed.state


def test_a_cohort_without_a_device_cannot_be_started() -> None:
    world = World(make_plan(selector="site = rome"), lambda *_: None)
    decision = world.order(Start("anna", "", world.facts(())))

    assert decision.refused == "no device matches 'site = rome'"


def test_only_the_cohort_is_assigned_anything() -> None:
    world = World(make_plan(selector="site in (berlin, oslo)"), answers("1.0.0", "1.1.0"))
    world.start()

    assert {name.partition("-")[0] for name in assignments(world.plan, world.state)} == {
        "berlin",
        "oslo",
    }


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_late_joiner_is_drawn_only_where_the_cohort_is_dynamic(*, dynamic: bool) -> None:
    world = started(dynamic=dynamic)
    world.tick(3)
    late = [f"rome-{number}" for number in range(20)]
    world.devices |= {name: replace(world.devices["oslo-1"], device=name) for name in late}
    world.names += tuple(late)
    drawn = dict(world.state.members)
    world.tick()

    assert {name: world.state.members[name].arm for name in drawn} == {n: m.arm for n, m in drawn.items()}
    assert (set(world.state.members) == {*drawn, *late}) is dynamic
    assert {member.arm for member in world.state.members.values()} == {CONTROL, 0, 1}


def test_a_label_that_changes_moves_no_device_into_or_out_of_a_rollout() -> None:
    world = World(make_plan(selector="site in (berlin, oslo)"), answers("1.0.0", "1.1.0"))
    world.run_before(12)
    world.start()
    drawn = dict(world.state.members)
    world.devices["oslo-1"] = replace(world.devices["oslo-1"], labels={"site": "rome"})
    world.devices["lyon-1"] = replace(world.devices["lyon-1"], labels={"site": "oslo"})
    run(world, RolloutPhase.COMPLETED)
    world.tick(5)

    assert {name: member.arm for name, member in world.state.members.items()} == {
        name: member.arm for name, member in drawn.items()
    }
    assert world.running(NEW) == drawn.keys()


def test_who_joins_after_a_dynamic_rollout_has_completed_gets_the_version() -> None:
    world = started(dynamic=True)
    run(world, RolloutPhase.COMPLETED)
    world.devices["rome-1"] = replace(world.devices["oslo-1"], device="rome-1", current=OLD)
    world.names += ("rome-1",)
    world.tick(5)

    assert needs_ticks(world.plan, world.state)
    assert "rome-1" in world.running(NEW)


def test_an_earlier_trial_of_the_same_version_is_no_evidence() -> None:
    world = World(make_plan(), answers("1.1.0", "1.2.0"))
    for name in DEVICES:
        world.devices[name] = world.devices[name].__class__(name, seen=world.now, current=NEW)
    world.run_before(12)
    world.start()
    world.tick()

    assert world.state.ledger.totals.calls == sum(
        window.calls
        for window in world.windows
        if window.manifest == NEW and window.end > world.state.started_at
    )


def test_a_state_survives_the_store() -> None:
    world = started()
    states = [State(), *(world.log or [])]
    world.tick(40)
    states += world.log

    assert [stored(state) for state in states] == states


def test_the_same_facts_lead_to_the_same_decisions() -> None:
    first, second = started(seed=4), started(seed=4)
    first.tick(40)
    second.tick(40)

    assert [to_json(state) for state in first.log] == [to_json(state) for state in second.log]


def test_only_live_rollouts_need_ticks() -> None:
    live = {phase for phase in RolloutPhase if is_live(State(phase=phase))}

    assert live == {
        RolloutPhase.PENDING_APPROVAL,
        RolloutPhase.SCHEDULED,
        RolloutPhase.RUNNING,
        RolloutPhase.PAUSED,
        RolloutPhase.ROLLING_BACK,
        RolloutPhase.ROLLBACK_INCOMPLETE,
    }


def test_a_rollout_whose_control_is_gone_holds_and_is_not_promoted_by_limits_alone() -> None:
    world = World(make_plan(stage_deadline_seconds=30.0), answers("1.1.0", "1.1.0"))
    world.run_before(10)
    world.start()
    world.tick(4)
    gone = {name for name, member in world.state.members.items() if member.arm == CONTROL}
    world.names = tuple(name for name in world.names if name not in gone)
    world.devices = {name: world.devices[name] for name in world.names}
    world.tick(80)

    assert (world.state.phase, world.state.step) == (RolloutPhase.RUNNING, Step.HOLD)
    assert NO_CONTROL in world.state.waiting
