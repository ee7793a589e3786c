"""What is promised of labels: intervals that hold under continuous looking, detectors keep their rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from muster_controller.domain.labels import detector, intervals
from muster_controller.domain.labels.counts import Counts, from_document, of_class, of_value, total
from muster_controller.domain.labels.detector import NEW, Promise, Round
from muster_controller.domain.labels.falls import Terms, follow

Array = NDArray[np.float64]
STREAMS = 400
LOOKS = 1_000
COUNTS = st.one_of(
    st.builds(of_class, st.integers(0, 3), st.integers(0, 3), confidence=st.sampled_from([0.0, 0.25, 0.5])),
    st.builds(of_value, st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([-1.0, 0.25, 8.0])),
)


def ever_outside(covered: NDArray[np.bool_]) -> float:
    """Return the share of streams that left their interval at any look."""
    return float((~covered.all(axis=1)).mean())


def allowed(level: float) -> float:
    """Return the promised share with three standard errors of the simulation."""
    return level + 3 * float(np.sqrt(level * (1 - level) / STREAMS))


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.99])
def test_the_accuracy_stays_in_its_interval_at_looks_all_along_a_thousand_labels(truth: float) -> None:
    chance = np.random.default_rng(21)
    right = np.cumsum(chance.random((STREAMS, LOOKS)) < truth, axis=1)
    held = np.array([_is_held(row, truth) for row in right])

    assert ever_outside(held) <= allowed(intervals.LEVEL)


def _is_held(right: NDArray[np.int64], truth: float) -> NDArray[np.bool_]:
    found = [intervals.accuracy(int(count), n) for n, count in enumerate(right, start=1) if n % 13 == 1]
    return np.array([one.low <= truth <= one.high for one in found])


def test_a_fixed_interval_would_not_have_held() -> None:
    """What people compute at each look, and what the sequence is for."""
    chance = np.random.default_rng(21)
    n = np.arange(1, LOOKS + 1)
    mean = np.cumsum(chance.random((STREAMS, LOOKS)) < 0.9, axis=1) / n
    reach = 1.96 * np.sqrt(0.9 * 0.1 / n)

    assert ever_outside(abs(mean - 0.9) <= reach) > 0.4


@pytest.mark.parametrize("kind", ["normal", "exponential", "rare"])
def test_the_mean_error_stays_in_its_asymptotic_interval(kind: str) -> None:
    """Approximate: rare large errors cost some of the promise; docs/labels.md says how much."""
    chance = np.random.default_rng(22)
    size = (STREAMS, LOOKS)
    errors = {
        "normal": lambda: abs(chance.standard_normal(size)),
        "exponential": lambda: chance.exponential(size=size),
        "rare": lambda: chance.pareto(4.0, size=size),
    }[kind]()
    truth = {"normal": (2 / np.pi) ** 0.5, "exponential": 1.0, "rare": 1 / 3}[kind]
    sums, squares = np.cumsum(errors, axis=1), np.cumsum(errors**2, axis=1)
    held = np.array([_is_mean_held(*row, truth) for row in zip(sums, squares, strict=True)])

    assert ever_outside(held) <= allowed({"normal": 0.05, "exponential": 0.05, "rare": 0.08}[kind])


def _is_mean_held(sums: Array, squares: Array, truth: float) -> NDArray[np.bool_]:
    found = [intervals.mean(n, float(sums[n - 1]), float(squares[n - 1])) for n in range(1, LOOKS + 1, 7)]
    return np.array([one.low <= truth <= one.high for one in found])


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_interval_of_an_accuracy_contains_it_and_shrinks_with_more_of_the_same(
    right: int, wrong: int
) -> None:
    n = right + wrong
    found = intervals.accuracy(right, n)
    more = intervals.accuracy(10 * right, 10 * n)

    assert 0 <= found.low <= found.high <= 1
    if n:
        assert found.low <= found.value <= found.high
        assert more.high - more.low < found.high - found.low


@given(st.lists(COUNTS, max_size=6), st.integers(0, 6))
def test_counts_add_up_in_any_order_and_can_be_taken_away(counts: list[Counts], split: int) -> None:
    both = total(counts[:split]) + total(counts[split:])

    assert both == total(reversed(counts))
    assert both + -total(counts) == Counts()
    assert from_document(both.document()) == both


def rounds_of(wrong: float, *, rounds: int, labels: int, seed: int, devices: int = 3) -> list[Round]:
    """Return rounds in which labels of each device are wrong with a probability."""
    chance = np.random.default_rng(seed)
    return [
        Round(float(end), {f"press-{device}": _drawn(chance, wrong, labels) for device in range(devices)})
        for end in range(rounds)
    ]


def _drawn(chance: np.random.Generator, wrong: float, labels: int) -> Counts:
    bad = int(chance.binomial(labels, wrong))
    cells = {(0, 0): labels - bad, (0, 1): bad}
    return Counts(labels, {cell: n for cell, n in cells.items() if n})


PROMISE = Promise("accuracy", signed=0.95, allowed=0.1)


@pytest.mark.parametrize("labels", [1, 20])
def test_without_concept_drift_alarms_are_as_rare_as_stated(labels: int) -> None:
    """At the very edge of what is allowed, with a run length that can be waited for."""
    run_length, length, streams = 100.0, 300, 60
    first = []
    for seed in range(streams):
        state, at = NEW, length
        for index, one in enumerate(rounds_of(0.1, rounds=length, labels=labels, seed=seed)):
            state, _ = follow(state, [one], Terms(PROMISE, {}, run_length), now=one.end)
            if state.falls:
                at = index
                break
        first.append(at)

    assert np.mean(first) >= run_length


def test_a_fall_of_accuracy_is_found_within_a_few_rounds() -> None:
    healthy = rounds_of(0.05, rounds=50, labels=20, seed=1)
    state, _ = follow(NEW, healthy, Terms(PROMISE, {}, 2000.0), now=50.0)
    fallen = 0
    while not state.falls:
        fallen += 1
        (one,) = rounds_of(0.3, rounds=1, labels=20, seed=100 + fallen)
        state, _ = follow(state, [Round(50.0 + fallen, one.devices)], Terms(PROMISE, {}, 2000.0), now=60.0)

    assert fallen <= 4


def test_a_mean_error_within_its_promise_raises_no_alarm_and_a_larger_one_does() -> None:
    chance = np.random.default_rng(3)
    promise = Promise("mae", signed=0.5, allowed=0.65)

    def rounds(scale: float, count: int) -> list[Round]:
        errors = chance.exponential(scale, size=(count, 40))
        return [
            Round(float(end), {"mast-1": Counts(40, absolute=row.sum(), square=(row**2).sum())})
            for end, row in enumerate(errors)
        ]

    calm, _ = follow(NEW, rounds(0.5, 400), Terms(promise, {}, 2000.0), now=1.0)
    fallen, _ = follow(calm, rounds(1.1, 15), Terms(promise, {}, 2000.0), now=2.0)

    assert calm.falls == ()
    assert [(fall.level, fall.devices) for fall in fallen.falls] == [("fleet", ("mast-1",))]


@given(st.integers(0, 2**32))
def test_a_state_is_the_same_after_the_store(seed: int) -> None:
    state, _ = follow(NEW, rounds_of(0.4, rounds=8, labels=5, seed=seed), Terms(PROMISE, {}, 50.0), now=9.0)

    assert detector.decode(detector.encode(state)) == state
