"""The whole way of a label: a device predicts, the truth is pushed weeks later, an alarm comes of it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster_agent import Client, Model
from muster_agent.prediction_ids import Answer
from muster_models.errors import PredictionError
from muster_models.prediction_id import ClassAnswer, parse
from support.controller_process import BIN, SECONDS, ControllerProcess, execute
from zoo.digits import data as digits

ZOO = Path(__file__).parents[2] / "models/zoo"
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """A controller with ``digits@1.1.0``, rolled out to whoever is there."""
    with ControllerProcess(tmp_path_factory.mktemp("labels")) as running:
        keys = str(running.folder / "keys")
        for command in (
            ("keys", "init", keys, "--no-passphrase"),
            ("publish", str(ZOO / "digits/1.1.0"), "--keys", keys),
        ):
            done = running.muster(*command)
            assert done.code == 0, done.err
        yield running


@pytest.fixture(scope="module")
def folder(controller: ControllerProcess) -> Iterator[Path]:
    """The folder of a device whose agent runs and answers for ``digits``."""
    place = controller.folder / "press-1"
    token = controller.muster("device", "token", "press-1", "--label", "site=oslo").out.strip()
    url = f"https://127.0.0.1:{controller.ports['device']}"
    enrolled = execute("muster-agent", "enrol", url, token, "--folder", str(place))
    assert enrolled.code == 0, enrolled.err
    with (controller.folder / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            [str(BIN / "muster-agent"), "run", str(place)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        started = controller.muster(
            "rollout", "start", "digits@1.1.0", "--stages", "100%", "--control", "0%", "--soak", "1"
        )
        assert started.code == 0, started.err
        controller.wait(lambda: answers(place))
        yield place
    finally:
        agent.terminate()
        agent.wait(SECONDS)


def answers(place: Path) -> bool:
    try:
        with Client(place) as client:
            return "digits" in client.models()
    except PredictionError:
        return False


@pytest.fixture(scope="module")
def answer(folder: Path) -> Answer:
    """What the device answers to rows that were never seen, with its ids."""
    with Model("digits", folder) as model:
        return model.answer(digits.rows("live"))


def file_of(path: Path, ids: Sequence[str], labels: Sequence[object]) -> str:
    rows = "".join(f"{named},{label}\n" for named, label in zip(ids, labels, strict=True))
    path.write_text(f"id,label\n{rows}")
    return str(path)


def shown(controller: ControllerProcess) -> dict[str, Any]:
    view = json.loads(controller.muster("labels", "show", "digits", "-o", "json").out)
    version: dict[str, Any] = view["versions"][0]
    return version


def alarms(controller: ControllerProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(controller.muster("alarm", "list", "-o", "json").out)
    return [alarm for alarm in found if alarm["kind"] == "concept-drift"]


def test_an_id_says_what_was_predicted(controller: ControllerProcess, answer: Answer) -> None:
    found = [parse(named) for named in answer.ids]
    classes = answer.outputs["probabilities"].argmax(axis=1).tolist()
    digest = json.loads(controller.muster("version", "list", "digits", "-o", "json").out)[0]["digest"]

    assert [one.answer.index for one in found if isinstance(one.answer, ClassAnswer)] == classes
    assert {(one.model, one.device, one.version) for one in found} == {("digits", "press-1", digest[:16])}
    assert len({one.number for one in found}) == len(found)


def test_the_truth_gives_the_accuracy_and_when_it_changes_one_alarm(
    controller: ControllerProcess, folder: Path, answer: Answer, tmp_path: Path
) -> None:
    """The images are the usual ones at both times: nothing but labels can tell."""
    truth = digits.answers("live")
    file = file_of(tmp_path / "truth.csv", answer.ids, truth.tolist())
    first, again = (controller.muster("labels", "push", file) for _ in range(2))
    version, table = shown(controller), controller.muster("labels", "show", "digits")
    expected = float((answer.outputs["probabilities"].argmax(axis=1) == truth).mean())

    assert (first.code, first.out) == (0, "450 taken, 0 repeated, 0 corrected, 0 refused\n")
    assert (again.code, again.out) == (0, "0 taken, 450 repeated, 0 corrected, 0 refused\n")
    assert version["measure"]["n"] == 450
    assert version["measure"]["value"] == pytest.approx(expected)
    assert version["measure"]["low"] < version["signed"] < version["measure"]["high"]
    assert "digits@1.1.0" in table.out
    assert "of the predictions that were labelled" in table.err

    with Model("digits", folder) as model:
        ids = model.answer(digits.rows("live")).ids
    swapped = np.where(np.isin(truth, (3, 8)), 11 - truth, truth)
    lines = [
        json.dumps({"id": named, "label": int(label)}) for named, label in zip(ids, swapped, strict=True)
    ]
    (tmp_path / "truth.jsonl").write_text("\n".join(lines) + "\n")
    pushed = controller.muster("labels", "push", str(tmp_path / "truth.jsonl"), "-o", "json")
    controller.wait(lambda: alarms(controller) != [])
    (alarm,) = alarms(controller)

    assert (pushed.code, json.loads(pushed.out)["taken"]) == (0, 450)
    assert (alarm["level"], alarm["subject"], alarm["state"]) == ("fleet", "all", "firing")
    assert (alarm["feature"], alarm["unit"]) == ("accuracy", "share")
    assert alarm["effect"] < -0.05
    assert "signed was 0.965" in alarm["evidence"]["said"]

    again = controller.muster("drift", "explain", str(alarm["id"]))
    found = json.loads(controller.muster("drift", "explain", str(alarm["id"]), "-o", "json").out)
    assert "what is stored is what the labels say" in again.err
    assert "sum of errors" not in again.out
    assert (found["how"], found["steps"][-1]["labels"], found["steps"][-1]["state"]) == (
        "labels",
        450,
        "firing",
    )


def test_what_cannot_be_used_is_named_by_its_line(
    controller: ControllerProcess, answer: Answer, tmp_path: Path
) -> None:
    file = file_of(tmp_path / "bad.csv", [answer.ids[0][:-1], "", answer.ids[1]], ["3", "3", "eleven"])
    done = controller.muster("labels", "push", file)

    assert (done.code, done.out) == (1, "0 taken, 0 repeated, 0 corrected, 3 refused\n")
    told = done.err.splitlines()
    assert [line.partition(": ")[0] for line in told] == [f"{file}:{number}" for number in (2, 3, 4)]
    assert "expected a class out of 0, 1, 2" in told[2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.txt", "id,label\n", "expected .csv or .jsonl, got .txt"),
        ("labels.csv", "id;label\n", "expected the columns id,label or device,model"),
        ("labels.csv", "id,label\nx\n", ":2: expected 2 cells"),
        ("labels.csv", "", "got none"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_line(
    controller: ControllerProcess, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    done = controller.muster("labels", "push", str(tmp_path / name))

    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


def test_over_the_protocol_ids_come_as_one_more_tensor(folder: Path) -> None:
    rows = digits.rows("live")["image"][:2].tolist()
    script = (
        "import http.client, json, socket, sys\n"
        "connection = http.client.HTTPConnection('device')\n"
        "connection.sock = socket.socket(socket.AF_UNIX)\n"
        "connection.sock.connect(sys.argv[1])\n"
        "connection.request('POST', '/v2/models/digits/infer', sys.stdin.read())\n"
        "sys.stdout.write(connection.getresponse().read().decode())\n"
    )
    body = {
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [2, 64], "data": rows}],
        "parameters": {"prediction_ids": True},
        "outputs": [{"name": "probabilities"}],
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "agent.sock")],
        input=json.dumps(body),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    outputs = {one["name"]: one for one in json.loads(done.stdout)["outputs"]}

    assert list(outputs) == ["probabilities", "prediction_ids"]
    assert (outputs["prediction_ids"]["datatype"], outputs["prediction_ids"]["shape"]) == ("BYTES", [2])
    assert [parse(named).device for named in outputs["prediction_ids"]["data"]] == ["press-1", "press-1"]
