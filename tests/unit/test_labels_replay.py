"""Labels are judged again by the functions that decided: round by round, the same detectors and alarms."""

import math

import numpy as np
import pytest

from muster_controller.domain.labels.counts import Counts
from muster_controller.domain.labels.detector import DEVICE, GROUP, NEW, Promise, Round, subjects_of
from muster_controller.domain.labels.falls import CALM_ROUNDS, Terms, bound_of, follow
from muster_controller.domain.labels.replay import Asked, Push, replay

PROMISE = Promise("accuracy", signed=0.95, allowed=0.1)
DEVICES = ("berlin-1", "berlin-2", "berlin-3", "oslo-1", "oslo-2", "oslo-3")
GROUPS = {name: (f"site={name.partition('-')[0]}",) for name in DEVICES}
TERMS = Terms(PROMISE, GROUPS, 2000.0)
GOOD, BAD = 0.05, 0.5
OSLO = Asked(GROUP, "site=oslo")


def counts(wrong: int, labels: int = 20) -> Counts:
    cells = {(0, 0): labels - wrong, (0, 1): wrong}
    return Counts(labels, {cell: n for cell, n in cells.items() if n})


def pushes(bad: int, *, good: int = 10, after: int = 0, windows: int = 1) -> list[Push]:
    """Return pushes of some windows each; oslo is bad after the first ones, and good again in the last."""
    chance = np.random.default_rng(5)
    found = []
    for at in range(good + bad + after):
        is_bad = good <= at < good + bad
        rounds = [
            Round(
                float(at * windows + number),
                {
                    name: counts(chance.binomial(20, BAD if is_bad and name[0] == "o" else GOOD))
                    for name in DEVICES
                },
            )
            for number in range(windows)
        ]
        found.append(Push(at * 300.0, f"line-{at % 2}", rounds))
    return found


@pytest.mark.parametrize("windows", [1, 3])
def test_a_replay_ends_where_judging_ended(windows: int) -> None:
    some = pushes(6, windows=windows)
    state, alarms = NEW, list[float]()
    for push in some:
        state, _ = follow(state, push.rounds, TERMS, now=push.at)
        alarms += [fall.since for fall in state.falls if fall.since == push.at]
    told = replay(some, TERMS, OSLO)
    known = subjects_of(state)

    assert told.falls == state.falls
    assert [fall.since for fall in told.falls] == alarms
    assert (told.steps[-1].value, told.steps[-1].bound) == (
        known[GROUP, "site=oslo"].value,
        bound_of(known, TERMS),
    )
    assert len(told.steps) == len(some) * windows


def test_each_round_says_what_came_from_whom_about_the_subject_alone() -> None:
    some = pushes(4)
    first, *_, last = replay(some, TERMS, Asked(DEVICE, "oslo-2")).steps

    assert (first.at, first.actor, first.end, first.devices, first.n) == (0.0, "line-0", 0.0, 1, 20)
    assert last.bad == some[-1].rounds[0].devices["oslo-2"].wrong
    assert {step.who for step in (first, last)} == {"oslo-2"}


def test_what_raised_the_alarm_had_reached_the_bound_then_and_not_before() -> None:
    steps = replay(pushes(6), TERMS, OSLO).steps
    states = [step.state for step in steps]
    at = states.index("firing")

    assert set(states[:at]) == {"quiet"}
    assert set(states[at:]) == {"firing"}
    assert steps[at].highest >= steps[at].bound > max(step.highest for step in steps[:at])
    assert steps[at].bound == math.log(2000 * (len(DEVICES) + 3))


def test_an_alarm_ends_in_the_round_in_which_it_ended() -> None:
    told = replay(pushes(4, after=40), TERMS, OSLO)
    states = [step.state for step in told.steps]

    assert states.count("resolved") == 1
    assert states.index("resolved") - states.index("firing") > CALM_ROUNDS
    assert len(told.falls) == 1


def test_of_a_push_about_several_windows_the_last_one_says_what_became_of_the_alarm() -> None:
    steps = replay(pushes(3, windows=3), TERMS, OSLO).steps
    at = [step.state for step in steps].index("firing")

    assert at % 3 == 2


def test_whoever_was_never_heard_of_has_no_round() -> None:
    told = replay(pushes(2), TERMS, Asked(DEVICE, "porto-1"))

    assert (told.steps, told.falls) == ((), ())
    assert replay([], TERMS, OSLO).steps == ()
    assert replay([Push(0.0, "line-1", [])], TERMS, OSLO).steps == ()
