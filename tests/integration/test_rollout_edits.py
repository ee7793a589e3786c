"""Editing a rollout that has not begun, and approvals of who was revoked: from the service to the pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.domain.people import Person
from muster_controller.service import approvals, people, rollout_edits, rollouts
from muster_controller.service.rollout_views import RolloutDetail
from muster_controller.store.rollouts import get
from muster_controller.web.app import make_dashboard
from muster_models.errors import ConflictError, ForbiddenError, NotFoundError, RequestError
from support.controller_process import Done
from support.office import OPERATOR, Client
from support.room import ANNA, BO, CARL, DINA, HOUR, Room, open_room
from support.served import served
from support.testclient import TestClient


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path / "controller") as made:
        yield made


def edit(
    room: Room,
    number: int,
    who: Person = DINA,
    *,
    version: str = "1.1.0",
    seen: str | None = None,
    **changes: object,
) -> RolloutDetail:
    request = room.request(version, **changes)
    return rollout_edits.edit_rollout(
        room.office.context, who.name, number, request, reason="fewer at first", seen=seen
    )


def test_an_edit_is_kept_voids_what_was_approved_and_is_in_the_audit_trail(room: Room) -> None:
    number = room.start(start_at=room.office.clock.now + HOUR / 2)
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    scheduled = rollouts.show_rollout(room.office.context, number)
    edited = edit(room, number, selector="site = oslo")
    room.tick(HOUR / 2 + 1)
    newest = edited.audit[0]

    assert scheduled.rollout.phase == "scheduled"
    assert (edited.plan["selector"], edited.plan["seed"]) == ("site = oslo", scheduled.plan["seed"])
    assert (newest.actor, newest.action, newest.reason) == ("dina", "rollout.edit", "fewer at first")
    assert newest.detail["changes"] == [
        "selector: all → site = oslo",
        "start_at: 2027-01-15T08:30:00Z → none",
    ]
    assert newest.detail["void"] == ["bo", "carl"]
    assert room.phase(number) == "pending-approval"
    assert "2 of 2 approvals by approver; dina has edited the plan since" in room.waiting(number)


def test_after_an_edit_others_agree_with_the_new_plan_and_it_runs(room: Room) -> None:
    number = room.start()
    room.approve(BO, number)
    edit(room, number, selector="site = oslo")
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    detail = rollouts.show_rollout(room.office.context, number)

    assert detail.rollout.phase == "running"
    assert detail.stages[0].names == ("oslo-1", "oslo-2")


def test_whoever_edits_is_an_author_too(room: Room) -> None:
    people.change(room.office.context, OPERATOR, "bo", roles=["operator", "approver"])
    number = room.start(approval={"needed": 1})
    edit(room, number, BO, approval={"needed": 1}, control=0.0, error_budget=0.02)
    shown = approvals.show(room.office.context, number)

    assert (shown.author, shown.editors, shown.holders) == ("anna", ("bo",), 1)
    with pytest.raises(ForbiddenError, match="bo edited this rollout: somebody else must agree"):
        room.approve(BO, number)
    with pytest.raises(ConflictError, match="needs 2 approvals, and there are 1 people who are approver"):
        edit(room, number, BO, approval={"needed": 2})


def test_an_edit_may_name_another_version_of_the_model(room: Room) -> None:
    room.office.release("1.2.0")
    number = room.start()
    edited = edit(room, number, version="1.2.0")
    with room.office.context.reading() as session:
        stored = get(session, number)

    assert edited.rollout.version.name == "digits@1.2.0"
    assert (stored.digest, stored.plan["digest"]) == (edited.rollout.version.digest,) * 2
    assert edited.audit[0].detail["changes"] == ["version: digits@1.1.0 → digits@1.2.0"]


def test_an_edit_of_what_was_not_seen_or_without_a_reason_is_refused(room: Room) -> None:
    number = room.start()
    seen = rollouts.show_rollout(room.office.context, number).digest
    edit(room, number, seen=seen, error_budget=0.02)

    with pytest.raises(ConflictError, match="it has changed since; look again"):
        edit(room, number, seen=seen, error_budget=0.03)
    with pytest.raises(RequestError, match="say why"):
        rollout_edits.edit_rollout(room.office.context, "dina", number, room.request(), reason=" ")
    with pytest.raises(NotFoundError, match="no rollout 99"):
        edit(room, 99)


def test_what_runs_keeps_its_plan(room: Room) -> None:
    number = room.start()
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    before = rollouts.show_rollout(room.office.context, number)

    with pytest.raises(ConflictError, match="this one is running: its devices are drawn"):
        edit(room, number, error_budget=0.02)
    assert rollouts.show_rollout(room.office.context, number).plan == before.plan


def test_the_loop_goes_on_by_the_plan_that_an_edit_left(room: Room) -> None:
    """The loop keeps what it read of a rollout; an edit is a step, so it reads again."""
    number = room.start(approval=None, start_at=room.office.clock.now + HOUR)
    room.tick()
    edit(room, number, approval=None, start_at=room.office.clock.now + HOUR, selector="site = berlin")
    room.tick(HOUR)

    assert rollouts.show_rollout(room.office.context, number).stages[0].names == ("berlin-1", "berlin-2")


# Who was revoked


@pytest.mark.parametrize("roles", [None, ["operator"]])
def test_who_was_revoked_or_lost_the_role_counts_no_more(room: Room, roles: list[str] | None) -> None:
    number = room.start(start_at=room.office.clock.now + HOUR / 2)
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    scheduled = room.phase(number)
    lose(room, roles)
    at_once = room.phase(number)
    room.tick(HOUR / 2 + 1)

    what = "was revoked since" if roles is None else "is operator since"
    assert (scheduled, at_once, room.phase(number)) == ("scheduled", "pending-approval", "pending-approval")
    assert room.waiting(number) == f"1 of 2 approvals by approver; bo, who approved as approver, {what}"


def test_whose_approval_was_of_a_model_they_lost_counts_no_more(room: Room) -> None:
    number = room.start(start_at=room.office.clock.now + HOUR / 2)
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    phases = [room.phase(number)]
    for models in (["digits", "weather"], ["weather"], None):
        people.change(room.office.context, OPERATOR, "bo", roles=["approver"], models=models)
        phases.append(room.phase(number))
    room.tick(HOUR / 2 + 1)

    assert phases == ["scheduled", "scheduled", "pending-approval", "pending-approval"]
    assert room.waiting(number) == (
        "1 of 2 approvals by approver; bo, who approved as approver, is approver of weather since"
    )


def lose(room: Room, roles: list[str] | None) -> None:
    if roles is None:
        people.revoke(room.office.context, OPERATOR, "bo", "left")
    else:
        people.change(room.office.context, OPERATOR, "bo", roles=roles, reason="moved")


def test_a_start_that_was_decided_before_and_saved_after_is_decided_anew(room: Room) -> None:
    """The instant between: the loop has read two approvals, and saves after one of them was revoked."""
    number = room.start()
    room.approve(BO, number)
    room.approve(CARL, number)
    advancing = room.advancing()
    decide = advancing._decide

    def decide_late(*arguments: object, **options: object) -> object:
        decision = decide(*arguments, **options)  # type: ignore[arg-type]  # passed through
        people.revoke(room.office.context, OPERATOR, "bo", "left")
        return decision

    advancing._decide = decide_late  # type: ignore[method-assign,assignment]  # between reading and saving
    room.office.clock.now += 1
    advancing.advance("digits", room.office.clock.now)

    assert room.phase(number) == "pending-approval"
    assert "bo, who approved as approver, was revoked since" in room.waiting(number)


def test_an_approval_that_arrives_after_its_giver_was_revoked_is_refused(room: Room) -> None:
    """Between the look at the token and the step the person may be gone: the step looks again."""
    number = room.start()
    people.revoke(room.office.context, OPERATOR, "bo", "left")
    people.change(room.office.context, OPERATOR, "carl", roles=["operator"])

    with pytest.raises(ForbiddenError, match="bo was revoked"):
        room.approve(BO, number)
    with pytest.raises(ForbiddenError, match="carl is operator; the plan asks for approver"):
        room.approve(CARL, number)
    with pytest.raises(ForbiddenError, match="bo was revoked"):
        approvals.withhold(room.office.context, BO, number, reason="no")


def test_what_runs_goes_on_and_its_promotion_needs_others(room: Room) -> None:
    number = room.start()
    room.approve(BO, number)
    room.approve(CARL, number)
    room.tick()
    room.tick()
    room.approve(BO, number)
    room.approve(CARL, number)
    people.revoke(room.office.context, OPERATOR, "bo", "left")
    room.tick()
    running = room.phase(number)
    with pytest.raises(ConflictError, match="1 of 2 approvals by approver; bo, who approved as approver"):
        rollouts.promote(room.office.context, DINA.name, number, "the line waits")
    people.add(room.office.context, OPERATOR, "emil", roles=["approver"])
    room.approve(Person("emil", ("approver",)), number)
    promoted = rollouts.promote(room.office.context, DINA.name, number, "the line waits")

    assert running == "running"
    assert promoted.rollout.reason == "promoted by dina: the line waits"


# API, pages, command line


def test_the_api_takes_an_edit_of_operators_alone(room: Room) -> None:
    client, number = Client(room.office), room.start()
    digest = client.get(f"/rollouts/{number}")["digest"]
    path = f"/rollouts/{number}/edit"
    plan = {"version": "digits@1.1.0", "control": 0.0, "approval": {"needed": 2, "expires_seconds": HOUR}}
    body = {**plan, "reason": "fewer", "digest": digest}
    answers = {
        name: client.ask("POST", path, token=room.tokens[name], json=body).status_code
        for name in ("bo", "dina")
    }
    again = client.refusal("POST", path, status=409, json={**body, "error_budget": 0.02})

    assert answers == {"bo": 403, "dina": 200}
    assert "has changed since; look again" in again["message"]
    client.refusal("POST", path, status=422, json={**plan, "digest": digest})


def test_the_page_edits_the_plan_that_it_showed(room: Room) -> None:
    number = room.start()
    room.approve(BO, number)
    with TestClient(make_dashboard(room.office.context, "first"), follow_redirects=False) as browser:
        assert browser.post("/login", data={"token": room.tokens["dina"]}).status_code == 303
        before = browser.get(f"/rollouts/{number}").text
        shown = browser.get(f"/rollouts/{number}/edit").text
        typed = fields_of(shown) | {"selector": "site = oslo", "reason": "fewer at first"}
        looked = browser.post("/rollouts/preview", data={**typed, "page": "1"})
        done = browser.post(f"/rollouts/{number}/edit", data=typed)
        stale = browser.post(f"/rollouts/{number}/edit", data={**typed, "selector": "site = berlin"})
        after = browser.get(f"/rollouts/{number}").text
        trail = browser.get("/audit").text

    assert f'<a class="button" href="/rollouts/{number}/edit">Edit</a>' in before
    assert "What bo approved is void then" in shown
    assert (looked.status_code, "Cannot start" in looked.text) == (200, False)
    assert "<dd>2 devices, " in looked.text
    assert (done.status_code, done.headers["location"]) == (303, f"/rollouts/{number}")
    assert (stale.status_code, "has changed since; look again" in stale.text) == (409, True)
    assert "and dina, who edited it, do not count" in after
    for page in (after, trail):
        assert "selector: all → site = oslo" in page


def fields_of(page: str) -> dict[str, str]:
    """Return what a browser would send of the form of a plan, if nothing was typed."""
    form = page[page.index('<form method="post" action="/rollouts/') :]
    form = form[: form.index("</form>")]
    found = dict(re.findall(r'<input(?: type="hidden")? name="([^"]+)" value="([^"]*)"', form))
    versions = re.findall(r"<option selected>([^<]+)</option>", form[: form.index("</select>")])
    return {**found, "mode": "form", "version": versions[0]}


def test_a_page_of_what_has_begun_says_that_it_is_too_late(room: Room) -> None:
    number = room.start(approval=None)
    with TestClient(make_dashboard(room.office.context, "first"), follow_redirects=False) as browser:
        assert browser.post("/login", data={"token": room.tokens["dina"]}).status_code == 303
        answer = browser.get(f"/rollouts/{number}/edit")

    assert answer.status_code == 409
    assert "only a rollout that has not begun can be edited, this one is running" in answer.text


def test_a_plan_is_edited_on_the_command_line(room: Room, tmp_path: Path) -> None:
    number = str(room.start())
    room.approve(BO, int(number))
    file = tmp_path / "plan.yaml"
    with served(room.office) as at:

        def muster(who: Person, *arguments: str) -> Done:
            return at.muster("rollout", *arguments, token_file=room.token_file(who, tmp_path))

        file.write_text(muster(DINA, "show", number, "--as-file").out + "selector: site = oslo\n")
        done = muster(DINA, "edit", number, str(file), "--reason", "fewer at first")
        same = muster(DINA, "edit", number, str(file), "--reason", "again")
        silent = muster(DINA, "edit", number, str(file))
        shown = muster(ANNA, "show", number)

    waits = "2 of 2 approvals by approver; dina has edited the plan since"
    assert done.out.splitlines() == [
        f"rollout {number} has another plan; it is pending-approval, waits for {waits}",
        "  selector: all → site = oslo",
    ]
    assert (same.code, "nothing to edit" in same.err) == (5, True)
    assert silent.code == 2
    assert "selector: all → site = oslo" in shown.out
