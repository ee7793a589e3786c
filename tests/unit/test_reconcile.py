"""The loop that decides, on a real database: it can be stopped anywhere, and its numbers only grow."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import event
from sqlmodel import select

from muster_controller import intake
from muster_controller.broker.config import Revoked
from muster_controller.config import DriftSettings, Settings
from muster_controller.domain.rollouts import machine as domain
from muster_controller.domain.rollouts.machine import RolloutPhase
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.reconcile.advancing import Advancing
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.stepping import Stepping, course_of
from muster_controller.store import assignments, desired, drift, enrolment, reporting, rollouts, versions
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.facts import start_facts
from muster_controller.store.tables import (
    Alarm,
    Assignment,
    DesiredState,
    EventRecord,
    RolloutRecord,
    WindowRecord,
)
from muster_models import topics, wire
from muster_models.sketch.baseline import make_baseline
from muster_models.trust.verified import VerifiedManifest
from support.controller import (
    COLUMNS,
    NOW,
    Ground,
    device_report,
    draw_rows,
    enrol,
    lay_ground,
    make_hello,
    make_window,
    release_of,
    window_of,
)

DAY = 86_400.0
DEVICES = ("berlin-1", "lyon-1", "oslo-1", "porto-1")
DIRECTOR = CryptoSigner.generate_ed25519()


@dataclass
class Wire:
    """What goes out; ``is_up`` is whether there is a session, ``answers`` whether the broker acknowledges."""

    sent: list[tuple[str, wire.Desired]] = field(default_factory=list)
    refused: list[Revoked] = field(default_factory=list)
    renewed: list[dt.datetime] = field(default_factory=list)
    is_up: bool = True
    answers: bool = True

    def publish(self, topic: str, payload: bytes, sent: object = None) -> bool:
        if self.is_up:
            envelope = msgspec.json.decode(payload)
            document = msgspec.json.decode(f'"{envelope["payload"]}"', type=bytes)
            self.sent.append((topic, wire.decode_desired(document)))
            if self.answers and callable(sent):
                sent()
        return self.is_up

    def take(self) -> list[wire.Desired]:
        """Return what was sent since the last call."""
        taken = [message for _, message in self.sent]
        self.sent.clear()
        return taken


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, *DEVICES)


@pytest.fixture
def line() -> Wire:
    return Wire()


def loop(ground: Ground, line: Wire, **settings: object) -> Reconcile:
    """Return a loop as a controller that was just started has it."""
    return Reconcile(
        ground.engine,
        ground.baselines,
        msgspec.structs.replace(Settings(), **settings),
        director=DIRECTOR,
        outside=Outside(line.publish, line.refused.append, line.renewed.append),
        clock=lambda: NOW,
    )


def tick(ground: Ground, line: Wire, now: float = NOW, **settings: object) -> list[wire.Desired]:
    """Make a pass by a new loop, so that nothing can hide in memory, and return what it sent."""
    reconcile = loop(ground, line, **settings)
    reconcile.tick(now)
    reconcile._telling.send(now)  # writes down what was acknowledged
    assert reconcile.last is not None
    assert reconcile.last.faults == 0
    return line.take()


def say(ground: Ground, message: wire.Uplink, now: float = NOW) -> None:
    taken = intake.read(topics.up(message.device, intake.KINDS[type(message)]), wire.encode(message))
    with Unit(ground.engine) as session:
        intake.store(session, [taken], baselines=ground.baselines, now=now)


def assign(ground: Ground, release: VerifiedManifest, *devices: str, now: float = NOW) -> None:
    with Unit(ground.engine) as session:
        digests = dict.fromkeys(devices, release.digest)
        assignments.assign(session, "digits", digests, rollout=0, probation_seconds=5.0, now=now)


def publish(ground: Ground, version: str, release: int) -> VerifiedManifest:
    verified = release_of(ground.baseline, version=version, release=release)
    with Unit(ground.engine) as session:
        versions.add(session, verified, NOW)
    return verified


def start(ground: Ground, plan: Plan, now: float = NOW) -> int:
    """Start a rollout as the API does."""
    with Unit(ground.engine) as session:
        facts = start_facts(session, plan.model, plan.digest, number=None, now=now, reachable_seconds=900)
        decision = domain.decide(plan, domain.State(), domain.Start("anna", "", facts))
        assert decision.refused is None
        return Stepping(Settings()).begin(session, plan, decision, by="anna", now=now).id


def command(ground: Ground, number: int, order: domain.Event) -> None:
    """Hand an operator's command to a rollout as the API does."""
    with Unit(ground.engine) as session:
        course = course_of(session, number)
        decision = domain.decide(course.plan, course.state, order)
        assert decision.refused is None
        assert Stepping(Settings()).take(session, course, decision, NOW) is not None


