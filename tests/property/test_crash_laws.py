"""What holds for the race of first crashes: no effect is never more likely to be stopped than it may be."""

import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_controller.domain.facts import FirstCrash, Observed
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.foreseeing.foresight import foresee
from muster_controller.domain.rollouts.judging.crashes import (
    Crash,
    least_crashes,
    log_evidence,
    race,
    smallest_share,
)
from muster_controller.domain.rollouts.judging.experiment import Cast
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.machine import Code, RolloutPhase
from support.rollout_states import answers
from support.rollouts import World, make_plan

DRAWN = (CONTROL, CONTROL, CONTROL, 0, 1, 1)  # the arms of six devices, in whatever order
GIVEN = {0: 10.0, 1: 20.0}  # when each stage is given the version
BUDGET = 1210.0  # the bound of one gate of eleven, of a budget of 1 %
TIMES = st.lists(st.floats(0, 40).filter(lambda at: at not in GIVEN.values()), max_size=6, unique=True)


def draws() -> Iterator[dict[str, int]]:
    """Yield every way in which six devices may be drawn, each as likely as another."""
    for order in sorted(set(itertools.permutations(DRAWN))):
        yield {f"device-{number}": arm for number, arm in enumerate(order)}


def cast_of(arms: dict[str, int], crashed: dict[str, float]) -> Cast:
    """Return the cast when devices crash at instants of their own, whatever they run."""
    given = {device: GIVEN[arm] for device, arm in arms.items() if arm != CONTROL}
    return Cast(
        arms,
        arms,
        given=given,
        crashed={
            device: FirstCrash(at, of_version=device in given and at >= given[device])
            for device, at in crashed.items()
        },
    )


@settings(max_examples=40, deadline=None)
@given(TIMES, st.sampled_from([1.0, 1.5, 3.0]), st.integers(0, 6))
def test_the_evidence_against_no_effect_has_a_mean_of_1_at_most_at_every_look(
    times: list[float], tolerated: float, look: int
) -> None:
    """Exactly: over every draw, for devices that crash at whatever instants, each as frail as it is."""
    crashed = {f"device-{number}": at for number, at in enumerate(times)}
    found = [
        math.exp(log_evidence(tuple(race(cast_of(arms, crashed)))[:look], tolerated)) for arms in draws()
    ]

    assert sum(found) / len(found) <= 1 + 1e-9


@given(TIMES)
def test_without_a_tolerated_ratio_it_is_a_bet_at_fair_odds(times: list[float]) -> None:
    crashed = {f"device-{number}": at for number, at in enumerate(times)}
    found = [math.exp(log_evidence(tuple(race(cast_of(arms, crashed))), 1.0)) for arms in draws()]

    assert sum(found) / len(found) == pytest.approx(1.0)


@given(TIMES)
def test_what_happens_to_the_control_alone_is_never_held_against_a_version(times: list[float]) -> None:
    controls = [f"device-{number}" for number in range(3)]
    arms = dict(zip([*controls, "device-3", "device-4", "device-5"], DRAWN, strict=True))
    crashed = dict(zip(controls, times, strict=False))

    assert log_evidence(tuple(race(cast_of(arms, crashed))), 1.0) <= 0


def test_a_device_counts_once_and_who_crashed_before_has_left_the_race() -> None:
    arms = {"a": CONTROL, "b": CONTROL, "c": 0, "d": 0, "e": 1}
    crashed = {
        "c": FirstCrash(5.0, of_version=False),  # before it was given the version
        "a": FirstCrash(12.0, of_version=False),
        "d": FirstCrash(13.0, of_version=True),
        "e": FirstCrash(14.0, of_version=True),  # was given it again since
        "stranger": FirstCrash(15.0, of_version=True),
    }
    cast = Cast(arms, arms, given={"c": 10.0, "d": 10.0, "e": 30.0}, crashed=crashed)

    assert list(race(cast)) == [Crash(False, 1, 2), Crash(True, 1, 1), Crash(True, 1, 1)]


@pytest.mark.parametrize(
    ("stage", "control", "needed"),
    [(1, 3, None), (2, 6, None), (5, 15, None), (5, 45, 4), (20, 45, 9), (64, 16, 38), (64, 64, 15)],
)
def test_how_many_devices_must_crash_before_it_speaks(stage: int, control: int, needed: int | None) -> None:
    """What docs/rollouts.md says: it is late, and so it is an option."""
    assert least_crashes(stage, control, tolerated=1.5, bound=BUDGET) == needed


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([20.0, 1100.0]))
def test_the_smallest_share_is_the_one_that_is_caught_so_often(
    stage: int, control: int, bound: float
) -> None:
    needed = least_crashes(stage, control, tolerated=1.0, bound=bound)
    share = smallest_share(stage, control, tolerated=1.0, bound=bound, power=0.8)

    assert (share is None) is (needed is None)
    if share is not None and needed is not None:
        caught = sum(
            math.comb(stage, hits) * share**hits * (1 - share) ** (stage - hits)
            for hits in range(needed, stage + 1)
        )
        assert caught == pytest.approx(0.8, abs=1e-3)


def test_a_preview_says_which_share_of_a_stage_must_crash_to_be_caught() -> None:
    stages = [{"percent": 10}, {"percent": 40}, {"percent": 100}]
    plan = make_plan(margins={"crashes": 1.5}, stages=stages)
    arms = [CONTROL] * 45 + [0] * 5 + [1] * 15 + [2] * 25
    drawn = {f"device-{number}": arm for number, arm in enumerate(arms)}
    found = foresee(plan, Ledger(), drawn)
    quiet = foresee(make_plan(stages=stages), Ledger(), drawn)

    assert [(one.gate, one.stage, one.devices, one.control) for one in found] == [
        ("crashed devices", 1, 5, 45),
        ("crashed devices", 2, 20, 45),
        ("crashed devices", 3, 45, 45),
    ]
    shares = [one.smallest for one in found if one.smallest is not None]
    assert shares == sorted(shares, reverse=True)
    assert 0.2 < shares[2] < shares[0] < 0.9
    assert {one.healthy_after for one in found} == {0}
    assert quiet == ()


def test_a_version_whose_devices_crash_beside_a_quiet_control_goes_back_by_itself() -> None:
    weights = dict.fromkeys(("errors", "missing", "latency", "slow calls", "slowest calls"), 0.0)
    plan = make_plan(
        margins={"crashes": 1.0, "weights": weights | {"confidence": 0.0, "class mix": 0.0}},
        error_budget=0.4,
        stages=[{"percent": 50, "soak_seconds": 3, "minimum_rounds": 30}, {"percent": 100}],
    )
    world = World(plan, answers("1.1.0", "1.1.0"))
    world.run_before(10)
    world.start()
    while not world.state.admitted:
        world.tick()
    world.tick(3)
    quiet = world.state
    stage = [name for name, member in world.state.members.items() if member.given is not None]
    world.known["observed"] = Observed(
        first_crashes={name: FirstCrash(world.now, of_version=True) for name in stage}
    )
    world.tick()

    assert quiet.evidence is not None
    gate = next(gate for gate in quiet.evidence.gates if gate.name == "crashed devices")
    assert (gate.verdict, gate.detail) == (
        "healthy",
        f"0 of {len(stage)} devices have crashed, and 0 of 2 of the control",
    )
    assert gate.share == 1.0
    assert (world.state.phase, world.state.code) == (RolloutPhase.ROLLING_BACK, Code.UNHEALTHY)
    assert f"crashed devices: {len(stage)} of {len(stage)} devices have crashed" in world.state.reason
