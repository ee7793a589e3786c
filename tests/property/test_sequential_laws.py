"""The bounds that e-processes and e-detectors promise, by simulation on fixed seeds, and their algebra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from muster_controller.domain.sequential import (
    BETS,
    CLIP,
    DETECTOR_BETS,
    MOST,
    RATE_FACTORS,
    bet,
    log_mean,
    new_wealth,
    see,
    see_rate,
)

Array = NDArray[np.float64]
STREAMS = 4000


def share_that_ever_reaches(observations: Array, bound: float) -> float:
    """Return the share of streams whose e-process reaches ``bound`` at any of their looks."""
    wealth = new_wealth(len(observations))
    reached = np.zeros(len(observations), dtype=bool)
    for column in observations.T:
        wealth = wealth + bet(column)
        reached |= log_mean(wealth) >= np.log(bound)
    return float(reached.mean())


def mean_run_length(observations: Array, bound: float) -> float:
    """Return the mean number of looks to the first alarm; streams without one count as their length."""
    detector = np.zeros((len(observations), len(DETECTOR_BETS)), dtype=np.float32)
    first = np.full(len(observations), observations.shape[1])
    for look, column in enumerate(observations.T, start=1):
        detector = see(detector, column[:, None])
        crossed = detector.mean(axis=1) >= bound
        first = np.where(crossed & (first == observations.shape[1]), look, first)
    return float(first.mean())


@pytest.mark.parametrize("level", [0.1, 0.05, 0.01])
def test_ville_bounds_the_false_alarms_of_all_looks_together(level: float) -> None:
    chance = np.random.default_rng(11)
    got = share_that_ever_reaches(chance.standard_normal((STREAMS, 300)), 1 / level)

    # Three standard errors of the simulation above the promise.
    assert got <= level + 3 * (level / STREAMS) ** 0.5


@pytest.mark.parametrize("kind", ["skewed", "coin", "heavy"])
def test_the_bound_holds_for_means_of_rows_that_are_not_normal(kind: str) -> None:
    chance = np.random.default_rng(12)
    rows = {
        "skewed": lambda: chance.exponential(size=(1000, 200, 60)) - 1,
        "coin": lambda: (chance.random((1000, 200, 60)) < 0.1).astype(float) - 0.1,
        "heavy": lambda: chance.standard_t(4, size=(1000, 200, 60)),
    }[kind]()
    z = rows.mean(axis=2) * 60**0.5 / rows.std()

    assert share_that_ever_reaches(z, 100) <= 0.02


def test_a_fall_is_hardly_ever_taken_for_a_rise() -> None:
    chance = np.random.default_rng(13)

    assert share_that_ever_reaches(chance.standard_normal((STREAMS, 200)) - 0.5, 20) < 0.002


def test_a_shift_is_found_soon() -> None:
    chance = np.random.default_rng(14)

    assert share_that_ever_reaches(chance.standard_normal((500, 40)) + 1, 1000) > 0.95


def test_detectors_run_as_long_as_they_promise() -> None:
    chance = np.random.default_rng(15)

    # Cut off at five times the promise, which only makes the measured mean smaller.
    assert mean_run_length(chance.standard_normal((400, 500)), 100) >= 100


def test_the_mean_of_detectors_that_depend_on_each_other_keeps_its_promise() -> None:
    chance = np.random.default_rng(16)
    common = chance.standard_normal((300, 500))
    detectors = np.zeros((300, 5, len(DETECTOR_BETS)), dtype=np.float32)
    first = np.full(300, 500)
    for look in range(500):
        own = 0.6 * common[:, look, None] + 0.8 * chance.standard_normal((300, 5))
        detectors = see(detectors, own[..., None])
        crossed = detectors.mean(axis=(1, 2)) >= 100
        first = np.where(crossed & (first == 500), look + 1, first)

    assert first.mean() >= 100


@pytest.mark.parametrize("kind", ["uniform", "coin"])
def test_detectors_of_scores_of_sixty_rows_run_as_long_as_they_promise(kind: str) -> None:
    """Scores are bounded, which is why their largest bet may be larger than elsewhere."""
    chance = np.random.default_rng(19)
    rows = chance.random((300, 400, 60)) if kind == "uniform" else chance.random((300, 400, 60)) < 0.5
    z = (rows.mean(axis=2) - 0.5) * 60**0.5 / rows.std()

    assert mean_run_length(z, 100) >= 100


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.3])
def test_detectors_of_a_rate_run_as_long_as_they_promise(rate: float) -> None:
    chance = np.random.default_rng(17)
    detector = np.zeros((400, len(RATE_FACTORS)), dtype=np.float32)
    first = np.full(400, 500)
    rates, effects = np.full(400, rate, dtype=np.float32), np.ones(400, dtype=np.float32)
    for look in range(500):
        hits = chance.binomial(80, rate, size=400).astype(np.float32)
        detector = see_rate(detector, hits, np.full(400, 80.0), rate=rates, effect=effects)
        first = np.where((detector.mean(axis=1) >= 100) & (first == 500), look + 1, first)

    assert first.mean() >= 100


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("effect", [1.0, 4.0])
def test_one_bet_on_a_rate_does_not_gain_on_average(rate: float, effect: float) -> None:
    chance = np.random.default_rng(18)
    hits = chance.binomial(30, rate, size=200_000).astype(np.float32)
    start = np.zeros((200_000, len(RATE_FACTORS)), dtype=np.float32)
    rates = np.full(200_000, rate, dtype=np.float32)
    effects = np.full(200_000, effect, dtype=np.float32)
    after = see_rate(start, hits, np.full(200_000, 30.0), rate=rates, effect=effects)

    assert float(after.astype(np.float64).mean(axis=0).max()) <= 1.05


@given(arrays(np.float32, (20, 1), elements=st.floats(-2, 2, width=32)))
def test_a_detector_is_the_sum_of_what_was_won_since_each_look(z: NDArray[np.float32]) -> None:
    """The recursion R ← (1 + R) e is the sum, over every start, of the product of what came after it."""
    detector = np.zeros((1, len(DETECTOR_BETS)), dtype=np.float32)
    for value in z:
        detector = see(detector, value)
    gains = DETECTOR_BETS * z.astype(np.float64) - DETECTOR_BETS**2 / 2
    sums = np.exp(np.cumsum(gains[::-1], axis=0)).sum(axis=0)

    assert np.allclose(detector[0], sums, rtol=1e-3)


@given(st.floats(allow_nan=True, allow_infinity=True, width=32), st.floats(0, float(MOST), width=32))
def test_no_observation_takes_a_detector_out_of_its_range(z: float, before: float) -> None:
    detector = np.full((1, len(DETECTOR_BETS)), before, dtype=np.float32)
    after = see(detector, np.array([[z]], dtype=np.float32))

    assert np.isfinite(after).all()
    assert (after >= 0).all()
    assert (after <= MOST).all()
    if np.isnan(z):
        assert (after == detector).all()


finite = st.floats(-1e6, 1e6)


@given(arrays(np.float64, 12, elements=finite))
def test_the_order_of_observations_does_not_matter_to_an_e_process(z: Array) -> None:
    forwards = new_wealth() + bet(z).sum(axis=0)
    backwards = new_wealth() + bet(z[::-1]).sum(axis=0)

    assert np.allclose(forwards, backwards)


@given(finite)
def test_one_observation_never_says_more_than_the_clip_allows(z: float) -> None:
    assert bet(z).max() <= (BETS * CLIP - BETS**2 / 2).max()


@given(st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_no_number_is_no_evidence_for_harm(z: float) -> None:
    gain = bet(z)

    assert np.isfinite(gain).all()
    if np.isnan(z):
        assert not gain.any()


@given(arrays(np.float64, (3, 4), elements=st.floats(-700, 700)))
def test_the_mean_lies_between_the_smallest_and_the_largest(logs: Array) -> None:
    mean = log_mean(logs)

    assert (mean >= logs.min(axis=1) - 1e-9).all()
    assert (mean <= logs.max(axis=1) + 1e-9).all()


def test_new_wealth_says_nothing() -> None:
    assert log_mean(new_wealth()) == 0