def phase_of(ground: Ground, number: int) -> str:
    with Reading(ground.engine) as session:
        return rollouts.get(session, number).phase


def first_install(ground: Ground, **changes: object) -> Plan:
    plan = Plan(
        model="digits",
        digest=ground.release.digest,
        previous=None,
        stages=(Stage(percent=50, soak_seconds=0, minimum_rounds=1), Stage(percent=100, soak_seconds=0)),
        control=0.0,
        probation_seconds=7.0,
        round_seconds=20.0,
    )
    return msgspec.structs.replace(plan, **changes)


def held(ground: Ground) -> dict[str, int]:
    with Reading(ground.engine) as session:
        return {device: state.sequence for device, state in desired.held(session, DEVICES).items()}


# Desired states


def test_every_device_is_told_how_to_report_and_what_to_run(ground: Ground, line: Wire) -> None:
    assign(ground, ground.release, "berlin-1")

    told = {message.device: message for message in tick(ground, line)}

    assert told.keys() == set(DEVICES)
    assert told["oslo-1"].models == ()
    assert told["berlin-1"] == wire.Desired(
        device="berlin-1",
        sequence=1,
        issued=NOW,
        expires=NOW + 30 * DAY,
        models=(wire.DesiredModel("digits", "1.0.0", ground.release.digest, probation_seconds=5.0),),
        reporting=wire.Reporting(),
    )


def test_what_was_sent_is_not_sent_again_by_a_restarted_loop(ground: Ground, line: Wire) -> None:
    tick(ground, line)

    again = tick(ground, line, NOW + 60)

    assert again == []


def test_a_change_raises_the_sequence_of_the_device_that_it_concerns(ground: Ground, line: Wire) -> None:
    tick(ground, line)
    assign(ground, ground.release, "berlin-1")

    (told,) = tick(ground, line)

    assert (told.device, told.sequence) == ("berlin-1", 2)
    assert held(ground) == {"berlin-1": 2, "lyon-1": 1, "oslo-1": 1, "porto-1": 1}


def test_other_reporting_settings_are_a_change(ground: Ground, line: Wire) -> None:
    tick(ground, line)

    told = tick(ground, line, reporting=wire.Reporting(window_seconds=2.0))

    assert [message.sequence for message in told] == [2, 2, 2, 2]
    assert {message.reporting.window_seconds for message in told} == {2.0}


def test_reporting_that_an_operator_ordered_comes_before_the_settings(ground: Ground, line: Wire) -> None:
    tick(ground, line)
    with Unit(ground.engine) as session:
        reporting.order(session, wire.Reporting(window_seconds=60.0, epsilon=0.5), NOW)

    told = tick(ground, line)
    again = tick(ground, line)

    assert {(message.reporting.window_seconds, message.reporting.epsilon) for message in told} == {
        (60.0, 0.5)
    }
    assert (len(told), again) == (4, [])


def test_a_desired_state_is_renewed_long_before_it_expires(ground: Ground, line: Wire) -> None:
    tick(ground, line)

    before = tick(ground, line, NOW + 14.9 * DAY)
    after = tick(ground, line, NOW + 15.1 * DAY)

    assert before == []
    assert [message.sequence for message in after] == [2, 2, 2, 2]
    assert {message.expires for message in after} == {NOW + 45.1 * DAY}


def test_what_could_not_be_sent_is_sent_when_there_is_a_session(ground: Ground, line: Wire) -> None:
    line.is_up = False
    while_down = tick(ground, line)
    line.is_up = True

    later = tick(ground, line)

    assert (while_down, len(later)) == ([], 4)


def test_what_the_broker_did_not_acknowledge_is_sent_again_on_the_next_session(
    ground: Ground, line: Wire
) -> None:
    reconcile = loop(ground, line)
    line.answers = False
    reconcile.tick(NOW)
    reconcile.tick(NOW)
    once = len(line.take())

    reconcile.online()
    line.answers = True
    reconcile.tick(NOW)
    again = len(line.take())
    reconcile.tick(NOW)

    assert (once, again, line.take()) == (4, 4, [])


