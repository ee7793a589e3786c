"""Four rollouts and an emergency stop on a real fleet: controller, broker, database, agents and models.

A version as good as the one before is promoted. One that is wrong for five parts in a hundred more is stopped
and taken back everywhere, by what its application counts and by nobody's hand. While the broker stands still
nothing is promoted. A device that was switched off obeys a stop when it comes back.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from muster_controller.cli.exits import Exit
from story.fleet import DEVICES
from support import rollout_fleet
from support.digit_versions import MODEL
from support.rollout_fleet import FIRST, GOOD, NEXT, WORSE, RolloutFleet
from support.sorting import BATCH, COUNTER

log = logging.getLogger(__name__)
Found = dict[str, Any]

AWAY = DEVICES[-1]
MARGIN = 0.02 * BATCH  # of scrap in a call: two parts in a hundred, where the worse version does five
GATE = f"counter {COUNTER}"
# All devices share the processors of this machine, so that how fast one answers says nothing of its version;
# and with so many parts in a call there are too few calls to compare how many fail: the limit alone holds.
PLAN = f"""\
version: {MODEL}@{{version}}
stages:
{{stages}}
control: 25%
margins:
  counters:
    {COUNTER}: {{{{margin: {MARGIN:g}}}}}
  weights: {{{{errors: 0, latency: 0, slow calls: 0, slowest calls: 0}}}}
