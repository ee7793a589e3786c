"""What the terms of a plan ask for, restated.

Approvals and edits, retries, the byte budget, late joiners, and the truth about predictions.
"""

import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from simulation.labelling import Truth

if TYPE_CHECKING:
    from simulation.rollout_laws import Course

Document = Mapping[str, Any]
Broke = Callable[[str, str], None]

MOMENT = 0.1  # seconds: instants are stored as milliseconds
UNDER_WAY = frozenset({"running", "paused"})
EDITABLE = frozenset({"pending-approval", "scheduled"})


def look(name: str, course: "Course", told: frozenset[str], *, now: float, broke: Broke) -> None:
    """Look at one rollout, whose devices are told to run its version as they were not before.

    Args:
        told: Devices that are told so now; ``course.told``: before.
        now: Unix seconds by the controller's clock.
    """
    plan, fresh = course.plan, told - course.told
    if plan.get("approval"):
        _look_at_approvals(name, course, told, now=now, broke=broke)
    if plan.get("byte_budget"):
        _look_at_budget(name, course, fresh, now=now, broke=broke)
    late = sorted(told - course.names)
    if late and course.phase in UNDER_WAY:
        _look_at_joiners(name, course, late, broke=broke)


def _look_at_approvals(
    name: str, course: "Course", told: frozenset[str], *, now: float, broke: Broke
) -> None:
    """See that nothing began before enough people had agreed, each not long ago, and nobody had refused."""
    policy = course.plan["approval"]
    has_begun = course.phase in UNDER_WAY or bool(told)
    if has_begun and not course.began:
        people = {person for person, at in course.agreed if now - at < policy["expires_seconds"]}
        if len(people) < policy["needed"]:
            broke("who must agree does, before anything begins", f"{name}: only {sorted(people)}, at {now}")
        course.began = True
    if "withhold" in course.orders and (told or course.phase != "aborted"):
        broke("what is refused does not begin", f"{name}: {course.phase}, {sorted(told)}")


def edit(name: str, course: "Course", written: str, *, broke: Broke) -> None:
    """Take in another plan of a rollout, with which nobody has agreed yet; see that it has not begun."""
    if course.phase not in EDITABLE:
        broke("what has begun keeps its plan", f"{name}: {course.phase}")
    course.written, course.plan = written, json.loads(written)
    course.agreed.clear()


def look_at_labels(name: str, course: "Course", truth: Truth, *, stage: int, broke: Broke) -> None:
    """See that no stage ends without labels of its own, of the version and of the control.

    What counts in one stage does not count in another, so that all have together what each asks for.
    """
    plan = course.plan
    if plan["margins"].get("accuracy") is None or plan["previous"] is None:
        return
    wanted = (stage + 1) * plan["minimums"]["labels"]
    began = course.admitted_at[0]
    given = {"version": 0, "previous": 0}
    for one in truth.given:
        role = {plan["digest"]: "version", plan["previous"]: "previous"}.get(one.digest)
        if role is not None and (role == "version" or one.device not in course.told):
            given[role] += one.n * (one.at >= began if role == "version" else one.end >= began)
    if given["version"] < wanted or not given["previous"]:
        broke("nothing is promoted without labels", f"{name}: stage {stage}, {given}, {wanted} wanted")


def _look_at_budget(name: str, course: "Course", fresh: frozenset[str], *, now: float, broke: Broke) -> None:
    """See that no more copies are given away in any span than may be downloaded."""
    budget = course.plan["byte_budget"]
    course.copies += [now] * len(fresh)
    count = sum(now - at < budget["seconds"] for at in course.copies)
    if course.phase in UNDER_WAY and count * course.bytes_each > budget["bytes"]:
        broke("the byte budget is kept", f"{name}: {count} copies of {course.bytes_each} bytes at {now}")


def look_at_retries(
    connection: sqlite3.Connection, number: int, course: "Course", *, now: float, broke: Broke
) -> None:
    """See that a device is given a version again after its wait, and as often as the plan says."""
    policy, name = course.plan["retry"], f"rollout {number}"
    query = "SELECT device, given, tries FROM rollout_member WHERE rollout = ? AND tries > 0"
    for device, given, tries in connection.execute(query, (number,)).fetchall():
        taken = course.taken.setdefault(device, [])
        taken += [now] * (tries - len(taken))
        wait = policy["backoff_seconds"] * policy["growth"] ** (len(taken) - 1) * (1 - policy["jitter"])
        if tries > policy["tries"]:
            broke("a version is tried again as often as the plan says", f"{name}: {device} {tries} times")
        elif given is not None and given / 1000 - taken[-1] < wait - MOMENT:
            after = f"{given / 1000 - taken[-1]:.1f} s, at least {wait:.1f} s"
            broke("a retry waits", f"{name}: {device} after {after}")


def _look_at_joiners(name: str, course: "Course", late: list[str], *, broke: Broke) -> None:
    """See that who joins late is drawn as the others were: a place on the line, and a stage by its cuts."""
    plan, state, controls = course.plan, course.state, course.controls
    if not plan["dynamic"]:
        broke("a cohort that is fixed stays so", f"{name}: {late}")
        return
    if state["step"] == "finish":
        return
    line = sorted(place(plan, device) for device in course.names)
    stage = plan["stages"][max(state["admitted"], 1) - 1]
    size = stage["count"] if stage.get("count") else max(1, math.ceil(stage["percent"] * len(line) / 100))
    is_last = state["admitted"] == len(plan["stages"])
    least, most = line[controls - 1] if controls else "", line[min(controls + size, len(line)) - 1]
    early = [d for d in late if place(plan, d) <= least or (place(plan, d) > most and not is_last)]
    if early or not state["admitted"]:
        broke("who joins late waits for the stage that was drawn", f"{name}: {early or late}")


def place(plan: Document, device: str) -> str:
    """Return where a device stands on the line, as docs/rollouts.md says."""
    return hashlib.sha256(f"{plan['model']}\n{plan['seed']}\n{device}".encode()).hexdigest()[:16]
