"""Concept drift by labels: one alarm per cause, at the level that explains it, none beside another kind."""

import math

import numpy as np
import pytest
from msgspec.structs import replace

from muster_controller.domain.labels import detector
from muster_controller.domain.labels.counts import Counts
from muster_controller.domain.labels.detector import NEW, Fall, Promise, Round, State, promise_of
from muster_controller.domain.labels.estimate import centres, estimate
from muster_controller.domain.labels.falls import CALM_ROUNDS, Terms, follow
from muster_models.errors import SketchError
from muster_models.manifest import Dataset, Manifest, ValueOutput
from support.manifests import make_manifest

PROMISE = Promise("accuracy", signed=0.95, allowed=0.1)
SITES = {"berlin": 4, "oslo": 4, "lyon": 4}
DEVICES = [f"{site}-{number}" for site, count in SITES.items() for number in range(count)]
GROUPS = {device: (f"site={device.partition('-')[0]}",) for device in DEVICES}
TERMS = Terms(PROMISE, GROUPS, 2000.0)
GOOD, BAD = 0.05, 0.4


def rounds(
    wrong: dict[str, float], *, count: int, labels: int = 20, since: int = 0, seed: int = 5
) -> list[Round]:
    """Return rounds in which devices are wrong with a probability each; those not named are good."""
    chance = np.random.default_rng(seed + since)
    return [
        Round(float(end), {name: drawn(chance, wrong.get(name, GOOD), labels) for name in DEVICES})
        for end in range(since, since + count)
    ]


def drawn(chance: np.random.Generator, wrong: float, labels: int) -> Counts:
    bad = int(chance.binomial(labels, wrong))
    cells = {(0, 0): labels - bad, (0, 1): bad}
    return Counts(labels, {cell: n for cell, n in cells.items() if n})


def watched(wrong: dict[str, float], *, terms: Terms = TERMS, count: int = 12) -> State:
    """Return the state after thirty good rounds and some others."""
    state, _ = follow(NEW, rounds({}, count=30), terms, now=30.0)
    state, _ = follow(state, rounds(wrong, count=count, since=30), terms, now=50.0)
    return state


def named(state: State) -> list[tuple[str, str]]:
    return [(fall.level, fall.subject) for fall in state.falls]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ([], []),
        (["oslo-2"], [("device", "oslo-2")]),
        (["oslo-2", "lyon-1"], [("device", "lyon-1"), ("device", "oslo-2")]),
        ([name for name in DEVICES if name.startswith("oslo")], [("group", "site=oslo")]),
        (DEVICES, [("fleet", "all")]),
    ],
    ids=["nobody", "one", "two", "a site", "all"],
)
def test_an_alarm_is_about_whoever_is_worse(bad: list[str], expected: list[tuple[str, str]]) -> None:
    assert sorted(named(watched(dict.fromkeys(bad, BAD)))) == expected


def test_devices_with_a_label_each_now_and_then_are_judged_together() -> None:
    state, _ = follow(NEW, rounds({}, count=20, labels=1), TERMS, now=20.0)
    bad = rounds(dict.fromkeys(DEVICES, BAD), count=12, labels=1, since=20)
    state, _ = follow(state, bad, TERMS, now=30.0)

    assert named(state) == [("fleet", "all")]


def test_an_alarm_says_how_bad_it_is_since_when_and_of_whom() -> None:
    (fall,) = watched({"oslo-2": BAD}).falls

    assert fall.devices == ("oslo-2",)
    assert fall.since == 50.0
    assert 27 <= fall.began <= 33
    assert fall.badness == pytest.approx(BAD, abs=0.15)
    assert fall.value >= fall.bound == pytest.approx(math.log(2000 * 16))


def test_what_explains_most_of_an_alarms_devices_is_the_alarm() -> None:
    drifting = dict.fromkeys(
        [name for name in DEVICES if name.startswith("oslo")], "data-drift of x (alarm 7)"
    )
    terms = Terms(PROMISE, GROUPS, 2000.0, others=drifting)
    state = watched(dict.fromkeys(drifting, BAD), terms=terms)
    (fall,) = state.falls

    alone, _ = follow(state, [], TERMS, now=60.0)

    assert (fall.subject, fall.other) == ("site=oslo", "data-drift of x (alarm 7)")
    assert alone.falls[0].other == ""


