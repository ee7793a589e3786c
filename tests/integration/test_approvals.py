"""Approvals of rollouts, from the service to the pages: N of M, roles, expiry, edits, promotion by hand."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.domain.people import Person
from muster_controller.service import approvals, overview, people, rollouts
from muster_controller.store.tables import RolloutRecord
from muster_controller.web.app import make_dashboard
from muster_models.errors import ConflictError, ForbiddenError, RequestError
from support.controller_process import Done
from support.office import OPERATOR, Client
from support.room import ANNA, BO, CARL, DINA, HOUR, Room, open_room
from support.served import served
from support.testclient import TestClient


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path / "controller") as made:
        yield made


def test_a_rollout_starts_when_so_many_others_agree(room: Room) -> None:
    number = room.start()
    before = room.phase(number)
    one = room.approve(BO, number).rollout
    room.approve(CARL, number)
    room.tick()

    assert before == "pending-approval"
    assert (one.phase, one.waiting) == ("pending-approval", "1 of 2 approvals by approver")
    assert room.phase(number) == "running"


def test_the_author_does_not_count_and_nobody_counts_twice(room: Room) -> None:
    number = room.start()
    with pytest.raises(ForbiddenError, match="anna started this rollout: somebody else must agree"):
        room.approve(ANNA, number)
    room.approve(BO, number)
    room.approve(BO, number)
    room.tick()

    assert room.phase(number) == "pending-approval"


def test_a_role_that_the_plan_does_not_name_cannot_approve(room: Room) -> None:
    number = room.start()

    with pytest.raises(ForbiddenError, match="dina is operator; the plan asks for approver"):
        room.approve(DINA, number)


def test_an_approver_of_another_model_cannot_approve_nor_withhold(room: Room) -> None:
    number = room.start()
    people.change(room.office.context, OPERATOR, "bo", roles=["approver"], models=["weather"])
    why = "bo is approver of weather; this takes operator or approver or admin for digits"

    with pytest.raises(ForbiddenError, match=why):
        room.approve(BO, number)
    with pytest.raises(ForbiddenError, match=why):
        approvals.withhold(room.office.context, BO, number, reason="no")
    assert approvals.show(room.office.context, number).holders == 1
    people.change(room.office.context, OPERATOR, "bo", roles=["approver"], models=["digits"])
    room.approve(BO, number)
    assert [one.person for one in approvals.show(room.office.context, number).given] == ["bo"]


def test_a_plan_is_refused_that_too_few_people_of_its_model_could_approve(room: Room) -> None:
    people.change(room.office.context, OPERATOR, "bo", roles=["approver"], models=["weather"])

    with pytest.raises(
        ConflictError, match="needs 2 approvals, and there are 1 people who are approver for digits other"
    ):
        room.start()


def test_a_plan_may_ask_for_peers(room: Room) -> None:
    number = room.start(approval={"needed": 1, "roles": ["operator"]})
    room.approve(DINA, number)
    room.tick()

    assert room.phase(number) == "running"


def test_an_approval_needs_a_reason(room: Room) -> None:
    with pytest.raises(RequestError, match="say why"):
        room.approve(BO, room.start(), reason=" ")


def test_a_plan_that_too_few_people_could_approve_does_not_start(room: Room) -> None:
    with pytest.raises(ConflictError, match=r"needs 3 approvals, and there are 2 people"):
        room.start(approval={"needed": 3})


def test_whoever_refuses_ends_it_before_it_began(room: Room) -> None:
    number = room.start()
    ended = approvals.withhold(room.office.context, BO, number, reason="not before the holidays").rollout
    room.tick()

    assert (ended.phase, ended.reason) == ("aborted", "withheld by bo: not before the holidays")
    with pytest.raises(ConflictError, match="needs no approval"):
        room.approve(CARL, number)


def test_what_was_looked_at_must_be_what_is_approved(room: Room) -> None:
    number = room.start()
    seen = approvals.show(room.office.context, number).digest

    with pytest.raises(ConflictError, match="not what you looked at"):
        room.approve(BO, number, seen="0" * 64)
    room.approve(BO, number, seen=seen)


def test_approvals_that_expire_before_the_start_put_it_back_with_the_reason(room: Room) -> None:
    number = room.start(start_at=room.office.clock.now + 3 * HOUR)
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    scheduled = room.phase(number)
    room.tick(HOUR)

    assert scheduled == "scheduled"
    assert room.phase(number) == "pending-approval"
    assert "the approval of bo has expired after 3600 s" in room.waiting(number)
    assert [one.void for one in approvals.show(room.office.context, number).given] == [
        "the approval of bo has expired after 3600 s",
        "the approval of carl has expired after 3600 s",
    ]


def test_an_edit_of_the_plan_voids_what_was_approved(room: Room) -> None:
    number = room.start(start_at=room.office.clock.now + HOUR / 2)
    room.approve(BO, number)
    room.approve(CARL, number)
    with room.office.context.unit() as session:
        row = session.get_one(RolloutRecord, number)
        row.plan = {**row.plan, "selector": "site = oslo"}
        session.add(row)
    room.tick(HOUR / 2 + 1)

    assert room.phase(number) == "pending-approval"
    assert "approved something else" in room.waiting(number)


def run(room: Room) -> int:
    """Return the number of a rollout that was approved and runs."""
    number = room.start()
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    room.tick()
    return number


def test_promotion_by_hand_takes_new_approvals_of_what_the_evidence_says(room: Room) -> None:
    number = run(room)
    with pytest.raises(
        ConflictError, match=r"is to be approved: 2 of 2 approvals by approver; bo approved some"
    ):
        rollouts.promote(room.office.context, DINA.name, number, "the line waits")
    assert approvals.show(room.office.context, number).about == "promote"
    room.approve(BO, number)
    room.approve(CARL, number)
    rollouts.promote(room.office.context, DINA.name, number, "the line waits")

    assert (
        rollouts.show_rollout(room.office.context, number).rollout.reason
        == "promoted by dina: the line waits"
    )


def test_who_orders_a_promotion_does_not_count_for_it(room: Room) -> None:
    number = run(room)
    people.change(room.office.context, OPERATOR, "bo", roles=["operator", "approver"])
    room.approve(BO, number)
    room.approve(CARL, number)

    with pytest.raises(ConflictError, match="bo may not approve what is their own"):
        rollouts.promote(room.office.context, BO.name, number, "the line waits")


def test_other_evidence_voids_the_approval_of_a_promotion(room: Room) -> None:
    number = run(room)
    room.approve(BO, number)
    room.approve(CARL, number)
    enough = approvals.show(room.office.context, number).enough
    version = rollouts.show_rollout(room.office.context, number).rollout.version.digest
    room.office.report("oslo-1", current=version, target=version)
    failing = {"current": None, "target": version, "phase": "failed", "reason": "crashed"}
    room.office.report("berlin-1", **failing)
    room.tick()

    assert enough
    assert not approvals.show(room.office.context, number).enough


def test_audit_and_overview_tell_of_it(room: Room) -> None:
    number = room.start()
    asked = overview.show_overview(room.office.context).attention
    room.approve(BO, number)
    newest = rollouts.show_rollout(room.office.context, number).audit[0]

    assert [(one.kind, one.what, one.detail) for one in asked] == [
        ("rollout", "pending-approval", "waits for 2 of 2 approvals by approver")
    ]
    assert (newest.actor, newest.action, newest.reason) == ("bo", "rollout.approve", "read it")


def test_the_api_takes_approvals_of_people_alone(room: Room) -> None:
    client, number = Client(room.office), room.start()
    digest = client.get(f"/rollouts/{number}/approvals")["digest"]
    path, body = f"/rollouts/{number}/approve", {"reason": "read it", "digest": digest}
    answers = {
        name: client.ask("POST", path, token=room.tokens.get(name, client.token), json=body).status_code
        for name in ("anna", "dina", "operator", "bo", "carl")
    }

    assert answers == {"anna": 403, "dina": 403, "operator": 403, "bo": 200, "carl": 200}
    given = client.get(f"/rollouts/{number}/approvals")["given"]
    assert [one["person"] for one in given] == ["bo", "carl"]
    client.refusal("POST", path, status=422, json={"digest": digest})


def test_the_page_shows_what_is_missing_and_takes_an_approval_of_what_it_showed(room: Room) -> None:
    number = room.start()
    with TestClient(make_dashboard(room.office.context, "first"), follow_redirects=False) as browser:
        assert browser.post("/login", data={"token": room.tokens["bo"]}).status_code == 303
        shown = browser.get(f"/rollouts/{number}").text
        fields = {
            name: found[1]
            for name in ("form_token", "digest")
            if (found := re.search(rf'name="{name}" value="([0-9a-f]+)"', shown))
        }
        done = browser.post(f"/rollouts/{number}/approve", data={**fields, "reason": "read it"})
        after = browser.get(f"/rollouts/{number}").text

    assert (
        "It starts when 2 of 2 people who are approver agree; anna, who asked for it, does not count" in shown
    )
    assert "2 of 2 approvals by approver" in shown
    assert done.status_code == 303
    assert "1 of 2 approvals by approver" in after


def test_the_approvals_of_the_start_promote_nothing(room: Room) -> None:
    """Between the start and the first look there is no evidence that could have been approved."""
    number = room.start()
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()

    with pytest.raises(ConflictError, match="nothing was seen yet"):
        rollouts.promote(room.office.context, DINA.name, number, "at once")


def test_people_approve_and_withhold_on_the_command_line(room: Room, tmp_path: Path) -> None:
    first = str(room.start(selector="site = berlin"))
    second = str(room.start(selector="site = oslo"))
    with served(room.office) as at:

        def muster(who: Person, *arguments: str) -> Done:
            return at.muster("rollout", *arguments, token_file=room.token_file(who, tmp_path))

        stale = muster(BO, "approve", first, "--reason", "read it", "--digest", "0" * 64)
        agreed = [muster(who, "approve", first, "--reason", "read it") for who in (BO, CARL)]
        shown = muster(BO, "approvals", first)
        own = muster(ANNA, "approve", second, "--reason", "mine")
        refused = muster(CARL, "withhold", second, "--reason", "not before the holidays")
        silent = muster(CARL, "withhold", second)

    assert (stale.code, "not what you looked at" in stale.err) == (5, True)
    assert [done.out.strip() for done in agreed] == [
        f"rollout {first} is pending-approval; still missing: 1 of 2 approvals by approver",
        f"rollout {first} is scheduled; nobody else is needed",
    ]
    assert "carl" in shown.out
    assert (own.code, "somebody else must agree" in own.err) == (4, True)
    assert refused.out.strip() == f"rollout {second} is aborted"
    assert silent.code == 2
