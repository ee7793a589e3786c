"""The formula of the power, held against the gates' own code on simulated windows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_controller.domain.facts import WindowFacts
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.foreseeing.power import (
    POWER,
    Arms,
    Noise,
    noise_of,
    rounds_until_healthy,
    smallest_effect,
)
from muster_controller.domain.rollouts.judging import gates
from muster_controller.domain.rollouts.judging.evidence import Verdict
from muster_controller.domain.rollouts.judging.ledger import Ledger, freeze
from muster_controller.domain.rollouts.judging.rounds import take_in
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan

BEFORE, CALLS, RATE = 30, 200, 0.05
RUNS = 60
OLD, NEW = "a" * 64, "b" * 64
PLAN = parse_plan({"model": "digits", "digest": NEW, "previous": OLD, "round_seconds": 1.0})


def simulate(
    plan: Plan, arms: Arms, *, effect: float, rounds: int, chance: np.random.Generator
) -> tuple[bool, bool]:
    """Return whether the gate of errors is unhealthy, and whether healthy, after so many rounds or before."""
    names = {f"t-{index:02}": 0 for index in range(arms.treated)}
    names |= {f"c-{index:02}": CONTROL for index in range(arms.control)}
    ledger, unhealthy, healthy = Ledger(), False, False
    for index in range(arms.before + rounds + 3):
        if index == arms.before:
            ledger = freeze(ledger)
        windows = []
        for device, arm in names.items():
            new = arm != CONTROL and index >= arms.before
            rate = RATE + effect * new
            errors = int(chance.binomial(CALLS, rate))
            windows.append(WindowFacts(device, NEW if new else OLD, index, index + 1, CALLS, errors))
        ledger = take_in(plan, ledger, windows, arms=names, started=arms.before - 0.5, now=index + 1)
        for gate in gates.comparing(plan, ledger, index) if index >= arms.before else ():
            if gate.name == "errors":
                unhealthy |= gate.verdict is Verdict.UNHEALTHY
                healthy |= gate.verdict is Verdict.HEALTHY
    return unhealthy, healthy


@pytest.mark.parametrize(("treated", "control", "rounds"), [(3, 6, 12), (6, 12, 6)])
def test_the_smallest_effect_is_caught_as_often_as_the_formula_says(
    treated: int, control: int, rounds: int
) -> None:
    plan, arms = PLAN, Arms(treated, control, BEFORE)
    edge = RATE + plan.margins.errors
    noise = Noise(edge * (1 - edge), CALLS)
    bound = gates.bound_of(plan, 1.0)  # of the one gate that has something to compare
    effect = smallest_effect(plan.margins.errors, noise, arms, bound=bound, rounds=rounds)
    assert effect is not None
    half = plan.margins.errors + (effect - plan.margins.errors) / 2
    chance = np.random.default_rng(treated)

    caught = sum(simulate(plan, arms, effect=effect, rounds=rounds, chance=chance)[0] for _ in range(RUNS))
    missed = sum(simulate(plan, arms, effect=half, rounds=rounds, chance=chance)[0] for _ in range(RUNS))

    # Two standard deviations of a share of 60 runs at 0.8.
    assert abs(caught / RUNS - POWER) < 0.11
    assert missed / RUNS < POWER / 2


def test_health_shows_as_soon_as_the_formula_says() -> None:
    plan, arms = PLAN, Arms(2, 4, BEFORE)
    edge = RATE + plan.margins.errors
    noise = Noise(edge * (1 - edge), CALLS)
    rounds = rounds_until_healthy(plan.margins.errors, noise, arms, needed=1 / plan.hold_budget)
    assert rounds is not None
    chance = np.random.default_rng(3)

    shown = sum(simulate(plan, arms, effect=0.0, rounds=rounds, chance=chance)[1] for _ in range(RUNS))
    early = sum(simulate(plan, arms, effect=0.0, rounds=rounds // 5, chance=chance)[1] for _ in range(RUNS))

    assert shown / RUNS > POWER - 0.11
    assert early / RUNS < POWER / 2


EFFECTS = st.tuples(st.floats(0.001, 1), st.floats(1e-4, 10), st.integers(1, 64), st.integers(2, 60))


@given(EFFECTS, st.integers(4, 50))
def test_more_of_everything_sees_smaller_harm(case: tuple[float, float, int, int], rounds: int) -> None:
    margin, spread, devices, before = case
    noise, arms = Noise(spread, 100.0), Arms(devices, devices, before)

    def smallest(arms: Arms, *, rows: float = 100.0, bound: float = 600.0, later: int = 0) -> float:
        found = smallest_effect(margin, replace(noise, rows=rows), arms, bound=bound, rounds=rounds + later)
        return math.inf if found is None else found

    plain = smallest(arms)
    assert plain > margin
    for better in (
        smallest(replace(arms, treated=devices + 1)),
        smallest(replace(arms, control=devices + 1)),
        smallest(replace(arms, before=before + 1)),
        smallest(arms, rows=200.0),
        smallest(arms, bound=300.0),
        smallest(arms, later=1),
    ):
        assert better <= plain + 1e-9


def test_what_cannot_be_seen_is_not_promised() -> None:
    noise = Noise(1.0, 100.0)

    assert smallest_effect(0.02, noise, Arms(5, 0, 6), bound=600, rounds=6) is None
    assert smallest_effect(0.02, noise, Arms(0, 5, 6), bound=600, rounds=6) is None
    # One round alone never decides, whatever it shows.
    assert smallest_effect(0.02, noise, Arms(5, 5, 6), bound=600, rounds=1) is None
    assert rounds_until_healthy(0.0001, noise, Arms(1, 1, 2), needed=20) is None
    assert noise_of({}, "errors", least=0.1) is None
