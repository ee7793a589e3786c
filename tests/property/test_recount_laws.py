"""Every verdict follows from what is stored: whatever happens, each gate computed again says the same."""

from collections.abc import Callable
from dataclasses import replace as changed
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_controller.domain.facts import LabelFacts, WindowFacts
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.evidence import Gate, Look, Verdict
from muster_controller.domain.rollouts.judging.recount import Recount
from muster_controller.domain.rollouts.machine import (
    Abort,
    Event,
    Pause,
    Promote,
    Resume,
    Retry,
    RollBack,
    RolloutPhase,
)
from muster_models.errors import Reason
from support.recounting import Witnessed
from support.rollout_states import answers, plan_with
from support.rollouts import NEW, OLD, Answer
from support.windows import DEVICES

EVERY_GATE = {
    "margins": {
        "invalid": 0.05,
        "accuracy": 0.2,
        "crashes": 1.5,
        "counters": {"scrap": {"margin": 0.05}},
    },
    "limits": {"p95_ms": 500.0, "agreement": 0.5, "agreement_rows": 10, "accuracy": 0.3},
    "minimums": {"labels": 20},
}
NAMES = {
    "failures", "failed calls", "missing predictions", "crashes", "late calls", "agreement", "accuracy",
    "errors", "missing", "out of range", "latency", "slow calls", "slowest calls", "confidence", "class mix",
    "labelled accuracy", "crashed devices", "counter scrap",
    "sample ratio", "two rollouts", "contaminated control", "clocks",
}  # fmt: skip
HAPPENINGS = (
    "crash", "crashes", "fail", "hinder", "offline", "offline", "label", "agree", "elsewhere", "spoil",
    "future", "late", "revoke", "enrol", "pause", "resume", "promote", "retry", "back", "jump", "keep",
)  # fmt: skip


def counting(good: Answer, scrap: float) -> Answer:
    """Return answers of applications that count, of which the new version's count more."""

    def answer(device: str, manifest: str, start: float, chance: np.random.Generator) -> WindowFacts | None:
        said = good(device, manifest, start, chance)
        if said is None:
            return None
        rate = scrap if manifest == NEW else 0.1
        return changed(said, counters={"scrap": int(chance.poisson(rate * said.calls))})

    return answer


def world_of(seed: int, *, new: str = "1.1.0", scrap: float = 0.1, dynamic: bool = False) -> Witnessed:
    plan = plan_with(seed=str(seed), rounds=4, dynamic=dynamic, **EVERY_GATE)
    world = Witnessed(plan, counting(answers("1.1.0", new), scrap), seed=seed)
    world.run_before(10)
    world.labels += [LabelFacts(name, OLD, world.now, 30, 27) for name in DEVICES for _ in range(2)]
    world.start()
    return world


def happen(world: Witnessed, what: str, device: str) -> None:
    """Let something happen to a device, or let a person order something."""
    now = world.now
    orders: dict[str, Event] = {
        "pause": Pause("anna", "", now),
        "resume": Resume("anna", "", now),
        "promote": Promote("anna", "", now),
        "retry": Retry("anna", "", now),
        "back": RollBack("anna", "", now, devices=(device,)),
        "keep": Abort("anna", "", "keep", now),
    }
    known = world.devices.get(device)
    if what in orders:
        world.order(orders[what])
    elif what == "jump":
        world.now -= 30.0
    elif known is None:
        if what == "enrol":
            world.names = (*world.names, device)
            world.devices[device] = changed(world.devices[world.names[0]], device=device, seen=None)
    elif known.current is not None:
        _befall(world, what, device, known.current)


def _befall(world: Witnessed, what: str, device: str, digest: str) -> None:
    match what:
        case "crash" | "crashes":
            world.crash(device, times=1 if what == "crash" else 5)
        case "fail" | "hinder":
            world.faults[device] = Reason.CRASHED if what == "fail" else Reason.NO_SPACE
        case "offline":
            world.offline ^= {device}
        case "label":
            world.labels.append(LabelFacts(device, digest, world.now, 30, int(world.chance.integers(10, 31))))
        case "agree":
            agreed, rows = world.agreement.get(device, (0, 0))
            world.agreement[device] = (agreed + 8, rows + 10)
        case "elsewhere":
            world.beside ^= {device}
        case "revoke" if len(world.names) > 3:
            world.names = tuple(name for name in world.names if name != device)
            del world.devices[device]
        case _:
            _send(world, what, device, digest)


def _send(world: Witnessed, what: str, device: str, digest: str) -> None:
    """Let a window arrive from the future, from long ago, or of a version that the device should not run."""
    start = world.now + {"future": 40.0, "late": -4.0}.get(what, -1.0)
    said = world.answer(device, NEW if what == "spoil" else digest, start, world.chance)
    if said is not None:
        world.windows.append(said)


def apart(found: list[Recount]) -> list[object]:
    return [
        (
            one.index,
            one.differences,
            [(gate.name, gate.differences) for gate in one.gates if gate.differences],
        )
        for one in found
        if not one.agrees
    ]