before_rounds: 10
minimum_rows: 2
probation: 1s
stage_deadline: {{deadline}}
seed: e2e
"""
STAGES = ("count: 2", "percent: 50", "percent: 100")
SOAK, ROUNDS, DEADLINE = "3s", 4, "10m"
# Rounds that cannot all come before the broker is halted, and a deadline that is not waited for too long.
LONG_SOAK, MANY_ROUNDS, SHORT_DEADLINE = "8s", 12, "20s"


@dataclass
class Course:
    """What was read back from the controller and seen on devices.

    Attributes:
        previewed: What ``muster rollout plan`` said of the plan of the good version.
        exits: Of ``muster rollout watch``, by version.
        rollouts: As ``muster rollout show`` told them at their end, by version.
        explained: Their evidence computed again from the stored windows, by version.
        runs: Which device ran a version from when to when, by version.
        at_promotion, restored: Devices that ran the good version when its rollout, and when that of the worse
            one, was over.
        held: The rollout of the next version at the end of the outage, and ``held_exit`` how the watch ended.
        obeyed: Devices whose fallback answered: before the one that was away came back, afterwards, and once
            the stop was lifted.
        told: What the controller knew of the one that was away, meanwhile.
        answered: Calls that were, by device; ``errors`` tells of those that were not.
        ended: Processes that ended by themselves.
        audit: What people did, oldest first.
    """

    previewed: Found = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    rollouts: dict[str, Found] = field(default_factory=dict)
    explained: dict[str, Found] = field(default_factory=dict)
    runs: dict[str, list[Found]] = field(default_factory=dict)
    at_promotion: set[str] = field(default_factory=set)
    restored: set[str] = field(default_factory=set)
    held: Found = field(default_factory=dict)
    held_exit: int = 0
    obeyed: list[set[str]] = field(default_factory=list)
    told: Found = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    audit: list[Found] = field(default_factory=list)

    def verdicts(self, version: str, verdict: str) -> list[Found]:
        """Return the records of a rollout with one verdict, oldest first."""
        history = self.rollouts[version]["history"][::-1]
        return [one for one in history if one["verdict"] == verdict]

    def since(self, version: str, devices: set[str]) -> list[dt.datetime]:
        """Return when these devices began to run a version, oldest first."""
        return sorted(moment(run["since"]) for run in self.runs[version] if run["device"] in devices)

    def ran(self, version: str) -> set[str]:
        """Return the devices that ever ran a version."""
        return {run["device"] for run in self.runs[version]}

    def drawn(self, version: str, stages: int) -> set[str]:
        """Return the devices of the first stages of a rollout."""
        return {name for stage in self.rollouts[version]["stages"][:stages] for name in stage["names"]}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    with rollout_fleet.running(tmp_path_factory.mktemp("rollouts")) as fleet:
        yield follow(fleet)


def follow(fleet: RolloutFleet) -> Course:
    """Tell the whole course, and return what was seen."""
    course = Course()
    promote(fleet, course)
    roll_back(fleet, course)
    halt_the_broker(fleet, course)
    stop(fleet, course)
    fleet.sorting.stop()
    course.runs = {version: fleet.runs(version) for version in (FIRST, GOOD, WORSE, NEXT)}
    course.answered = {device: one.answered for device, one in fleet.sorting.sorters.items()}
    course.errors = fleet.sorting.errors
    course.ended = fleet.fleet.children.died()
    course.audit = fleet.muster("audit", "list")[::-1]
    return course


def promote(fleet: RolloutFleet, course: Course) -> None:
    plan = write_plan(fleet, GOOD, STAGES)
    course.previewed = fleet.muster("rollout", "plan", plan)
    finish(fleet, course, GOOD, fleet.start(plan))
    fleet.wait("the control follows", lambda: fleet.running(GOOD) == set(DEVICES))
    course.at_promotion = fleet.running(GOOD)


def roll_back(fleet: RolloutFleet, course: Course) -> None:
    finish(fleet, course, WORSE, fleet.start(write_plan(fleet, WORSE, STAGES)))
    course.restored = fleet.running(GOOD)


def halt_the_broker(fleet: RolloutFleet, course: Course) -> None:
    stages = STAGES[0], STAGES[-1]
    plan = write_plan(fleet, NEXT, stages, soak=LONG_SOAK, rounds=MANY_ROUNDS, deadline=SHORT_DEADLINE)
    number = fleet.start(plan)
    fleet.wait("the first stage soaks", lambda: where(fleet, number) == (0, "soak"))
    with fleet.broker_outage():
        course.held_exit = fleet.watch(number, "--until-hold")
        course.held = fleet.show(number)
    finish(fleet, course, NEXT, number)
    fleet.wait("the control follows", lambda: fleet.running(NEXT) == set(DEVICES))


def stop(fleet: RolloutFleet, course: Course) -> None:
    sorting, others = fleet.sorting, set(DEVICES) - {AWAY}
    sorting.end_inspection()
    with sorting.without(AWAY):
        fleet.fleet.children.stop(AWAY)
        fleet.muster("stop", MODEL, "--reason", "it takes sevens for ones")
        fleet.wait("who is there obeys", lambda: sorting.is_stopped == others)
        course.obeyed.append(sorting.is_stopped)
        course.told = said_of(fleet, AWAY)
        fleet.fleet.start_agent(AWAY)
        fleet.wait("who was away hears of it", lambda: bool(said_of(fleet, AWAY)["stopped"]))
    fleet.wait("who was away obeys", lambda: sorting.is_stopped == set(DEVICES))
    course.obeyed.append(sorting.is_stopped)
    fleet.muster("start", MODEL, "--reason", "it does not")
    fleet.wait("every model answers again", lambda: not sorting.is_stopped)
    course.obeyed.append(sorting.is_stopped)


def write_plan(
    fleet: RolloutFleet,
    version: str,
    sizes: tuple[str, ...],
    *,
    soak: str = SOAK,
    rounds: int = ROUNDS,
    deadline: str = DEADLINE,
) -> Path:
    stages = "\n".join(f"  - {{{size}, soak: {soak}, minimum_rounds: {rounds}}}" for size in sizes)
    plan = fleet.fleet.folder / f"plan-of-{version}.yaml"
    plan.write_text(PLAN.format(version=version, stages=stages, deadline=deadline))
    return plan


def finish(fleet: RolloutFleet, course: Course, version: str, number: int) -> None:
    """Wait until a rollout is over, and keep how it ended."""
    course.exits[version] = fleet.watch(number)
    course.rollouts[version] = fleet.show(number)
    course.explained[version] = fleet.muster("rollout", "explain", str(number))


def where(fleet: RolloutFleet, number: int) -> tuple[int, str]:
    rollout = fleet.api.get(f"/rollouts/{number}")["rollout"]
    return rollout["stage"], rollout["step"]


def said_of(fleet: RolloutFleet, device: str) -> Found:
    (found,) = fleet.api.get(f"/devices/{device}")["device"]["models"]
    return dict(found)


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def test_a_version_as_good_as_the_one_before_was_promoted_to_every_device(course: Course) -> None:
    assert course.exits[GOOD] == Exit.OK
    assert course.rollouts[GOOD]["rollout"]["phase"] == "completed"
    assert course.at_promotion == set(DEVICES)


def test_what_the_plan_showed_beforehand_is_who_was_drawn(course: Course) -> None:
    rollout = course.rollouts[GOOD]
    shown = [(stage["number"], stage["names"]) for stage in course.previewed["stages"]]

    assert course.previewed["obstacles"] == []
    assert shown == [(stage["number"], stage["names"]) for stage in rollout["stages"]]
    assert course.previewed["control"] == rollout["control"]
    assert course.drawn(GOOD, len(STAGES)) | set(rollout["control"]) == set(DEVICES)


def test_each_stage_was_promoted_by_evidence_and_the_control_waited_for_the_last(course: Course) -> None:
    counted = [one for one in course.explained[GOOD]["rounds"] if one["gate"] == GATE]
    last = {one["stage"]: one for one in counted}
    control = set(course.rollouts[GOOD]["control"])
    verdict = course.verdicts(GOOD, "healthy")[-1]

    assert sorted(last) == [1, 2, 3]
    assert all(one["rounds"] >= ROUNDS and one["assurance"] >= one["needed"] for one in last.values())
    assert (verdict["stage"], verdict["missing"]) == (len(STAGES) - 1, [])
    assert course.since(GOOD, control)[0] > moment(verdict["at"])


def test_a_version_that_is_worse_for_five_parts_in_a_hundred_was_stopped_early(course: Course) -> None:
    rollout = course.rollouts[WORSE]["rollout"]

    assert course.exits[WORSE] == Exit.ROLLOUT_FAILED
    assert (rollout["phase"], rollout["code"]) == ("rolled-back", "unhealthy")
    assert rollout["stage"] in {0, 1}


def test_it_was_stopped_by_what_the_application_counts_beside_the_control_and_by_nothing_else(
    course: Course,
) -> None:
    (verdict,) = course.verdicts(WORSE, "unhealthy")
    gates = {gate["name"]: gate for gate in verdict["gates"]}
    harm = gates[GATE]

    assert [name for name, gate in gates.items() if gate["verdict"] == "unhealthy"] == [GATE]
    assert harm["evidence"] >= harm["bound"]
    assert harm["low"] > MARGIN
    assert harm["value"] > harm["control"] > 0


def test_it_reached_nobody_but_the_stages_before_the_verdict(course: Course) -> None:
    stages = course.rollouts[WORSE]["rollout"]["stage"] + 1

    assert course.ran(WORSE) == course.drawn(WORSE, stages)
    assert len(course.ran(WORSE)) <= len(DEVICES) / 2


def test_it_was_taken_back_everywhere_before_the_watch_ended(course: Course) -> None:
    assert course.restored == set(DEVICES)
    assert course.rollouts[WORSE]["unreturned"] == []
    assert all(run["until"] is not None for run in course.runs[WORSE])


def test_how_long_the_way_back_took_is_known(
    course: Course, record_property: Callable[[str, object], None]
) -> None:
    (verdict,) = course.verdicts(WORSE, "unhealthy")
    back = max(moment(run["until"]) for run in course.runs[WORSE])
    took = (back - moment(verdict["at"])).total_seconds()
    told = (
        f"{len(course.ran(WORSE))} of {len(DEVICES)} devices ran it, restored {took:.1f} s after the verdict"
    )
    record_property("restored", told)
    log.info(told)

    assert took > 0


def test_while_the_broker_stood_still_the_rollout_came_to_hold_and_said_what_is_missing(
    course: Course,
) -> None:
    held = course.held["rollout"]

    assert course.held_exit == Exit.HOLDS
    assert (held["phase"], held["step"], held["stage"]) == ("running", "hold", 0)
    assert (held["code"], held["verdict"]) == ("no-evidence", "inconclusive")
    assert f"of {MANY_ROUNDS} rounds" in held["waiting"]
    assert f"of {MANY_ROUNDS} rounds" in " ".join(course.held["evidence"]["missing"])


def test_nobody_was_given_the_version_meanwhile_and_no_record_says_healthy(course: Course) -> None:
    held = moment(course.held["evidence"]["at"])
    admitted = {one["device"] for one in course.held["devices"] if one["given_at"] is not None}
    later = set(DEVICES) - course.drawn(NEXT, 1)

    assert admitted == course.drawn(NEXT, 1)
    assert all(moment(one["at"]) > held for one in course.verdicts(NEXT, "healthy"))
    assert course.since(NEXT, later)[0] > held


def test_when_the_broker_was_back_it_went_on_by_itself(course: Course) -> None:
    assert course.exits[NEXT] == Exit.OK
    assert course.rollouts[NEXT]["rollout"]["phase"] == "completed"
    assert {run["device"] for run in course.runs[NEXT] if run["until"] is None} == set(DEVICES)


@pytest.mark.parametrize("version", [GOOD, WORSE, NEXT])
def test_the_stored_windows_give_the_same_evidence_again(course: Course, version: str) -> None:
    explained = course.explained[version]

    assert explained["differences"] == []
    assert explained["same"] is True
    assert {one["gate"] for one in explained["rounds"]} >= {GATE}


def test_a_stop_reached_who_was_there_and_the_device_that_was_away_when_it_came_back(course: Course) -> None:
    there, everybody, nobody = course.obeyed

    assert there == set(DEVICES) - {AWAY}
    assert (course.told["stop_ordered"], course.told["stopped"]) == (True, False)
    assert everybody == set(DEVICES)
    assert nobody == set()


def test_since_the_versions_were_released_nobody_typed_anything_else(course: Course) -> None:
    deeds = [(one["actor"], one["action"]) for one in course.audit]
    released = max(index for index, (_, action) in enumerate(deeds) if action == "version.release")
    starts = [("operator", "rollout.start")] * 4

    assert deeds[released + 1 :] == [*starts, ("operator", "model.stop"), ("operator", "model.start")]


def test_no_call_went_without_an_answer_and_every_process_still_runs(course: Course) -> None:
    assert course.errors == []
    assert sorted(course.answered) == sorted(DEVICES)
    assert min(course.answered.values()) > 0
    assert course.ended == []
