"""The recorder: calls in, windows out, whatever the clock and the model do."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from muster_agent.measure import recorder as room
from muster_agent.measure.merging import merge_windows
from muster_agent.measure.outbox import WindowPart
from muster_agent.measure.recorder import Array, Recorder
from muster_agent.measure.row_buffer import ROWS, RowBuffer
from muster_models.errors import PredictionError, Reason, StorageError
from muster_models.manifest import FeatureSpec
from muster_models.sketch import codec
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.features import column_kinds, extract
from muster_models.sketch.window import Sketch, sketch_rows
from muster_models.wire import LATENCY_EDGES_MS, Reporting
from support.manifests import make_manifest

MANIFEST = make_manifest(
    features=(
        FeatureSpec("brightness", "image", summary="brightness"),
        FeatureSpec("pixel 3", "image", column=3),
    )
)
CHANCE = np.random.default_rng(5)


def rows(count: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return inputs and outputs of one call with ``count`` rows."""
    images = CHANCE.uniform(0, 16, (count, 64)).astype(np.float32)
    scores = CHANCE.dirichlet(np.ones(10), count).astype(np.float32)
    return {"image": images, "unused": images}, {"probabilities": scores}


def matrix(inputs: dict[str, Array], outputs: dict[str, Array]) -> Array:
    return extract(MANIFEST.features, MANIFEST.prediction, inputs=inputs, outputs=outputs).numbers


BASELINE = make_baseline(matrix(*rows(500)), column_kinds(MANIFEST.features, MANIFEST.prediction), classes=10)


