"""Whole fleets under faults, seed by seed; and the bugs planted to see that they would be found."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from simulation.machine_mutants import carry_assurance_to_newcomers
from simulation.mutants import PLANTS, Plant, sync_no_folder
from simulation.report import add_up, by_kind, most_false_alarms
from simulation.run import Outcome, forget_pasts, live, simulate
from simulation.shrinking import shrink
from simulation.story import SITES, Fault, Member, Story, Trouble, decode, draw, encode
from simulation.versions import EXPECTED, Kind
from simulation.words import tell

SEEDS = 1000
CHUNK = 50
MANY_SEEDS = 10_000
MUTANT_SEEDS = 60
# Looked at first, because they have what is rare.
TELLING = {
    "abort_keeps_all": (45,),
    "approve_unseen": (317,),
    "ask_for_no_rounds": (6,),
    "carry_assurance_over": (29,),
    "count_expired_approvals": (38, 44, 58),
    "count_labels_twice": (403,),
    "do_without_labels": (304,),
    "edit_what_has_begun": (49,),
    "forget_stops": (140,),
    "ignore_the_bytes": (49, 70),
    "ignore_the_windows": (28,),
    "let_joiners_go_first": (6,),
    "never_roll_back": (11,),
    "overlook_failures_in_shadow": (19,),
    "overlook_what_is_counted": (60, 105, 66),
    "retry_at_once": (17, 135, 420),
    "sync_no_folder": (5,),
    "take_failures_for_success": (17,),
    "wait_for_ever_for_returns": (26,),
}
LEAST_ROLLOUTS = 5  # of one kind, below which a share says nothing
FLEET = tuple(Member(f"{site}-{number}", site) for number, site in enumerate(SITES, start=1))
# Three devices are given a version at once; one of them comes when the others have run it for eight rounds.
LATE = Story(
    1,
    FLEET,
    installed=True,
    versions=(Kind.WORSE_AT_SITE,),
    stages=(100.0,),
    sick="lyon",
    faults=(Fault(25.0, Trouble.AWAY, "lyon-2", 80.0),),
)
STARTS = range(1, SEEDS + 1, CHUNK)


@pytest.mark.parametrize("first", STARTS)
def test_no_invariant_breaks_whatever_goes_wrong(first: int) -> None:
    _hold([simulate(seed) for seed in range(first, first + CHUNK)])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(SEEDS + 1, MANY_SEEDS, 500))
def test_no_invariant_breaks_on_many_more_seeds(first: int) -> None:
    _hold([simulate(seed) for seed in range(first, first + 500)])


def _hold(outcomes: list[Outcome]) -> None:
    totals, kinds = add_up(outcomes), by_kind(outcomes)
    counted = {kind: ends for kind, ends in kinds.items() if ends.rollouts >= LEAST_ROLLOUTS}

    assert {_again(outcome): outcome.broken for outcome in outcomes if outcome.broken} == {}
    assert totals.false_alarms <= most_false_alarms(totals.rounds)
    assert {
        kind: ends for kind, ends in counted.items() if ends.as_expected(kind) < EXPECTED[kind].least
    } == {}


def _again(outcome: Outcome) -> str:
    return f"scripts/simulate --seeds {outcome.seed} --trace; scripts/simulate --shrink {outcome.seed}"


@pytest.fixture
def fresh() -> Iterator[pytest.MonkeyPatch]:
    """Return a patch, and see that nothing lived under it is used again."""
    forget_pasts()
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    forget_pasts()


def _seeds(plant: Plant) -> tuple[int, ...]:
    """Return the seeds by which a planted bug is to be found, in order."""
    return (*TELLING.get(plant.__name__, ()), *range(1, MUTANT_SEEDS + 1))


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, fresh: pytest.MonkeyPatch) -> None:
    plant(fresh)

    stories = map(draw, _seeds(plant))
    first = (LATE,) if plant is carry_assurance_to_newcomers else ()

    assert any(live(story).broken for story in chain(first, stories))


def test_a_version_that_one_late_device_shows_to_be_bad_is_stopped() -> None:
    outcome = live(LATE)

    assert outcome.broken == []
    assert [(rolled.version, rolled.by) for rolled in outcome.rollouts] == [("1.1.0", "verdict")]


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


def test_a_story_that_was_written_down_happens_again() -> None:
    story = draw(2)

    assert live(decode(encode(story))).digest == simulate(2).digest


def test_a_failing_seed_becomes_a_short_story_that_breaks_the_same_law(fresh: pytest.MonkeyPatch) -> None:
    sync_no_folder(fresh)
    long = next(outcome for seed in _seeds(sync_no_folder) if (outcome := simulate(seed)).broken)

    short = shrink(long, tell=lambda _step: None)

    assert min(long.laws) in short.laws
    assert len(short.story.faults) <= 3 < len(long.story.faults)
    assert any("loses power" in line for line in tell(short.story))
