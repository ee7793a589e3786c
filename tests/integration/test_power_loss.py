"""Everything that writes on a device is struck at its calls to the disk, and docs/power-loss.md must hold.

The strikes are real: a shim below the C library kills the process, tears a write, or refuses. What only a
power cut does (it loses what was not synced) is for the simulated disks of test_power_cuts and of
tests/property/test_store_crashes.
"""

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from support import invariants, shim
from support.invariants import Told
from support.shim import COUNT, KILL, REFUSE, TEAR, Run, ShimProcess, Strike
from support.writers import NAMES, Writer, writers_of_a_device

STRIKES = {
    "kill": Strike(KILL),
    "torn write": Strike(TEAR),
    "disk full once": Strike(REFUSE, error=errno.ENOSPC),
    "disk full": Strike(REFUSE, error=errno.ENOSPC, lasts=True),
    "input/output error": Strike(REFUSE, error=errno.EIO),
    "read-only": Strike(REFUSE, error=errno.EROFS, lasts=True),
}
MEMORY = Path("/dev/shm")  # a folder of its own is made there
SAMPLE = 10  # points of each strike in each course, where time is short


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    with shim.started(tmp_path_factory.mktemp("shim")) as process:
        yield process


@pytest.fixture
def scene() -> Iterator[Path]:
    """Hand out a folder in memory: a process that is killed leaves the same there, ten times as fast."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Writer]]:
    with writers_of_a_device(tmp_path_factory.mktemp("writers")) as writers:
        yield writers


def strike(process: ShimProcess, writer: Writer, scene: Path, what: Strike) -> shim.Outcome:
    """Run a course with one strike in a folder of its own, and check what is left."""
    device = scene / "device"
    if writer.template is None:
        device.mkdir(parents=True)
    else:
        shutil.copytree(writer.template, device, symlinks=True)
    writer.shown.clear()
    told = scene / "told"
    outcome = process.run(Run(writer.course, str(device), str(told), writer.arguments, what))

    assert outcome.status in {0, shim.REFUSED, -9}, outcome.error
    try:
        writer.check(device, invariants.read_told(told))
    except Exception as error:
        error.add_note(f"{writer.course}: {what}, {outcome}, files {sorted(invariants.files_below(device))}")
        raise
    shutil.rmtree(scene)
    return outcome


def calls_of(process: ShimProcess, writer: Writer, scene: Path, mode: int) -> int:
    """Return how many places for a strike a course has."""
    never = Strike(mode, call=1 << 30)
    outcome = strike(process, writer, scene, never)
    assert outcome.status == 0
    return outcome.calls


def strikes(
    process: ShimProcess, writer: Writer, scene: Path, what: Strike, choose: Callable[[int], Sequence[int]]
) -> int:
    """Strike a course at chosen calls; return how many."""
    calls = calls_of(process, writer, scene / "unharmed", TEAR if what.mode == TEAR else COUNT)
    points = choose(calls)
    for point in points:
        at = Strike(what.mode, point, what.error, what.lasts)
        outcome = strike(process, writer, scene / str(point), at)
        assert outcome.status != 0 or what.mode == REFUSE, "the process was not struck"
    return len(points)


@pytest.mark.parametrize("what", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("course", NAMES)
def test_a_strike_at_some_calls_breaks_no_rule(
    process: ShimProcess, writers: dict[str, Writer], scene: Path, course: str, what: Strike
) -> None:
    chance = Random(f"{course}/{what}")

    def some(calls: int) -> list[int]:
        return sorted(chance.sample(range(1, calls + 1), min(calls, SAMPLE)))

    assert strikes(process, writers[course], scene, what, some) >= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("course", NAMES)
def test_a_strike_at_any_call_breaks_no_rule(
    process: ShimProcess, writers: dict[str, Writer], scene: Path, course: str, what: Strike
) -> None:
    strikes(process, writers[course], scene, what, _all)


@pytest.mark.parametrize("what", [STRIKES["kill"], STRIKES["torn write"], STRIKES["disk full once"]])
def test_a_writer_that_is_wrong_on_purpose_is_found(
    process: ShimProcess, tmp_path: Path, what: Strike
) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "before/file").write_bytes(b"old" * 100)

    def check(device: Path, _told: Told) -> None:
        assert (device / "file").read_bytes() in {b"old" * 100, b"new" * 100}

    with pytest.raises(AssertionError, match="in place"):
        strikes(process, Writer("in place", check, tmp_path / "before"), tmp_path, what, _all)


def _all(calls: int) -> Sequence[int]:
    return range(1, calls + 1)


def test_there_are_more_than_a_thousand_points(
    process: ShimProcess, writers: dict[str, Writer], scene: Path
) -> None:
    points = sum(
        calls_of(process, writer, scene / course / str(mode), mode) * count
        for course, writer in writers.items()
        for mode, count in ((COUNT, 5), (TEAR, 1))
    )

    assert len(STRIKES) == 6
    assert points >= 1000
