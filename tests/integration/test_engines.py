"""What a device asks for beside the CPU answers where it proves itself; otherwise the CPU does, and why."""

import json
import logging
import queue
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from muster_agent import check, sandbox
from muster_agent.__main__ import main
from muster_agent.config import Broker, Folder, Settings
from muster_agent.doctor import local
from muster_agent.doctor.finding import Case, Finding
from muster_agent.machine import told_runtimes
from muster_agent.runner import Isolation, Runner, Zygote
from muster_agent.runner.engines import Engines
from muster_agent.runner.job import job_of
from muster_agent.runner.runner import Patience
from muster_agent.runner.worker import WorkerModel
from muster_agent.status import Answering, Status, answering_of, render
from muster_models import toml_file
from muster_models.engine import CPU, EngineOptions
from muster_models.errors import PredictionError, Reason
from muster_models.wire import ModelReport, Phase
from support import delegates, small_models
from support.delegates import E_TO_ONE, GIVES, ONE, asked
from support.verified import answers, lay_out, rows

ABSENT = EngineOptions(onnx_providers=("XnnpackExecutionProvider",))
# Comes with every wheel: it sends what a model marks for that to a service, and leaves the rest to the CPU.
PRESENT = EngineOptions(onnx_providers=("AzureExecutionProvider",))
NAME = "libtest_delegate.so"


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return delegates.build(tmp_path_factory.mktemp("delegate"))


def runner(zygote: Zygote, engine: EngineOptions, isolation: Isolation = Isolation.PROCESS) -> Runner:
    return Runner(zygote, on_failure=lambda *_: None, isolation=isolation, engine=engine)


def settings(engine: EngineOptions) -> Settings:
    return Settings("press-1", "https://c:1", "https://c:1/r", Broker("c", 8883), engine=engine)


def found(engine: EngineOptions, folder: Path) -> list[Finding]:
    return [each for each in local.runtimes(Case(Folder(folder), settings(engine), lambda: 0.0)) if each.fix]