@settings(max_examples=12, deadline=None)
@given(
    new=st.sampled_from(["1.0.0", "1.1.0", "1.2.0"]),
    seed=st.integers(0, 1000),
    dynamic=st.booleans(),
    story=st.lists(
        st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from(DEVICES), st.integers(0, 4)), max_size=24
    ),
)
def test_every_verdict_of_any_history_is_the_same_when_it_is_computed_again(
    new: str,
    seed: int,
    dynamic: bool,  # noqa: FBT001 - hypothesis names it
    story: list[tuple[str, str, int]],
) -> None:
    world = world_of(seed, new=new, dynamic=dynamic)
    for what, device, ticks in story:
        happen(world, what, device)
        world.tick(ticks)
    world.tick(6)
    found = world.recount()

    assert len(found) == len(world.records())
    assert apart(found) == []


@pytest.fixture(scope="module")
def eventful() -> Witnessed:
    """A rollout that has seen something for every gate there is."""
    world = world_of(3)
    stage = [name for name, member in world.state.members.items() if member.arm != CONTROL]
    for tick in range(24):
        world.tick()
        for device in DEVICES:
            happen(world, "label", device)
            happen(world, "agree", device)
        if tick == 8:
            happen(world, "crash", stage[0])
            world.beside = {stage[-1]}
    return world


def test_every_kind_of_gate_is_computed_again(eventful: Witnessed) -> None:
    found = eventful.recount()
    seen = {gate.name for one in found for gate in one.gates if gate.again is not Verdict.INCONCLUSIVE}

    assert apart(found) == []
    assert {gate.name for one in found for gate in one.gates} == NAMES
    assert seen == NAMES


def forged(gate: Gate) -> Gate:
    """Return a gate that says the opposite."""
    verdict = Verdict.HEALTHY if gate.verdict is not Verdict.HEALTHY else Verdict.UNHEALTHY
    return changed(gate, verdict=verdict)


def test_a_forged_gate_of_every_kind_is_found_in_the_record_that_has_it(eventful: Witnessed) -> None:
    records = eventful.records()
    gates, checks = (tuple(map(forged, held)) for held in (records[-2].gates, records[-2].experiment))
    told = msgspec.structs.replace(records[-2], gates=gates, experiment=checks)
    found = eventful.recount([*records[:-2], told, records[-1]])

    assert {gate.name for gate in found[-2].gates if gate.differences} == NAMES
    assert all(one.agrees for one in (*found[:-2], found[-1]))


@pytest.mark.parametrize("field", ["effect", "margin", "evidence", "bound", "value", "samples", "detail"])
def test_a_forged_figure_is_found(eventful: Witnessed, field: str) -> None:
    records = eventful.records()
    gate = next(one for one in records[-1].gates if one.name == "errors")
    told: dict[str, Any] = {field: "forged" if field == "detail" else (getattr(gate, field) or 0) + 1}
    other = changed(gate, **told)
    gates = tuple(other if one is gate else one for one in records[-1].gates)
    last = eventful.recount([*records[:-1], msgspec.structs.replace(records[-1], gates=gates)])[-1]

    assert [(one.name, len(one.differences)) for one in last.gates if one.differences] == [("errors", 1)]
    assert last.differences == ()


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": Verdict.HEALTHY},
        {"stage": 7},
        {"rounds": 99},
        {"missing": ()},
        {"failed": ("berlin-1",)},
        {"failures": {"crashed": 1}},
        {"gates": ()},
        {"look": None},
    ],
    ids="".join,
)
def test_what_else_is_forged_in_a_record_is_found(eventful: Witnessed, change: dict[str, object]) -> None:
    records = eventful.records()
    told = [*records[:-1], msgspec.structs.replace(records[-1], **change)]
    last = next(one for one in eventful.recount(told) if one.index == len(told) - 1)

    assert last.differences != ()


@pytest.mark.parametrize(
    "forge",
    [
        lambda look: {"upto": look.upto - 8},
        lambda look: {"labels_upto": look.labels_upto - 8},
        lambda look: {"crashes_upto": look.crashes_upto - 1},
        lambda look: {"entries": look.entries - 6},
        lambda look: {"outcomes": {**look.outcomes, "running": look.outcomes["running"][1:]}},
        lambda look: {"quiet": look.outcomes["running"]},
        lambda look: {"given": dict(list(look.given.items())[1:])},
        lambda look: {"beside": look.beside[1:]},
        lambda look: {"agreement": dict.fromkeys(look.agreement, (0, 240))},
        lambda look: {"others": (*look.others, ("fault", True, True, 3))},
    ],
)
def test_a_look_that_is_forged_leads_to_other_evidence(
    eventful: Witnessed, forge: Callable[[Look], dict[str, object]]
) -> None:
    records = eventful.records()
    assert records[-1].look is not None
    look = msgspec.structs.replace(records[-1].look, **forge(records[-1].look))
    told = [*records[:-1], msgspec.structs.replace(records[-1], look=look)]

    assert not eventful.recount(told)[-1].agrees


def test_a_crash_or_a_window_that_is_gone_is_found(eventful: Witnessed) -> None:
    without = changed(eventful, crashes=[], state=eventful.state)
    lost = changed(eventful, windows=eventful.windows[:-16])

    assert not all(one.agrees for one in without.recount())
    assert not all(one.agrees for one in lost.recount())


def test_a_rollout_that_went_back_is_computed_again_up_to_the_verdict_that_ended_it() -> None:
    world = world_of(5, scrap=0.9)
    world.tick(30)
    found = world.recount()

    assert world.state.phase is not RolloutPhase.RUNNING
    assert found[-1].again is Verdict.UNHEALTHY
    assert apart(found) == []
