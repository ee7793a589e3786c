"""A rollout in a database: what it is told besides windows, and its evidence computed again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlmodel import col, select, update

from muster_controller.domain.facts import FirstCrash
from muster_controller.domain.labels.counts import of_class, total
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import rollouts
from muster_controller.service.rollout_explain import explain
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.stepping import Course, course_of
from muster_controller.store import assignments, devices, events, labels, windows
from muster_controller.store.engine import Reading, Unit, table
from muster_controller.store.labels import Cell, Entry
from muster_controller.store.observed import observe
from muster_controller.store.tables import WindowRecord
from muster_models.errors import RequestError
from muster_models.wire import Event
from support.controller import window_of
from support.database_marks import BOTH
from support.office import OPERATOR, Office, open_office

FLEET = tuple(f"{site}-{number}" for site in ("berlin", "lyon", "oslo") for number in (1, 2, 3))
SECONDS = 10.0  # a round
PLAN = {
    "stages": [{"percent": 40, "soak_seconds": 30, "minimum_rounds": 3}, {"percent": 100}],
    "control": 0.4,
    "seed": "3",
    "round_seconds": SECONDS,
    "before_rounds": 3,
    "margins": {"counters": {"scrap": {"margin": 0.1}}},
}


@dataclass
class Site:
    """A fleet that lives with a rollout.

    Attributes:
        scrap: Parts scrapped per call, by the version that answers.
    """

    office: Office
    old: str
    new: str
    scrap: dict[str, float]
    number: int = 0

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(5)
        context = self.office.context
        self.advancing = Advancing(context.engine, self.office.opened.baselines, context.settings)

    def start(self, **plan: Any) -> None:
        """Start a rollout of the new version."""
        request = RolloutRequest("digits@1.1.0", None, {**PLAN, **plan})
        self.number = rollouts.start_rollout(self.office.context, OPERATOR, request, "better").rollout.id

    def live(self, rounds: int) -> None:
        """Let rounds pass: devices take what they are assigned, answer and count; the rollout decides."""
        for _ in range(rounds):
            self.office.clock.now += SECONDS
            with self.office.context.unit() as session:
                devices.saw(session, FLEET, self.office.clock.now)
                assigned = assignments.of_model(session, "digits")
            for device in FLEET:
                self.office.report(device, current=assigned[device], target=assigned[device])
                self._answer(device, assigned[device])
            self.advancing.advance("digits", self.office.clock.now)

    def _answer(self, device: str, digest: str) -> None:
        now = self.office.clock.now
        window = window_of(
            self.chance.normal(size=(100, 1)),
            self.office.baseline,
            device=device,
            manifest=digest,
            start=now - SECONDS,
            end=now,
            counters={"scrap": int(self.chance.poisson(100 * self.scrap[digest]))},
        )
        with self.office.context.unit() as session:
            windows.add(session, [(window, 100)], now)

    def course(self) -> Course:
        with Reading(self.office.context.engine) as session:
            return course_of(session, self.number)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = open_office(tmp_path / "controller")
    made.install()
    old = made.release("1.0.0").version.digest
    new = made.release("1.1.0").version.digest
    made.enrol(*FLEET)
    given = dict.fromkeys(FLEET, old)
    with made.context.unit() as session:
        assignments.assign(session, "digits", given, rollout=0, probation_seconds=1.0, now=made.clock.now)
    for device in FLEET:
        made.report(device, current=old, target=old)
    yield Site(made, old, new, {old: 0.2, new: 0.2})
    made.opened.close()


@BOTH
def test_a_version_that_scraps_more_goes_back_and_why_can_be_computed_again(site: Site) -> None:
    site.scrap[site.new] = 0.6
    site.live(6)
    site.start()
    site.live(30)
    shown = rollouts.show_rollout(site.office.context, site.number).rollout
    explained = explain(site.office.context, site.number, gate="counter scrap")

    assert shown.phase in {"rolling-back", "rolled-back"}
    assert explained.differences == ()
    assert explained.same
    assert explained.rounds[-1].evidence >= explained.rounds[-1].bound
    assert explained.rounds[-1].effect == pytest.approx(0.4, abs=0.1)


def test_a_stored_window_that_was_changed_afterwards_shows(site: Site) -> None:
    site.live(6)
    site.start()
    site.live(12)
    before = explain(site.office.context, site.number)
    with Unit(site.office.context.engine) as session:
        forged = update(table(WindowRecord)).where(col(WindowRecord.digest) == site.new)
        session.execute(forged.values(counters={"scrap": 99}))
    after = explain(site.office.context, site.number)

    assert before.same
    assert len(before.rounds) > 0
    assert any(words.startswith("counter scrap") for words in after.differences)
    assert not after.same


def test_what_has_not_begun_or_is_no_gate_cannot_be_explained(site: Site) -> None:
    site.start(start_at=site.office.clock.now + 1000)
    with pytest.raises(RequestError, match="has not begun"):
        explain(site.office.context, site.number)
    site.office.clock.now += 1000
    site.live(20)
    with pytest.raises(RequestError, match="there are errors"):
        explain(site.office.context, site.number, gate="eror")


@BOTH
def test_a_rollout_is_told_crashes_of_its_version_since_it_began(site: Site) -> None:
    now = site.office.clock.now
    early = Event("berlin-1", 1, 1, now - 50, "crashed", "digits", site.new)
    with site.office.context.unit() as session:
        events.add(session, early)
    site.start()
    site.live(1)
    later = site.office.clock.now
    with site.office.context.unit() as session:
        for device, digest in (("berlin-1", site.new), ("berlin-1", site.new), ("lyon-1", site.old)):
            events.add(session, Event(device, 1, 2, later, "crashed", "digits", digest))
    found = site.course()
    with Reading(site.office.context.engine) as session:
        seen = observe(session, found.plan, found.state)

    assert seen.crashes == {"berlin-1": 2}
    assert (seen.labels, seen.agreement, seen.reliability, seen.beside) == ([], {}, {}, ())


@BOTH
def test_a_rollout_that_compares_crashes_is_told_the_first_of_each_device_in_both_arms(site: Site) -> None:
    site.start(margins={"crashes": 1.5})
    site.live(1)
    later = site.office.clock.now
    told = (
        ("berlin-1", site.old, 0.0), ("berlin-1", site.new, 5.0), ("berlin-1", site.new, 9.0),
        ("lyon-1", site.new, 3.0), ("oslo-1", site.old, 4.0), ("oslo-2", "f" * 64, 1.0),
    )  # fmt: skip
    with site.office.context.unit() as session:
        for device, digest, at in told:
            events.add(session, Event(device, 1, 2, later + at, "crashed", "digits", digest))
        events.add(session, Event("oslo-3", 1, 2, later, "failed", "digits", site.new))
    found = site.course()
    with Reading(site.office.context.engine) as session:
        seen = observe(session, found.plan, found.state)

    assert seen.first_crashes == {
        "berlin-1": FirstCrash(later, of_version=False),
        "lyon-1": FirstCrash(later + 3, of_version=True),
        "oslo-1": FirstCrash(later + 4, of_version=False),
    }


def test_a_rollout_is_told_labels_once_where_it_asks_for_them(site: Site) -> None:
    now = site.office.clock.now
    cell = Cell("berlin-1", "digits", site.old, now - 10, now)
    right = total([*[of_class(1, 1, confidence=0.9)] * 8, *[of_class(1, 2, confidence=0.9)] * 2])
    with site.office.context.unit() as session:
        labels.add(session, [Entry(cell, right), Entry(cell, right, correction=True)], actor="anna", now=now)
    site.start(limits={"accuracy": 0.5})
    site.live(1)
    found = site.course()
    with Reading(site.office.context.engine) as session:
        again = observe(session, found.plan, found.state)

    assert found.state.ledger.labels_upto == 2
    assert found.state.ledger.before["berlin-1"]["labelled accuracy"].mean == 0.8
    assert (again.labels, again.labels_upto) == ([], 2)


def test_a_device_of_the_stage_that_crashes_too_often_ends_the_rollout(site: Site) -> None:
    site.live(6)
    site.start()
    site.live(5)
    stage = [name for name, member in site.course().state.members.items() if member.arm == CONTROL + 1]
    with site.office.context.unit() as session:
        for second in range(4):
            at = site.office.clock.now + second
            events.add(session, Event(stage[0], 1, second + 1, at, "crashed", "digits", site.new))
    site.live(1)
    shown = rollouts.show_rollout(site.office.context, site.number).rollout

    assert shown.phase == "rolling-back"
    assert f"crashes: on 1 devices: {stage[0]} 4" in str(shown)


def test_windows_of_the_devices_that_are_compared_are_read_by_number(site: Site) -> None:
    site.live(3)
    with Reading(site.office.context.engine) as session:
        every = windows.newer(session, "digits", upto=0, limit=100)
        some = windows.of_devices(
            session, "digits", ["lyon-1", "oslo-2"], since=0.0, upto=every[-4].id, limit=100
        )
        rows = session.exec(select(WindowRecord.counters)).all()

    assert [one.id for one in some] == sorted(one.id for one in some)
    assert {one.device for one in some} == {"lyon-1", "oslo-2"}
    assert all(one.id <= every[-4].id for one in some)
    assert all(counters is not None for counters in rows)
