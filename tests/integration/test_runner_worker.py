"""A worker that dies, hangs or grows: a reason for the caller, a report, and something that answers again."""

import gc
import os
import queue
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from muster_agent.api import Client
from muster_agent.runner import Patience, Runner, Zygote
from muster_agent.serving.server import Server
from muster_models.errors import PredictionError, Reason
from support import small_models
from support.processes import children
from support.verified import answers, lay_out, rows

SECONDS = 60.0  # only what fails takes so long
PATIENCE = Patience(call=SECONDS, replacement=SECONDS, restarts=2, restart_period=3600.0)
SHORT = replace(PATIENCE, call=1.0)  # for what hangs
Told = queue.Queue[tuple[str, str, Reason, str]]


class Reports:
    """What a runner told, in the order it told it."""

    def __init__(self) -> None:
        self.failures: Told = queue.Queue()
        self.restarts: Told = queue.Queue()


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def runner(request: pytest.FixtureRequest, zygote: Zygote, reports: Reports) -> Iterator[Runner]:
    runner = Runner(
        zygote,
        on_failure=lambda *told: reports.failures.put(told),
        on_restart=lambda *told: reports.restarts.put(told),
        patience=getattr(request, "param", PATIENCE),
    )
    yield runner
    runner.close()


def activate(runner: Runner, folder: Path, model: bytes, value: float = 1.0) -> str:
    verified = lay_out(folder, model, golden=answers(value, value))
    runner.activate(verified, folder)
    return verified.digest


HOSTILE = pytest.mark.parametrize(
    ("model", "reason", "runner"),  # each misbehaves for values above 5
    [
        (small_models.crashing_above(5), Reason.CRASHED, PATIENCE),
        (small_models.hanging_above(5), Reason.HUNG, SHORT),
    ],
    ids=["crash", "hang"],
    indirect=["runner"],
)


@HOSTILE
def test_on_probation_an_end_is_told_to_the_caller_and_reported(
    runner: Runner, reports: Reports, tmp_path: Path, model: bytes, reason: Reason
) -> None:
    digest = activate(runner, tmp_path / "v", model)

    with pytest.raises(PredictionError) as caught:
        runner.predict("small", rows(9.0))

    assert caught.value.reason is reason
    assert reports.failures.get(timeout=SECONDS)[:3] == ("small", digest, reason)
    assert runner.serving()["small"].alive is False
    assert reports.restarts.empty()


def test_calls_wait_for_the_version_that_replaces_a_dead_one(zygote: Zygote, tmp_path: Path) -> None:
    good = lay_out(tmp_path / "good", small_models.scaling(2), golden=answers(1, 2))
    runner: list[Runner] = []

    def go_back(*_: object) -> None:
        runner[0].activate(good, tmp_path / "good")

    runner.append(Runner(zygote, on_failure=go_back, patience=PATIENCE))
    activate(runner[0], tmp_path / "bad", small_models.crashing_above(5))
    with pytest.raises(PredictionError):
        runner[0].predict("small", rows(9.0))

    answer = runner[0].predict("small", rows(1.0))["y"]
    runner[0].close()

    assert answer.tolist() == [[2.0] * 4]


@HOSTILE
def test_a_committed_version_is_started_again_at_a_bounded_rate(
    runner: Runner, reports: Reports, tmp_path: Path, model: bytes, reason: Reason
) -> None:
    digest = activate(runner, tmp_path / "v", model)
    runner.commit("small")
    for _ in range(PATIENCE.restarts):
        with pytest.raises(PredictionError):
            runner.predict("small", rows(9.0))
        assert runner.predict("small", rows(1.0))["y"].tolist() == [[1.0] * 4]
        assert reports.restarts.get(timeout=SECONDS)[:3] == ("small", digest, reason)
    assert reports.failures.empty()

    with pytest.raises(PredictionError):
        runner.predict("small", rows(9.0))

    assert reports.failures.get(timeout=SECONDS)[:3] == ("small", digest, reason)


def test_a_model_that_grows_is_refused_for_that_call_or_ends_and_says_so(
    runner: Runner, tmp_path: Path
) -> None:
    activate(runner, tmp_path / "v", small_models.growing(), value=0.0)

    with pytest.raises(PredictionError) as caught:
        runner.predict("small", rows(4000.0))

    assert caught.value.reason is Reason.OUT_OF_MEMORY


