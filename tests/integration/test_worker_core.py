"""A worker follows its caller from core to core while calls are short, and is let go when they are long."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from muster_agent.runner.core import SHORT_SECONDS, Following

CORES = sorted(os.sched_getaffinity(0))


class Clock:
    """Moves on by ``step`` whenever it is asked."""

    def __init__(self) -> None:
        self.now, self.step = 0.0, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def worker() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def _anywhere() -> Iterator[None]:
    yield
    os.sched_setaffinity(0, CORES)


@pytest.fixture
def handle(worker: "subprocess.Popen[bytes]") -> Iterator[int]:
    handle = os.pidfd_open(worker.pid)
    yield handle
    os.close(handle)


def call(following: Following, times: int) -> None:
    for _ in range(times):
        following.begin()
        following.end()


def test_after_short_calls_a_worker_is_where_its_caller_is(
    worker: "subprocess.Popen[bytes]", handle: int
) -> None:
    following = Following(handle, clock=Clock())
    call(following, 4)
    for core in (*CORES, *CORES):
        os.sched_setaffinity(0, {core})
        call(following, 1)

        assert os.sched_getaffinity(worker.pid) == ({core} if len(CORES) > 1 else set(CORES))


def test_a_worker_stays_free_until_its_calls_have_been_short(
    worker: "subprocess.Popen[bytes]", handle: int
) -> None:
    following = Following(handle, clock=Clock())
    call(following, 4)

    assert os.sched_getaffinity(worker.pid) == set(CORES)


def test_a_long_call_lets_a_worker_go_until_many_calls_were_short(
    worker: "subprocess.Popen[bytes]", handle: int
) -> None:
    clock = Clock()
    following = Following(handle, clock=clock)
    os.sched_setaffinity(0, CORES[:1])
    call(following, 5)

    assert os.sched_getaffinity(worker.pid) == {CORES[0]}

    clock.step = SHORT_SECONDS
    call(following, 1)

    assert os.sched_getaffinity(worker.pid) == set(CORES)

    clock.step = 0.0
    call(following, 32)

    assert os.sched_getaffinity(worker.pid) == set(CORES)

    call(following, 1)

    assert os.sched_getaffinity(worker.pid) == {CORES[0]}


def test_a_worker_whose_calls_are_long_is_never_moved(worker: "subprocess.Popen[bytes]", handle: int) -> None:
    clock = Clock()
    following = Following(handle, clock=clock)
    for _ in range(4):
        clock.step = 0.0
        call(following, 3)
        clock.step = SHORT_SECONDS
        call(following, 1)

    assert os.sched_getaffinity(worker.pid) == set(CORES)


def test_a_worker_that_may_not_run_where_its_caller_is_stays_where_it_may(
    worker: "subprocess.Popen[bytes]", handle: int
) -> None:
    os.sched_setaffinity(worker.pid, CORES[:1])
    following = Following(handle, clock=Clock())
    os.sched_setaffinity(0, CORES[-1:])
    call(following, 6)

    assert os.sched_getaffinity(worker.pid) == {CORES[0]}


def test_a_worker_that_has_ended_is_followed_by_nobody(
    worker: "subprocess.Popen[bytes]", handle: int
) -> None:
    before = Following(handle, clock=Clock())
    worker.kill()
    worker.wait()
    after = Following(handle, clock=Clock())

    for following in (before, after):
        call(following, 6)
