"""What gates promise however often one looks: error rates, intervals that cover, budgets that add up."""

import math
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_controller.domain.facts import WindowFacts
from muster_controller.domain.rollouts.judging.evidence import Verdict
from muster_controller.domain.rollouts.judging.experiment import evidence_of_skew
from muster_controller.domain.rollouts.judging.gates import shares
from muster_controller.domain.sequential import BETS, bet, interval, log_mean, new_wealth, reach
from support.arms import BEFORE, Answer, Arms, calls, gate
from support.rollouts import make_plan

ps = st.floats(1e-4, 0.5)


@given(st.integers(1, 5000), ps)
def test_an_e_process_reaches_its_bound_exactly_there(rounds: int, p: float) -> None:
    at = reach(rounds, p)
    wealth = log_mean(BETS * at - rounds * BETS**2 / 2)

    assert float(wealth) == pytest.approx(-math.log(p), abs=1e-6)
    assert log_mean(BETS * at * 1.001 - rounds * BETS**2 / 2) > wealth


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=40), ps, st.floats(-2, 2))
def test_a_value_lies_outside_of_the_interval_exactly_when_a_bet_against_it_was_won(
    seen: list[float], p: float, value: float
) -> None:
    ends = interval(len(seen), precision=float(len(seen)), score=sum(seen), slack=0.0, p=p)
    assert ends is not None
    for side, outside in ((1.0, value < ends[0]), (-1.0, value > ends[1])):
        wealth = new_wealth()
        for one in seen:
            wealth = wealth + bet(side * (one - value))
        won = float(log_mean(wealth)) - -math.log(p)

        assert abs(won) < 1e-6 or outside == (won > 0)


def test_intervals_cover_the_truth_at_every_look_together() -> None:
    """2,000 series of 300 looks: each end misses the truth, ever, with probability p at most."""
    chance, p, truth = np.random.default_rng(7), 0.05, 0.3
    sd = chance.uniform(0.5, 2.0, (2000, 300))  # rounds of different sizes
    seen = truth + sd * chance.standard_normal((2000, 300))
    precision, score = np.cumsum(1 / sd, axis=1), np.cumsum(seen / sd, axis=1)
    wide = np.array([reach(n, p) for n in range(1, 301)])
    low, high = (score - wide) / precision, (score + wide) / precision
    missed = [float(np.mean(np.any(off, axis=1))) for off in (low > truth, high < truth)]

    assert max(missed) <= p + 3 * math.sqrt(p * (1 - p) / 2000)
    assert min(missed) > 0  # a check that sees misses at all
    assert float(np.mean(high[:, -1] - low[:, -1])) < 0.5


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_evidence_of_skew_has_mean_one_when_nothing_is_skewed(
    total: int, beside: int, data: st.DataObject
) -> None:
    both = data.draw(st.integers(0, total + beside))
    counts = range(max(0, both - beside), min(total, both) + 1)
    ways = {k: comb(total, k) * comb(beside, both - k) for k in counts}
    mean = sum(n * evidence_of_skew(k, total, both - k, beside) for k, n in ways.items()) / sum(ways.values())

    assert mean == pytest.approx(1.0)


@given(
    weights=st.dictionaries(
        st.sampled_from(["errors", "latency", "slow calls", "counter scrap", "nothing"]), st.floats(0, 100)
    )
)
def test_shares_of_the_budget_add_up_to_it(weights: dict[str, float]) -> None:
    plan = make_plan(margins={"counters": {"scrap": {"margin": 0.1}}, "weights": weights})
    arms = Arms(plan, lambda device, _is_new, index: calls(device, index))
    arms.run(2)
    held = shares(plan, arms.ledger)

    assert all(share > 0 for share in held.values())
    assert sum(held.values()) == pytest.approx(1.0)
    assert all(one.bound is None or one.bound > 1 for one in arms.judge().gates)


def moved(seed: int, *, effect: float, shift: float) -> Answer:
    """Return how devices answer that differ from each other, and that a shift hits all alike."""
    chance = np.random.default_rng(seed)
    offsets: dict[str, float] = {}

    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        own = offsets.setdefault(device, float(chance.uniform(0.02, 0.06)))
        level = own + (shift if index >= BEFORE else 0.0)
        errors = int(chance.binomial(200, level + (effect if is_new else 0.0)))
        scrap = int(chance.poisson(200 * (5 * level + (5 * effect if is_new else 0.0))))
        milliseconds = float(np.exp(chance.normal(2, 0.3)))
        return calls(
            device, index, is_new=is_new, errors=errors, milliseconds=milliseconds, counters={"scrap": scrap}
        )

    return answer


def stops(seeds: range, *, effect: float, shift: float, budget: float, rounds: int = 60) -> int:
    """Return in how many rollouts a comparison was ever unhealthy, with a look after every round."""
    plan = make_plan(
        error_budget=budget,
        margins={"errors": 0.02, "counters": {"scrap": {"margin": 0.1}}},
        limits={"errors": 1.0},
    )
    found = 0
    for seed in seeds:
        arms = Arms(plan, moved(seed, effect=effect, shift=shift))
        looks = (arms.run(1) for _ in range(rounds))
        found += any(
            one.verdict is Verdict.UNHEALTHY for evidence in looks for one in evidence.gates if one.share
        )
    return found


@pytest.mark.parametrize("shift", [0.0, 0.03])
def test_a_version_that_changes_nothing_is_not_stopped_by_any_gate(shift: float) -> None:
    assert stops(range(100, 112), effect=0.0, shift=shift, budget=0.01, rounds=40) == 0


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.03])
def test_false_stops_by_any_gate_stay_within_the_budget(shift: float) -> None:
    """300 held-out rollouts with 100 looks each: at the budget 3 are expected, and 9 once in 250 times."""
    assert stops(range(1000, 1300), effect=0.0, shift=shift, budget=0.01, rounds=100) <= 8


def test_a_version_at_the_edge_of_its_margins_is_stopped_no_more_often_than_the_budget_says() -> None:
    """The worst that the null allows: of 40 rollouts at a budget of 0.1, 4 are expected at most."""
    assert stops(range(200, 240), effect=0.02, shift=0.0, budget=0.1, rounds=30) <= 10


def test_a_version_beyond_its_margin_is_stopped() -> None:
    assert stops(range(300, 310), effect=0.06, shift=0.03, budget=0.01, rounds=20) == 10


def test_what_is_no_number_is_no_evidence() -> None:
    assert bet(math.nan).tolist() == [0.0] * len(BETS)
    assert bool(np.all(np.isfinite(bet([math.inf, -math.inf]))))


def test_gates_of_a_silent_version_stay_inconclusive_for_ever() -> None:
    arms = Arms(make_plan(), lambda device, is_new, index: None if is_new else calls(device, index))
    evidence = arms.run(300)

    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert gate(evidence, "errors").evidence is None
