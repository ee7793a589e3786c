"""What must hold of rollouts, restated from the plan alone: it shares no code with the machine that decides.

Looked at after every transaction of the controller, on what is committed: the states, the record of evidence,
what devices are told to run and what they said that they run.
"""

import copy
import datetime as dt
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from simulation import hearing, term_laws
from simulation.labelling import Truth
from simulation.outside import Catalogue
from simulation.story import Story
from simulation.versions import EXPECTED

Document = Mapping[str, Any]

BEFORE_THE_DRAW = frozenset({"", "draft", "pending-approval", "scheduled"})
GOING_BACK = frozenset({"rolling-back", "rolled-back", "rollback-incomplete"})
LIVE = frozenset(
    {"running", "paused", "rolling-back", "rollback-incomplete", "scheduled", "pending-approval"}
)
BAD_ENDS = frozenset({"failed", "rejected", "rolled-back"})
MINUTE = 60.0
LATE_ROUNDS = 2  # that had begun before a stage, and whose windows came after
PASSES = 2  # of the loop, in which what is due must have happened


@dataclass
class Course:
    """What is remembered of one rollout.

    Attributes:
        text: The state as it was last seen.
        admitted_at: When each stage was first seen admitted, by the controller's clock.
        told: Devices that were last told to run the version; ``ever``: at any time.
        judged: Devices that had been told so before the rollout completed or went back.
        orders: What an operator has ordered.
        overdue: Passes of the loop since the deadline.
        given: When devices were told to run the version.
        looks: When windows were taken in and rounds closed.
        names: Of the devices that there were when it was drawn: approval and schedule come before that.
        agreed: People who have agreed with the plan as it stands, and when.
        written: The plan as it was last seen.
        taken: When the version was taken away from devices, to be tried again.
        began: Whether anything has begun that people had to agree with.
        copies: When devices were told to download the version; ``bytes_each``: what each of them downloads.
    """

    written: str
    plan: Document
    text: str = ""
    state: Document = field(default_factory=dict)
    admitted_at: dict[int, float] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    ever: set[str] = field(default_factory=set)
    judged: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    overdue: int = 0
    given: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    names: frozenset[str] = frozenset()
    agreed: list[tuple[str, float]] = field(default_factory=list)
    taken: dict[str, list[float]] = field(default_factory=dict)
    began: bool = False
    copies: list[float] = field(default_factory=list)
    bytes_each: int = 0

    @property
    def first(self) -> int:
        """How many devices the first stage has, at most."""
        return _most(self.plan, {"phase": "running", "step": "admit", "admitted": 1}, len(self.names))

    @property
    def controls(self) -> int:
        """How many devices keep the version before it."""
        return _controls(self.plan, len(self.names))

    @property
    def phase(self) -> str:
        return str(self.state["phase"]) if self.state else ""


