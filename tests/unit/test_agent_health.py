"""How a machine is: measured on this one, and read from trees as other machines have them."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from muster_agent.health import measure
from muster_models import wire
from muster_models.errors import MessageError
from muster_models.wire import Health, Hello, OutboxStatus, Report


def healthy(**changes: object) -> Health:
    return msgspec.structs.replace(Health(1.0, 0.5, 10, 2), **changes)


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_this_machine_is_measured() -> None:
    health = measure(now=1000.0, time_floor=0.0, waiting=3)

    assert health.memory_bytes > 2**20
    assert health.load >= 0
    assert (health.at, health.waiting, health.behind_seconds) == (1000.0, 3, 0.0)


def test_the_memory_of_children_counts() -> None:
    before = measure(now=0, time_floor=0, waiting=0).memory_bytes
    held = "import sys; block = bytearray(50_000_000); print('there', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = measure(now=0, time_floor=0, waiting=0).memory_bytes
        child.communicate()

    assert during - before > 45_000_000


def test_without_a_share_what_is_resident_counts(tmp_path: Path) -> None:
    processes = tree(tmp_path, {f"{os.getpid()}/statm": "900 100 0 0 0 0 0\n"})
    health = measure(now=0, time_floor=0, waiting=0, processes=processes)

    assert health.memory_bytes == 100 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("zones", "celsius"),
    [
        ({}, None),
        (
            {"thermal_zone0/temp": "41500\n", "thermal_zone1/temp": "55000\n", "cooling_device0/temp": "9"},
            55.0,
        ),
        ({"thermal_zone0/temp": "-274000\n", "thermal_zone1/temp": "20000"}, 20.0),
        ({"thermal_zone0/temp": "not now"}, None),
    ],
)
def test_the_warmest_zone_is_told(tmp_path: Path, zones: dict[str, str], celsius: float | None) -> None:
    assert measure(now=0, time_floor=0, waiting=0, thermal=tree(tmp_path, zones)).celsius == celsius


def test_a_clock_behind_what_was_signed_is_told() -> None:
    assert measure(now=100.0, time_floor=160.0, waiting=0).behind_seconds == 60.0


def test_messages_with_and_without_health_are_read() -> None:
    hello = Hello("press-1", 0, "1", {}, "x", 1, 1, "UTC", "inline", (), OutboxStatus(1, 0, 0, 0), healthy())
    report = Report("press-1", 1, 1, 1.0, (), healthy(celsius=40.0))
    for message in (hello, report):
        assert wire.decode_uplink(wire.encode(message)) == message
        fields = msgspec.msgpack.decode(wire.encode(message))
        del fields["health"]  # as an agent sends it that knows of none

        assert wire.decode_uplink(msgspec.msgpack.encode(fields)) == msgspec.structs.replace(
            message, health=None
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"load": -1.0},
        {"load": float("nan")},
        {"celsius": float("nan")},
        {"at": float("inf")},
        {"waiting": -1},
    ],
)
def test_what_no_machine_says_is_refused(changes: dict[str, object]) -> None:
    report = Report("press-1", 1, 1, 1.0, (), healthy(**changes))

    with pytest.raises(MessageError):
        wire.decode_uplink(wire.encode(report))
