"""A candidate in shadow: what is offered, what is asked, what is dropped, and what it may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_agent.measure.merging import merge_windows
from muster_agent.measure.outbox import WindowPart
from muster_agent.measure.recorder import Recorder
from muster_agent.runner.processor import BURST_SECONDS, CpuBudget, process_clock
from muster_agent.runner.shadow import MAX_WAITING, Shadowing, Terms, Told
from muster_models.agreement import Comparison, add, nothing
from muster_models.errors import PredictionError, Reason
from muster_models.manifest import ClassOutput, Manifest, ValueOutput
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.features import VALUE
from muster_models.wire import LATENCY_EDGES_MS, Reporting, Shadow, ShadowCounts
from support.manifests import make_manifest

Array = NDArray[np.generic]
OURS, THEIRS, OTHER = "a" * 64, "b" * 64, "c" * 64
SPREAD = Baseline((ColumnBaseline(VALUE, "numeric", (0.0, 1.0), (0, 10, 10, 0), mean=1.0, sd=10.0),))
VALUES = make_manifest(prediction=ValueOutput("scores"))
ROW: dict[str, Array] = {"x": np.ones((2, 3), np.float32)}
ANSWER: dict[str, Array] = {"scores": np.array([[1.0], [2.0]], np.float32)}


@dataclass
class Asked:
    """A candidate whose calls each take seconds of a clock."""

    seconds: float = 0.0
    now: float = 0.0
    used: float = 0.0
    calls: int = 0
    error: PredictionError | None = None
    failure: PredictionError | None = None
    closed: bool = False
    told: list[ShadowCounts] = field(default_factory=list)
    seen: list[Array] = field(default_factory=list)

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.calls += 1
        self.used += self.seconds
        self.now += self.seconds
        self.seen.append(inputs["x"])
        if self.error is not None:
            raise self.error
        return ANSWER

    def close(self) -> None:
        self.closed = True


def shadow_of(asked: Asked, **order: float) -> Shadowing:
    terms = Terms(
        Shadow(seconds=60, **order), Comparison(VALUES, SPREAD, VALUES), OURS, THEIRS, version="1.1.0"
    )
    told = Told(compared=asked.told.append, failed=lambda _: None, ended=lambda: None)
    return Shadowing(
        asked, terms, told, processor=lambda: asked.used, chance=lambda: 0.5, clock=lambda: asked.now
    )


# What is offered and dropped


def test_what_is_offered_is_a_copy_of_what_was_asked() -> None:
    asked = Asked()
    shadow = shadow_of(asked)
    array = np.ones((2, 3), np.float32)
    shadow.offer(OURS, {"x": array}, ANSWER)
    array[:] = 9.0
    shadow.work()

    assert asked.seen[0].tolist() == np.ones((2, 3)).tolist()
    assert (shadow.total.calls, shadow.total.rows, shadow.total.agreed) == (1, 2, 2)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.array([["one"], ["two"]], dtype=object),
        np.arange(12, dtype=np.int16).reshape(3, 4).T,
        np.array(5, np.uint8),
    ],
    ids=["empty", "text", "transposed", "scalar"],
)
def test_whatever_array_is_offered_is_asked_as_it_was(array: Array) -> None:
    asked = Asked()
    shadow = shadow_of(asked)
    shadow.offer(OURS, {"x": array}, ANSWER)
    shadow.work()

    assert (asked.seen[0].dtype, asked.seen[0].shape) == (array.dtype, array.shape)
    assert asked.seen[0].tolist() == array.tolist()


def test_calls_of_another_version_and_those_that_are_not_drawn_are_no_business_of_it() -> None:
    asked = Asked()
    shadow, half = shadow_of(asked), shadow_of(asked, share=0.5)
    shadow.offer(OTHER, ROW, ANSWER)
    half.offer(OURS, ROW, ANSWER)  # the chance is 0.5
    shadow.work()
    half.work()

    assert (asked.calls, asked.told) == (0, [])


def test_every_call_that_was_drawn_is_asked_or_counted_as_dropped() -> None:
    asked = Asked()
    shadow = shadow_of(asked)
    for _ in range(MAX_WAITING + 10):
        shadow.offer(OURS, ROW, ANSWER)
    shadow.work()

    assert (shadow.total.calls, shadow.total.dropped) == (MAX_WAITING, 10)


def test_large_inputs_are_bounded_by_bytes() -> None:
    asked = Asked()
    shadow = shadow_of(asked)
    large: dict[str, Array] = {"x": np.ones((2, 500_000), np.float32)}
    for _ in range(5):
        shadow.offer(OURS, large, ANSWER)
    shadow.work()

    assert (shadow.total.calls, shadow.total.dropped) == (2, 3)


@pytest.mark.parametrize("percent", [1.0, 10.0, 50.0])
@pytest.mark.parametrize("seconds", [0.001, 0.02, 3.0])
def test_the_share_of_the_processor_holds_within_a_burst_and_one_call(percent: float, seconds: float) -> None:
    asked = Asked(seconds=seconds)
    shadow = shadow_of(asked, cpu_percent=percent)
    drawn = 0
    while asked.now < 2000:
        for _ in range(5):
            shadow.offer(OURS, ROW, ANSWER)
            drawn += 1
        shadow.work()
        asked.now += 0.5

    allowed = percent / 100 * (asked.now + BURST_SECONDS) + seconds
    possible = min(drawn * seconds, percent / 100 * asked.now)
    assert asked.used <= allowed + 0.5  # the time of this thread is spent as well
    assert asked.used >= 0.8 * possible - seconds - 0.5
    assert shadow.total.calls + shadow.total.dropped + len(shadow._waiting) == drawn


@given(
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 2)), max_size=60),
)
def test_no_course_spends_more_than_its_share_a_burst_and_one_call(
    percent: float, course: list[tuple[float, float]]
) -> None:
    now = 0.0
    budget = CpuBudget(percent, lambda: now)
    largest = 0.0
    for pause, cost in course:
        now += pause
        if budget.is_affordable():
            budget.spend(cost)
            largest = max(largest, cost)

        assert budget.spent <= percent / 100 * (now + BURST_SECONDS) + largest + 1e-9


def test_a_file_that_is_no_handle_of_a_process_has_no_clock() -> None:
    clock = process_clock(0)

    with pytest.raises(OSError, match="no handle"):
        clock()


# What goes wrong


@pytest.mark.parametrize("reason", [Reason.NOT_FINITE, Reason.WRONG_SHAPE, Reason.TOO_LARGE])
def test_an_answer_that_no_version_may_give_ends_the_shadow(reason: Reason) -> None:
    asked = Asked(error=PredictionError(reason, "bad"))
    shadow = shadow_of(asked)
    for _ in range(3):
        shadow.offer(OURS, ROW, ANSWER)
    shadow.work()
    shadow.offer(OURS, ROW, ANSWER)
    shadow.work()

    assert asked.calls == 1
    assert (shadow.total.errors, shadow.total.dropped) == (1, 2)
    assert shadow.failure is asked.error


def test_a_call_that_fails_is_counted_and_its_rows_are_not_compared() -> None:
    asked = Asked(error=PredictionError(Reason.CRASHED, "this once"))
    shadow = shadow_of(asked)
    shadow.offer(OURS, ROW, ANSWER)
    shadow.work()

    assert (shadow.total.calls, shadow.total.errors, shadow.total.rows) == (1, 1, 0)
    assert shadow.failure is None


def test_a_candidate_whose_process_is_gone_has_failed_with_the_reason_of_its_end() -> None:
    gone = PredictionError(Reason.HUNG, "it did not answer in time")
    asked = Asked(error=PredictionError(Reason.CRASHED, "closed"), failure=gone)
    shadow = shadow_of(asked)
    shadow.offer(OURS, ROW, ANSWER)
    shadow.work()

    assert shadow.failure is gone


# Agreement


def classes(*labels: str) -> Manifest:
    return make_manifest(prediction=ClassOutput("scores", labels))


def scores(*winners: int, of: int = 3) -> Array:
    return np.eye(of, dtype=np.float32)[list(winners)]


def test_two_versions_agree_on_a_class_by_its_label_whatever_its_place() -> None:
    comparison = Comparison(classes("x", "y", "z"), SPREAD, classes("z", "y", "x"))
    compared = comparison(scores(0, 1, 2, 0), {"scores": scores(2, 1, 0, 0)})

    assert (compared.rows, compared.agreed, compared.difference) == (4, 3, 0.0)


def test_a_class_that_only_the_candidate_knows_is_never_agreement() -> None:
    comparison = Comparison(classes("x", "y"), SPREAD, classes("new", "y"))

    assert comparison(scores(0, 1, of=2), {"scores": scores(0, 1, of=2)}).agreed == 1


def test_two_values_agree_within_a_tenth_of_the_standard_deviation_of_the_baseline() -> None:
    comparison = Comparison(VALUES, SPREAD, VALUES)
    ours, theirs = np.array([[0.0], [0.0], [0.0]]), np.array([[1.0], [-1.0], [1.01]])
    compared = comparison(ours, {"scores": theirs})

    assert comparison.tolerance == 1.0
    assert compared.agreed == 2
    assert compared.difference == pytest.approx(3.01)


def test_classes_and_values_are_not_compared() -> None:
    with pytest.raises(PredictionError, match="classes"):
        Comparison(classes("x"), SPREAD, VALUES)


def test_another_number_of_rows_is_a_wrong_shape() -> None:
    comparison = Comparison(VALUES, SPREAD, VALUES)

    with pytest.raises(PredictionError) as caught:
        comparison(np.zeros((2, 1)), {"scores": np.zeros((3, 1))})
    assert caught.value.reason is Reason.WRONG_SHAPE


numbers = st.integers(0, 10**6)
counted = st.builds(
    ShadowCounts,
    candidate=st.just(THEIRS),
    calls=numbers,
    rows=numbers,
    agreed=numbers,
    errors=numbers,
    dropped=numbers,
    latency=st.lists(numbers, min_size=16, max_size=16).map(tuple),
    difference=st.integers(0, 10**6).map(float),
)


@given(counted, counted, counted)
def test_counts_add_up_in_any_order_and_nothing_changes_nothing(
    a: ShadowCounts, b: ShadowCounts, c: ShadowCounts
) -> None:
    assert add(add(a, b), c) == add(a, add(b, c))
    assert add(a, b) == add(b, a)
    assert add(a, nothing(THEIRS)) == a


def test_counts_of_two_candidates_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        add(nothing(THEIRS), nothing(OTHER))


# In the window


COUNTS = add(nothing(THEIRS), ShadowCounts(THEIRS, 1, 2, 1, 0, 3, (1,) + (0,) * len(LATENCY_EDGES_MS), 0.5))


@dataclass
class Measured:
    """A recorder with a clock of its own."""

    now: float = 0.0
    parts: list[WindowPart] = field(default_factory=list)

    def __post_init__(self) -> None:
        manifest, baseline = make_manifest(features=()), SPREAD
        self.recorder = Recorder(
            manifest,
            baseline,
            Reporting(window_seconds=10.0),
            digest=OURS,
            clock=lambda: self.now,
            emit=self.parts.append,
        )


def test_what_was_counted_in_shadow_is_in_the_window_of_its_time() -> None:
    measured = Measured()
    for now in (1.0, 2.0, 11.0):
        measured.now = now
        measured.recorder.compare(COUNTS)
    measured.recorder.close()

    assert [part.shadow for part in measured.parts] == [add(COUNTS, COUNTS), COUNTS]
    assert [part.sent_by("press-1").shadow for part in measured.parts] == [add(COUNTS, COUNTS), COUNTS]


def test_a_window_knows_one_candidate() -> None:
    measured = Measured()
    measured.recorder.compare(COUNTS)
    measured.now = 1.0
    measured.recorder.compare(nothing(OTHER))
    measured.recorder.close()

    assert [part.shadow.candidate for part in measured.parts if part.shadow] == [THEIRS, OTHER]


def test_windows_are_merged_with_their_shadows_unless_these_are_of_two_candidates() -> None:
    measured = Measured()
    measured.recorder.compare(COUNTS)
    measured.recorder.close()
    window, baseline = measured.parts[0].sent_by("press-1"), SPREAD
    alone, other = (replace(window, shadow=shadow) for shadow in (None, nothing(OTHER)))

    merged = merge_windows(window, window, baseline)
    assert merged is not None
    assert merged.shadow == add(COUNTS, COUNTS)
    assert (half := merge_windows(window, alone, baseline)) is not None
    assert half.shadow == COUNTS
    assert merge_windows(window, other, baseline) is None