class RolloutLaws:
    """Looks at rollouts.

    Args:
        broke: Writes down that a law does not hold.

    Attributes:
        courses: By number.
        moves: How often a rollout has got somewhere else.
        admitted: Devices that were ever told to run a version, by digest.
        truth: What applications have said of predictions.
    """

    def __init__(self, catalogue: Catalogue, story: Story, broke: Callable[[str, str], None]) -> None:
        self._catalogue = catalogue
        self._sick = {member.name for member in story.fleet if member.site == story.sick}
        self._zones = {member.name: member.zone for member in story.fleet}
        self._is_punctual = not story.faults and story.weather.loss == 0
        self._broke = broke
        self.courses: dict[int, Course] = {}
        self.moves = 0
        self.admitted: dict[str, set[str]] = {}
        self.truth = Truth()
        self._evidence = 0
        self._newest: dict[int, Document] = {}  # evidence, by rollout

    def remember(self, before: "RolloutLaws") -> None:
        """Go on from what another one has seen."""
        for name in ("courses", "admitted", "_evidence", "_newest"):
            setattr(self, name, copy.deepcopy(getattr(before, name)))

    def ordered(self, number: int, order: str) -> None:
        """Remember what an operator orders."""
        self.courses[number].orders.add(order)

    def agreed(self, number: int, person: str, now: float) -> None:
        """Remember that a person agrees."""
        self.courses[number].agreed.append((person, now))

    def is_due(self, now: float) -> bool:
        """Tell whether time alone may lead on."""
        live = [course.state for course in self.courses.values() if course.phase in LIVE]
        return any(
            state.get("due") or (state["deadline"] is not None and now >= state["deadline"]) for state in live
        )

    def look(self, connection: sqlite3.Connection, now: float) -> None:
        """Look at what is committed."""
        told: dict[str, set[str]] = {}
        for device, digest in connection.execute("SELECT device, digest FROM assignment"):
            told.setdefault(digest, set()).add(device)
        for digest, devices in told.items():
            self.admitted.setdefault(digest, set()).update(devices)
        fresh = self._read_evidence(connection)
        rows = connection.execute("SELECT id, digest, plan, state FROM rollout ORDER BY id").fetchall()
        for number, digest, plan, text in rows:
            course = self._course(number, digest, plan)
            if course.phase in BEFORE_THE_DRAW:
                rows_of_devices = connection.execute("SELECT id FROM device").fetchall()
                course.names = frozenset(name for (name,) in rows_of_devices)
            given = frozenset(told.get(digest, ()))
            if (course.text, course.told) != (text, given) or number in fresh:
                before, course.state, course.text = course.state, json.loads(text), text
                self.moves += _place(before) != _place(course.state)
                if _taken(before) != _taken(course.state):
                    course.looks.append(course.state["at"])
                self._look_at_one(connection, number, course, before=before, told=given, now=now)
                course.told = given
                course.ever |= given
                if not _is_finish(course.state):
                    course.judged |= given
                if (_place(before), before.get("deadline")) != (
                    _place(course.state),
                    course.state["deadline"],
                ):
                    course.overdue = 0

    def _course(self, number: int, digest: str, written: str) -> Course:
        """Return what is remembered of a rollout whose plan is written so."""
        course = self.courses.get(number)
        if course is None:
            each = sum(map(len, self._catalogue.versions[digest].blobs.values()))
            course = self.courses[number] = Course(written, json.loads(written), bytes_each=each)
        if course.written != written:
            term_laws.edit(f"rollout {number}", course, written, broke=self._broke)
        return course

    def passed(self, now: float) -> None:
        """See, after a pass of the loop, that no rollout rests beyond its deadline or without a reason."""
        for number, course in self.courses.items():
            state = course.state
            if not state or course.phase not in LIVE:
                continue
            if state["deadline"] is None and not state["waiting"]:
                self._broke("a rollout ends or says what it waits for", f"rollout {number}: {state['phase']}")
            course.overdue += state["deadline"] is not None and now >= state["deadline"]
            if course.overdue > PASSES:
                detail = f"rollout {number}: {state['phase']} {state['step']} since {state['since']}"
                self._broke("a deadline leads on", detail)

    def _read_evidence(self, connection: sqlite3.Connection) -> set[int]:
        """Look at the evidence that is new, each by itself; return whose it is."""
        query = "SELECT id, rollout, verdict, content FROM evidence WHERE id > ? ORDER BY id"
        fresh = set()
        for identity, number, verdict, text in connection.execute(query, (self._evidence,)).fetchall():
            self._evidence = identity
            fresh.add(number)
            self._newest[number] = content = json.loads(text)
            due = _verdict(content)
            if {verdict, content["verdict"]} != {due}:
                self._broke(
                    "a verdict follows from its gates", f"rollout {number}: {verdict}, expected {due}"
                )
        return fresh

    def _look_at_one(
        self,
        connection: sqlite3.Connection,
        number: int,
        course: Course,
        *,
        before: Document,
        told: frozenset[str],
        now: float,
    ) -> None:
        name, after = f"rollout {number}", course.state
        self._look_at_exposure(name, course, told, now)
        if course.phase in GOING_BACK or course.phase == "rolled-back":
            self._look_at_way_back(connection, name, course, before=before, told=told)
        term_laws.look(name, course, told, now=now, broke=self._broke)
        if course.plan.get("retry") and course.phase in term_laws.UNDER_WAY:
            term_laws.look_at_retries(connection, number, course, now=after["at"], broke=self._broke)
        if not before:
            course.admitted_at = dict.fromkeys(range(after["admitted"]), now)
            return
        if after["admitted"] > before["admitted"]:
            course.admitted_at[after["admitted"] - 1] = now
        self._look_at_progress(connection, number, course, before)
        self._look_at_soak(name, course, before, now)
        self._look_at_rounds(name, course, now)
        found = self._newest.get(number)
        if found and found["verdict"] == "unhealthy" and course.phase in {"running", "paused", "completed"}:
            self._broke("harm rolls back at once", f"{name} is {course.phase}")

    def _look_at_progress(
        self, connection: sqlite3.Connection, number: int, course: Course, before: Document
    ) -> None:
        """See that one stage follows the other, and the last one the end."""
        name, after = f"rollout {number}", course.state
        steps = after["admitted"] - before["admitted"] + _is_finish(after) - _is_finish(before)
        if steps > 1 or after["admitted"] < before["admitted"]:
            self._broke("one stage follows the other", f"{name}: {before['admitted']} {after['admitted']}")
        if before["phase"] == course.phase == "paused" and _place(before) != _place(after):
            self._broke("what is paused rests", f"{name}: {_place(before)}, then {_place(after)}")
        if steps > 0 and before["admitted"] > 0:
            self._look_at_promotion(number, course, stage=before["admitted"] - 1)
            self._look_at_hearing(connection, number, course, stage=before["admitted"] - 1)
            term_laws.look_at_labels(
                name, course, self.truth, stage=before["admitted"] - 1, broke=self._broke
            )
        if _is_finish(after) and after["admitted"] != len(course.plan["stages"]):
            self._broke("a rollout completes after its last stage", f"{name}: stage {after['admitted']}")
        if course.phase == "aborted" and "withhold" not in course.orders:
            self._broke("an order is obeyed", f"{name} is aborted and not rolled back")

    def _look_at_soak(self, name: str, course: Course, before: Document, now: float) -> None:
        """See that what counts as soaked has soaked."""
        if before["soaked"] or not course.state["soaked"]:
            return
        wanted = course.plan["stages"][before["stage"]]["soak_seconds"]
        if before["step"] != "soak" or now - before["since"] < wanted:
            told = f"{before['step']} since {before['since']}, now {now}"
            self._broke("a stage soaks", f"{name}: {told}, {wanted:g} s wanted")

    def _look_at_exposure(self, name: str, course: Course, told: frozenset[str], now: float) -> None:
        state, kind = course.state, self._catalogue.versions[course.plan["digest"]].kind
        most, drawn = _most(course.plan, state, len(course.names)), told & course.names
        if len(drawn) > most:
            self._broke("exposure never exceeds the stage", f"{name}: {len(drawn)} devices, {most} allowed")
        if state["admitted"] > EXPECTED[kind].stages and course.plan["previous"]:
            self._broke("a bad version stays in its stage", f"{name}: stage {state['admitted']} of {kind}")
        if course.phase in {"running", "paused"} and not _recalls(course.plan) and course.told - told:
            self._broke("what was given stays given", f"{name}: {sorted(course.told - told)}")
        if course.phase == "paused" and told - course.told and course.told:
            self._broke("what is paused admits nothing", f"{name}: {sorted(told - course.told)}")
        self._look_at_pace(name, course, told - course.told, now)

    def _look_at_pace(self, name: str, course: Course, fresh: frozenset[str], now: float) -> None:
        """See that devices are given a version when and as fast as its plan says."""
        ramp, windows = course.plan.get("ramp"), course.plan.get("windows")
        course.given += [now] * len(fresh)
        if ramp and sum(now - at < MINUTE for at in course.given) > ramp["per_minute"]:
            self._broke(
                "the ramp is kept", f"{name}: {len(fresh)} devices at once, {ramp['per_minute']} a minute"
            )
        for device in fresh:
            wall = dt.datetime.fromtimestamp(now, ZoneInfo(self._zones[device])).strftime("%H:%M")
            if windows and not any(_is_between(window, wall) for window in windows):
                self._broke("maintenance windows are kept", f"{name}: {device} at {wall}")

    def _look_at_promotion(self, number: int, course: Course, *, stage: int) -> None:
        """See that a stage was seen for long enough and judged healthy."""
        name, found, wanted = f"rollout {number}", self._newest.get(number), course.plan["stages"][stage]
        if found is None or found["verdict"] != "healthy" or found["stage"] != stage:
            told = found and (found["verdict"], found["stage"])
            self._broke("only what is judged healthy is promoted", f"{name}: stage {stage}, judged {told}")
        elif found["rounds"] < wanted["minimum_rounds"]:
            self._broke("a stage is seen for long enough", f"{name}: {found['rounds']} rounds")

    def _look_at_hearing(
        self, connection: sqlite3.Connection, number: int, course: Course, *, stage: int
    ) -> None:
        """See that a stage ends with everybody heard who can speak, and with nothing overlooked."""
        since = course.admitted_at.get(stage)
        if course.plan["previous"] is None or since is None:
            return
        name, kind = f"rollout {number}", self._catalogue.versions[course.plan["digest"]].kind
        seen = hearing.look_at(connection, number, course.plan, since=since, looks=course.looks)
        if silent := hearing.unheard(seen):
            self._broke("who can speak is heard before a stage ends", f"{name}: stage {stage}, {silent}")
        is_last = stage == len(course.plan["stages"]) - 1
        if is_last and EXPECTED[kind].reveals and (shown := hearing.revealing(seen, self._sick)):
            self._broke("what one site shows is not overlooked", f"{name}: {shown}")

    def _look_at_rounds(self, name: str, course: Course, now: float) -> None:
        """See that a stage counts no rounds but its own; windows that come late may add some."""
        if not self._is_punctual:
            return
        found, since = course.state["evidence"], course.admitted_at.get(course.state["stage"])
        if found is None or since is None or found["stage"] != course.state["stage"] or found["at"] < since:
            return
        most = 1.1 * (now - since) / course.plan["round_seconds"] + LATE_ROUNDS  # windows may end early
        if found["rounds"] > most:
            self._broke(
                "every stage is judged anew", f"{name}: {found['rounds']} rounds since {since}, now {now}"
            )

    def _look_at_way_back(
        self,
        connection: sqlite3.Connection,
        name: str,
        course: Course,
        *,
        before: Document,
        told: frozenset[str],
    ) -> None:
        digest, number = course.plan["digest"], int(name.split()[1])
        found = self._newest.get(number)
        is_ordered = bool(course.orders & {"abort", "rollback"})
        if not is_ordered and (found is None or found["verdict"] != "unhealthy"):
            self._broke("only harm or an order rolls back", name)
        if told:
            self._broke("who goes back is told so", f"{name}: {sorted(told)} are told to run it")
        if course.phase != "rolled-back" or before.get("phase") == "rolled-back":
            return
        query = (
            "SELECT device FROM running WHERE current = ? OR (target = ? AND phase NOT IN (?, ?, ?, ?, ?, ?))"
        )
        settled = (*sorted(BAD_ENDS), "idle", "committed", "superseded")
        left = connection.execute(query, (digest, digest, *settled)).fetchall()
        if left:
            self._broke("rolled back means that no device runs it", f"{name}: {left}")

    def look_at_counts(self, connection: sqlite3.Connection) -> None:
        """See that the four denominators of the newest evidence are no more than what devices said.

        Evidence from before an order is left out: devices may have said something else since.
        """
        for number, course in self.courses.items():
            found = course.state.get("evidence")
            if course.phase != "running" or not found or found["at"] != course.state["at"]:
                continue
            digest, counts = course.plan["digest"], found["denominators"]
            wrong = _miscounted(connection, digest, counts, ever=len(course.ever))
            if wrong:
                self._broke("counts add up", f"rollout {number}: {wrong}, got {counts}")


