"""``muster alarm``, ``silence``, ``webhook`` and ``job`` against a real controller with a real receiver."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from muster_controller.config import Folder, load_settings
from muster_controller.store.engine import open_database
from support.alarms import raise_alarm
from support.controller_process import ControllerProcess, Done
from support.receiver import SECRET, Receiver, receiving, says
from support.waiting import until

WEBHOOKS = """
[[webhooks]]
name = "desk"
url = "{url}"
secret_file = "desk.secret"
timeout_seconds = 2.0

[[jobs]]
name = "retrain"
kinds = ["concept-drift"]
command = ["/bin/sh", "-c", "echo trained $MUSTER_MODEL"]
"""


@dataclass
class Room:
    """A controller, a receiver, and the database that both tests and controller write."""

    controller: ControllerProcess
    receiver: Receiver
    engine: Engine

    def alarm(self, **changes: Any) -> int:
        settings = load_settings(Folder(self.controller.home))
        return raise_alarm(self.engine, settings, time.time(), **changes)

    def muster(self, *arguments: str) -> Done:
        return self.controller.muster(*arguments)

    def json(self, *arguments: str) -> Any:
        done = self.muster(*arguments, "-o", "json")
        assert done.code == 0, done.err
        return json.loads(done.out)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    controller = ControllerProcess(tmp_path_factory.mktemp("alarms"))
    with receiving() as receiver:
        assert controller.init().code == 0
        path = controller.home / "controller.toml"
        path.write_text(path.read_text() + WEBHOOKS.format(url=receiver.url))
        (controller.home / "desk.secret").write_text(f"whsec_{SECRET}\n")
        controller.start()
        engine = open_database(controller.home / "database.sqlite")
        yield Room(controller, receiver, engine)
        engine.dispose()
        assert controller.stop().code == 0


@pytest.fixture(autouse=True)
def forget(room: Room) -> None:
    room.receiver.behaviour = says(204)


def test_a_test_message_arrives_and_says_so(room: Room) -> None:
    done = room.muster("webhook", "test", "desk")

    assert (done.code, done.out) == (0, "desk: delivered: status 204\n")
    assert "muster.test" in room.receiver.types()
    assert all(got.is_genuine for got in room.receiver.got)


def test_a_test_of_a_receiver_that_fails_says_what_it_answered(room: Room) -> None:
    room.receiver.behaviour = says(418)

    done = room.muster("webhook", "test", "desk")

    room.receiver.behaviour = says(204)
    assert done.code == 1
    assert "status 418" in done.out or "it waits behind" in done.out
    # Nothing is lost: it arrives with the next try.
    assert until(lambda: room.json("webhook", "list")[0]["waiting"] == 0, seconds=40)


def test_a_webhook_that_is_not_configured_is_not_found(room: Room) -> None:
    done = room.muster("webhook", "test", "nobody")

    assert done.code == 3
    assert "no webhook 'nobody' in controller.toml" in done.err


def test_an_alarm_is_told_acknowledged_and_shown(room: Room) -> None:
    number = room.alarm(subject="site=oslo")

    taken = room.muster("alarm", "acknowledge", str(number), "--reason", "I am on it")
    again = room.muster("alarm", "acknowledge", str(number), "--reason", "me too")
    shown = room.json("alarm", "show", str(number))

    assert (taken.code, taken.out) == (0, f"alarm {number} is acknowledged\n")
    assert again.code == 5
    assert (shown["state"], shown["acknowledged_reason"]) == ("firing", "I am on it")
    assert until(lambda: "muster.alarm.acknowledged" in room.receiver.types())
    listed = room.muster("alarm", "list", "--kind", "data-drift")
    assert "operator" in listed.out


def test_an_alarm_is_not_acknowledged_without_a_reason(room: Room) -> None:
    assert room.muster("alarm", "acknowledge", "1").code == 2


def test_a_silence_is_made_listed_and_ended(room: Room) -> None:
    made = room.json("silence", "add", "--where", "site = lyon", "--hours", "2", "--reason", "a move")
    listed = room.muster("silence", "list")
    number = room.alarm(subject="site=lyon", model="quiet")

    ended = room.muster("silence", "end", str(made["id"]), "--reason", "moved")

    assert "site = lyon" in listed.out
    assert (ended.code, ended.out) == (0, f"silence {made['id']} is over\n")
    told = until(lambda: any(item.get("id") == number for item in items(room.receiver)))
    assert told  # what it held back is still so
    assert room.muster("silence", "list").err == "no silence\n"


def items(receiver: Receiver) -> list[dict[str, Any]]:
    return [item for got in receiver.got for item in got.event["data"].get("items", ())]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--hours", "2", "--reason", "x"], 1),
        (["--model", "digits", "--reason", "x"], 2),
        (["--model", "digits", "--hours", "2"], 2),
        (["--model", "digits", "--hours", "9999", "--reason", "x"], 1),
        (["--kind", "noise", "--hours", "2", "--reason", "x"], 1),
    ],
)
def test_a_silence_without_aim_end_or_reason_is_refused(room: Room, options: list[str], code: int) -> None:
    assert room.muster("silence", "add", *options).code == code


def test_an_alarm_starts_a_job_whose_course_is_shown(room: Room) -> None:
    number = room.alarm(kind="concept-drift", subject="all", level="fleet")

    assert until(lambda: [one["state"] for one in room.json("job", "list")] == ["done"])
    (job,) = room.json("job", "list")
    shown = room.muster("job", "show", str(job["id"]))
    again = room.muster("job", "finish", str(job["id"]), "--outcome", "failed")

    assert job["alarm"] == number
    assert "trained digits" in shown.out
    assert again.code == 5
    assert "retrain" in room.muster("job", "list").out


def test_a_new_secret_is_one_that_a_controller_takes(room: Room, tmp_path: Path) -> None:
    first, second = room.muster("webhook", "secret").out, room.muster("webhook", "secret").out

    assert first != second
    assert first.startswith("whsec_")


def test_a_controller_does_not_start_without_a_secret(tmp_path: Path) -> None:
    controller = ControllerProcess(tmp_path)
    controller.init()
    path = controller.home / "controller.toml"
    path.write_text(path.read_text() + WEBHOOKS.format(url="http://127.0.0.1:1/"))

    with pytest.raises(AssertionError, match="No such file"):
        controller.start()
