"""The time in which a rollout can be undone: what it replaced is kept, and the way back is open."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import history, publishing, rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.service.rollouts import WayBack
from muster_controller.store import assignments
from muster_controller.store.views.history import AuditFilter, AuditView
from muster_models.errors import ConflictError, RequestError
from muster_models.trust import publisher
from support.office import OPERATOR, Client, Office, armour, open_office

FLEET = ("berlin-1", "berlin-2", "oslo-1", "oslo-2")
DAY = 86_400.0


@dataclass(frozen=True)
class Moved:
    """A fleet that a rollout has moved from ``digits@1.0.0`` to ``digits@1.1.0``."""

    office: Office
    first: str
    second: str
    number: int

    def role_without(self, version: str, floor: int | None = None) -> bytes:
        """Return the model's role, signed, as its owner would withdraw a version."""
        present = self.office.context.repository.current("model-digits")
        assert present is not None
        signers = [self.office.release_keys["digits"]]
        return publisher.withdraw(present, version, floor=floor, signers=signers, now=self.office.now)

    def withdraw(self, **options: Any) -> None:
        publishing.withdraw(
            self.office.context, OPERATOR, self.first, role=self.role_without("1.0.0"), **options
        )

    def go_back(self, *, override: bool = False, reason: str = "") -> None:
        rollouts.roll_back(
            self.office.context, OPERATOR, self.number, WayBack(override=override), reason=reason
        )

    def assigned(self) -> dict[str, str]:
        with self.office.context.reading() as session:
            return assignments.of_model(session, "digits")

    def newest_deed(self) -> AuditView:
        return history.list_audit(self.office.context, AuditFilter()).items[0]


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[Moved]:
    office = open_office(tmp_path / "controller")
    office.install()
    first = office.release("1.0.0").version.digest
    second = office.release("1.1.0").version.digest
    office.enrol(*FLEET)
    for device in FLEET:
        office.report(device, current=first, target=first)
    plan = {"stages": [{"percent": 100}], "control": 0.0}
    request = RolloutRequest("digits@1.1.0", "digits@1.0.0", plan)
    number = rollouts.start_rollout(office.context, OPERATOR, request).rollout.id
    complete(office, number, second)
    yield Moved(office, first, second, number)
    office.opened.close()


def complete(office: Office, number: int, digest: str) -> None:
    """Let every device run the version, and end the rollout by hand."""
    step = Advancing(office.context.engine, office.opened.baselines, office.context.settings)
    for device in FLEET:
        office.report(device, current=digest, target=digest)
    for _ in range(5):
        office.clock.now += 1
        step.advance("digits", office.clock.now)
        if rollouts.show_rollout(office.context, number).rollout.phase == "completed":
            return
        rollouts.promote(office.context, OPERATOR, number, "for the test")


def test_a_version_that_a_rollout_replaced_is_not_withdrawn_by_the_way(moved: Moved) -> None:
    with pytest.raises(
        ConflictError, match=r"rollout 1 returns to digits@1\.0\.0: it can be rolled back until"
    ):
        moved.withdraw(reason="tidying up")

    assert moved.office.context.repository.listed("digits").keys() == {"1.0.0", "1.1.0"}


def test_withdrawing_it_all_the_same_needs_a_reason_and_is_audited(moved: Moved) -> None:
    with pytest.raises(RequestError, match="an override needs a reason"):
        moved.withdraw(override=True)
    moved.withdraw(override=True, reason="the training data were stolen")
    deed = moved.newest_deed()

    assert (deed.action, deed.reason) == ("version.withdraw", "the training data were stolen")
    assert "rollout 1 returns to digits@1.0.0" in deed.detail["overridden"][0]


def test_after_the_window_it_is_withdrawn_like_any_other(moved: Moved) -> None:
    moved.office.clock.now += 30 * DAY + 1
    moved.withdraw()

    assert moved.office.context.repository.listed("digits").keys() == {"1.1.0"}


def test_no_other_door_leads_around_the_window(moved: Moved) -> None:
    unlisted, floored = moved.role_without("1.0.0"), moved.role_without("1.0.0", floor=2)

    for document in (unlisted, floored):
        with pytest.raises(ConflictError, match="returns to"):
            publishing.accept_role(moved.office.context, OPERATOR, "model-digits", document=document)
    assert moved.office.context.repository.listed("digits").keys() == {"1.0.0", "1.1.0"}


def test_while_a_rollout_runs_what_it_returns_to_is_kept(moved: Moved) -> None:
    office = moved.office
    office.clock.now += 31 * DAY
    office.enrol("lyon-1")
    plan = {"stages": [{"percent": 100}], "control": 0.0, "selector": "site = lyon"}
    request = RolloutRequest("digits@1.1.0", "digits@1.0.0", plan)
    rollouts.start_rollout(office.context, OPERATOR, request)

    with pytest.raises(ConflictError, match=r"rollout 2 returns to digits@1\.0\.0: it is running"):
        moved.withdraw()


def test_a_completed_rollout_goes_back_within_the_window(moved: Moved) -> None:
    moved.office.clock.now += 29 * DAY
    moved.go_back()

    assert set(moved.assigned().values()) == {moved.first}
    assert rollouts.show_rollout(moved.office.context, moved.number).rollout.phase == "rolling-back"


def test_outside_the_window_it_takes_an_override_with_a_reason(moved: Moved) -> None:
    moved.office.clock.now += 31 * DAY
    for override, reason in ((False, "late"), (True, "")):
        with pytest.raises(ConflictError, match="rollback window of 30 days is over"):
            moved.go_back(override=override, reason=reason)
    moved.go_back(override=True, reason="it ages badly")
    deed = moved.newest_deed()

    assert set(moved.assigned().values()) == {moved.first}
    assert (deed.action, deed.reason, deed.detail["override"]) == ("rollout.rollback", "it ages badly", True)


def test_the_api_rolls_back_a_completed_rollout_and_withdraws_with_an_override(moved: Moved) -> None:
    client = Client(moved.office)
    body: dict[str, Any] = {"role": armour(moved.role_without("1.0.0")), "reason": "stolen"}
    refused = client.refusal("POST", f"/versions/{moved.first}/withdraw", status=409, json=body)
    went = client.post(f"/rollouts/{moved.number}/rollback", {"reason": "worse"})

    assert "--override" in refused["message"]
    assert went["rollout"]["reason"] == "rolled back by operator: worse"
    assert client.post(f"/versions/{moved.first}/withdraw", {**body, "override": True})["version"][
        "withdrawn_at"
    ]
