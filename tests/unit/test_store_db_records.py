"""What the store remembers of versions, assignments, desired states and alarms."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import col, select

from muster_controller.domain.desired import Held
from muster_controller.domain.drift.detector import Signal
from muster_controller.store import assignments, desired, devices, drift, inbox, rollouts, versions
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.tables import Alarm
from muster_models.errors import ConflictError, NotFoundError
from support.controller import NOW, Ground, lay_ground, release_of

ALARM = Signal(
    kind="data-drift",
    level="group",
    subject="site=berlin",
    feature="brightness",
    state="pending",
    since=NOW,
    fired_at=None,
    resolved_at=None,
    effect=-0.4,
    unit="sd",
    evidence={"devices": ["berlin-1"]},
)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, "berlin-1", "oslo-1")


# Versions


def test_a_version_is_read_back_as_it_was_signed(ground: Ground) -> None:
    with Reading(ground.engine) as session:
        release = versions.find(session, "digits", "1.0.0")

    assert release.document == ground.release.document
    assert (release.name, release.digest) == ("digits@1.0.0", ground.release.digest)
    assert (release.baseline, release.published_at) == (ground.baseline.digest, NOW)


def test_the_same_version_again_changes_nothing_and_another_of_its_name_is_refused(ground: Ground) -> None:
    other = release_of(ground.baseline, description="not the same")

    with Unit(ground.engine) as session:
        versions.add(session, ground.release, NOW + 1)
    with pytest.raises(ConflictError, match="versions never change"), Unit(ground.engine) as session:
        versions.add(session, other, NOW)

    with Reading(ground.engine) as session:
        assert [release.digest for release in versions.of_model(session, "digits")] == [ground.release.digest]


def test_versions_are_listed_newest_release_first_withdrawn_ones_included(ground: Ground) -> None:
    newer = release_of(ground.baseline, version="1.1.0", release=2)
    with Unit(ground.engine) as session:
        versions.add(session, newer, NOW)
        versions.withdraw(session, ground.release.digest, NOW + 5)
        versions.withdraw(session, ground.release.digest, NOW + 9)

    with Reading(ground.engine) as session:
        listed = [(one.manifest.version, one.withdrawn_at) for one in versions.of_model(session, "digits")]
        assert listed == [("1.1.0", None), ("1.0.0", NOW + 5)]
        assert versions.models(session) == ["digits"]
        assert versions.streams(session) == [("digits", ground.baseline.digest)]


def test_a_version_that_does_not_exist_is_not_found(ground: Ground) -> None:
    with Reading(ground.engine) as session:
        with pytest.raises(NotFoundError, match="no version with the digest 'ffffffffffff'"):
            versions.get(session, "f" * 64)
        with pytest.raises(NotFoundError, match=r"no version weather@1\.0\.0"):
            versions.find(session, "weather", "1.0.0")


# Assignments


def assign(ground: Ground, digests: dict[str, str | None], now: float = NOW) -> None:
    with Unit(ground.engine) as session:
        assignments.assign(session, "digits", digests, rollout=1, probation_seconds=9.0, now=now)


def test_an_assignment_is_made_changed_and_taken_away(ground: Ground) -> None:
    assign(ground, {"berlin-1": "a" * 64, "oslo-1": "a" * 64})
    assign(ground, {"berlin-1": "b" * 64, "oslo-1": None})
    assign(ground, {"oslo-1": None})

    with Reading(ground.engine) as session:
        assert assignments.of_devices(session, ["berlin-1", "oslo-1"]) == {
            "berlin-1": [assignments.Wanted("digits", "b" * 64, 9.0)]
        }


def test_a_model_is_stopped_once_and_started_once(ground: Ground) -> None:
    with Unit(ground.engine) as session:
        assignments.stop(session, "digits", NOW)
    with pytest.raises(ConflictError, match="stopped already"), Unit(ground.engine) as session:
        assignments.stop(session, "digits", NOW)
    with Unit(ground.engine) as session:
        stopped = assignments.stopped(session)
        assignments.start(session, "digits")
    with pytest.raises(NotFoundError, match="not stopped"), Unit(ground.engine) as session:
        assignments.start(session, "digits")

    assert stopped == {"digits"}


# Desired states


def signed(device: str, sequence: int) -> desired.Signed:
    return desired.Signed(device, sequence, b"envelope", f"content {sequence}", NOW, NOW + 60)


def test_a_newer_desired_state_replaces_the_older_and_is_unsent(ground: Ground) -> None:
    with Unit(ground.engine) as session:
        desired.save(session, [signed("berlin-1", 1)])
        desired.mark_sent(session, [("berlin-1", 1)], NOW)
        before = desired.unsent(session, 10)
        desired.save(session, [signed("berlin-1", 2)])
        desired.mark_sent(session, [("berlin-1", 1)], NOW)

    with Reading(ground.engine) as session:
        assert before == []
        assert desired.unsent(session, 10) == [("berlin-1", 2, b"envelope")]
        assert desired.held(session, ["berlin-1"]) == {"berlin-1": Held(2, "content 2", NOW, NOW + 60)}


# Alarms


def alarms(ground: Ground) -> list[tuple[str, float, int | None, int | None]]:
    with Reading(ground.engine) as session:
        rows = session.exec(select(Alarm).order_by(col(Alarm.since))).all()
        return [(row.state, row.effect, row.fired_at, row.resolved_at) for row in rows]


def save(ground: Ground, signal: Signal) -> str | None:
    with Unit(ground.engine) as session:
        return drift.save_alarm(session, "digits", ground.baseline.digest, signal=signal)[1]


def test_an_alarm_is_one_row_from_pending_to_resolved(ground: Ground) -> None:
    firing = replace(ALARM, state="firing", fired_at=NOW + 10, effect=-0.7)
    resolved = replace(firing, state="resolved", resolved_at=NOW + 20)

    before = [save(ground, signal) for signal in (ALARM, firing, firing, resolved)]

    ms = int(NOW) * 1000
    assert before == [None, "pending", "firing", "firing"]
    assert alarms(ground) == [("resolved", -0.7, ms + 10_000, ms + 20_000)]


def test_the_same_cause_later_is_a_new_alarm(ground: Ground) -> None:
    save(ground, replace(ALARM, state="resolved", resolved_at=NOW + 20))
    with Reading(ground.engine) as session:
        quiet = drift.has_active_alarm(session, "digits", ground.baseline.digest)

    save(ground, replace(ALARM, since=NOW + 100))

    with Reading(ground.engine) as session:
        assert (quiet, drift.has_active_alarm(session, "digits", ground.baseline.digest)) == (False, True)
    assert [state for state, *_ in alarms(ground)] == ["resolved", "pending"]


# The rest


def test_labels_are_replaced(ground: Ground) -> None:
    with Unit(ground.engine) as session:
        devices.set_labels(session, "berlin-1", {"site": "potsdam"})
    with pytest.raises(NotFoundError), Unit(ground.engine) as session:
        devices.set_labels(session, "nobody-1", {})

    with Reading(ground.engine) as session:
        assert [member.labels for member in devices.members(session)] == [
            {"site": "potsdam"},
            {"site": "oslo"},
        ]


def test_a_rollout_that_does_not_exist_is_not_found_and_not_saved(ground: Ground) -> None:
    with Unit(ground.engine) as session, pytest.raises(NotFoundError, match="no rollout 7"):
        rollouts.get(session, 7)
    with Unit(ground.engine) as session:
        saved = rollouts.save(session, 7, fence=0, phase="running", ticking=True, state={}, now=NOW)

    assert not saved


def test_skipping_moves_a_watermark_forward_only(ground: Ground) -> None:
    stream = ("berlin-1", 1)
    with Unit(ground.engine) as session:
        inbox.receive(session, [("berlin-1", 1, 5)])
        inbox.skip(session, stream, 3)
        inbox.skip(session, stream, 1)
        skipped = inbox.watermarks(session, {stream})
        inbox.receive(session, [("berlin-1", 1, 4)])
        joined = inbox.watermarks(session, {stream})

    assert (skipped, joined) == ({stream: 3}, {stream: 5})