def _verdict(content: Document) -> str:
    """Return the verdict that follows from the gates of a piece of evidence."""
    verdicts = Counter(gate["verdict"] for gate in content["gates"])
    if verdicts["unhealthy"]:
        return "unhealthy"
    doubted = verdicts["inconclusive"] or content["missing"]
    experiment = [gate["verdict"] for gate in content.get("experiment", ())]
    return "inconclusive" if doubted or set(experiment) - {"healthy"} else "healthy"


def _taken(state: Document) -> tuple[int, int]:
    ledger = state.get("ledger", {})
    return ledger.get("upto", 0), ledger.get("closed", -1)


def _place(state: Document) -> tuple[object, ...]:
    return tuple(state.get(name) for name in ("phase", "step", "stage", "admitted", "soaked"))


def _is_between(window: Document, wall: str) -> bool:
    """Tell whether a time of day lies in a window, which may pass midnight."""
    first, last = str(window["start"]), str(window["end"])
    return first <= wall < last if first < last else wall >= first or wall < last


def _is_finish(state: Document) -> bool:
    return bool(state["phase"] == "completed" or state["step"] == "finish")


def _most(plan: Document, state: Document, total: int) -> int:
    """Return how many devices may be told to run a version, as its plan says it."""
    if _is_finish(state) and state["phase"] not in GOING_BACK:
        return total
    admitted = state["admitted"]
    controls = _controls(plan, total)
    if admitted == 0:
        return 0
    stage = plan["stages"][admitted - 1]
    if admitted == len(plan["stages"]):
        return total - controls
    size = stage["count"] if stage.get("count") else max(1, math.ceil(stage["percent"] * total / 100))
    return min(int(size), total - controls)


