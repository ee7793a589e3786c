"""Power is cut at the calls that real courses make, and docs/power-loss.md must hold for what is left.

Trust, identity, settings, outbox, store and batches run as they are under the shim, which writes down what
they do to the disk; ``support.recorded`` decides what a medium that forgets keeps of it. Recovery runs on a
real folder, by the code that a device starts with.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from muster_agent.measure import outbox_database
from muster_agent.serving.server import Server
from support import invariants, recorded, shim
from support.batch_course import ROWS, Answerer, saved
from support.outboxes import open_outbox
from support.recorded import Call, cuts
from support.shim import Run, ShimProcess, Strike
from support.writers import NAMES, Writer, writers_of_a_device

MEMORY = Path("/dev/shm")  # a folder of its own is made there
SAMPLE = 40  # states of each course, where time is short
BATCH = "infer"
COURSES = (*NAMES, BATCH)
# What is left out on purpose, and the courses that must notice.
FOUND_BY = {
    "durable without file sync": ("trust", "trust anew", "enrolment", "renewal"),
    "durable without folder sync": ("trust", "trust anew", "enrolment"),
    "outbox unsynchronised": ("outbox",),
    "parts without sync": (BATCH,),
    "output without sync": (BATCH,),
    "store without file sync": ("store",),
}


@dataclass(frozen=True)
class Scene:
    """A course that was recorded once, and a place for what is left of it."""

    writer: Writer
    calls: Sequence[Call]
    shown: dict[bytes, int]
    place: Path

    def states(self, points: Callable[[int], Sequence[int]], *, outcomes: int, seed: str) -> int:
        """Cut the power at some points, in several outcomes each; return how many were looked at."""
        calls = list(self.calls)
        chosen = set(points(len(calls) + 1))
        count = 0
        for number, medium in cuts(calls, self.writer.template):
            for outcome in range(outcomes if number in chosen else 0):
                self._look(number, medium, f"{seed}/{number}/{outcome}")
                count += 1
        return count

    def _look(self, number: int, medium: recorded.Medium, seed: str) -> None:
        device, told = self.place / "device", self.place / "told"
        medium.lay_out(device, Random(seed))
        recorded.told_by(list(self.calls), number, told)
        until = self.calls[number].at if number < len(self.calls) else 1 << 62
        self.writer.shown.clear()
        self.writer.shown.update((key, at) for key, at in self.shown.items() if at < until)
        left = sorted(invariants.files_below(device))
        try:
            self.writer.check(device, invariants.read_told(told))
        except Exception as error:
            before = [(call.what, call.path, call.where) for call in self.calls[max(0, number - 3) : number]]
            error.add_note(f"{self.writer.course}: {seed}, after {before}, files {left}")
            raise
        shutil.rmtree(device)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    with shim.started(tmp_path_factory.mktemp("shim")) as process:
        yield process


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory, process: ShimProcess) -> Iterator[dict[str, Writer]]:
    folder = tmp_path_factory.mktemp("writers")
    server = Server(Answerer(), folder / "agent.sock")
    with writers_of_a_device(folder) as writers:
        yield {**writers, BATCH: _batch(process, server.path, folder)}
    server.close()


def _batch(process: ShimProcess, socket: Path, folder: Path) -> Writer:
    """A batch must be absent or complete, and a repeat must complete it."""
    output = "out.csv"
    source = str(saved(folder / "rows.npy", ROWS))
    arguments = {"socket": str(socket), "source": source, "model": "two", "output": output}
    told = folder / "told"
    whole = folder / "whole"
    whole.mkdir()
    done = process.run(Run(BATCH, str(whole), str(told), arguments, Strike()))
    assert done.status == 0, done.error
    expected = (whole / output).read_bytes()

    def check(device: Path, _told: invariants.Told) -> None:
        if (device / output).exists():
            assert (device / output).read_bytes() == expected
        again = process.run(Run(BATCH, str(device), str(told), arguments, Strike()))
        assert again.status == 0, again.error
        assert (device / output).read_bytes() == expected
        assert invariants.files_below(device) == {output}

    return Writer(BATCH, check, arguments=arguments)


@pytest.fixture
def place() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def scene_of(process: ShimProcess, writer: Writer, place: Path, weakness: str = "") -> Scene:
    """Run a course unharmed, and keep its calls."""
    device, record = place / "device", place / "record"
    if writer.template is None:
        device.mkdir()
    else:
        shutil.copytree(writer.template, device, symlinks=True)
    writer.shown.clear()
    run = Run(
        writer.course, str(device), str(place / "told"), writer.arguments, Strike(), str(record), weakness
    )
    outcome = process.run(run)
    assert outcome.status == 0, outcome.error
    scene = Scene(writer, recorded.read(record, device), dict(writer.shown), place)
    _assert_record_is_whole(scene, device, place / "replayed")
    shutil.rmtree(device)
    return scene


def _assert_record_is_whole(scene: Scene, device: Path, replayed: Path) -> None:
    """Replay every call without a cut: anything but what the process left says that the record lacks some."""
    *_, (_, medium) = cuts(list(scene.calls), scene.writer.template)
    medium.lay_out(replayed, None)
    left = {name: (device / name) for name in invariants.files_below(device) if not name.endswith("-shm")}
    assert {name for name in invariants.files_below(replayed) if not name.endswith("-shm")} == set(left)
    for name, path in left.items():
        assert (replayed / name).read_bytes() == path.read_bytes(), name
    shutil.rmtree(replayed)


def some(seed: str) -> Callable[[int], Sequence[int]]:
    return lambda points: Random(seed).sample(range(points), min(points, SAMPLE))


def every(points: int) -> Sequence[int]:
    return range(points)


@pytest.mark.parametrize("course", COURSES)
def test_a_power_cut_at_some_calls_breaks_no_rule(
    process: ShimProcess, writers: dict[str, Writer], place: Path, course: str
) -> None:
    scene = scene_of(process, writers[course], place)

    assert scene.states(some(course), outcomes=1, seed=course) >= 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("course", COURSES)
def test_a_power_cut_at_any_call_breaks_no_rule(
    process: ShimProcess, writers: dict[str, Writer], place: Path, course: str
) -> None:
    scene = scene_of(process, writers[course], place)

    scene.states(every, outcomes=10, seed=course)


@pytest.mark.parametrize(
    ("weakness", "course"),
    [(weakness, course) for weakness, courses in FOUND_BY.items() for course in courses],
)
def test_what_is_not_made_durable_is_found(
    process: ShimProcess, writers: dict[str, Writer], place: Path, weakness: str, course: str
) -> None:
    scene = scene_of(process, writers[course], place, weakness)

    with pytest.raises(Exception, match=r".") as found:  # whatever recovery or a rule says
        scene.states(every, outcomes=6, seed=weakness)

    assert any(note.startswith(f"{scene.writer.course}: ") for note in found.value.__notes__)


def test_the_outbox_asks_sqlite_for_what_a_power_cut_needs(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with closing(open_outbox(path)) as outbox:
        outbox.add_event("installed")
        journal = path.with_name(f"{path.name}-wal")
        held = journal.stat().st_size
        with closing(sqlite3.connect(path)) as other:
            (mode,) = other.execute("PRAGMA journal_mode").fetchone()
    opened = outbox_database._open(path, lambda: 1)
    (level,) = opened.execute("PRAGMA synchronous").fetchone()
    opened.close()

    assert mode == "wal"
    assert held > 0  # what was added lies in the log, which is synced at each commit
    assert level == 2  # FULL
