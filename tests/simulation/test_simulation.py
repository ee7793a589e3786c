"""Whole fleets under faults, seed by seed; and the bugs planted to see that they would be found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.mutants import PLANTS, Plant
from simulation.report import add_up, most_false_alarms
from simulation.run import simulate

SEEDS = 200
CHUNK = 10
LEAST_COMPLETED = 0.8  # of ten seeds; blamed for a power cut, or short of evidence, a good version may not
MANY_SEEDS = 2000
MUTANT_SEEDS = 30
STARTS = range(1, SEEDS + 1, CHUNK)


@pytest.mark.parametrize("first", STARTS)
def test_no_invariant_breaks_whatever_goes_wrong(first: int) -> None:
    outcomes = [simulate(seed) for seed in range(first, first + CHUNK)]
    totals = add_up(outcomes)

    assert {outcome.seed: outcome.broken for outcome in outcomes if outcome.broken} == {}
    assert totals.false_alarms <= most_false_alarms(totals.rounds)
    assert totals.found == totals.drifts
    assert totals.completed >= LEAST_COMPLETED * totals.good


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(SEEDS + 1, MANY_SEEDS, 100))
def test_no_invariant_breaks_on_many_more_seeds(first: int) -> None:
    broken = {
        seed: outcome.broken for seed in range(first, first + 100) if (outcome := simulate(seed)).broken
    }

    assert broken == {}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    assert any(simulate(seed).broken for seed in range(1, MUTANT_SEEDS + 1))


def test_a_seed_has_one_history_in_every_process() -> None:
    """Nothing depends on the order of sets, on real time, or on what ran before."""
    command = (sys.executable, "-c", "from simulation.run import simulate; print(simulate(3).digest)")
    tests = str(Path(__file__).parents[1])
    histories = {
        subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": tests, "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for order in ("1", "2")
    }

    assert histories == {simulate(3).digest}
