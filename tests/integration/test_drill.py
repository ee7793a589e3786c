"""A drill at the controller: a real rollout there and back, on devices that follow what they are assigned."""

import contextlib
import json
import re
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import drills, history, overview, rollouts
from muster_controller.service.drills import DrillRequest, DrillView
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.store import assignments, devices
from muster_controller.store.views.history import AuditFilter
from muster_controller.web.app import make_dashboard
from muster_models.errors import ConflictError, NotFoundError, RequestError
from muster_models.wire import Phase
from support.office import OPERATOR, Client, Office, open_office
from support.served import served
from support.testclient import TestClient

FLEET = ("berlin-1", "berlin-2", "lyon-1", "oslo-1", "oslo-2")
DAY = 86_400.0


@dataclass
class Site:
    """Devices that run ``digits@1.1.0`` by a rollout, and ``digits@1.0.0`` before.

    Attributes:
        offline: Devices that are not heard of.
        broken: Devices on which the earlier version fails.
    """

    office: Office
    first: str
    second: str
    offline: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def assigned(self) -> dict[str, str]:
        with self.office.context.reading() as session:
            return assignments.of_model(session, "digits")

    def follow(self) -> None:
        """Let every device that is online run what it is assigned, and say so."""
        for device, digest in self.assigned().items():
            if device in self.offline:
                continue
            if digest == self.first and device in self.broken:
                self.office.report(
                    device, current=self.second, target=digest, phase=Phase.ROLLED_BACK, reason="crashed"
                )
            else:
                self.office.report(device, current=digest, target=digest)
            with self.office.context.unit() as session:
                devices.saw(session, [device], self.office.clock.now)

    def tick(self, seconds: float = 1.0) -> None:
        """Pass some time: devices first, then one pass of the loop."""
        office = self.office
        office.clock.now += seconds
        self.follow()
        drills.carry_on(office.context, office.clock.now)
        Advancing(office.context.engine, office.opened.baselines, office.context.settings).advance(
            "digits", office.clock.now
        )

    def run(self, number: int, *, ticks: int = 10, seconds: float = 1.0) -> DrillView:
        for _ in range(ticks):
            if drills.show(self.office.context, number).ended_at is not None:
                break
            self.tick(seconds)
        return drills.show(self.office.context, number)

    def start(self, **options: Any) -> DrillView:
        request = DrillRequest("digits", **{"patience": 60.0, **options})
        return drills.start(self.office.context, OPERATOR, request, "the spring drill")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    office = open_office(tmp_path / "controller")
    office.install()
    first, second = (office.release(number).version.digest for number in ("1.0.0", "1.1.0"))
    made = Site(office, first, second)
    office.enrol(*FLEET)
    for device in FLEET:
        office.report(device, current=made.first, target=made.first)
    plan = {"stages": [{"percent": 100}], "control": 0.0}
    request = RolloutRequest("digits@1.1.0", "digits@1.0.0", plan)
    number = rollouts.start_rollout(office.context, OPERATOR, request).rollout.id
    for _ in range(5):
        made.tick()
        if rollouts.show_rollout(office.context, number).rollout.phase == "completed":
            break
        rollouts.promote(office.context, OPERATOR, number, "for the test")
    yield made
    office.opened.close()


def test_a_drill_goes_there_and_back_and_measures_each_device(site: Site) -> None:
    drill = site.start(where="site = oslo")
    away = site.assigned()
    done = site.run(drill.id)
    rollout = rollouts.show_rollout(site.office.context, drill.rollout).rollout

    assert {name for name, digest in away.items() if digest == site.first} == {"oslo-1", "oslo-2"}
    assert (done.phase, done.why) == ("done", "")
    assert [(trip.device, trip.away_seconds, trip.back_seconds) for trip in done.devices] == [
        ("oslo-1", 1.0, 1.0),
        ("oslo-2", 1.0, 1.0),
    ]
    assert done.seconds == 1.0
    assert set(site.assigned().values()) == {site.second}
    assert (rollout.phase, rollout.version.name, rollout.previous and rollout.previous.name) == (
        "rolled-back",
        "digits@1.0.0",
        "digits@1.1.0",
    )


def test_without_a_selector_three_devices_take_part(site: Site) -> None:
    drill = site.start()

    assert len(drill.devices) == 3
    assert sum(digest == site.first for digest in site.assigned().values()) == 3


def test_a_device_that_does_not_come_back_makes_it_incomplete_and_is_named(site: Site) -> None:
    drill = site.start(where="site = oslo")
    site.tick()
    site.offline.add("oslo-2")
    done = site.run(drill.id, ticks=20, seconds=10.0)

    assert done.phase == "incomplete"
    assert done.why == "not back after 60 s: oslo-2"
    assert done.seconds is None
    assert {trip.device: trip.back_seconds is None for trip in done.devices} == {
        "oslo-1": False,
        "oslo-2": True,
    }


def test_a_device_that_never_went_makes_it_incomplete(site: Site) -> None:
    site.broken.add("berlin-1")
    done = site.run(site.start(where="site = berlin").id, ticks=20, seconds=10.0)

    assert done.phase == "incomplete"
    assert "never went: berlin-1" in done.why
    assert set(site.assigned().values()) == {site.second}


def test_a_drill_survives_a_restart_between_any_two_steps(site: Site) -> None:
    """Nothing of it is in memory: each pass is made by parts that were made anew."""
    drill = site.start(where="site = oslo")
    for _ in range(4):
        reopened = Site(site.office, site.first, site.second)
        reopened.tick()

    assert drills.show(site.office.context, drill.id).phase == "done"


