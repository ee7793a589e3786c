"""What an application counts: from the call in the application to the facts that a rollout judges by."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.measure.merging import merge_windows
from muster_agent.measure.outbox import WindowPart
from muster_agent.measure.recorder import Recorder
from muster_controller import intake
from muster_controller.store import windows
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.facts import window_facts
from muster_models import topics, wire
from muster_models.counters import MOST, add_counts, check_counts
from muster_models.errors import MessageError
from muster_models.manifest import FeatureSpec
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.features import column_kinds, extract
from muster_models.wire import MAX_COUNTERS, Reporting
from support.controller import NOW, Ground, lay_ground, make_window
from support.manifests import make_manifest

MANIFEST = make_manifest(features=(FeatureSpec("pixel 3", "image", column=3),))
CHANCE = np.random.default_rng(5)
INPUTS: dict[str, Any] = {"image": CHANCE.uniform(0, 16, (500, 64)).astype(np.float32)}
OUTPUTS: dict[str, Any] = {"probabilities": CHANCE.dirichlet(np.ones(10), 500).astype(np.float32)}
BASELINE = make_baseline(
    extract(MANIFEST.features, MANIFEST.prediction, inputs=INPUTS, outputs=OUTPUTS).numbers,
    column_kinds(MANIFEST.features, MANIFEST.prediction),
    classes=10,
)

names = st.sampled_from([f"c{number}" for number in range(6)])
counts = st.dictionaries(names, st.integers(0, 2**40))


class Bench:
    """A recorder with ten-second windows, a clock that only tests move, and what came out."""

    def __init__(self, counters: tuple[str, ...] = ()) -> None:
        self.now = 1000.0
        self.windows = list[WindowPart]()
        self.recorder = Recorder(
            MANIFEST,
            BASELINE,
            Reporting(window_seconds=10.0),
            digest="a" * 64,
            clock=lambda: self.now,
            emit=self.windows.append,
            counters=counters,
        )

    def call(self, at: float) -> None:
        self.now = at
        self.recorder.record({"image": INPUTS["image"][:1]}, OUTPUTS, seconds=0.001)

    def count(self, at: float, **counted: int) -> None:
        self.now = at
        self.recorder.count(counted)


def test_what_is_counted_is_in_the_window_of_its_time() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.count(1002.0, scrap=2)
    bench.count(1003.0, scrap=1, good=7)
    bench.call(1011.0)
    bench.count(1012.0, scrap=5)
    bench.recorder.close()

    assert [one.counters for one in bench.windows] == [{"scrap": 3, "good": 7}, {"scrap": 5, "good": 0}]


def test_a_name_that_was_counted_once_is_in_every_later_window() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.call(1011.0)
    bench.count(1012.0, scrap=0)
    bench.call(1021.0)
    bench.recorder.close()

    assert [one.counters for one in bench.windows] == [{}, {"scrap": 0}, {"scrap": 0}]


def test_a_version_that_begins_reports_the_names_that_are_known() -> None:
    bench = Bench(counters=("scrap",))
    bench.call(1001.0)
    bench.recorder.close()

    assert bench.windows[0].counters == {"scrap": 0}


def test_what_was_counted_is_handed_out_where_nothing_was_called() -> None:
    bench = Bench()
    bench.count(1001.0, scrap=3)
    bench.now = 1030.0
    bench.recorder.work()

    assert [(one.calls, one.counters) for one in bench.windows] == [(0, {"scrap": 3})]


@pytest.mark.parametrize(
    "counted",
    [
        {"Scrap": 1},
        {"": 1},
        {"x" * 33: 1},
        {"1st": 1},
        {"a b": 1},
        {"scrap": -1},
        {"scrap": 2**60},
        {"a\n": 1},
    ],
)
def test_a_name_or_a_number_of_another_form_is_refused_and_changes_nothing(counted: dict[str, int]) -> None:
    bench = Bench()
    bench.call(1001.0)
    with pytest.raises(MessageError, match="named like 'scrap'"):
        bench.recorder.count(counted)
    bench.recorder.close()

    assert bench.windows[0].counters == {}


@pytest.mark.parametrize("amount", [1.5, True, None, "3"])
def test_only_whole_numbers_are_counted(amount: Any) -> None:
    with pytest.raises(MessageError):
        check_counts({"scrap": amount})


def test_more_names_than_a_window_holds_are_refused() -> None:
    bench = Bench()
    for number in range(MAX_COUNTERS):
        bench.count(1001.0, **{f"c{number}": 1})
    with pytest.raises(MessageError, match="at most 16"):
        bench.count(1001.0, one_more=1)
    bench.count(1001.0, c3=4)
    bench.recorder.close()

    assert len(bench.windows[0].counters) == MAX_COUNTERS
    assert bench.windows[0].counters["c3"] == 5


@given(counts, counts, counts)
def test_merging_is_addition_in_any_order(
    first: dict[str, int], second: dict[str, int], third: dict[str, int]
) -> None:
    operands = dict(first), dict(second)
    both = add_counts(first, second)

    assert both == add_counts(second, first)
    assert add_counts(both, third) == add_counts(first, add_counts(second, third))
    assert add_counts(first, {}) == first
    assert all(
        both[name] == first.get(name, 0) + second.get(name, 0) for name in first.keys() | second.keys()
    )
    assert (first, second) == operands


def test_a_sum_that_no_reader_holds_exactly_stays_at_the_largest() -> None:
    assert add_counts({"scrap": MOST}, {"scrap": 1}) == {"scrap": MOST}


def test_merged_windows_hold_what_was_counted_in_both() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.count(1002.0, scrap=2)
    bench.call(1011.0)
    bench.count(1012.0, scrap=5, good=1)
    bench.recorder.close()
    first, second = (one.sent_by("press-1") for one in bench.windows)
    merged = merge_windows(first, second, BASELINE)

    assert merged is not None
    assert merged.counters == {"scrap": 7, "good": 1}


def test_windows_with_more_names_together_than_one_may_have_stay_apart() -> None:
    bench = Bench()
    bench.call(1001.0)
    bench.recorder.close()
    window = bench.windows[0].sent_by("press-1")
    one, other = (
        msgspec.structs.replace(window, counters={f"{kind}{n}": 1 for n in range(10)}) for kind in "ab"
    )

    assert merge_windows(one, other, BASELINE) is None


@given(
    st.dictionaries(
        st.text(max_size=40), st.integers(-(2**63), 2**64 - 1) | st.floats() | st.none() | st.text(max_size=3)
    )
)
def test_counters_of_any_form_are_read_as_they_are_or_refused(counted: dict[str, Any]) -> None:
    window = msgspec.to_builtins(
        wire.Window("press-1", 1, 1, "digits", "a" * 64, "b" * 64, 1, 2, 3, 0, (0,) * 16, b"")
    )
    payload = msgspec.msgpack.encode(window | {"counters": counted, "sketch": b""})
    try:
        read = wire.decode_uplink(payload)
    except MessageError:
        with pytest.raises(MessageError):
            check_counts(counted)
    else:
        assert isinstance(read, wire.Window)
        assert read.counters == check_counts(counted)


def test_a_reader_that_knows_no_counters_reads_the_rest() -> None:
    """Controllers before this one take a window for what it was to them."""
    fields = [(name, Any) for name in wire.Window.__struct_fields__ if name != "counters"]
    older = msgspec.defstruct("Window", fields, tag="window", kw_only=True)
    window = wire.Window(
        "press-1", 1, 1, "digits", "a" * 64, "b" * 64, 1, 2, 3, 0, (0,) * 16, b"", counters={"scrap": 3}
    )
    read = msgspec.msgpack.decode(wire.encode(window), type=older)

    assert msgspec.structs.asdict(read)["calls"] == 3


def test_a_full_set_of_counters_costs_a_window_less_than_a_kilobyte() -> None:
    bare = wire.Window("press-1", 1, 1, "digits", "a" * 64, "b" * 64, 1, 2, 3, 0, (0,) * 16, b"")
    full = msgspec.structs.replace(bare, counters={f"{'x' * 30}{n:02d}": MOST for n in range(MAX_COUNTERS)})

    assert len(wire.encode(full)) - len(wire.encode(bare)) < 1024
    assert (
        len(wire.encode(msgspec.structs.replace(bare, counters={"scrap": 3}))) - len(wire.encode(bare)) == 7
    )


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, "berlin-1")


def test_what_was_counted_reaches_the_facts_of_a_rollout(ground: Ground) -> None:
    counted = make_window(ground, "berlin-1", 1, counters={"scrap": 3, "good": 0})
    taken = [
        intake.read(topics.up("berlin-1", "window"), wire.encode(window))
        for window in (counted, counted, make_window(ground, "berlin-1", 2))
    ]
    with Unit(ground.engine) as session:
        intake.store(session, taken, baselines=ground.baselines, now=NOW)
    with Reading(ground.engine) as session:
        stored = windows.newer(session, "digits", upto=0, limit=10)

    assert [one.counters for one in window_facts(stored, ground.baselines)] == [{"scrap": 3, "good": 0}, {}]
    assert replace(stored[0], counters={}).counters == {}
