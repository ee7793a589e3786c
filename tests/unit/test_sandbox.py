"""What a confined process can still do, tried by a process that confines itself."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from muster_agent.sandbox import Level, level

PROGRAM = """
import json, os, socket, sys
from pathlib import Path
from muster_agent.sandbox import Limits, confine

inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
reached = confine(Limits(64 * 1024 * 1024, cpu_seconds=20, open_files=32), readable=(inside,))

def outcome(action):
    try:
        action()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"

def connect(family, address):
    with socket.socket(family) as sock:
        sock.settimeout(1)
        sock.connect(address)

os.write(1, json.dumps({
    "level": reached,
    "read inside": outcome(lambda: (inside / "file").read_bytes()),
    "read outside": outcome(lambda: (outside / "file").read_bytes()),
    "list outside": outcome(lambda: list(outside.iterdir())),
    "read by another way": outcome(lambda: (inside / ".." / outside.name / "file").read_bytes()),
    "read through a link": outcome(lambda: (inside / "link").read_bytes()),
    "write inside": outcome(lambda: (inside / "new").write_bytes(b"x")),
    "append inside": outcome(lambda: (inside / "file").open("ab").write(b"x")),
    "truncate inside": outcome(lambda: os.truncate(inside / "file", 0)),
    "remove inside": outcome(lambda: (inside / "file").unlink()),
    "make a folder": outcome(lambda: (outside / "new").mkdir()),
    "connect by TCP": outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", 9))),
    "run a program": outcome(lambda: os.execv("/bin/true", ["true"])),
    "allocate little": outcome(lambda: bytearray(16 * 1024 * 1024)),
    "allocate much": outcome(lambda: bytearray(256 * 1024 * 1024)),
    "open many files": outcome(lambda: [os.dup(0) for _ in range(64)]),
}).encode())
"""


def run(program: str, *arguments: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def found(tmp_path: Path) -> dict[str, str]:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
    (tmp_path / "inside/link").symlink_to(tmp_path / "outside/file")
    done = run(PROGRAM, tmp_path / "inside", tmp_path / "outside")

    assert done.returncode == 0, done.stderr.decode()
    outcome: dict[str, str] = json.loads(done.stdout)
    return outcome


def test_resources_are_limited_at_every_level(found: dict[str, str]) -> None:
    assert found["read inside"] == "done"
    assert found["allocate little"] == "done"
    assert found["allocate much"] == "MemoryError"
    assert found["open many files"] == "OSError"
    assert found["write inside"] != "done"


@pytest.mark.skipif(level() is not Level.LANDLOCK, reason="this kernel has no Landlock")
def test_with_landlock_only_the_given_folder_is_read_and_nothing_is_written(found: dict[str, str]) -> None:
    kept = {
        "level": "landlock",
        "read inside": "done",
        "allocate little": "done",
        "allocate much": "MemoryError",
    }
    refused = {name for name in found if name not in {*kept, "open many files"}}

    assert found | kept == found
    assert {name: found[name] for name in refused} == dict.fromkeys(refused, "PermissionError")


def test_no_program_gains_rights_afterwards(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from muster_agent.sandbox import Limits, confine
before = open("/proc/self/status")
confine(Limits(64 * 1024 * 1024), readable=(Path(sys.argv[1]),))
print(next(line for line in before if line.startswith("NoNewPrivs")).split()[1])
"""

    assert run(program, tmp_path).stdout == b"1\n"


def test_processor_time_is_limited_by_the_kernel(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from muster_agent.sandbox import Limits, confine
confine(Limits(64 * 1024 * 1024, cpu_seconds=0), readable=(Path(sys.argv[1]),))
while True: pass
"""
    ended = run(program, tmp_path).returncode

    assert ended in {-signal.SIGXCPU, -signal.SIGKILL}


def test_a_process_can_ask_to_end_with_its_parent() -> None:
    program = """
import os, signal
from muster_agent import sandbox
reader, writer = os.pipe()
asked, asks = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        sandbox.die_with_parent(signal.SIGKILL)
        os.write(asks, b"x")
        signal.pause()
    os.read(asked, 1)
    os._exit(0)
os.close(writer)
os.wait()
os.write(1, b"ended" + os.read(reader, 1))
"""

    assert run(program).stdout == b"ended"  # only when nobody holds the pipe any more is it at its end


@pytest.mark.skipif(level() is not Level.LANDLOCK, reason="this kernel has no Landlock")
def test_a_device_that_is_named_can_be_opened_for_writing_and_no_other(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from muster_agent.sandbox import Limits, confine
devices = (Path("/dev/null"), Path("/dev/none"))
confine(Limits(64 * 1024 * 1024), readable=(Path(sys.argv[1]),), writable=devices)
for name in ("null", "zero", "full"):
    try:
        with open(f"/dev/{name}", "r+b", buffering=0) as device:
            print(name, device.write(b"x"))
    except PermissionError:
        print(name, "refused")
"""

    assert run(program, tmp_path).stdout.splitlines() == [b"null 1", b"zero refused", b"full refused"]
