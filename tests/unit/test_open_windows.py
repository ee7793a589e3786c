"""Windows that their rows end, and what is left of an open window when the agent is killed."""

import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muster_agent.measure.outbox import Outbox, WindowPart
from muster_agent.measure.recorder import Recorder
from muster_models import wire
from muster_models.manifest import FeatureSpec, ValueOutput
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.codec import decode
from muster_models.sketch.window import Sketch
from muster_models.wire import Event, Reporting, Window
from support.manifests import make_manifest
from support.outboxes import open_outbox

Array = NDArray[np.float32]
MANIFEST = make_manifest(features=(FeatureSpec("first", "x", 0),), prediction=ValueOutput("y"))
BASELINE = make_baseline(
    np.random.default_rng(1).normal(size=(500, 2)), {"first": "numeric", "prediction:value": "numeric"}
)
ROW: Array = np.ones((1, 1), dtype=np.float32)


class Bench:
    """A recorder whose windows and copies go into a real outbox; its clock stands until it is moved."""

    def __init__(self, path: Path, *, now: float = 1000.0, **reporting: float) -> None:
        self.now = now
        self.path = path
        self.outbox: Outbox = open_outbox(path, clock=lambda: self.now)
        self.parts: list[WindowPart] = []
        self.recorder = Recorder(
            MANIFEST,
            BASELINE,
            Reporting(**({"window_seconds": 100.0, "save_seconds": 10.0} | reporting)),  # type: ignore[arg-type]  # by name
            digest="a" * 64,
            clock=lambda: self.now,
            emit=self._emit,
            chance=lambda: 0.5,
            journal=lambda: self.outbox,
        )

    def _emit(self, part: WindowPart) -> None:
        self.parts.append(part)
        self.outbox.add_window(part)

    def call(self, at: float, rows: int = 1) -> None:
        self.now = at
        held = np.repeat(ROW, rows, axis=0)
        self.recorder.record({"image": held, "x": held}, {"y": held, "probabilities": held}, seconds=0.001)

    def work(self, at: float) -> None:
        self.now = at
        self.recorder.work()

    def killed(self) -> "Outbox":
        """Return the outbox as the next start opens it; nothing was closed."""
        self.outbox.close()
        return open_outbox(self.path, clock=lambda: self.now)


def sent(outbox: Outbox) -> tuple[list[Window], list[Event]]:
    messages = [wire.decode_uplink(payload) for _, _, payload in outbox.batch(0, 100)]
    windows = [one for one in messages if isinstance(one, Window)]
    return windows, [one for one in messages if isinstance(one, Event)]


def test_a_window_ends_after_so_many_rows_and_the_next_begins_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", window_rows=10)
    for index in range(25):
        bench.call(1001.0 + index)
    bench.recorder.close()

    assert [part.calls for part in bench.parts] == [10, 10, 5]
    assert [(part.start, part.end) for part in bench.parts] == [
        (1000.0, 1010.0),
        (1010.0, 1020.0),
        (1020.0, 1025.0),
    ]
    assert [decode(part.sketch, BASELINE).rows for part in bench.parts] == [10, 10, 5]


def test_time_ends_a_window_that_its_rows_do_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", window_rows=10)
    bench.call(1050.0, rows=9)
    bench.work(1100.0)

    assert [(part.calls, part.end) for part in bench.parts] == [(1, 1100.0)]