def test_a_device_that_holds_an_older_desired_state_is_told_again(ground: Ground, line: Wire) -> None:
    tick(ground, line)

    say(ground, make_hello("berlin-1", desired=0))
    say(ground, make_hello("oslo-1", desired=1))

    assert [(told.device, told.sequence) for told in tick(ground, line)] == [("berlin-1", 1)]


def test_after_a_restore_the_sequence_goes_on_above_what_devices_hold(ground: Ground, line: Wire) -> None:
    tick(ground, line)
    say(ground, make_hello("berlin-1", desired=41))

    (told,) = tick(ground, line)

    assert (told.device, told.sequence) == ("berlin-1", 42)


def test_a_claim_that_nobody_can_hold_is_not_believed(ground: Ground, line: Wire) -> None:
    tick(ground, line)
    say(ground, make_hello("berlin-1", desired=2**53))

    assert tick(ground, line) == []


def test_a_revoked_device_is_told_nothing_and_the_broker_is(ground: Ground, line: Wire) -> None:
    with Unit(ground.engine) as session:
        enrolment.revoke(session, "berlin-1", NOW)

    told = tick(ground, line)

    assert {message.device for message in told} == {"lyon-1", "oslo-1", "porto-1"}
    assert line.refused == [Revoked(("berlin-1",), {"1": "berlin-1"})]
    assert line.renewed == [dt.datetime.fromtimestamp(NOW, dt.UTC)]


def test_a_stopped_model_is_stopped_everywhere_also_on_devices_that_come_later(
    ground: Ground, line: Wire
) -> None:
    assign(ground, ground.release, "berlin-1")
    with Unit(ground.engine) as session:
        assignments.stop(session, "digits", NOW)
    first = {message.device: message.models for message in tick(ground, line)}
    assign(ground, ground.release, "oslo-1")
    (late,) = tick(ground, line)
    with Unit(ground.engine) as session:
        assignments.start(session, "digits")
    lifted = tick(ground, line)

    assert [model.stop for model in first["berlin-1"]] == [True]
    assert [model.stop for model in late.models] == [True]
    assert [[model.stop for model in message.models] for message in lifted] == [[False], [False]]


# Rollouts


def test_a_rollout_gives_its_version_to_the_devices_of_its_stage(ground: Ground, line: Wire) -> None:
    number = start(ground, first_install(ground))

    told = {message.device: message.models for message in tick(ground, line)}

    given = {device for device, models in told.items() if models}
    assert len(given) == 2
    assert {model.probation_seconds for models in told.values() for model in models} == {7.0}
    with Reading(ground.engine) as session:
        assert set(session.exec(select(Assignment.rollout))) == {number}


def test_a_rollout_goes_on_to_the_whole_cohort_and_late_devices_follow(ground: Ground, line: Wire) -> None:
    number = start(ground, first_install(ground, dynamic=True))
    now = NOW
    for step in range(40):
        now = NOW + 20.0 * step
        told = tick(ground, line, now)
        for message in told:
            for model in message.models:
                report = (device_report(model.manifest, model.version),)
                say(ground, make_hello(message.device, models=report, desired=message.sequence), now)
        phase = phase_of(ground, number)
        with Reading(ground.engine) as session:
            running = set(session.exec(select(Assignment.device)))
        for device in running:
            window = make_window(ground, device, step + 1, start=now - 10, end=now)
            say(ground, window, now)
        if phase == RolloutPhase.COMPLETED:
            break

    enrol(ground, "sofia-1")
    late = tick(ground, line, now + 1)

    assert phase == RolloutPhase.COMPLETED
    assert running == set(DEVICES)
    assert [(told.device, [model.version for model in told.models]) for told in late] == [
        ("sofia-1", ["1.0.0"])
    ]


