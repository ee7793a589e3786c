"""Webhooks against a real receiver on loopback that answers, fails, hangs, redirects and talks nonsense."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from muster_controller.config import Folder, WebhookSettings
from muster_controller.delivery.courier import Courier
from muster_controller.delivery.post import Post
from muster_controller.delivery.signature import load_keys, new_secret
from muster_controller.store.alarm_tables import Delivery
from muster_controller.store.engine import Unit, migrate, open_database
from muster_models.errors import InvalidInputError
from support import databases
from support.alarms import deliveries, raise_alarm, receiver_of, remind, settings_of
from support.database_marks import BOTH
from support.receiver import (
    Receiver,
    babbles,
    dribbles,
    hangs,
    hangs_up,
    receiving,
    says,
    webhook,
)
from support.waiting import until

pytestmark = BOTH

DAY = 86_400.0
NOW = 1_800_000_000.0


@dataclass
class Desk:
    """One receiver and its courier, at a time that stands still until a test moves it."""

    engine: Engine
    folder: Path
    receiver: Receiver
    now: float = NOW
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> WebhookSettings:
        options: dict[str, Any] = {"url": self.receiver.url, "timeout_seconds": 60.0, **self.options}
        return webhook(self.folder, **options)

    @property
    def courier(self) -> Courier:
        """A courier that was just started: nothing is in its memory."""
        return Courier(
            self.engine,
            Folder(self.folder),
            self.settings,
            source="https://fleet.example/muster",
            clock=lambda: self.now,
            luck=lambda: 0.5,
        )

    def alarm(self, **changes: Any) -> int:
        return raise_alarm(self.engine, settings_of(self.settings), self.now, **changes)

    def deliver(self) -> None:
        """Make tries until there is nothing to be done now."""
        while self.courier.deliver():
            pass

    def messages(self) -> list[Delivery]:
        return deliveries(self.engine)

    def test(self) -> None:
        with Unit(self.engine) as session:
            Post(settings_of(self.settings)).test(session, self.settings, self.now)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    engine = open_database(databases.place(tmp_path))
    migrate(engine)
    with receiving() as receiver:
        yield Desk(engine, tmp_path, receiver)
    engine.dispose()


def test_an_alarm_arrives_once_as_a_signed_cloud_event(desk: Desk) -> None:
    number = desk.alarm()

    desk.deliver()
    desk.deliver()

    (got,) = desk.receiver.got
    event = got.event
    assert got.is_genuine
    assert got.headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert got.path == "/hook"
    assert (event["specversion"], event["type"], event["id"]) == ("1.0", "muster.alarm.firing", got.id)
    assert (event["source"], event["subject"]) == ("https://fleet.example/muster", "digits/data-drift")
    assert dt.datetime.fromisoformat(event["time"]).timestamp() == NOW
    (item,) = event["data"]["items"]
    assert (item["id"], item["subject"], item["effect"]) == (number, "site=berlin", -0.8)
    assert [one.state for one in desk.messages()] == ["delivered"]


def test_a_secret_that_is_being_replaced_signs_beside_the_new_one(desk: Desk) -> None:
    desk.alarm()
    courier = desk.courier
    (desk.folder / "desk.secret").write_text(f"{new_secret()}\n{(desk.folder / 'desk.secret').read_text()}")

    assert courier.deliver() is True

    (got,) = desk.receiver.got
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    assert got.is_genuine


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (says(500), "status 500"),
        (says(404), "status 404"),
        (says(302, Location="/elsewhere"), "redirects are not followed"),
        (says(307, Location="http://127.0.0.1:1/"), "redirects are not followed"),
        (hangs, "no answer within 0.5 s"),
        (dribbles, "no answer within 0.5 s"),
        (babbles, "expected an answer of HTTP/1.1"),
        (hangs_up, "hung up"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_fails_is_tried_again_with_the_same_id_and_body(
    desk: Desk, behaviour: Any, words: str
) -> None:
    desk.receiver.behaviour = behaviour
    if behaviour in {hangs, dribbles}:
        desk.options = {"timeout_seconds": 0.5}
    desk.alarm()
    desk.deliver()
    desk.options = {}
    (failed,) = desk.messages()
    assert (failed.state, failed.tries) == ("waiting", 1)
    assert words in failed.detail

    desk.deliver()
    assert len(desk.receiver.got) == 1  # it waits

    desk.now += 60
    desk.receiver.behaviour = says(200)
    desk.deliver()

    first, second = desk.receiver.got
    assert (first.id, first.body, first.path) == (second.id, second.body, second.path)
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert second.is_genuine
    assert [one.state for one in desk.messages()] == ["delivered"]


def test_a_receiver_that_is_not_there_is_tried_again(desk: Desk) -> None:
    desk.options = {"url": "http://127.0.0.1:1/hook"}
    desk.alarm()

    desk.deliver()

    (message,) = desk.messages()
    assert (message.state, message.status) == ("waiting", None)
    assert "ConnectionRefusedError" in message.detail


def test_a_head_without_end_is_refused(desk: Desk) -> None:
    def floods(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000)
        handler.close_connection = True

    desk.receiver.behaviour = floods
    desk.alarm()

    desk.deliver()

    (message,) = desk.messages()
    assert message.state == "waiting"
    assert "more than 16384 bytes" in message.detail or "ConnectionReset" in message.detail


def test_messages_arrive_in_order_also_behind_one_that_fails(desk: Desk) -> None:
    desk.receiver.behaviour = says(503)
    number = desk.alarm()
    desk.deliver()
    desk.alarm(id=number, state="resolved", resolved_at=NOW)
    desk.test()
    desk.deliver()
    assert desk.receiver.types() == ["muster.alarm.firing"]  # the others wait their turn

    desk.now += 60
    desk.receiver.behaviour = says(200)
    desk.deliver()

    assert desk.receiver.types()[1:] == ["muster.alarm.firing", "muster.alarm.resolved", "muster.test"]


def test_a_receiver_that_asks_to_be_left_alone_is(desk: Desk) -> None:
    desk.receiver.behaviour = says(429, Retry_After="600")
    desk.alarm()
    desk.deliver()

    desk.now += 590
    desk.deliver()
    tries = len(desk.receiver.got)
    desk.now += 11
    desk.deliver()

    assert (tries, len(desk.receiver.got)) == (1, 2)


def test_a_receiver_that_is_gone_gets_nothing_until_it_is_tested(desk: Desk) -> None:
    desk.receiver.behaviour = says(410)
    desk.alarm()
    desk.test()
    desk.deliver()
    desk.alarm(subject="site=oslo", model="weather")  # not even stored: what for?
    desk.now += DAY
    desk.deliver()
    record = receiver_of(desk.engine)
    assert record is not None
    assert (len(desk.receiver.got), record.given_up, record.gone_at) == (1, 3, int(NOW * 1000))
    assert {one.state for one in desk.messages()} == {"given-up"}

    desk.receiver.behaviour = says(200)
    desk.test()
    desk.deliver()
    desk.alarm(subject="site=lyon", model="digits2")
    desk.deliver()

    assert desk.receiver.types()[1:] == ["muster.test", "muster.alarm.firing"]


def test_what_is_too_old_is_given_up_and_counted(desk: Desk) -> None:
    desk.receiver.behaviour = says(500)
    desk.options = {"max_age_seconds": 3600.0}
    desk.alarm()
    desk.deliver()
    desk.now += 3601
    desk.receiver.behaviour = says(200)
    desk.test()
    desk.deliver()

    record = receiver_of(desk.engine)
    assert record is not None
    assert (record.delivered, record.given_up) == (1, 1)
    assert [(one.type, one.state) for one in desk.messages()] == [
        ("alarm.firing", "given-up"),
        ("test", "delivered"),
    ]


def test_the_oldest_of_too_many_are_given_up_and_counted(desk: Desk) -> None:
    desk.options = {"max_waiting": 3}

    for _ in range(5):
        desk.test()
        desk.now += 1

    record = receiver_of(desk.engine)
    assert record is not None
    assert record.given_up == 2
    assert [one.state for one in desk.messages()] == ["given-up"] * 2 + ["waiting"] * 3


def test_alarms_of_one_group_that_come_together_are_one_message(desk: Desk) -> None:
    numbers = [desk.alarm(level="device", subject=f"berlin-{number}") for number in range(5)]

    desk.deliver()
    desk.now += 10
    later = [desk.alarm(level="device", subject=f"oslo-{number}") for number in range(5)]
    desk.deliver()
    assert len(desk.receiver.got) == 1  # the group was told ten seconds ago
    desk.now += 300
    desk.deliver()

    told = [[item["id"] for item in got.event["data"]["items"]] for got in desk.receiver.got]
    assert told == [numbers, later]


def test_an_alarm_that_goes_on_is_told_again_after_the_repeat_interval(desk: Desk) -> None:
    desk.alarm()
    desk.deliver()
    settings = settings_of(desk.settings, repeat_seconds=3600.0)
    for _ in range(2):
        desk.now += 1801
        remind(desk.engine, settings, desk.now)
        desk.deliver()

    repeats = [got.event["data"]["items"][0]["repeat"] for got in desk.receiver.got]
    assert repeats == [False, True]


def test_the_thread_of_a_courier_delivers_by_itself_and_ends_when_told(desk: Desk) -> None:
    courier = desk.courier
    courier.start()
    desk.alarm()
    courier.wake()

    arrived = until(lambda: len(desk.receiver.got) == 1)
    courier.stop(60.0)

    assert arrived
    assert not courier._thread.is_alive()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "one or two lines"),
        ("a\nb\nc", "one or two lines"),
        ("whsec_???", "expected Base64"),
        ("whsec_c2hvcnQ=", "24 to 64 bytes"),
        ("bm8gcHJlZml4IGJ1dCBsb25nIGVub3VnaCBpdCBpcw==", "expected whsec_"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_shown(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "secret"
    path.write_text(content)

    with pytest.raises(InvalidInputError, match=words) as refused:
        load_keys(path)

    assert not content or content not in str(refused.value)


def test_a_secret_that_is_missing_fails_the_try_and_not_the_courier(desk: Desk) -> None:
    courier, _ = desk.courier, desk.alarm()
    (desk.folder / "desk.secret").unlink()

    assert courier.deliver() is False

    (message,) = desk.messages()
    assert "No such file" in message.detail
    assert desk.receiver.got == []