def test_a_burst_of_calls_is_no_burst_of_windows(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", window_rows=1)
    for index in range(100):
        bench.call(1000.0 + index * 0.01)
    bench.recorder.close()

    assert len(bench.parts) <= 3
    assert sum(part.calls for part in bench.parts) == 100


def test_only_sampled_rows_count_towards_the_end_of_a_window(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", window_rows=5, sample=0.4)
    for index in range(50):
        bench.call(1001.0 + index)

    bench.work(1099.0)

    assert bench.parts == []


def test_a_killed_agent_loses_what_it_saw_since_the_last_copy_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox")
    for index in range(40):
        bench.call(1001.0 + index)
        bench.recorder.work()
    bench.now = 1200.0

    (window,), (event,) = sent(bench.killed())

    assert 31 <= window.calls <= 40
    assert decode(window.sketch, BASELINE).rows == window.calls
    assert (window.start, window.model) == (1000.0, MANIFEST.model)
    assert 40.0 - 10.0 <= window.end - 1000.0 <= 40.0
    assert (event.kind, event.model) == ("dropped", MANIFEST.model)
    assert event.detail.startswith("the agent was killed: what it saw from 1970-01-01T00:17:")
    assert "is lost; the open window was handed out up to then" in event.detail


def test_what_was_left_is_handed_out_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox")
    bench.call(1001.0)
    bench.work(1020.0)
    bench.killed().close()

    windows, events = sent(bench.killed())

    assert (len(windows), len(events)) == (1, 1)


def test_a_window_that_ended_is_not_handed_out_again_from_its_copy(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox")
    bench.call(1001.0)
    bench.work(1050.0)
    bench.work(1100.0)

    windows, (event,) = sent(bench.killed())

    assert [window.calls for window in windows] == [1]
    assert "its windows before are kept" in event.detail


def test_an_agent_that_stops_leaves_nothing_to_recover(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox")
    bench.call(1001.0)
    bench.work(1050.0)
    bench.call(1051.0)
    bench.recorder.close()

    windows, events = sent(bench.killed())

    assert ([window.calls for window in windows], events) == ([2], [])


def test_a_kill_before_the_first_copy_is_said_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox")
    bench.recorder.start()
    bench.call(1001.0)
    bench.outbox.close()

    windows, (event,) = sent(open_outbox(bench.path, clock=lambda: 1060.0))
    bench.recorder.close()

    assert windows == []
    assert "what it saw from 1970-01-01T00:16:40Z on, at most 60 s, is lost" in event.detail


def test_without_copies_nothing_is_written_and_nothing_is_said(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", save_seconds=0)
    bench.call(1001.0)
    bench.work(1099.0)

    assert sent(bench.killed()) == ([], [])


def test_copies_are_written_no_more_often_than_ordered(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", window_seconds=10_000.0)
    written: list[float] = []
    save = bench.outbox.save_open

    def counting(part: WindowPart) -> None:
        written.append(bench.now)
        save(part)

    bench.outbox.save_open = counting  # type: ignore[method-assign]  # a copy goes through the real one
    for index in range(200):
        bench.call(1000.0 + index)
        bench.recorder.work()

    assert 18 <= len(written) <= 20
    assert min(np.diff(written)) >= 10.0


def test_an_outbox_of_before_is_opened_and_gets_the_table(tmp_path: Path) -> None:
    open_outbox(tmp_path / "outbox").close()
    with sqlite3.connect(tmp_path / "outbox") as database:
        database.execute("DROP TABLE open_window")
    database.close()
    bench = Bench(tmp_path / "outbox")
    bench.call(1001.0)
    bench.work(1020.0)

    assert len(sent(bench.killed())[0]) == 1


def is_noisy(sketch: Sketch) -> bool:
    """Tell whether rows that are all alike lie in several bins of some column.

    One column in fifty hides its noise: the bin that holds the rows happens to get the most of it.
    """
    return any(np.count_nonzero(counts) > 1 for counts in sketch.counts)


def test_noise_that_was_ordered_is_on_every_window_and_on_its_copy(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", epsilon=0.5)
    bench.call(1001.0, rows=500)
    bench.work(1050.0)
    bench.work(1100.0)
    bench.call(1101.0, rows=500)
    bench.work(1150.0)

    told, _ = sent(bench.killed())

    sketches = [decode(window.sketch, BASELINE) for window in told]
    assert [sketch.rows for sketch in sketches] == [500, 500]
    assert all(is_noisy(sketch) for sketch in sketches)
    assert {moments.rows for sketch in sketches for moments in sketch.moments} == {0}
    assert sketches[0] != sketches[1]


def test_a_window_that_began_with_noise_is_told_with_it_after_the_order_is_withdrawn(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "outbox", epsilon=0.5)
    bench.call(1001.0, rows=500)
    bench.now = 1010.0
    bench.recorder.configure(Reporting(window_seconds=100.0))
    bench.recorder.work()

    (part,) = bench.parts
    assert is_noisy(decode(part.sketch, BASELINE))
