"""Decoded sketches are kept for a while, and no more of them than is stated."""

import numpy as np
import pytest

from muster_controller.domain.drift.measures import Scorer
from muster_controller.service import sketches as module
from muster_controller.service.sketches import Sketches
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.views.windows import WindowBytes
from muster_models.errors import SketchError
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.codec import decode_all, encode
from muster_models.sketch.window import Sketch, merge, sketch_rows

BASELINE = make_baseline(np.random.default_rng(1).normal(size=(500, 3)), dict.fromkeys("abc", "numeric"))
ROOM = 4  # windows that are kept
SKETCHES = [sketch_rows(np.random.default_rng(at).normal(size=(50, 3)), BASELINE) for at in range(8)]
WINDOWS = [
    WindowBytes(
        at + 1, "a", "0" * 64, 60.0, rows=50, calls=50, errors=0, latency=(), sketch=encode(one, BASELINE)
    )
    for at, one in enumerate(SKETCHES)
]


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sketches were decoded, each time that some were."""
    counted: list[int] = []

    def count(encoded: list[bytes], baseline: object) -> list[Sketch | SketchError]:
        counted.append(len(encoded))
        return decode_all(encoded, BASELINE)

    monkeypatch.setattr(module, "decode_all", count)
    return counted


@pytest.fixture
def kept(tmp_path_factory: pytest.TempPathFactory) -> Sketches:
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    return Sketches(Baselines(blobs), most=ROOM * len(BASELINE.columns))


def test_what_is_looked_at_again_is_decoded_once(kept: Sketches, decodings: list[int]) -> None:
    first = kept.decoded(WINDOWS[:3], BASELINE)
    again = kept.decoded(WINDOWS[1:4], BASELINE)

    assert decodings == [3, 1]
    assert [one.sketch for one in first + again] == [*SKETCHES[:3], *SKETCHES[1:4]]
    assert again[0] is first[1]


def test_a_measure_is_that_of_its_sketch(kept: Sketches) -> None:
    found = kept.decoded(WINDOWS[:ROOM], BASELINE)
    expected = Scorer(BASELINE).measure(SKETCHES[:ROOM])

    assert [one.measure.rows for one in found] == [50.0] * ROOM
    for one, measure in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.measure.sums, measure.sums)


def test_what_was_used_last_is_kept_and_no_more_than_there_is_room_for(
    kept: Sketches, decodings: list[int]
) -> None:
    assert kept.room(BASELINE) == ROOM
    kept.decoded(WINDOWS[:ROOM], BASELINE)
    kept.decoded(WINDOWS[:1], BASELINE)  # used again: the second is the oldest now
    kept.decoded(WINDOWS[ROOM : ROOM + 1], BASELINE)
    kept.decoded([WINDOWS[0], WINDOWS[2], WINDOWS[3]], BASELINE)
    kept.decoded(WINDOWS[1:2], BASELINE)

    assert decodings == [ROOM, 1, 1]


def test_more_than_there_is_room_for_is_still_returned(kept: Sketches) -> None:
    found = kept.decoded(WINDOWS, BASELINE)

    assert [one.sketch for one in found] == SKETCHES


def test_the_same_windows_are_merged_once(kept: Sketches) -> None:
    some = {1: SKETCHES[0], 2: SKETCHES[1]}
    first = kept.merged(some, BASELINE)

    assert first == merge(SKETCHES[0], SKETCHES[1])
    assert kept.merged(some, BASELINE) is first
    assert kept.merged({**some, 3: SKETCHES[2]}, BASELINE).rows == 150
    assert kept.merged({}, BASELINE).rows == 0


def test_bytes_that_are_no_sketch_are_refused(kept: Sketches) -> None:
    torn = WindowBytes(9, "a", "0" * 64, 60.0, rows=50, calls=50, errors=0, latency=(), sketch=b"\x00")

    with pytest.raises(SketchError):
        kept.decoded([WINDOWS[0], torn], BASELINE)