def test_a_command_that_comes_between_is_not_overwritten(
    ground: Ground, line: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator pauses while the loop decides on what it read before."""
    number = start(ground, first_install(ground))
    tick(ground, line)
    decide = Advancing._decide

    def decide_then_pause(self: Advancing, *args: Any) -> Any:
        decided = decide(self, *args)
        command(ground, number, domain.Pause("anna", "looks odd", NOW))
        return decided

    with monkeypatch.context() as moment:
        moment.setattr(Advancing, "_decide", decide_then_pause)
        tick(ground, line, NOW + 1)
    between = phase_of(ground, number)
    tick(ground, line, NOW + 2)

    assert (between, phase_of(ground, number)) == (RolloutPhase.PAUSED, RolloutPhase.PAUSED)


def test_the_newest_rollout_decides_for_the_devices_it_names(ground: Ground, line: Wire) -> None:
    whole = first_install(ground, stages=(Stage(percent=100, soak_seconds=0),))
    older = start(ground, whole)
    command(ground, older, domain.Promote("anna", "known to be good", NOW))
    newer = publish(ground, "1.1.0", 2)
    plan = msgspec.structs.replace(
        whole, digest=newer.digest, previous=ground.release.digest, selector="site = berlin"
    )
    start(ground, plan, NOW + 10)

    tick(ground, line, NOW + 10)

    with Reading(ground.engine) as session:
        running = assignments.of_model(session, "digits")
    assert running == dict.fromkeys(DEVICES, ground.release.digest) | {"berlin-1": newer.digest}


def test_a_first_install_that_is_taken_back_leaves_the_device_without_the_model(
    ground: Ground, line: Wire
) -> None:
    number = start(ground, first_install(ground))
    given = {message.device for message in tick(ground, line) if message.models}
    command(ground, number, domain.Abort("anna", "not wanted", "revert", NOW))

    told = tick(ground, line, NOW + 1)

    assert {(message.device, message.models) for message in told} == {(device, ()) for device in given}


# Drift


def test_windows_go_into_the_drift_signals_once(ground: Ground, line: Wire) -> None:
    for sequence in (1, 2, 3):
        say(ground, make_window(ground, "berlin-1", sequence))
    tick(ground, line)
    with Reading(ground.engine) as session:
        first = drift.judged(session, "digits", ground.baseline.digest)
    tick(ground, line, NOW + 1)
    say(ground, make_window(ground, "berlin-1", 4))
    tick(ground, line, NOW + 2)

    with Reading(ground.engine) as session:
        second = drift.judged(session, "digits", ground.baseline.digest)
    assert first is not None
    assert second is not None
    assert (first.upto, second.upto) == (3, 4)
    assert first.state != second.state


def test_a_drift_state_of_an_unknown_form_is_begun_anew(ground: Ground, line: Wire) -> None:
    say(ground, make_window(ground, "berlin-1", 1))
    digest = ground.baseline.digest
    with Unit(ground.engine) as session:
        drift.save(session, "digits", digest, judged=drift.Judged(0, b"of another age"), now=NOW)

    tick(ground, line)

    with Reading(ground.engine) as session:
        judged = drift.judged(session, "digits", digest)
    assert judged is not None
    assert (judged.upto, judged.state == b"of another age") == (1, False)


def drift_away(ground: Ground, line: Wire) -> float:
    """Let berlin-1 run, drift and raise an alarm; return the time then."""
    say(ground, wire.Report("berlin-1", 1, 1, NOW, (device_report(ground.release.digest),)))
    for sequence in range(2, 60):
        shift = 0.0 if sequence < 30 else 3.0
        for device in DEVICES:
            rows = draw_rows(100, seed=sequence)
            rows[:, 0] += shift if device == "berlin-1" else 0.0
            at = {"start": NOW + 10.0 * sequence, "end": NOW + 10.0 * sequence + 10.0}
            names = {"device": device, "sequence": sequence, "manifest": ground.release.digest}
            say(ground, window_of(rows, ground.baseline, **names, **at))
    now = NOW + 620
    for later in (0, 10, 20):
        tick(ground, line, now + later, **QUICK)
    return now + 20


QUICK = {"reporting": wire.Reporting(window_seconds=10.0), "drift": DriftSettings(calibration_windows=12)}


def alarm_states(ground: Ground) -> list[tuple[str, str]]:
    with Reading(ground.engine) as session:
        return [(alarm.subject, alarm.state) for alarm in session.exec(select(Alarm))]


def test_an_alarm_ends_when_its_devices_have_moved_to_another_baseline_for_good(
    ground: Ground, line: Wire
) -> None:
    now = drift_away(ground, line)
    assert alarm_states(ground) == [("berlin-1", "firing")]
    other = make_baseline(draw_rows(500, seed=9), COLUMNS, classes=10)
    ground.blobs.put(other.digest, [other.encode()])
    release = release_of(other, version="1.1.0", release=2)
    with Unit(ground.engine) as session:
        versions.add(session, release, now)
    moved = wire.Report("berlin-1", 1, 100, now, (device_report(release.digest, "1.1.0"),))
    say(ground, moved, now)

    tick(ground, line, now + 60, **QUICK)
    soon = alarm_states(ground)
    tick(ground, line, now + 130, **QUICK)

    assert soon == [("berlin-1", "firing")]
    assert alarm_states(ground) == [("berlin-1", "resolved")]


# Being killed


class Killed(BaseException):
    """Stands for a kill: no handler of ours catches it, and the transaction is lost."""


def statements(ground: Ground, line: Wire, *, kill_at: int | None = None) -> int:
    """Make a pass; die before statement number ``kill_at``. Return how many statements there were."""
    seen = 0

    def look(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_at:
            raise Killed

    event.listen(ground.engine, "before_cursor_execute", look)
    try:
        loop(ground, line).tick(NOW + 1)
    except Killed:
        pass
    finally:
        event.remove(ground.engine, "before_cursor_execute", look)
    return seen


def outcome(ground: Ground) -> tuple[object, ...]:
    """Return what must not depend on where the loop was killed."""
    with Reading(ground.engine) as session:
        states = session.exec(select(DesiredState).order_by(DesiredState.device)).all()
        return (
            [(state.device, state.sequence, state.content) for state in states],
            assignments.of_model(session, "digits"),
            [(row.id, row.phase) for row in session.exec(select(RolloutRecord).order_by("id"))],
            len(session.exec(select(EventRecord)).all()),
        )


def prepared(folder: Path) -> Ground:
    folder.mkdir()
    ground = lay_ground(folder, *DEVICES)
    start(ground, first_install(ground))
    say(ground, make_window(ground, "berlin-1", 1))
    return ground


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, tuple[object, ...]]:
    ground = prepared(tmp_path_factory.mktemp("undisturbed") / "folder")
    count = statements(ground, Wire())
    tick(ground, Wire(), NOW + 2)
    return count, outcome(ground)


def test_a_loop_that_is_killed_before_any_statement_ends_up_where_an_undisturbed_one_does(
    tmp_path: Path, undisturbed: tuple[int, tuple[object, ...]]
) -> None:
    count, expected = undisturbed
    different = []
    for number in range(1, count + 1):
        ground = prepared(tmp_path / str(number))
        statements(ground, Wire(), kill_at=number)
        line = Wire()
        tick(ground, line, NOW + 2)
        if outcome(ground) != expected:
            different.append(number)
        ground.engine.dispose()

    assert count > 10
    assert different == []


def test_a_step_that_fails_does_not_hold_up_the_others(ground: Ground, line: Wire) -> None:
    (ground.folder / "blobs" / ground.baseline.digest).unlink()
    say_unread(ground)
    reconcile = loop(ground, line)

    reconcile.tick(NOW)

    assert reconcile.last is not None
    assert (reconcile.last.at, reconcile.last.faults) == (NOW, 1)
    assert len(line.take()) == 4


def say_unread(ground: Ground) -> None:
    """Store a window whose baseline file was lost."""
    with Unit(ground.engine) as session:
        window = make_window(ground, "berlin-1", 1)
        session.add(
            WindowRecord(
                device="berlin-1",
                model="digits",
                digest=window.manifest,
                baseline=window.baseline,
                start=0,
                end=0,
                rows=0,
                calls=0,
                errors=0,
                latency=[],
                sketch=b"",
                received_at=int(NOW * 1000),
            )
        )


def test_old_windows_are_removed_and_new_ones_kept(ground: Ground, line: Wire) -> None:
    say(ground, make_window(ground, "berlin-1", 1), NOW)
    say(ground, make_window(ground, "berlin-1", 2), NOW + 10 * DAY)

    tick(ground, line, NOW + 15 * DAY)

    with Reading(ground.engine) as session:
        assert [row.received_at for row in session.exec(select(WindowRecord))] == [int(NOW + 10 * DAY) * 1000]


def test_the_loop_wakes_sends_and_ends(ground: Ground, line: Wire) -> None:
    reconcile = loop(ground, line, tick_seconds=3600.0)
    reconcile.start()
    reconcile.wake()
    reconcile.stop()

    assert {message.device for message in line.take()} <= set(DEVICES)