def _controls(plan: Document, total: int) -> int:
    if plan["previous"] is None or total <= 1 or not plan["control"]:
        return 0
    return min(max(1, round(float(plan["control"]) * total)), total - 1)


def _recalls(plan: Document) -> bool:
    """Tell whether a plan may take a version away from one device: to try again, or outside its windows."""
    return bool(plan.get("retry") or plan.get("windows") or plan.get("ramp") or plan.get("byte_budget"))


def _miscounted(connection: sqlite3.Connection, digest: str, counts: Document, *, ever: int) -> str:
    def how_many(query: str) -> int:
        (number,) = connection.execute(query, {"digest": digest}).fetchone()
        return int(number)

    executed = how_many(
        "SELECT count(*) FROM running WHERE current = :digest "
        "OR (target = :digest AND phase IN ('failed', 'rejected', 'rolled-back'))"
    )
    reporting = how_many("SELECT count(DISTINCT device) FROM window WHERE digest = :digest AND calls > 0")
    if counts["targeted"] > ever:
        return f"{ever} devices were ever told"
    if counts["executed"] > min(executed, counts["targeted"]):
        return f"{executed} devices said what became of it"
    if counts["reporting"] > reporting:
        return f"{reporting} devices have sent windows"
    return "more reachable than targeted" if counts["reachable"] > counts["targeted"] else ""
