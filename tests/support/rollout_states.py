"""States that real courses of rollouts lead to: at least one of every phase, step and code there is."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.machine import (
    Abort,
    Approve,
    Pause,
    Promote,
    Resume,
    Retry,
    RollBack,
    RolloutPhase,
    State,
    Step,
    Withhold,
)
from muster_controller.domain.rollouts.planning.approval import digest_of
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_models.errors import Reason
from support.rollouts import NEW, OLD, Answer, World, answer_with, make_plan
from support.windows import DEVICES, Digits

TICKS = 60
Story = Callable[[World, int], None]


@functools.lru_cache
def version(name: str) -> Digits:
    """Return a version of the digits, made once."""
    return Digits(name)


def answers(old: str, new: str) -> Answer:
    """Return how devices answer with two versions."""
    return answer_with({OLD: version(old), NEW: version(new)}, rows=(60, 120))


def plan_with(**changes: Any) -> Plan:
    """Return a plan that waits for nothing long."""
    rounds = changes.pop("rounds", 6)
    return make_plan(
        **{
            "stages": [{"percent": p, "soak_seconds": 10, "minimum_rounds": rounds} for p in (25, 100)],
            "stage_deadline_seconds": 30.0,
            "rollback_deadline_seconds": 10.0,
            **changes,
        }
    )


@functools.lru_cache
def reached(previous: str | None) -> tuple[tuple[Plan, State], ...]:
    """Return a plan and a state for whatever differs in phase, step, code, stage or what was admitted."""
    found: dict[tuple[object, ...], tuple[Plan, State]] = {}
    for world in _worlds(previous):
        for state in world.log:
            name = (state.phase, state.step, state.code, state.stage, state.admitted, state.soaked)
            found.setdefault(name, (world.plan, state))
    return tuple(found.values())


def _worlds(previous: str | None) -> Iterator[World]:
    for new in ("1.1.0", "1.2.0"):
        for tell in (
            _nothing,
            _at(14, _pause),
            _at(20, _abort("keep")),
            _at(20, _abort("revert")),
            _lose_many,
        ):
            yield _live(plan_with(previous=previous), new, tell)
    yield _live(plan_with(previous=previous), "1.1.0", _at(14, _pause), _at(20, _resume))
    yield _live(plan_with(previous=previous), "1.1.0", _nothing, silent=True)
    yield _live(plan_with(previous=previous), "1.1.0", _crash, _lose_many, _at(40, _find_again))
    yield _live(plan_with(previous=previous), "1.1.0", _spoil)
    yield _live(plan_with(previous=previous, rounds=40), "1.1.0", _nothing)
    yield _live(plan_with(previous=previous), "1.1.0", _at(2, _promote), _at(6, _promote))
    yield _live(plan_with(previous=previous), "1.1.0", _at(12, _jump_back), _at(20, _resume))
    yield _live(plan_with(previous=previous), "1.1.0", _at(12, _revoke), _at(20, _withdraw_version))
    yield _live(plan_with(previous=previous), "1.1.0", _at(18, _send_back), _at(55, _send_all_back))
    yield _live(plan_with(previous=previous, retry={"backoff_seconds": 4, "tries": 2}), "1.1.0", _fill_disks)
    yield _live(plan_with(previous=previous), "1.1.0", _fill_disks, _at(25, _retry))
    yield from _paced(previous)
    yield from _asked(previous)


def _paced(previous: str | None) -> Iterator[World]:
    night = {"start": "03:00", "end": "03:20"}  # the worlds begin at 00:16:40 on a Thursday
    yield _live(plan_with(previous=previous, windows=[night]), "1.1.0", _nothing)
    yield _live(plan_with(previous=previous, ramp={"per_minute": 4}), "1.1.0", _nothing, ticks=120)
    budget = {"bytes": 150, "seconds": 20}
    yield _live(
        plan_with(previous=previous, byte_budget=budget), "1.1.0", _nothing, ticks=120, download_bytes=100
    )


def _asked(previous: str | None) -> Iterator[World]:
    policy = {"needed": 1, "expires_seconds": 40.0}
    later = 1000.0 + 10 + 25
    yield _live(plan_with(previous=previous, approval=policy), "1.1.0", _at(5, _approve))
    yield _live(plan_with(previous=previous, approval=policy), "1.1.0", _at(5, _withhold))
    waiting = plan_with(previous=previous, approval=policy, start_at=later + 60)
    yield _live(waiting, "1.1.0", _at(5, _approve))
    yield _live(plan_with(previous=previous, start_at=later), "1.1.0", _at(10, _jump_back))
    yield _live(plan_with(previous=previous, start_at=later), "1.1.0", _at(20, _revoke_all))
    yield _live(plan_with(previous=previous, start_at=later), "1.1.0", _at(20, _take_elsewhere))
    yield _live(plan_with(previous=previous, start_at=later), "1.1.0", _at(20, _withdraw_version))


def _live(
    plan: Plan, new: str, *stories: Story, silent: bool = False, ticks: int = TICKS, **known: Any
) -> World:
    world = World(plan, (lambda *_: None) if silent else answers("1.1.0", new), known=known)
    world.run_before(10)
    world.log.append(world.state)
    world.start()
    for tick in range(ticks):
        for story in stories:
            story(world, tick)
        world.tick()
    return world


def _at(when: int, act: Callable[[World], None]) -> Story:
    return lambda world, tick: act(world) if tick == when else None


def _nothing(_world: World, _tick: int) -> None:
    """Let it run."""


def _lose_many(world: World, tick: int) -> None:
    if tick < 40 and world.state.phase is RolloutPhase.ROLLING_BACK:
        world.offline = set(DEVICES)


def _find_again(world: World) -> None:
    world.offline = set()


def _spoil(world: World, _tick: int) -> None:
    """Let somebody install the version on a device of the control."""
    control = [name for name, member in world.state.members.items() if member.arm == CONTROL]
    said = world.answer(control[0], NEW, world.now - 1, world.chance) if control else None
    if said is not None and world.state.admitted:
        world.windows.append(said)


def _crash(world: World, _tick: int) -> None:
    world.faults = dict.fromkeys(DEVICES, Reason.CRASHED)


def _fill_disks(world: World, tick: int) -> None:
    world.faults = dict.fromkeys(DEVICES, Reason.NO_SPACE) if tick < 30 else {}


def _pause(world: World) -> None:
    world.order(Pause("anna", "", world.now))


def _resume(world: World) -> None:
    world.order(Resume("anna", "", world.now))


def _promote(world: World) -> None:
    world.order(Promote("anna", "", world.now))


def _retry(world: World) -> None:
    world.order(Retry("anna", "", world.now))


def _abort(mode: Any) -> Callable[[World], None]:
    return lambda world: _order_abort(world, mode)


def _order_abort(world: World, mode: Any) -> None:
    world.order(Abort("anna", "", mode, world.now))


def _approve(world: World) -> None:
    digest = digest_of(world.plan, NEW, world.state.evidence)
    world.order(Approve("berta", "approver", "", digest, world.now))


def _withhold(world: World) -> None:
    world.order(Withhold("berta", "approver", "", world.now))


def _send_back(world: World) -> None:
    first = min(name for name, member in world.state.members.items() if member.given is not None)
    world.order(RollBack("anna", "", world.now, devices=(first,)))
    world.order(RollBack("anna", "", world.now, stage=0))


def _send_all_back(world: World) -> None:
    world.order(RollBack("anna", "", world.now))


def _jump_back(world: World) -> None:
    world.now -= 200.0


def _revoke(world: World) -> None:
    gone = {name for name, member in world.state.members.items() if member.arm == 0}
    world.names = tuple(name for name in world.names if name not in gone)
    world.devices = {name: world.devices[name] for name in world.names}


def _revoke_all(world: World) -> None:
    world.names, world.devices = (), {}


def _take_elsewhere(world: World) -> None:
    world.known["elsewhere"] = dict.fromkeys(DEVICES[:2], 7)


def _withdraw_version(world: World) -> None:
    world.known["withdrawn"] = True


def running_steps(previous: str | None) -> set[Step]:
    """Return the steps of running rollouts among what was reached."""
    return {state.step for _, state in reached(previous) if state.phase is RolloutPhase.RUNNING}
