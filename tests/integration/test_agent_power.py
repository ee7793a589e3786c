"""A whole real agent that is killed at any moment of an update, and one whose disk is full."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from muster_agent import Client
from muster_agent.disk import RealDisk
from muster_agent.store import HEADROOM_BYTES, OLD_STATE
from muster_models.errors import MusterError, PredictionError, Reason
from muster_models.trust.verified import VerifiedManifest
from support import agent_site, invariants, shim
from support.agent_site import AgentSite, Process
from support.store_crashes import expected_files
from zoo.digits import data as digits

STOP_SECONDS = 60.0
LONGEST_SECONDS = 1.5  # from an order, or from a start, to a kill; an update takes about as long
ROW = {"image": digits.rows("live")["image"][:1]}
PLENTY = 1 << 34


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


@pytest.fixture
def start(site: AgentSite) -> Iterator[Callable[[], Process]]:
    running: list[Process] = []

    def starting() -> Process:
        running.append(site.start_agent())
        return running[-1]

    yield starting
    for process in running:
        process.terminate()
        process.wait(STOP_SECONDS)


def kill_within(process: Process, seconds: float) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    process.wait()


def answers(site: AgentSite) -> str | None:
    """Return the version that answers, or None."""
    with Client(site.device.root) as client:
        try:
            client.predict("digits", ROW)
            return client.models().get("digits")
        except PredictionError:
            return None


def check_folder(site: AgentSite, versions: set[str], before: int) -> int:
    """Look at what a killed agent left, as the next one will find it; return its sequence."""
    state = invariants.versions_are_whole(RealDisk(site.device.store))
    model = state.models["digits"]
    assert model.current is not None
    assert model.current.manifest in versions
    assert model.tries <= 3
    assert state.sequence >= before
    invariants.identity_holds(site.device)
    return state.sequence


def check_end(site: AgentSite) -> None:
    """Nothing is left over, and what came up has no hole."""
    disk = RealDisk(site.device.store)
    state = invariants.versions_are_whole(disk)
    left = invariants.files_below(site.device.store) - expected_files(state, disk) - {OLD_STATE}
    assert left == set()
    assert len(list(site.device.run.iterdir())) == 1  # the links to what answered last, replaced at the start
    assert [path.name for path in site.device.trust.rglob("tmp*")] == []
    (sequences,) = site.numbers().values()
    assert sequences == list(range(1, len(sequences) + 1))


def kill_at_random(site: AgentSite, start: Callable[[], Process], kills: int, chance: Random) -> None:
    first = site.release_digits("1.0.0")
    # On the way there, two of three files are made of patches; on the way back the files themselves come.
    versions = [first, site.release_digits("1.1.0", first)]
    digests = {version.digest for version in versions}
    process = start()
    site.want(versions[0])
    site.until_committed(versions[0])
    done, sequence = 0, 0
    while done < kills:
        versions.reverse()
        site.want(versions[0])
        for _ in range(1 + chance.randrange(2)):  # the second one strikes what the first one left
            kill_within(process, LONGEST_SECONDS * chance.random())
            done += 1
            sequence = check_folder(site, digests, sequence)
            process = start()
        site.until_committed(versions[0])
        site.until(lambda: answers(site) == versions[0].manifest.version)
    process.terminate()
    assert process.wait(STOP_SECONDS) == 0
    check_end(site)


def test_an_agent_that_is_killed_at_random_moments_of_updates_completes_them(
    site: AgentSite, start: Callable[[], Process]
) -> None:
    kill_at_random(site, start, 4, Random(3))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_agent_that_is_killed_again_and_again_completes_every_update(
    site: AgentSite, start: Callable[[], Process]
) -> None:
    kill_at_random(site, start, 24, Random(4))


def test_the_supervisor_of_a_device_at_work_holds_no_engine_and_nothing_of_numpy_that_it_does_not_use(
    site: AgentSite, start: Callable[[], Process]
) -> None:
    process = start()
    install_first(site)
    assert answers(site) == "1.0.0"
    site.until(lambda: site.windows)

    mapped = Path(f"/proc/{process.pid}/maps").read_text()

    heavy = ("onnxruntime", "ai_edge_litert", "tflite_runtime", "numpy/random", "numpy/fft")
    assert [name for name in heavy if name in mapped] == []
    assert "numpy/_core" in mapped


class SmallDisk:
    """The disk of the device, as its processes see it: as many bytes free as is said here."""

    def __init__(self, folder: Path) -> None:
        self._knob = folder / "free"
        self.free(PLENTY)

    def free(self, count: int) -> None:
        beside = self._knob.with_suffix(".new")
        beside.write_text(str(count))
        beside.replace(self._knob)

    def environment(self, site: AgentSite) -> dict[str, str]:
        library = str(shim.build(site.folder))
        return {"LD_PRELOAD": library, "SHIM_FOLDER": str(site.device.root), "SHIM_FREE": str(self._knob)}


@pytest.fixture
def disk(site: AgentSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """Start an agent on a disk that a test fills, with the first version committed."""
    disk = SmallDisk(tmp_path)
    with monkeypatch.context() as patch:
        for name, value in disk.environment(site).items():
            patch.setenv(name, value)
        process = site.start_agent()
    yield disk
    process.terminate()
    process.wait(STOP_SECONDS)


class Asking:
    """An application that goes on asking."""

    def __init__(self, site: AgentSite) -> None:
        self.failures: list[MusterError] = []
        self.calls = 0
        self._folder = site.device.root
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with Client(self._folder) as client:
            while not self._done.is_set():
                try:
                    client.predict("digits", ROW)
                    self.calls += 1
                except MusterError as error:
                    self.failures.append(error)

    def end(self) -> None:
        self._done.set()
        self._thread.join()


def asked_blobs(site: AgentSite) -> set[str]:
    return {path.rpartition("/")[2] for path, _ in tuple(site.side.requests) if "/blobs/" in path}


def install_first(site: AgentSite) -> VerifiedManifest:
    first = site.release_digits("1.0.0")
    site.want(first)
    site.until_committed(first)
    return first


def test_a_version_that_does_not_fit_is_not_begun_and_the_device_says_what_it_needs(
    site: AgentSite, disk: SmallDisk
) -> None:
    first, second = install_first(site), site.release_digits("1.1.0")
    disk.free(HEADROOM_BYTES + 4096)

    site.want(second)

    report = site.until(
        lambda: site.model_report(
            lambda model: model.target == second.digest and model.reason is Reason.NO_SPACE
        )
    )
    said = re.search(r"digits@1\.1\.0 needs (\d+) bytes, 4096 are free", report.detail)
    assert said is not None, report.detail
    new = {entry.sha256: entry.length for entry in second.manifest.files}
    held = {entry.sha256 for entry in first.manifest.files}
    assert int(said[1]) == sum(length for sha256, length in new.items() if sha256 not in held)
    assert asked_blobs(site) & (new.keys() - held) == set()
    assert (report.current and report.current.manifest, answers(site)) == (first.digest, "1.0.0")


def test_a_device_with_a_full_disk_goes_on_predicting_and_says_what_it_lost(
    site: AgentSite, disk: SmallDisk
) -> None:
    first, second = install_first(site), site.release_digits("1.1.0")
    asking = Asking(site)
    log = site.folder / "agent.log"
    site.until(lambda: site.windows)

    disk.free(0)
    site.want(second)
    site.until(lambda: log.read_text().count("a window of digits@1.0.0 is lost") >= 2)
    assert answers(site) == "1.0.0"
    disk.free(PLENTY)

    event = site.until_event("dropped", Reason.NO_SPACE)
    site.want(second)
    site.until_committed(second)
    asking.end()
    assert re.fullmatch(r"windows that the disk refused: \d+, with \d+ calls", event.detail)
    assert event.manifest == first.digest
    assert asking.failures == []
    assert asking.calls > 0


def test_the_shim_shows_a_process_the_disk_that_a_test_says(site: AgentSite, tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path)
    disk.free(8192)
    program = (
        "import shutil, sys; print(shutil.disk_usage(sys.argv[1]).free);"
        "open(sys.argv[1] + '/x', 'w').write('x' * 9000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, site.device.root],
        env=disk.environment(site),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "8192"
    assert "No space left on device" in done.stderr
