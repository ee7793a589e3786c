"""Planning, starting and steering rollouts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import devices, history, overview, publishing, rollouts, versions
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.service.rollout_preview import plan_rollout
from muster_controller.store import assignments
from muster_controller.store.views.history import AuditFilter
from muster_controller.store.views.rollouts import RolloutFilter
from muster_models.errors import ConflictError, NotFoundError, Reason, RequestError
from muster_models.trust import publisher
from muster_models.wire import Phase
from support.office import OPERATOR, Office, open_office

FLEET = tuple(f"{site}-{number}" for site in ("berlin", "lyon", "oslo", "porto") for number in (1, 2))
STAGES = {"stages": [{"percent": 25}, {"percent": 100}], "seed": "7"}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Two versions; every device is assigned and runs the first."""
    made = open_office(tmp_path / "controller")
    made.install()
    first = made.release("1.0.0").version.digest
    made.release("1.1.0")
    made.enrol(*FLEET)
    with made.context.unit() as session:
        assignments.assign(
            session,
            "digits",
            dict.fromkeys(FLEET, first),
            rollout=0,
            probation_seconds=1.0,
            now=made.clock.now,
        )
    for device in FLEET:
        made.report(device, current=first, target=first)
    yield made
    made.opened.close()


def request(version: str = "digits@1.1.0", previous: str | None = None, **plan: Any) -> RolloutRequest:
    return RolloutRequest(version, previous, {**STAGES, **plan})


def start(office: Office, **plan: Any) -> int:
    return rollouts.start_rollout(office.context, OPERATOR, request(**plan), "better").rollout.id


def test_a_plan_shows_arms_stages_and_the_way_back(office: Office) -> None:
    view = plan_rollout(office.context, request(control=0.25))

    assert view.previous is not None
    assert (view.version.name, view.previous.name) == ("digits@1.1.0", "digits@1.0.0")
    assert (view.cohort, view.reachable, len(view.control)) == (8, 8, 2)
    assert [stage.total for stage in view.stages] == [2, 6]
    assert view.obstacles == ()
    named = {*view.control, *(name for stage in view.stages for name in stage.names)}
    assert named == set(FLEET)


def test_planning_stores_nothing(office: Office) -> None:
    plan_rollout(office.context, request())

    assert rollouts.list_rollouts(office.context, RolloutFilter()).items == ()


def test_the_same_seed_draws_the_same_devices(office: Office) -> None:
    first = plan_rollout(office.context, request(seed="a"))
    again = plan_rollout(office.context, request(seed="a"))
    other = [plan_rollout(office.context, request(seed=str(seed))).control for seed in range(8)]

    assert first.control == again.control
    assert len(set(other)) > 1


def test_a_first_installation_has_nothing_to_go_back_to(office: Office) -> None:
    office.release("1.0.0", model="weather")

    view = plan_rollout(office.context, request("weather@1.0.0"))

    assert (view.previous, view.control) == (None, ())


def test_a_started_rollout_is_running_and_audited(office: Office) -> None:
    number = start(office)

    detail = rollouts.show_rollout(office.context, number)

    assert (detail.rollout.phase, detail.rollout.live, detail.rollout.created_by) == (
        "running",
        True,
        OPERATOR,
    )
    assert detail.plan["round_seconds"] == office.context.settings.reporting.window_seconds
    (entry,) = detail.audit
    assert (entry.action, entry.subject, entry.reason) == ("rollout.start", f"rollout {number}", "better")