def test_somebody_who_aborts_the_rollout_ends_the_drill_with_the_reason(site: Site) -> None:
    drill = site.start(where="site = oslo")
    rollouts.abort(site.office.context, OPERATOR, drill.rollout, mode="revert", reason="not now")
    done = site.run(drill.id)

    assert done.phase == "incomplete"
    assert "steered by somebody" in done.why
    assert set(site.assigned().values()) == {site.second}


def test_it_is_in_the_audit_trail_with_its_result(site: Site) -> None:
    drill = site.start(where="site = oslo")
    site.run(drill.id)
    deeds = history.list_audit(site.office.context, AuditFilter(subject=f"drill {drill.id}")).items

    assert [(one.actor, one.action) for one in deeds] == [
        ("controller", "drill.end"),
        (OPERATOR, "drill.start"),
    ]
    assert deeds[0].detail == {"phase": "done", "seconds": 1.0, "why": ""}
    assert deeds[1].reason == "the spring drill"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"where": "site = paris"}, ConflictError, "no device that 'site = paris' names is reachable"),
        ({"where": "site ="}, RequestError, "column"),
        ({"devices": 0}, RequestError, "expected 1 to 10"),
        ({"devices": 11}, RequestError, "expected 1 to 10"),
        ({"patience": 0.0}, RequestError, "expected 1 to 86400"),
        ({"other": "digits@9.9.9"}, NotFoundError, r"digits@9\.9\.9"),
        ({"other": "digits@1.1.0"}, RequestError, "must differ"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(
    site: Site, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        site.start(**options)

    assert drills.list_drills(site.office.context) == ()
    assert set(site.assigned().values()) == {site.second}


def test_a_model_without_an_earlier_version_has_nothing_to_rehearse(tmp_path: Path) -> None:
    office = open_office(tmp_path / "young")
    try:
        office.install()
        digest = office.release("1.0.0").version.digest
        office.enrol("oslo-1")
        office.report("oslo-1", current=digest, target=digest)
        request = RolloutRequest("digits@1.0.0", None, {"stages": [{"percent": 100}], "control": 0.0})
        rollouts.start_rollout(office.context, OPERATOR, request)

        with pytest.raises(ConflictError, match="no earlier version that may run"):
            drills.start(office.context, OPERATOR, DrillRequest("digits"))
    finally:
        office.opened.close()


def test_two_drills_do_not_move_the_same_devices(site: Site) -> None:
    site.start(where="site = oslo")

    with pytest.raises(ConflictError):
        site.start(where="site = oslo", other="digits@1.0.0")


def findings(site: Site) -> list[str]:
    shown = overview.show_overview(site.office.context).attention
    return [one.title for one in shown if one.what == "drill"]


def test_a_rehearsal_that_is_overdue_is_a_finding_until_one_ends_well(site: Site) -> None:
    young = findings(site)
    site.office.clock.now += 91 * DAY
    site.follow()
    overdue = findings(site)
    site.run(site.start(where="site = oslo").id)
    rehearsed = findings(site)
    site.office.clock.now += 91 * DAY

    assert young == []
    assert overdue == ["the rollback of digits was never rehearsed; at least every 90 days is asked for"]
    assert rehearsed == []
    assert "was last rehearsed on" in findings(site)[0]


def test_the_page_of_the_model_shows_drills_and_starts_one(site: Site) -> None:
    with TestClient(make_dashboard(site.office.context, "first"), follow_redirects=False) as browser:
        assert browser.post("/login", data={"token": "first"}).status_code == 303
        shown = browser.get("/models/digits").text
        token = re.search(r'name="form_token" value="([0-9a-f]{64})"', shown)
        assert token is not None
        form = {"form_token": token[1], "where": "site = oslo", "reason": "spring"}
        done = browser.post("/models/digits/drill", data=form)
        site.run(1)
        after = browser.get("/models/digits").text

    assert "Never rehearsed" in shown
    assert done.status_code == 303
    assert re.search(r"oslo-1 1 s, oslo-2 1 s", after)


def test_the_command_line_follows_a_drill_and_lists_it(site: Site) -> None:
    with served(site.office) as at:
        with ticking(site):
            done = at.muster(
                "drill", "rollback", "digits", "--where", "site = oslo", "--reason", "spring", "-o", "json"
            )
        listed = at.muster("drill", "list")
        shown = at.muster("drill", "show", "1")
        status = at.muster("status")

    drill = json.loads(done.out)
    assert (done.code, drill["phase"]) == (0, "done")
    assert drill["seconds"] > 0
    assert "digits@1.1.0" in listed.out
    assert "RESTORED AFTER S" in shown.out
    assert "rehearsed" not in status.out


@contextlib.contextmanager
def ticking(site: Site) -> Iterator[None]:
    """Let devices and the loop go on, as in a controller that runs, until the block ends."""
    ending = threading.Event()

    def go_on() -> None:
        while not ending.wait(0.05):
            site.tick()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def test_the_api_starts_shows_and_lists_drills(site: Site) -> None:
    client = Client(site.office)
    made = client.post("/drills", {"model": "digits", "where": "site = lyon", "reason": "spring"}, status=201)
    site.run(made["id"])

    assert client.get(f"/drills/{made['id']}")["phase"] == "done"
    assert names(client.get("/drills", model="digits")["items"]) == [made["id"]]
    assert client.get("/drills", model="other")["items"] == []
    client.refusal("GET", "/drills/99", status=404)


def names(found: Collection[dict[str, Any]]) -> list[Any]:
    return [one["id"] for one in found]
