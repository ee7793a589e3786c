"""The kernel kills a worker for memory, in a control group that is too small for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT = 300 * 2**20  # bytes: the runner and its children, and not a model that asks for five times that
TESTS = Path(__file__).parents[1]


@pytest.fixture
def processes() -> Iterator[Path]:
    """Make a control group with little memory, where this user may; hand out its list of processes."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for place, limit in (
        (f"/sys/fs/cgroup/memory{own.get('memory', '')}", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        (f"/sys/fs/cgroup{own.get('', '')}", "memory.max"),
    ):
        group = Path(place) / f"muster-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT))
            yield group / "cgroup.procs"
        except OSError:
            continue
        finally:
            group.rmdir()
        return
    pytest.skip("this user may not make a control group")


def test_what_the_kernel_kills_for_memory_is_told_from_every_other_end(
    processes: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.hungry", processes, tmp_path / "v"],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "out-of-memory: the kernel killed the process because memory ran out\n"
