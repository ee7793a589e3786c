"""When the time before a rollout is known well enough for its first stage to be admitted."""

import pytest

from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.judge import is_prepared
from muster_controller.domain.rollouts.judging.ledger import Ledger, Track
from muster_controller.domain.rollouts.planning.conditions import CounterMargin, Margins
from muster_controller.domain.rollouts.planning.plan import Plan

ARMS = {"a": CONTROL, "b": 0}
MARGINS = Margins(counters={"scrap": CounterMargin(1.0)}, weights={"errors": 0.0})
PLAN = Plan("digits", "0" * 64, "1" * 64, margins=MARGINS, before_rounds=6)


def is_ready(control: dict[str, int], stage: dict[str, int]) -> bool:
    """Tell whether a rollout is prepared when each gauge was seen in so many rounds of each arm."""
    before = {
        device: {gauge: Track(rounds=rounds) for gauge, rounds in seen.items()}
        for device, seen in (("a", control), ("b", stage))
    }
    return is_prepared(PLAN, Ledger(before=before), arms=ARMS, reachable=frozenset(ARMS))


@pytest.mark.parametrize(
    ("control", "stage", "ready"),
    [
        ({"missing": 6, "counter scrap": 6}, {"missing": 6, "counter scrap": 9}, True),
        ({"missing": 6, "counter scrap": 5}, {"missing": 6, "counter scrap": 6}, False),
        ({"missing": 6, "counter scrap": 6}, {"missing": 6, "counter scrap": 5}, False),
        ({"missing": 6}, {"missing": 6}, False),
        ({"missing": 6, "counter scrap": 6}, {"missing": 6}, False),
        ({"missing": 5, "counter scrap": 6}, {"missing": 6, "counter scrap": 6}, False),
        ({}, {"missing": 6}, False),
        ({}, {}, False),
    ],
)
def test_every_gauge_that_is_compared_must_have_been_seen_long_enough_in_both_arms(
    *, control: dict[str, int], stage: dict[str, int], ready: bool
) -> None:
    assert is_ready(control, stage) is ready


def test_a_gate_that_is_not_wanted_is_not_waited_for() -> None:
    seen = {"missing": 6, "counter scrap": 6, "errors": 1}

    assert is_ready(seen, seen)


def test_labels_are_not_waited_for() -> None:
    seen = {"missing": 6, "counter scrap": 6}

    assert is_ready({**seen, "labelled accuracy": 1}, seen)