def test_a_cohort_is_in_one_rollout_of_a_model_at_a_time(office: Office) -> None:
    number = start(office, selector="site = berlin")

    with pytest.raises(ConflictError, match=f"rollout {number} of digits is running on 2 of them"):
        start(office)
    assert start(office, selector="site = oslo") == number + 1


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"stages": [{"percent": 25}]}, "last stage must be 100 percent"),
        ({"control": 0.9}, "control"),
        ({"selector": "site ="}, "column"),
        ({"nonsense": 1}, "nonsense"),
        ({"digest": "0" * 64}, "follow from the version"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_the_field(office: Office, plan: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        start(office, **plan)


def test_nobody_to_roll_out_to_is_an_obstacle(office: Office) -> None:
    view = plan_rollout(office.context, request(selector="site = paris"))

    assert view.obstacles == ("no device is 'site = paris'",)
    with pytest.raises(ConflictError, match="no device is"):
        start(office, selector="site = paris")


def withdraw(office: Office, version: str) -> str:
    """Withdraw a version and return its digest."""
    present = office.context.repository.current("model-digits")
    assert present is not None
    role = publisher.withdraw(
        present, version, floor=None, signers=[office.release_keys["digits"]], now=office.now
    )
    digest = versions.show_version(office.context, f"digits@{version}").version.digest
    publishing.withdraw(office.context, OPERATOR, digest, role=role)
    return digest


def test_a_withdrawn_version_is_not_rolled_out(office: Office) -> None:
    withdraw(office, "1.1.0")

    with pytest.raises(ConflictError, match=r"digits@1\.1\.0 was withdrawn"):
        start(office)


def test_a_withdrawn_version_is_nothing_to_go_back_to(office: Office) -> None:
    withdraw(office, "1.0.0")

    assert plan_rollout(office.context, request()).previous is None
    with pytest.raises(ConflictError, match=r"digits@1\.0\.0 was withdrawn"):
        start(office, previous="digits@1.0.0")


def test_a_withdrawn_version_that_devices_should_run_needs_attention(office: Office) -> None:
    digest = withdraw(office, "1.0.0")

    (shown,) = overview.show_overview(office.context).attention

    assert (shown.kind, shown.subject, shown.what) == ("version", digest, "withdrawn")
    assert shown.title == "digits@1.0.0 was withdrawn; 8 devices should run it, 8 do"


def test_a_rollout_is_paused_resumed_and_aborted(office: Office) -> None:
    number = start(office)

    assert rollouts.pause(office.context, OPERATOR, number, "lunch").rollout.phase == "paused"
    with pytest.raises(ConflictError):
        rollouts.pause(office.context, OPERATOR, number)
    assert rollouts.resume(office.context, OPERATOR, number).rollout.phase == "running"
    aborted = rollouts.abort(office.context, OPERATOR, number, mode="keep", reason="enough")
    assert (aborted.rollout.phase, aborted.rollout.live) == ("aborted", False)
    with pytest.raises(ConflictError):
        rollouts.promote(office.context, OPERATOR, number, "seen enough")
    actions = [entry.action for entry in history.list_audit(office.context, AuditFilter()).items]
    assert actions[:4] == ["rollout.abort", "rollout.resume", "rollout.pause", "rollout.start"]


def test_nobody_promotes_against_the_evidence_without_saying_why(office: Office) -> None:
    number = start(office)
    with pytest.raises(RequestError, match="say why: a promotion by order"):
        rollouts.promote(office.context, OPERATOR, number, " ")

    assert "rollout.promote" not in str(history.list_audit(office.context, AuditFilter()).items)


def test_a_refused_command_leaves_no_trace(office: Office) -> None:
    number = start(office)
    before = history.list_audit(office.context, AuditFilter()).items
    with pytest.raises(ConflictError):
        rollouts.resume(office.context, OPERATOR, number)

    assert history.list_audit(office.context, AuditFilter()).items == before


def test_every_device_of_the_cohort_has_an_arm_and_an_outcome(office: Office) -> None:
    number = start(office, control=0.25)

    views = rollouts.list_rollout_devices(office.context, number)

    assert [view.device for view in views] == sorted(FLEET)
    assert {view.arm for view in views} == {"control", "stage 1", "stage 2"}
    assert {view.outcome for view in views if view.arm == "control"} == {"control"}
    assert {view.outcome for view in views if view.arm == "stage 2"} == {"waiting"}


def test_devices_of_an_admitted_stage_are_updating_updated_failed_or_unreachable(office: Office) -> None:
    number = start(office, control=0.0, stages=[{"percent": 100}])
    digest = rollouts.show_rollout(office.context, number).rollout.version.digest
    rollouts.promote(office.context, OPERATOR, number, "seen enough")
    office.report("berlin-1", current=digest, target=digest)
    office.report("berlin-2", phase=Phase.FAILED, target=digest)
    office.clock.now += office.context.settings.reachable_seconds + 1
    office.enrol("oslo-1")

    outcomes = {view.device: view.outcome for view in rollouts.list_rollout_devices(office.context, number)}

    assert outcomes["berlin-1"] == "updated"
    assert outcomes["berlin-2"] == "failed"
    assert outcomes["oslo-1"] == "updating"
    assert outcomes["porto-1"] == "unreachable"


def test_a_device_that_something_newer_decides_for_has_moved_on_from_a_rollout_that_is_over(
    office: Office,
) -> None:
    number = start(office, control=0.0)
    newer = office.release("1.2.0").version.digest

    def outcomes() -> dict[str, str]:
        views = rollouts.list_rollout_devices(office.context, number)
        return {view.device: view.outcome for view in views}

    def give_newer_to(device: str) -> None:
        with office.context.unit() as session:
            held = {device: newer}
            assignments.assign(
                session, "digits", held, rollout=number + 1, probation_seconds=1.0, now=office.clock.now
            )

    give_newer_to("oslo-1")
    live = outcomes()
    rollouts.abort(office.context, OPERATOR, number, mode="keep")
    over = outcomes()

    assert "moved-on" not in live.values()
    assert [device for device, outcome in over.items() if outcome == "moved-on"] == ["oslo-1"]


def test_a_device_that_has_gone_back_still_says_why_the_version_failed_on_it(office: Office) -> None:
    number = start(office, control=0.0, stages=[{"percent": 100}])
    digest = rollouts.show_rollout(office.context, number).rollout.version.digest
    failed: dict[str, Any] = {"phase": Phase.ROLLED_BACK, "reason": Reason.OUT_OF_MEMORY}
    office.report("berlin-1", target=digest, detail="it took 2 GiB", **failed)
    settings = office.context.settings
    Advancing(office.context.engine, office.opened.baselines, settings).advance("digits", office.clock.now)
    office.clock.now += 1
    office.report("berlin-1", phase=Phase.IDLE)

    detail = rollouts.show_rollout(office.context, number)
    views = {view.device: view for view in rollouts.list_rollout_devices(office.context, number)}

    assert detail.rollout.reason == "unhealthy: failures: 1 of 8: out-of-memory"
    assert detail.evidence is not None
    assert detail.evidence.failures == {"out-of-memory": 1}
    assert (views["berlin-1"].phase, views["berlin-1"].reason) == ("idle", "out-of-memory")
    assert views["berlin-1"].detail == "it took 2 GiB"
    assert views["berlin-2"].reason == ""


def test_a_rollout_whose_devices_were_all_revoked_needs_attention(office: Office) -> None:
    number = start(office, control=0.0, stages=[{"percent": 100}])
    for device in FLEET:
        devices.revoke(office.context, OPERATOR, device)
    settings = office.context.settings
    Advancing(office.context.engine, office.opened.baselines, settings).advance("digits", office.clock.now)

    shown = overview.show_overview(office.context).attention

    assert ("rollout", str(number), "hold") in {(one.kind, one.subject, one.what) for one in shown}


def test_a_paused_rollout_and_a_failed_device_need_attention(office: Office) -> None:
    number = start(office)
    rollouts.pause(office.context, OPERATOR, number, "lunch")
    office.report("lyon-1", phase=Phase.FAILED, reason=None, detail="it crashed")

    shown = overview.show_overview(office.context)

    assert [(one.kind, one.subject) for one in shown.attention] == [
        ("rollout", str(number)),
        ("device", "lyon-1"),
    ]
    assert [rollout.id for rollout in shown.rollouts] == [number]
    assert (shown.states["failed"], shown.states["healthy"]) == (1, 7)


def test_one_device_alone_cannot_be_asked_what_only_a_control_tells(office: Office) -> None:
    margins = {"counters": {"scrap": {"margin": 0.1}}}
    devices.set_labels(office.context, OPERATOR, "oslo-1", labels={"only": "yes"})

    asked = plan_rollout(office.context, request(selector="only = yes", control=0.25, margins=margins))
    usual = plan_rollout(office.context, request(selector="only = yes", control=0.25))

    assert asked.obstacles == (
        "counter scrap: one device alone has no control to be compared with; take more, or set limits",
    )
    assert (usual.obstacles, usual.control) == ((), ())


def test_an_unknown_rollout_is_not_found(office: Office) -> None:
    for ask in (rollouts.show_rollout, rollouts.list_rollout_devices, rollouts.list_evidence):
        with pytest.raises(NotFoundError, match="no rollout 99"):
            ask(office.context, 99)


def test_a_revoked_device_leaves_the_cohort(office: Office) -> None:
    devices.revoke(office.context, OPERATOR, "oslo-2")

    assert plan_rollout(office.context, request()).cohort == 7
