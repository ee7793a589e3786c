"""Rows on order, from end to end: a real controller and its broker, two real agents, and one who hears all.

One device allows rows to be sampled, the other does not; both run the same version and are asked the same.
"""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from muster_agent import Client
from muster_agent.config import Folder, Privacy, load_settings
from muster_controller.pki import Authority
from muster_models import toml_file, topics, wire
from muster_models.errors import MusterError, Reason
from story.api import Api
from story.fleet import Fleet
from support.eavesdrop import Heard, eavesdropping
from support.marked import TRACES, marked_rows, write_discreet_tariff
from support.mosquitto import EAVESDROPPER

OPEN, SHUT = "oslo-1", "porto-1"
CAP = 7
SECONDS = 60.0
SHORT_HOURS = 4 / 3600
QUICK = (
    "--stages",
    "100%",
    "--control",
    "0%",
    "--soak",
    "1",
    "--minimum-rounds",
    "1",
    "--before-rounds",
    "2",
)


@dataclass
class Site:
    """The fleet, its application, and what passed the broker."""

    fleet: Fleet
    api: Api
    heard: Heard
    calls: dict[str, int] = field(default_factory=dict)

    def wait(self, what: str, probe: Callable[[], bool]) -> None:
        def checked() -> bool | None:
            self.fleet.check_children()
            return probe() or None

        self.api.wait(what, checked, seconds=SECONDS)

    def order(self, rows: int, *, hours: float = 1.0, reason: str) -> int:
        said = self.fleet.run(
            "muster", "sample", "order", "tariff", "--where", "all", "--rows", str(rows),
            "--hours", str(hours), "--reason", reason, "-o", "json",
        )  # fmt: skip
        number: int = json.loads(said)["id"]
        return number

    def received(self, number: int) -> int:
        return int(self.api.get(f"/samples/{number}")["received"])

    def audit(self, number: int) -> list[dict[str, Any]]:
        return [one for one in self.api.items("/audit") if one["subject"] == f"sample {number}"]

    def samples(self, since: int = 0) -> list[wire.Sample]:
        """Return what came up of rows, from the message numbered ``since`` on."""
        found = []
        for topic, body in self.heard.messages[since:]:
            if topic.endswith("/up/sample"):
                message = wire.decode_uplink(body)
                assert isinstance(message, wire.Sample)
                found.append(message)
        return found

    def until_newer_order(self, reason: str) -> int:
        """Order two rows more and wait for them; then the device no longer follows what the order replaced.

        Returns:
            How many messages the broker had passed by then.
        """
        number = self.order(2, reason=reason)
        self.wait("rows of a newer order", lambda: self.received(number) == 2)
        return len(self.heard.messages)

    def until_called(self, calls: int) -> None:
        """Wait until windows with so many calls more have come of both devices."""
        before = {device: self.calls.get(device, 0) for device in (OPEN, SHUT)}
        self.wait("more calls", lambda: all(self.calls.get(d, 0) >= before[d] + calls for d in before))
        windows = sum(topic.endswith("/up/window") for topic, _ in self.heard.messages)
        self.wait(
            "windows of those calls",
            lambda: sum(topic.endswith("/up/window") for topic, _ in self.heard.messages) >= windows + 4,
        )