@pytest.mark.parametrize("isolation", list(Isolation))
def test_a_provider_that_is_not_built_in_leaves_the_work_to_the_cpu_and_it_is_said_once(
    zygote: Zygote, isolation: Isolation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    verified = lay_out(tmp_path / "v", small_models.scaling(2), golden=answers(1, 2))
    agent = runner(zygote, ABSENT, isolation)
    with caplog.at_level(logging.WARNING):
        verdicts = [agent.preflight(verified, tmp_path / "v") for _ in range(2)]
        agent.activate(verified, tmp_path / "v")

    answer = agent.predict("small", rows(3.0))["y"].tolist()
    serving = answering_of(agent.serving())["small"]
    agent.close()
    said = "XnnpackExecutionProvider is not built into onnxruntime"
    assert answer == [[6.0] * 4]
    assert [verdict.accepted for verdict in verdicts] == [True, True]
    assert (serving.engine, said in serving.lacking) == (CPU, True)
    assert sum(said in message for message in caplog.messages) == 1
    assert said in told_runtimes({"onnx": "onnxruntime 1"}, agent.lacking())["onnx"]


def test_a_provider_that_is_there_answers(zygote: Zygote, tmp_path: Path) -> None:
    verified = lay_out(tmp_path / "v", small_models.scaling(2), golden=answers(1, 2))
    agent = runner(zygote, PRESENT)
    agent.activate(verified, tmp_path / "v")

    serving = agent.serving()["small"]
    agent.close()
    assert (serving.engine, serving.lacking, agent.lacking()) == ("AzureExecutionProvider", "", {})


@pytest.mark.parametrize("isolation", list(Isolation))
@pytest.mark.parametrize(
    ("mode", "engine", "said"),
    [
        ("nothing", NAME, ""),
        ("wrong", CPU, "wrong-output: golden vector 0"),
        ("crash", CPU, "crashed: the process ended by SIGABRT"),
        ("fail", CPU, "does not take the model"),
        ("refuse", CPU, "no such device is attached"),
    ],
)
def test_a_delegate_answers_where_it_proves_itself_and_never_takes_anything_with_it(
    zygote: Zygote, library: str, tmp_path: Path, *, mode: str, engine: str, said: str, isolation: Isolation
) -> None:
    """Without a preflight before it, as when a device starts again with a version that it has."""
    verified = delegates.lay_out(tmp_path / "v")
    agent = runner(zygote, asked(library, mode), isolation)
    agent.activate(verified, tmp_path / "v")

    answer = agent.predict("small", ONE)[GIVES]
    serving = agent.serving()["small"]
    agent.close()
    np.testing.assert_allclose(answer.astype(np.float64), E_TO_ONE[GIVES], rtol=1e-5)
    assert serving.engine == engine
    assert said in serving.lacking


def kill_worker(agent: Runner) -> None:
    worker = agent._slots["small"].answering
    assert isinstance(worker, WorkerModel)
    signal.pidfd_send_signal(worker.process, signal.SIGKILL)


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "on probation"])
def test_a_worker_that_dies_again_and_again_on_a_delegate_goes_on_on_the_cpu(
    zygote: Zygote,
    library: str,
    tmp_path: Path,
    committed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    verified = delegates.lay_out(tmp_path / "v")
    told: queue.Queue[str] = queue.Queue()
    agent = Runner(
        zygote,
        on_failure=lambda *_: told.put("failed"),
        on_restart=lambda *_: told.put("restarted"),
        isolation=Isolation.PROCESS,
        engine=asked(library, "nothing"),
    )
    agent.activate(verified, tmp_path / "v")
    deaths = 1
    if committed:
        agent.commit("small")
        deaths += Patience().restarts

    engines = [agent.serving()["small"].engine]
    for _ in range(deaths):
        kill_worker(agent)
        assert told.get(timeout=60) == "restarted"
        engines.append(agent.serving()["small"].engine)
    answer = agent.predict("small", ONE)[GIVES]
    serving, verdict = agent.serving()["small"], agent.preflight(verified, tmp_path / "v")
    kill_worker(agent)
    last = told.get(timeout=60)
    agent.close()

    np.testing.assert_allclose(answer.astype(np.float64), E_TO_ONE[GIVES], rtol=1e-5)
    assert engines == [NAME] * deaths + [CPU]
    assert f"with {NAME}: crashed: " in serving.lacking
    assert (verdict.accepted, verdict.engine) == (True, CPU)
    assert last == ("restarted" if committed else "failed")  # the CPU's own deaths are the version's


@pytest.mark.parametrize("mode", ["nothing", "wrong", "crash"])
def test_a_version_that_is_wrong_on_the_cpu_is_refused_whatever_else_there_is(
    zygote: Zygote, library: str, tmp_path: Path, mode: str
) -> None:
    verified = delegates.lay_out(tmp_path / "v", wrong=True)
    agent = runner(zygote, asked(library, mode))

    verdict = agent.preflight(verified, tmp_path / "v")
    agent.close()
    assert (verdict.accepted, verdict.reason) == (False, Reason.WRONG_OUTPUT)


def test_a_delegate_that_is_not_there_and_a_file_that_is_none_are_named(
    zygote: Zygote, tmp_path: Path
) -> None:
    (tmp_path / "none.so").write_bytes(b"no library")
    wanted = EngineOptions(tflite_delegates=("/nowhere/libedgetpu.so.1", str(tmp_path / "none.so")))
    verified = delegates.lay_out(tmp_path / "v")
    agent = runner(zygote, wanted)

    verdict = agent.preflight(verified, tmp_path / "v")
    agent.close()
    assert (verdict.accepted, verdict.engine) == (True, CPU)
    assert "/nowhere/libedgetpu.so.1 is not there" in verdict.lacking
    assert "none.so does not load" in verdict.lacking


def test_what_lacks_is_forgotten_when_it_is_there_again(zygote: Zygote, library: str, tmp_path: Path) -> None:
    verified = delegates.lay_out(tmp_path / "v")
    place = tmp_path / "later.so"
    engines = Engines(zygote, EngineOptions(tflite_delegates=(str(place),)))
    job = job_of(verified, tmp_path / "v", call_seconds=5)
    engines.preflight(verified.digest, job)
    before = engines.lacking()
    place.write_bytes(Path(library).read_bytes())

    engines.preflight(verified.digest, job)

    assert "tflite" in before
    assert engines.lacking() == {}
    assert engines.of(verified.digest).name == "later.so"


def test_a_check_by_hand_uses_what_a_device_asks_for(
    library: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delegates.lay_out(tmp_path / "v")
    (tmp_path / "agent.toml").write_text(toml_file.render(settings(asked(library, "crash"))))

    status = main(["check", str(tmp_path / "v/model.tflite"), "--device", str(tmp_path), "-o", "json"])
    verdict = json.loads(capsys.readouterr().out)

    assert (status, verdict["engine"]) == (check.ACCEPTED, CPU)
    assert "SIGABRT" in verdict["lacking"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (ABSENT, "XnnpackExecutionProvider is not built into onnxruntime"),
        (EngineOptions(tflite_delegates=("/nowhere/d.so",)), "delegate /nowhere/d.so is not there"),
    ],
)
def test_the_doctor_says_what_cannot_be_had_and_how_to_mend_it(
    wanted: EngineOptions, said: str, tmp_path: Path
) -> None:
    (finding,) = found(wanted, tmp_path)

    assert (finding.check, finding.state) == ("runtimes", "notice")
    assert said in finding.said
    assert "in agent.toml; until then the CPU answers" in finding.fix


def test_the_doctor_finds_nothing_about_what_can_be_had(library: str, tmp_path: Path) -> None:
    assert found(PRESENT, tmp_path) == []
    assert found(asked(library, "nothing"), tmp_path) == []


def test_the_doctor_survives_a_driver_that_ends_its_process(tmp_path: Path) -> None:
    source = tmp_path / "d.c"
    source.write_text(
        "#include <stdlib.h>\n"
        "void *tflite_plugin_create_delegate(void) { abort(); }\n"
        "void tflite_plugin_destroy_delegate(void *delegate) {}\n"
    )
    library = tmp_path / "d.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)

    (finding,) = found(EngineOptions(tflite_delegates=(str(library),)), tmp_path)

    assert "SIGABRT" in finding.said


def test_a_worker_on_a_delegate_is_confined_and_answers_from_its_own_process(
    zygote: Zygote, library: str, tmp_path: Path
) -> None:
    verified = delegates.lay_out(tmp_path / "v")
    agent = runner(zygote, asked(library, "nothing"))

    verdict = agent.preflight(verified, tmp_path / "v")
    agent.close()
    assert (verdict.engine, verdict.level) == (NAME, sandbox.level())


def test_an_answer_that_is_refused_for_its_inputs_is_no_fault_of_the_engine(
    zygote: Zygote, library: str, tmp_path: Path
) -> None:
    verified = delegates.lay_out(tmp_path / "v")
    agent = runner(zygote, asked(library, "nothing"))
    agent.activate(verified, tmp_path / "v")

    with pytest.raises(PredictionError, match="expected inputs"):
        agent.predict("small", {"x": np.ones(1, np.float32)})
    agent.close()


def test_a_status_names_the_engine_where_it_is_another_one_or_should_be() -> None:
    answering = Answering("1.0.0", "f" * 64, alive=True, stopped=False)
    lines = {
        said: render(status(replace(answering, engine=engine, lacking=lacking)))
        for said, engine, lacking in (
            ("", CPU, ""),
            ("  on libedgetpu.so.1", "libedgetpu.so.1", ""),
            ("  on CPU  delegate d.so is not there", CPU, "delegate d.so is not there"),
        )
    }

    assert all(said in text.splitlines() for said, text in lines.items() if said)
    assert "CPU" not in lines[""]


def status(answering: Answering) -> Status:
    report = ModelReport("small", Phase.COMMITTED)
    return Status(
        "press-1", "0.1.0", running=True, online=True, isolation="process", desired=1, models=(report,),
        answering={"small": answering}, outbox=None, certificate_ends="2027-01-01T00:00:00Z",
    )  # fmt: skip
