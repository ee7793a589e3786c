"""A whole real agent whose disk is read-only from some moment on, or when it starts."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster_agent import Client, doctor
from muster_agent.__main__ import main
from muster_agent.config import load_settings
from muster_agent.spare import find_spare
from muster_models.errors import PredictionError
from muster_models.trust.verified import VerifiedManifest
from support import agent_site, shim
from support.agent_site import AgentSite, Process
from zoo.digits import data as digits

STOP_SECONDS = 60.0
ROW = {"image": digits.rows("live")["image"][:1]}
WRITABLE, READ_ONLY = str(1 << 34), "-1"
Switch = Callable[[str], None]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the spare place lie in a folder of this test."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)


@pytest.fixture
def switch(site: AgentSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Switch:
    """Make the disk of the device read-only and writable, as its processes see it."""
    knob = tmp_path / "free"

    def switch(state: str) -> None:
        knob.with_suffix(".new").write_text(state)
        knob.with_suffix(".new").replace(knob)

    switch(WRITABLE)
    monkeypatch.setenv("SHIM_FOLDER", str(site.device.root))
    monkeypatch.setenv("SHIM_FREE", str(knob))
    return switch


@contextmanager
def agent(site: AgentSite, monkeypatch: pytest.MonkeyPatch, library: str = "") -> Iterator[Process]:
    with monkeypatch.context() as patch:
        if library:
            patch.setenv("LD_PRELOAD", library)
        process = site.start_agent()
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def answers(site: AgentSite) -> str | None:
    """Return the version that answers, or None."""
    with Client(site.device.root) as client:
        try:
            client.predict("digits", ROW)
            return client.models().get("digits")
        except PredictionError:
            return None


def install(site: AgentSite, version: str) -> VerifiedManifest:
    released = site.release_digits(version)
    site.want(released)
    site.until_committed(released)
    return released


def says(site: AgentSite, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["status", str(site.device.root)]) == 0
    return capsys.readouterr().out


def is_told(site: AgentSite, words: str) -> bool:
    return times_told(site, words) > 0


def times_told(site: AgentSite, words: str) -> int:
    return (site.folder / "agent.log").read_text().count(words)


def test_a_disk_that_becomes_read_only_stops_nothing_but_installing(
    site: AgentSite, switch: Switch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(site, monkeypatch, str(shim.build(site.folder))):
        install(site, "1.0.0")
        second = site.release_digits("1.1.0")
        switch(READ_ONLY)
        site.want(second)
        site.until(lambda: is_told(site, f"desired state {site.sequence} has to wait"))
        shown = says(site, capsys)
        before = answers(site)
        hellos = len(site.hellos)
        switch(WRITABLE)
        site.send(site.newest or b"")
        site.until_committed(second)

        assert "the disk is read-only" in shown
        assert "online" in shown.splitlines()[0]
        assert before == "1.0.0"
        assert len(site.hellos) == hellos, "the session with the broker was kept"
        assert "read-only" not in says(site, capsys)


def test_a_stop_order_is_obeyed_on_a_read_only_disk_and_asked_for_again_after_a_restart(
    site: AgentSite, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = str(shim.build(site.folder))
    with agent(site, monkeypatch, library) as before:
        first = install(site, "1.0.0")
        held = site.sequence
        switch(READ_ONLY)
        site.want(first, stop=True)
        site.until(lambda: answers(site) is None)
        greeted = len(site.hellos)
    with agent(site, monkeypatch, library):
        # What the order said was in memory alone: the hello says so, and the controller sends it again.
        # The broker may be faster still, so that nobody sees the version answer between: the log says it did.
        site.until(lambda: times_told(site, "digits@1.0.0 answers") >= 2)
        hello = site.until(lambda: site.hellos[greeted:])[-1]
        site.send(site.newest or b"")
        site.until(lambda: times_told(site, "digits@1.0.0 is stopped by order") >= 2)
        site.until(lambda: answers(site) is None)

    assert before.returncode == 0, "a disk that takes nothing is no reason to end badly"
    assert hello.desired == held


def test_an_agent_that_starts_on_a_read_only_disk_answers_reports_and_recovers(
    site: AgentSite, switch: Switch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library = str(shim.build(site.folder))
    with agent(site, monkeypatch, library):
        install(site, "1.0.0")
    second = site.release_digits("1.1.0")
    switch(READ_ONLY)
    hellos = len(site.hellos)
    with agent(site, monkeypatch, library):
        begins_in_memory(site, capsys, hellos)
        switch(WRITABLE)
        recovers(site, second)


def test_an_agent_that_starts_on_a_disk_that_is_mounted_read_only_answers_reports_and_recovers(
    site: AgentSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(site, monkeypatch):
        install(site, "1.0.0")
    second = site.release_digits("1.1.0")
    root = str(site.device.root)
    if subprocess.run(["mount", "--bind", root, root], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount; the test before this one has a shim in its place")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
        hellos = len(site.hellos)
        with agent(site, monkeypatch):
            begins_in_memory(site, capsys, hellos)
            found = doctor.examine(site.device, load_settings(site.device))
            subprocess.run(["mount", "-o", "remount,bind,rw", root], check=True)
            recovers(site, second)
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)

    (files,) = (finding for finding in found if finding.check == "files")
    assert (files.state, "cannot be written" in files.said) == ("wrong", True)
    assert [finding.state for finding in found if finding.check == "agent"] == ["good"]


def begins_in_memory(site: AgentSite, capsys: pytest.CaptureFixture[str], hellos: int) -> None:
    """It answers, says that it cannot write, and what it measures arrives; ``hellos`` came before it."""
    windows = len(site.windows)
    site.until(lambda: answers(site) == "1.0.0")
    spare = find_spare(site.device.root)
    assert spare is not None
    assert (spare / "agent.sock").exists()
    assert is_told(site, "waits in memory, and nothing can be installed")
    assert "the disk is read-only" in says(site, capsys)
    site.until(lambda: len(site.hellos) > hellos)
    site.until(lambda: answers(site) and len(site.windows) > windows)


def recovers(site: AgentSite, second: VerifiedManifest) -> None:
    """Once the disk takes something again the device installs, and its outbox is the one on the disk."""
    first_epoch = site.events[0].epoch
    site.until(lambda: is_told(site, "the disk can be written again"))
    site.want(second)
    site.until_committed(second)
    site.until(lambda: answers(site) == "1.1.0")
    site.until(lambda: answers(site) and site.windows[-1].epoch == first_epoch)
    for sequences in site.numbers().values():
        assert sequences == list(range(1, len(sequences) + 1)), "a message was lost or counted twice"