@contextmanager
def asking(site: Site) -> Iterator[None]:
    """Ask both devices marked rows, all the time."""
    stop = threading.Event()

    def ask(device: str) -> None:
        with Client(site.fleet.agent(device)) as client:
            while not stop.wait(0.15):
                try:
                    client.predict("tariff", marked_rows())
                except MusterError:  # before its first version arrives
                    continue
                site.calls[device] = site.calls.get(device, 0) + 1

    threads = [threading.Thread(target=ask, args=(device,)) for device in (OPEN, SHUT)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def let_in(fleet: Fleet, api: Api) -> None:
    """Let an administrator hear what passes the controller's own broker."""
    acl = fleet.controller / "broker/acl"
    acl.write_text(f"user {EAVESDROPPER}\ntopic read #\n" + acl.read_text())
    broker = int(str(api.get("/status")["health"]["broker"]).rpartition(" ")[2])
    os.kill(broker, signal.SIGHUP)


def allow(folder: Path) -> None:
    place = Folder(folder)
    settings = replace(load_settings(place), privacy=Privacy(samples=True))
    place.settings.write_text(toml_file.render(settings))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    fleet = Fleet(tmp_path_factory.mktemp("samples"))
    with ExitStack() as stack:
        stack.callback(fleet.stop)
        api = fleet.start_controller()
        let_in(fleet, api)
        authority = Authority(fleet.controller / "pki")
        heard = stack.enter_context(eavesdropping(fleet.ports["mqtt"], authority))
        fleet.run("muster", "keys", "init", fleet.keys, "--no-passphrase")
        fleet.run("muster", "publish", write_discreet_tariff(fleet.folder / "tariff"), "--keys", fleet.keys)
        for device in (OPEN, SHUT):
            fleet.enrol(device)
        allow(fleet.agent(OPEN))
        for device in (OPEN, SHUT):
            fleet.start_agent(device)
        site = Site(fleet, api, heard)
        stack.enter_context(asking(site))
        fleet.run("muster", "rollout", "start", "tariff@1.0.0", *QUICK, "--probation", "1")
        site.wait("both run it", lambda: [one["phase"] for one in api.items("/rollouts")] == ["completed"])
        yield site


def test_a_device_that_allows_it_hands_out_the_cap_and_no_row_more(site: Site) -> None:
    number = site.order(CAP, reason="ticket 4711: class 3 and 5 mixed up")
    site.wait("all rows of the order", lambda: site.received(number) == CAP)
    site.wait("the other device says no", lambda: "not-allowed" in str(site.api.get(f"/samples/{number}")))
    site.until_called(20)
    sent = [one for one in site.samples() if one.order == number]
    shown = site.fleet.run("muster", "sample", "show", str(number), "--rows", "--reason", "first look")
    rows = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    deeds = {(one["action"], one["actor"], one["reason"]) for one in site.audit(number)}

    assert sum(one.rows for one in sent if one.device == OPEN) == CAP
    assert [(one.device, one.rows, one.inputs, one.reason) for one in sent if one.device != OPEN] == [
        (SHUT, 0, b"", Reason.NOT_ALLOWED)
    ]
    assert len(rows) == CAP
    assert rows[0]["inputs"]["gear"] == marked_rows()["gear"][0].tolist()
    assert deeds == {
        ("sample.order", "operator", "ticket 4711: class 3 and 5 mixed up"),
        ("sample.read", "operator", "first look"),
    }


def test_after_an_order_is_withdrawn_nothing_of_it_is_sent_and_its_rows_are_gone(site: Site) -> None:
    number = site.order(1000, reason="odd scores")
    site.wait("the first rows", lambda: site.received(number) > 0)
    site.fleet.run("muster", "sample", "delete", str(number), "--reason", "seen enough")
    since = site.until_newer_order("the next one")
    site.until_called(20)
    refused = site.fleet.run("muster", "sample", "show", str(number), "--rows", succeed=False)
    shown = site.api.get(f"/samples/{number}")

    assert [one.order for one in site.samples(since) if one.order == number] == []
    assert sum(one.rows for one in site.samples() if one.order == number) < 1000
    assert "is over" in refused
    assert (shown["open"], shown["ended"] is not None) == (False, True)
    assert [(one["action"], one["actor"], one["reason"]) for one in site.audit(number)] == [
        ("sample.delete", "operator", "seen enough"),
        ("sample.order", "operator", "odd scores"),
    ]


def test_after_its_end_nothing_of_an_order_is_sent_and_the_controller_deletes_it(site: Site) -> None:
    number = site.order(1000, hours=SHORT_HOURS, reason="a short look")
    site.wait("the first rows", lambda: site.received(number) > 0)
    site.wait("its rows are deleted", lambda: site.api.get(f"/samples/{number}")["ended"] is not None)
    since = site.until_newer_order("after that")
    site.until_called(20)
    sent = [one for one in site.samples() if one.order == number]
    until = sent[0].at + SECONDS
    first, last = (one["action"] for one in (site.audit(number)[-1], site.audit(number)[0]))
    refused = site.fleet.run("muster", "sample", "show", str(number), "--rows", succeed=False)

    assert [one.order for one in site.samples(since) if one.order == number] == []
    assert sum(one.rows for one in sent) < 1000
    assert max(one.at for one in sent) < until
    assert (first, last) == ("sample.order", "sample.expire")
    assert "is over" in refused


def test_rows_come_by_messages_of_rows_of_the_device_that_allows_it_and_by_no_other_way(site: Site) -> None:
    number = site.order(3, reason="which way they come")
    site.wait("all rows of the order", lambda: site.received(number) == 3)
    site.until_called(20)
    ways = {topics.parse_up(topic) for topic, _ in site.heard.find(TRACES)}

    assert {(way.device, way.kind) for way in ways} == {(OPEN, "sample")}
    assert site.calls[SHUT] > 0
