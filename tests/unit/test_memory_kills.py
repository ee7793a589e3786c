"""Whether the kernel killed for memory: by the counters of real kernels, old and new."""

import os
from pathlib import Path

import pytest

from muster_agent.runner.child import explain
from muster_agent.runner.job import Ended
from muster_agent.runner.memory_kills import Kills, counters, read
from muster_models.errors import Reason

SECOND = "0::/system.slice/muster-agent@press-1.service\n"
FIRST = "4:memory:/process_api/ebdf\n3:cpuset:/\n0::/\n"
KILLED = 9  # a wait status
BUDGET = 2**26


def counting(path: Path, kills: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"low 0\nhigh 0\nmax 41\noom 5\noom_kill {kills}\noom_group_kill 0\n")


@pytest.mark.parametrize(
    ("own", "narrowest"),
    [
        (SECOND, "system.slice/muster-agent@press-1.service/memory.events"),
        (FIRST, "memory/process_api/ebdf/memory.oom_control"),
    ],
)
def test_the_narrowest_group_counts(tmp_path: Path, own: str, narrowest: str) -> None:
    paths = counters(own, tmp_path)
    counting(tmp_path / narrowest, 3)

    assert paths[0] == tmp_path / narrowest
    assert read(paths) == 3


def test_the_whole_machine_counts_where_no_group_does(tmp_path: Path) -> None:
    counted = read(counters("", tmp_path))

    assert counters("", tmp_path) == [Path("/proc/vmstat")]
    assert counted is not None
    assert counted >= 0


def test_a_machine_without_counters_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("oom_kill many\noom_kill\n")

    assert Kills([tmp_path / "absent", tmp_path / "broken"]).claim() is None


def test_each_kill_that_was_counted_is_claimed_by_one_child(tmp_path: Path) -> None:
    path = tmp_path / "memory.events"
    counting(path, 7)
    kills = Kills([path])
    by_a_person = kills.claim()
    counting(path, 9)
    two = [kills.claim(), kills.claim(), kills.claim()]
    counting(path, 10)
    kills.forget()

    assert by_a_person is False
    assert two == [True, True, False]
    assert kills.claim() is False


@pytest.mark.parametrize(
    ("for_memory", "peak", "reason", "said"),
    [
        (True, 0, Reason.OUT_OF_MEMORY, "the kernel killed the process because memory ran out"),
        (False, BUDGET, Reason.CRASHED, "was killed (SIGKILL) by a person or another program"),
        (None, 0, Reason.CRASHED, "was killed (SIGKILL) by whom is not known"),
        (None, BUDGET, Reason.OUT_OF_MEMORY, f"was killed with {BUDGET} bytes in use"),
    ],
)
def test_an_end_by_the_strongest_signal_has_a_reason(
    for_memory: bool | None,  # noqa: FBT001 - a parameter of the table
    peak: int,
    reason: Reason,
    said: str,
) -> None:
    found, detail = explain(Ended(KILLED, peak, for_memory), BUDGET)

    assert os.waitstatus_to_exitcode(KILLED) == -9
    assert found is reason
    assert said in detail