def test_a_worker_that_is_killed_while_idle_is_noticed_without_a_call(
    runner: Runner, reports: Reports, tmp_path: Path
) -> None:
    activate(runner, tmp_path / "v", small_models.scaling(1))
    signal.pidfd_send_signal(handle_of(runner), signal.SIGKILL)

    _, _, reason, detail = reports.failures.get(timeout=SECONDS)
    assert reason is Reason.CRASHED  # and not the kernel, for memory
    assert "was killed (SIGKILL)" in detail


@pytest.mark.parametrize("runner", [SHORT], indirect=True)
def test_a_worker_that_is_frozen_is_killed_and_counts_as_hung(
    runner: Runner, reports: Reports, tmp_path: Path
) -> None:
    activate(runner, tmp_path / "v", small_models.scaling(1))
    signal.pidfd_send_signal(handle_of(runner), signal.SIGSTOP)

    with pytest.raises(PredictionError) as caught:
        runner.predict("small", rows(1.0))

    assert caught.value.reason is Reason.HUNG
    assert reports.failures.get(timeout=SECONDS)[2] is Reason.HUNG


def handle_of(runner: Runner) -> int:
    answering = runner._slots["small"].answering
    return answering.process  # type: ignore[union-attr]  # it runs in a worker here


def test_a_crash_is_an_answer_to_a_program_on_the_socket(runner: Runner, tmp_path: Path) -> None:
    activate(runner, tmp_path / "v", small_models.crashing_above(5))
    runner.commit("small")
    server = Server(runner, tmp_path / "agent.sock")
    with Client(tmp_path) as client:
        with pytest.raises(PredictionError) as caught:
            client.predict("small", rows(9.0))
        afterwards = client.predict("small", rows(1.0))["y"]
    server.close()

    assert caught.value.reason is Reason.CRASHED
    assert afterwards.tolist() == [[1.0] * 4]


def test_when_the_zygote_is_killed_another_brings_the_models_back(
    zygote: Zygote, runner: Runner, reports: Reports, tmp_path: Path
) -> None:
    activate(runner, tmp_path / "v", small_models.scaling(3))
    runner.commit("small")
    zygote_pid, _ = children(os.getpid())
    os.kill(zygote_pid, signal.SIGKILL)
    reports.restarts.get(timeout=SECONDS)

    assert runner.predict("small", rows(1.0))["y"].tolist() == [[3.0] * 4]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_supervisor_ends(tmp_path: Path, end: signal.Signals) -> None:
    program = textwrap.dedent(
        """
        import sys, threading
        from pathlib import Path
        from muster_agent.runner import Runner, Zygote
        from support.small_models import hanging_above
        from support.verified import answers, lay_out, rows

        zygote = Zygote.start()
        folder = Path(sys.argv[1])
        runner = Runner(zygote, on_failure=lambda *_: None)
        runner.activate(lay_out(folder, hanging_above(5), golden=answers(1, 1)), folder)
        threading.Thread(target=runner.predict, args=("small", rows(9.0)), daemon=True).start()
        print("ready", flush=True)
        threading.Event().wait()
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "v"], stdout=subprocess.PIPE, env=environment
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"ready\n"
        handles = [os.pidfd_open(pid) for pid in children(supervisor.pid)]
        supervisor.send_signal(end)

    assert [has_ended(handle) for handle in handles] == [True, True]  # the zygote and its worker


def has_ended(handle: int) -> bool:
    try:
        return bool(select.select([handle], [], [], SECONDS)[0])
    finally:
        os.close(handle)


def test_a_runner_closes_every_handle_it_opened(tmp_path: Path) -> None:
    def life(folder: Path) -> int:
        zygote = Zygote.start()
        runner = Runner(zygote, on_failure=lambda *_: None)
        for number in range(3):
            activate(runner, folder / str(number), small_models.scaling(1))
        runner.close()
        zygote.close()
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()  # what tests before have left shall not be closed between

    assert life(tmp_path / "first") == life(tmp_path / "second")
