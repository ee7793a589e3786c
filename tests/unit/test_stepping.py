"""Steps of rollouts, stored: members in rows of their own, one transaction, a fence between two deciders."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import event
from sqlmodel import Session, select

from muster_controller.config import Settings, WebhookSettings
from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts.machine import (
    Abort,
    Decision,
    Pause,
    Promote,
    Resume,
    RollBack,
    RolloutPhase,
    Start,
    State,
    Tick,
    decide,
)
from muster_controller.domain.rollouts.members import Failure, Member
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.reconcile.advancing import Advancing
from muster_controller.stepping import Course, Stepping, course_of
from muster_controller.store import assignments, rollouts, versions
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.facts import start_facts
from muster_controller.store.tables import Assignment, EventRecord, RolloutMember, RolloutRecord
from support.controller import NOW, Ground, lay_ground, release_of

DEVICES = tuple(f"{site}-{number}" for site in ("berlin", "oslo") for number in range(1, 5))
STEPPING = Stepping(Settings())


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, *DEVICES)


def plan_of(ground: Ground, **changes: Any) -> Plan:
    plan = Plan(
        model="digits",
        digest=ground.release.digest,
        previous=None,
        stages=(Stage(percent=50, soak_seconds=0, minimum_rounds=1), Stage(percent=100, soak_seconds=0)),
        control=0.0,
    )
    return msgspec.structs.replace(plan, **changes)


def facts_of(ground: Ground, plan: Plan, *, number: int | None = None, now: float = NOW) -> Facts:
    with Reading(ground.engine) as session:
        return start_facts(session, plan.model, plan.digest, number=number, now=now, reachable_seconds=900)


def begin(ground: Ground, plan: Plan) -> Course:
    decision = decide(plan, State(), Start("anna", "", facts_of(ground, plan)))
    assert decision.refused is None
    with Unit(ground.engine) as session:
        return STEPPING.begin(session, plan, decision, by="anna", now=NOW)


def take(ground: Ground, course: Course, decision: Decision, now: float = NOW) -> Course | None:
    assert decision.refused is None
    with Unit(ground.engine) as session:
        return STEPPING.take(session, course, decision, now)


def load(ground: Ground, number: int) -> Course:
    with Reading(ground.engine) as session:
        return course_of(session, number)


def assigned(ground: Ground) -> dict[str, str]:
    with Reading(ground.engine) as session:
        return assignments.of_model(session, "digits")


def test_a_rollout_that_begins_is_stored_with_its_members_and_what_they_should_run(ground: Ground) -> None:
    course = begin(ground, plan_of(ground))
    loaded = load(ground, course.id)

    assert loaded == course
    assert set(course.state.members) == set(DEVICES)
    assert assigned(ground) == {
        name: ground.release.digest for name, member in course.state.members.items() if member.arm == 0
    }
    with Reading(ground.engine) as session:
        row = session.get_one(RolloutRecord, course.id)
        assert (row.phase, row.fence, row.ticking) == ("running", 1, True)
        assert "members" not in row.state
        assert len(session.exec(select(EventRecord)).all()) == 1


def test_whatever_a_member_says_survives_the_store(ground: Ground) -> None:
    course = begin(ground, plan_of(ground))
    odd = {
        "berlin-1": Member(-1),
        "berlin-2": Member(1, given=NOW + 0.25, tries=3, failure=Failure("no-space", "4 MB short")),
        "berlin-3": Member(0, retry_at=NOW + 17.125, failure=Failure("unknown"), acknowledged=True),
        "berlin-4": Member(0, withdrawn="sent back by anna: too hot"),
    }
    after = msgspec.structs.replace(course.state, members=course.state.members | odd)

    assert take(ground, course, Decision(after)) == load(ground, course.id)
    assert load(ground, course.id).state.members.items() >= odd.items()


def test_of_two_steps_decided_on_one_state_the_second_changes_nothing(ground: Ground) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    first = decide(plan, course.state, Pause("anna", "wait", NOW + 1))
    second = decide(plan, course.state, Abort("bert", "no", "revert", NOW + 1))

    taken, late = take(ground, course, first), take(ground, course, second)

    assert taken is not None
    assert late is None
    assert load(ground, course.id) == taken
    assert taken.state.phase is RolloutPhase.PAUSED
    assert set(assigned(ground).values()) == {ground.release.digest}
    with Reading(ground.engine) as session:
        assert not any("aborted" in row.detail for row in session.exec(select(EventRecord)))


def test_a_step_writes_the_members_it_changed_and_no_other(ground: Ground) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    one = min(name for name, member in course.state.members.items() if member.given is not None)
    writes: list[tuple[str, int]] = []

    def look(_connection: Any, _cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if not statement.startswith("SELECT"):
            is_many = rest[-1] is True
            writes.append((" ".join(statement.split()[:3]), len(parameters) if is_many else 1))

    event.listen(ground.engine, "before_cursor_execute", look)
    taken = take(ground, course, decide(plan, course.state, RollBack("anna", "", NOW + 1, devices=(one,))))
    event.remove(ground.engine, "before_cursor_execute", look)

    assert taken is not None
    assert one not in assigned(ground)
    assert ("INSERT INTO rollout_member", 1) in writes
    assert sum(rows for _, rows in writes) <= 6


def test_a_tick_that_changes_no_member_writes_none(ground: Ground) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    facts = facts_of(ground, plan, number=course.id, now=NOW + 1)
    statements: list[str] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(ground.engine, "before_cursor_execute", look)
    take(ground, course, decide(plan, course.state, Tick(facts)), NOW + 1)
    event.remove(ground.engine, "before_cursor_execute", look)

    assert not any("rollout_member" in statement or "assignment" in statement for statement in statements)


def test_a_step_that_is_not_committed_leaves_nothing(ground: Ground) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    back = decide(plan, course.state, Abort("anna", "", "revert", NOW + 1))

    def be_cut_off() -> None:
        with Unit(ground.engine) as session:
            assert STEPPING.take(session, course, back, NOW + 1) is not None
            raise RuntimeError("the plug was pulled")

    with pytest.raises(RuntimeError, match="pulled"):
        be_cut_off()

    assert load(ground, course.id) == course
    assert set(assigned(ground).values()) == {ground.release.digest}


def test_promoting_the_last_stage_gives_everybody_the_version_in_the_same_step(ground: Ground) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    for number in range(2):
        decision = decide(plan, course.state, Promote("anna", "known", NOW + number))
        following = take(ground, course, decision, NOW + number)
        assert following is not None
        course = following

    assert course.state.phase is RolloutPhase.COMPLETED
    assert assigned(ground) == dict.fromkeys(DEVICES, ground.release.digest)
    with Reading(ground.engine) as session:
        assert rollouts.ticking(session) == {}


def test_an_older_rollout_that_goes_back_leaves_the_devices_of_a_newer_one_alone(ground: Ground) -> None:
    plan = plan_of(ground)
    older = begin(ground, plan)
    for _ in range(2):
        older = take(ground, older, decide(plan, older.state, Promote("anna", "", NOW))) or older
    newer = release_of(ground.baseline, version="1.1.0", release=2)
    with Unit(ground.engine) as session:
        versions.add(session, newer, NOW)
    berlin = plan_of(
        ground, digest=newer.digest, previous=plan.digest, selector="device in (berlin-1, berlin-2)"
    )
    begin(ground, berlin)
    held = assigned(ground)

    take(ground, older, decide(plan, older.state, RollBack("anna", "", NOW + 1)))

    assert assigned(ground) == {name: held[name] for name in ("berlin-1", "berlin-2")}


def test_facts_name_devices_of_other_rollouts_that_are_live_or_newer(ground: Ground) -> None:
    berlin = plan_of(ground, selector="device in (berlin-1, berlin-2)")
    first = begin(ground, berlin)
    oslo = begin(ground, plan_of(ground, selector="device in (oslo-1, oslo-2)"))
    take(ground, oslo, decide(oslo.plan, oslo.state, Abort("anna", "", "keep", NOW)))

    assert facts_of(ground, berlin).elsewhere == {"berlin-1": first.id, "berlin-2": first.id}
    assert facts_of(ground, berlin, number=first.id).elsewhere == {"oslo-1": oslo.id, "oslo-2": oslo.id}
    assert facts_of(ground, berlin, number=oslo.id).elsewhere == dict.fromkeys(
        ("berlin-1", "berlin-2"), first.id
    )


def test_facts_say_where_the_walls_are_what_a_download_is_and_what_devices_said(ground: Ground) -> None:
    plan = plan_of(ground)
    facts = facts_of(ground, plan)

    assert facts.offsets == {"UTC": 0.0}
    assert facts.download_bytes == sum(entry.length for entry in ground.release.manifest.files)
    assert not facts.withdrawn
    with Unit(ground.engine) as session:
        versions.withdraw(session, plan.digest, NOW)
    assert facts_of(ground, plan).withdrawn


def test_the_loop_reads_members_again_only_after_somebody_else_made_a_step(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    advancing = Advancing(ground.engine, ground.baselines, Settings())
    read, reads = rollouts.members, list[int]()

    def count(session: Session, number: int) -> dict[str, Member]:
        reads.append(number)
        return read(session, number)

    monkeypatch.setattr(rollouts, "members", count)

    for number in range(3):
        assert advancing.models() == ["digits"]
        advancing.advance("digits", NOW + number)
    quiet = len(reads)
    stored = load(ground, course.id)
    take(ground, stored, decide(plan, stored.state, Pause("anna", "", NOW + 3)))
    before = len(reads)
    advancing.advance("digits", NOW + 4)

    assert quiet == 1
    assert len(reads) == before + 1
    assert load(ground, course.id).state.phase is RolloutPhase.PAUSED


def test_what_ended_is_asked_no_more(ground: Ground) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    take(ground, course, decide(plan, course.state, Abort("anna", "", "keep", NOW)))
    advancing = Advancing(ground.engine, ground.baselines, Settings())

    assert advancing.models() == []


def test_webhooks_are_told_in_the_transaction_of_the_step(ground: Ground) -> None:
    hook = WebhookSettings(
        name="desk", url="https://desk.example/hook", secret_file="secret", kinds=("rollout",)
    )
    settings = msgspec.structs.replace(Settings(), webhooks=(hook,))
    plan = plan_of(ground)
    decision = decide(plan, State(), Start("anna", "", facts_of(ground, plan)))
    told: list[str] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        told.append(statement)

    event.listen(ground.engine, "before_cursor_execute", look)
    event.listen(ground.engine, "commit", lambda _connection: told.append("COMMIT"))
    with Unit(ground.engine) as session:
        Stepping(settings).begin(session, plan, decision, by="anna", now=NOW)
    event.remove(ground.engine, "before_cursor_execute", look)

    assert any("INTO delivery" in statement for statement in told[: told.index("COMMIT")])
    assert told.count("COMMIT") == 1


def test_a_member_of_a_row_is_kept_whole_through_pause_and_resume(ground: Ground) -> None:
    plan = plan_of(ground)
    course = begin(ground, plan)
    course = take(ground, course, decide(plan, course.state, Pause("anna", "", NOW + 1))) or course
    course = take(ground, course, decide(plan, course.state, Resume("anna", "", NOW + 2))) or course

    assert course.fence == 3
    assert load(ground, course.id) == replace(course)
    with Reading(ground.engine) as session:
        assert len(session.exec(select(RolloutMember)).all()) == len(DEVICES)
        assert {row.rollout for row in session.exec(select(Assignment))} == {course.id}