class Clock:
    """A wall clock that only tests move."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Bench:
    """A recorder with ten-second windows and what came out of it."""

    def __init__(
        self, *, start: float = 1000.0, sample: float = 1.0, chance: Callable[[], float] = lambda: 0.5
    ) -> None:
        self.clock = Clock(start)
        self.windows: list[WindowPart] = []
        self.recorder = Recorder(
            MANIFEST,
            BASELINE,
            Reporting(window_seconds=10.0, sample=sample),
            digest="a" * 64,
            clock=self.clock,
            emit=self.windows.append,
            chance=chance,
        )

    def call(self, at: float, count: int = 1, *, seconds: float = 0.003) -> Array:
        """Record one call; return the columns that its sketch must hold."""
        self.clock.now = at
        inputs, outputs = rows(count)
        self.recorder.record(inputs, outputs, seconds=seconds)
        return matrix(inputs, outputs)

    def sketch(self, index: int) -> Sketch:
        return codec.decode(self.windows[index].sketch, BASELINE)


def test_the_sketch_of_a_window_is_that_of_all_its_rows() -> None:
    bench = Bench()
    held = [bench.call(1000.0 + index * 0.01, count=1 + index % 3) for index in range(900)]
    bench.clock.now = 1010.0
    bench.recorder.work()

    assert bench.sketch(0) == sketch_rows(np.concatenate(held), BASELINE)


def test_windows_are_aligned_to_the_clock_and_the_first_begins_when_the_recorder_does() -> None:
    bench = Bench(start=1003.5)
    for at in (1004.0, 1012.0, 1029.0):
        bench.call(at)
    bench.clock.now = 1030.0
    bench.recorder.work()

    assert [(window.start, window.end) for window in bench.windows] == [
        (1003.5, 1010.0),
        (1010.0, 1020.0),
        (1020.0, 1030.0),
    ]


def test_a_window_without_calls_is_not_reported() -> None:
    bench = Bench()
    bench.clock.now = 5000.0
    bench.recorder.work()

    assert bench.windows == []


def test_a_window_that_has_not_ended_is_not_reported() -> None:
    bench = Bench()
    bench.call(1009.0)
    bench.recorder.work()

    assert bench.windows == []


def test_calls_errors_and_latencies_are_counted() -> None:
    bench = Bench()
    bench.call(1001.0, seconds=0.003)
    bench.recorder.record({}, None, seconds=99.0, error=PredictionError(Reason.CRASHED, "died"))
    bench.recorder.close()
    (window,) = bench.windows
    expected = [0] * (len(LATENCY_EDGES_MS) + 1)
    expected[6] = 1  # 2 to 5 ms
    expected[-1] = 1

    assert (window.calls, window.errors, window.latency) == (2, 1, tuple(expected))


def test_a_window_in_which_every_call_failed_has_no_sketch() -> None:
    bench = Bench()
    bench.recorder.record({}, None, seconds=0.1)
    bench.recorder.close()

    assert bench.windows[0].sketch == b""


NOT_FINITE = PredictionError(Reason.NOT_FINITE, "output 'probabilities': 10 of 10 values are NaN or infinite")


def counts(sketch: Sketch, name: str) -> tuple[int, int]:
    """Return how many rows of a column were missing, and how many were infinite."""
    at = [column.name for column in BASELINE.columns].index(name)
    return int(sketch.counts[at][-1]), int(sketch.counts[at][-2])


def test_a_call_that_failed_for_a_missing_value_counts_it_and_has_no_answer() -> None:
    bench = Bench()
    for at in range(20):
        bench.call(1001.0 + at / 10)
        inputs, outputs = rows(2)
        inputs["image"][0, 3] = np.nan if at % 2 else np.inf
        failed = [(None, None), (outputs, NOT_FINITE)][at % 2]
        bench.recorder.record(inputs, failed[0], seconds=0.001, error=failed[1])
    bench.recorder.close()
    sketch = bench.sketch(0)

    assert (bench.windows[0].calls, bench.windows[0].errors, bench.recorder.skipped) == (40, 20, 0)
    assert sketch.rows == 20 + 2 * 20
    assert counts(sketch, "pixel 3") == (10, 10)
    assert counts(sketch, "prediction:class") == (40, 0)


def test_a_call_that_failed_with_whole_inputs_has_no_rows() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.recorder.record(rows(5)[0], None, seconds=0.001, error=NOT_FINITE)
    bench.recorder.close()

    assert (bench.windows[0].errors, bench.sketch(0).rows) == (1, 1)


def test_of_calls_that_failed_for_missing_values_a_sample_is_kept_too() -> None:
    chances = iter([0.1, 0.9] * 10)
    bench = Bench(sample=0.5, chance=lambda: next(chances))
    inputs, _ = rows(1)
    inputs["image"][0, 3] = np.nan
    for _ in range(20):
        bench.recorder.record(inputs, None, seconds=0.001)
    bench.recorder.close()

    assert (bench.windows[0].errors, bench.sketch(0).rows) == (20, 10)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_rows_with_and_without_an_answer_never_mix(calls: list[tuple[bool, int]]) -> None:
    bench = Bench()
    for fails, count in calls:
        inputs, outputs = rows(count)
        inputs["image"][:, 3] = np.nan if fails else 8.0
        bench.recorder.record(inputs, None if fails else outputs, seconds=0.001)
    bench.recorder.close()
    failed = sum(count for fails, count in calls if fails)

    assert not calls or counts(bench.sketch(0), "pixel 3")[0] == failed
    assert not calls or counts(bench.sketch(0), "prediction:class")[0] == failed


def test_closing_ends_the_open_window_now_and_says_which_version() -> None:
    bench = Bench()
    bench.call(1002.0)
    bench.clock.now = 1004.0
    bench.recorder.close()
    (window,) = bench.windows

    assert (window.start, window.end) == (1000.0, 1004.0)
    assert (window.model, window.manifest, window.baseline) == ("digits", "a" * 64, BASELINE.digest)


def test_a_sample_sketches_a_share_and_counts_every_call() -> None:
    draws = iter([0.1, 0.9] * 50)
    bench = Bench(sample=0.5, chance=lambda: next(draws))
    for _ in range(100):
        bench.call(1001.0)
    bench.recorder.close()

    assert (bench.windows[0].calls, bench.sketch(0).rows) == (100, 50)


def test_a_batch_larger_than_a_buffer_is_sketched_whole() -> None:
    bench = Bench()
    held = bench.call(1001.0, count=3000)
    bench.recorder.close()

    assert bench.sketch(0) == sketch_rows(held, BASELINE)


def test_a_clock_set_back_a_little_stays_in_the_open_window() -> None:
    bench = Bench()
    bench.call(1015.0)
    bench.call(1008.0)
    bench.call(1016.0)
    bench.clock.now = 1020.0
    bench.recorder.work()

    assert [(window.start, window.end, window.calls) for window in bench.windows] == [(1010.0, 1020.0, 3)]


def test_a_clock_set_back_a_lot_ends_the_open_window() -> None:
    bench = Bench(start=5000.0)
    bench.call(5004.0)
    bench.call(1002.0)
    bench.clock.now = 1010.0
    bench.recorder.work()

    assert [(window.start, window.end) for window in bench.windows] == [(5000.0, 5004.0), (1002.0, 1010.0)]


def test_a_clock_that_leaps_ahead_makes_no_window_longer_than_it_may_be() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.call(9_000_003.0)
    bench.recorder.close()

    assert [(window.start, window.end) for window in bench.windows] == [
        (1000.0, 1010.0),
        (9_000_000.0, 9_000_003.0),
    ]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({}, {"probabilities": np.zeros((1, 10))}),
        ({"image": np.zeros((1, 64))}, {}),
        ({"image": np.zeros((2, 64))}, {"probabilities": np.zeros((1, 10))}),
        ({"image": np.float64(3)}, {"probabilities": np.zeros((1, 10))}),
        ({"image": np.zeros((1, 2))}, {"probabilities": np.zeros((1, 10))}),
        ({"image": np.array([["a"] * 64])}, {"probabilities": np.zeros((1, 10))}),
    ],
    ids=["no input", "no output", "other batch", "no batch axis", "too narrow", "text"],
)
def test_rows_that_do_not_fit_are_counted_and_never_raise(
    inputs: dict[str, Array], outputs: dict[str, Array]
) -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.recorder.record(inputs, outputs, seconds=0.001)
    bench.call(1002.0)
    bench.recorder.close()

    assert bench.recorder.skipped >= 1
    assert bench.windows[0].calls == 3
    assert bench.sketch(0).rows == 2


def test_rows_wait_for_the_sketching_only_up_to_a_bound() -> None:
    bench = Bench()
    held = ROWS * room.MAX_WAITING
    bench.call(1001.0, count=held + 500)
    bench.recorder.close()

    assert bench.sketch(0).rows == held
    assert bench.recorder.skipped == 500


def test_large_rows_take_small_buffers() -> None:
    buffer = RowBuffer([], [np.zeros((1, 3, 512, 512), np.float32)])

    assert buffer.capacity == 1


def test_a_buffer_holds_the_rows_as_they_were_when_they_came() -> None:
    row, text = np.zeros((1, 2), np.float32), np.array([["a"]], object)
    buffer = RowBuffer(["x"], [row, text])
    buffer.take([row, text], 0, 1)
    row += 7
    text[:] = "b"

    assert buffer.take_usual({"x": row}, text)
    row += 1
    text[:] = "c"

    assert [array.tolist() for array in buffer.arrays()] == [[[0.0, 0.0], [7.0, 7.0]], [["a"], ["b"]]]


def test_a_call_of_which_one_input_is_unusual_leaves_no_half_row() -> None:
    first, second, output = (np.full((1, 1), value, np.float32) for value in (1, 2, 3))
    buffer = RowBuffer(["a", "b"], [first, second, output])
    assert buffer.take_usual({"a": first, "b": second}, output)

    assert not buffer.take_usual({"a": first + 9, "b": second.astype(np.float64)}, output)

    assert buffer.take_usual({"a": first, "b": second}, output)
    assert [array.ravel().tolist() for array in buffer.arrays()] == [[1, 1], [2, 2], [3, 3]]


def test_a_window_that_the_outbox_refuses_does_not_stop_the_next() -> None:
    bench = Bench()
    taken: list[WindowPart] = []

    def refuse_once(window: WindowPart) -> None:
        if not taken:
            taken.append(window)
            raise StorageError("full", Reason.NO_SPACE)
        taken.append(window)

    bench.recorder._emit = refuse_once
    bench.call(1001.0)
    bench.call(1011.0)
    bench.recorder.close()

    assert [window.start for window in taken] == [1000.0, 1010.0]


def test_other_reporting_begins_with_a_new_window() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.clock.now = 1002.0
    bench.recorder.configure(Reporting(window_seconds=4.0))
    bench.call(1003.0)
    bench.clock.now = 1004.0
    bench.recorder.work()

    assert [(window.start, window.end) for window in bench.windows] == [(1000.0, 1002.0), (1002.0, 1004.0)]


def test_a_thread_reports_windows_by_itself() -> None:
    arrived = threading.Event()
    recorder = Recorder(
        MANIFEST,
        BASELINE,
        Reporting(window_seconds=0.5),
        digest="a" * 64,
        clock=(clock := Clock(100.0)),
        emit=lambda _window: arrived.set(),
        chance=lambda: 0.0,
    )
    recorder.start()
    recorder.record(*rows(1), seconds=0.001)
    clock.now = 101.0

    assert arrived.wait(10)
    recorder.close()


def test_many_threads_lose_no_call() -> None:
    bench = Bench()
    inputs, outputs = rows(1)

    def work() -> None:
        for _ in range(500):
            bench.recorder.record(inputs, outputs, seconds=0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.recorder.close()

    assert (bench.windows[0].calls, bench.sketch(0).rows) == (2000, 2000)


def test_merged_windows_hold_what_both_saw() -> None:
    bench = Bench()
    first, second = bench.call(1001.0, count=30), bench.call(1011.0, count=50)
    bench.recorder.close()
    merged = merge_windows(bench.windows[0].sent_by("press-1"), bench.windows[1].sent_by("press-1"), BASELINE)

    assert merged is not None
    assert (merged.start, merged.end, merged.calls, merged.parts) == (1000.0, 1011.0, 2, 2)
    assert codec.decode(merged.sketch, BASELINE) == sketch_rows(np.concatenate([first, second]), BASELINE)


def test_a_window_without_rows_merges_with_one_that_has_some() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.recorder.close()
    window = bench.windows[0].sent_by("press-1")
    empty = replace(window, sketch=b"", calls=3, errors=3)
    merged = merge_windows(window, empty, BASELINE)

    assert merged is not None
    assert (merged.sketch, merged.calls, merged.errors) == (window.sketch, 4, 3)


def test_windows_whose_baseline_is_gone_or_whose_bytes_are_damaged_do_not_merge() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.recorder.close()
    window = bench.windows[0].sent_by("press-1")

    assert merge_windows(window, window, None) is None
    assert merge_windows(window, replace(window, sketch=b"?"), BASELINE) is None