def test_drift_of_one_device_does_not_explain_a_whole_site() -> None:
    bad = dict.fromkeys([name for name in DEVICES if name.startswith("oslo")], BAD)
    terms = Terms(PROMISE, GROUPS, 2000.0, others={"oslo-1": "data-drift of x (alarm 7)"})

    (fall,) = watched(bad, terms=terms).falls

    assert fall.other == ""


def test_an_alarm_ends_when_its_devices_keep_the_promise_again() -> None:
    state = watched({"oslo-2": BAD})
    ended: list[Fall] = []
    for since in range(42, 80):
        state, over = follow(state, rounds({}, count=1, since=since), TERMS, now=float(since))
        ended += over

    assert [(fall.subject, fall.calm) for fall in ended] == [("oslo-2", CALM_ROUNDS)]
    assert state.falls == ()


def test_an_alarm_ends_when_its_devices_run_another_version() -> None:
    state = watched({"oslo-2": BAD})

    state, over = follow(state, [], Terms(PROMISE, GROUPS, 2000.0, left=frozenset({"oslo-2"})), now=60.0)

    assert [fall.subject for fall in over] == ["oslo-2"]
    assert state.falls == ()


def test_labels_of_a_version_that_its_devices_have_left_raise_no_alarm() -> None:
    terms = Terms(PROMISE, GROUPS, 2000.0, left=frozenset({"oslo-2"}))

    assert watched({"oslo-2": BAD}, terms=terms).falls == ()


def test_a_state_of_another_form_is_refused() -> None:
    with pytest.raises(SketchError, match="expected a state of labels of format 1, got 9"):
        detector.decode(detector.encode(replace(NEW, format=9)))
    with pytest.raises(SketchError, match="state of labels"):
        detector.decode(b"\xc1")


def promised(manifest: Manifest) -> Promise | None:
    return promise_of(manifest, accuracy_tolerance=0.05, error_tolerance=0.2)


def test_a_promise_is_what_was_signed_less_tolerance_and_what_the_evaluation_set_leaves_open() -> None:
    rows = (Dataset("evaluation", "evaluation", "somewhere", "CC0", "0" * 64, 400),)
    classes = promised(make_manifest(metrics={"accuracy": 0.95}, datasets=rows))
    perfect = promised(make_manifest(metrics={"accuracy": 1.0}, datasets=rows))
    values = promised(
        make_manifest(
            metrics={"mae": 0.5, "rmse": 0.7}, datasets=rows, prediction=ValueOutput("probabilities")
        )
    )

    assert classes is not None
    assert classes.allowed == pytest.approx(0.05 + 0.05 + (0.0523 * 0.9477 / 400) ** 0.5, abs=1e-4)
    assert perfect is not None
    assert perfect.allowed > 0.05
    assert values is not None
    assert values.allowed == pytest.approx(0.6 + (0.24 / 400) ** 0.5)
    assert promised(make_manifest(metrics={})) is None


def test_scores_that_mean_what_they_say_are_taken_at_their_word() -> None:
    found = estimate([0, 10, 30], np.array([0.2, 0.5, 0.9]))

    assert found is not None
    assert found.value == pytest.approx((10 * 0.5 + 30 * 0.9) / 40)
    assert not found.is_calibrated


def test_a_model_that_is_too_sure_is_corrected_by_its_evaluation_set() -> None:
    reliability = [(0, 0), (200, 60), (800, 480)]
    found = estimate([0, 10, 30], np.array([0.2, 0.5, 0.9]), reliability)

    assert found is not None
    assert found.is_calibrated
    assert found.value == pytest.approx((10 * 0.3 + 30 * 0.6) / 40, abs=0.01)


def test_an_empty_bin_borrows_from_its_neighbours() -> None:
    middle = centres(tuple(np.linspace(0.1, 1.0, 33)[1:-1]))
    held = np.full(32, 50)
    held[16] = 0
    right = np.rint(held * middle).astype(int)
    found = estimate(np.eye(32, dtype=int)[16].tolist(), middle, list(zip(held, right, strict=True)))

    assert found is not None
    assert found.value == pytest.approx(middle[16], abs=0.05)


def test_without_a_row_there_is_no_estimate() -> None:
    assert estimate([0, 0], np.array([0.5, 0.9])) is None
