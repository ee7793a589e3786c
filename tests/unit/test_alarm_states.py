"""Alarms once they exist: what is told of them and when, how messages are placed, which jobs they start."""

from dataclasses import replace
from typing import get_args

import pytest

from muster_controller.domain.alarms.alarm import Alarm, AlarmState, Care, due, why_not_acknowledged
from muster_controller.domain.alarms.jobs import (
    TRANSITIONS,
    JobEvent,
    JobState,
    Parent,
    Past,
    Trigger,
    evidence,
    obstacle,
)
from muster_controller.domain.alarms.notices import (
    MOST_IN_ONE,
    Join,
    Notice,
    Send,
    Told,
    Wanted,
    backoff,
    joined,
    place,
)
from muster_controller.domain.alarms.rollout_changes import change
from muster_controller.domain.alarms.silences import MAX_SECONDS, Matcher, check_term
from muster_controller.domain.rollouts.states import RolloutPhase, State, Step
from muster_models.errors import RequestError

DAY = 86_400.0
ALARM = Alarm(7, "digits", "data-drift", "group", "site=berlin", "firing", since=0.0, fired_at=10.0)
TRIGGER = Trigger("retrain", kinds=("data-drift",), cooldown_seconds=DAY, per_week=2)


@pytest.mark.parametrize(
    ("state", "told", "acknowledged", "silenced", "since_told", "expected"),
    [
        ("pending", None, False, False, 0, "pending"),
        ("pending", "pending", False, False, 999, None),
        ("pending", None, False, True, 0, None),
        ("firing", None, False, False, 0, "firing"),
        ("firing", "pending", False, False, 0, "firing"),
        ("firing", "firing", False, False, 99, None),
        ("firing", "firing", False, False, 100, "firing"),  # again
        ("firing", "firing", True, False, 100, None),  # somebody looks after it
        ("firing", "pending", True, False, 0, "firing"),  # acknowledged while pending: that it fires is news
        ("firing", "firing", False, True, 100, None),
        ("resolved", None, False, False, 0, None),  # nobody knew of it
        ("resolved", "pending", False, False, 0, "resolved"),
        ("resolved", "firing", False, False, 0, "resolved"),
        ("resolved", "firing", True, False, 0, "resolved"),
        ("resolved", "firing", False, True, 0, None),  # told when the silence ends
        ("resolved", "resolved", False, False, 999, None),
    ],
)
def test_what_is_told_of_an_alarm(
    *,
    state: AlarmState,
    told: AlarmState | None,
    acknowledged: bool,
    silenced: bool,
    since_told: float,
    expected: AlarmState | None,
) -> None:
    care = Care(told, 1000.0, acknowledged_at=1.0 if acknowledged else None)

    news = due(
        replace(ALARM, state=state), care, is_silenced=silenced, now=1000.0 + since_told, repeat_seconds=100.0
    )

    assert news == expected


@pytest.mark.parametrize(
    ("state", "care", "reason", "words"),
    [
        ("firing", Care(), "I look at it", None),
        ("pending", Care(), "I look at it", None),
        ("firing", Care(), "  ", "needs a reason"),
        ("resolved", Care(), "I look at it", "is resolved"),
        ("firing", Care(None, 0, 1.0, "anna", "mine"), "I look at it", "by anna: mine"),
    ],
)
def test_who_may_acknowledge_what(state: AlarmState, care: Care, reason: str, words: str | None) -> None:
    why_not = why_not_acknowledged(replace(ALARM, state=state), care, reason)

    assert (why_not is None) == (words is None)
    assert (words or "") in (why_not or "")


@pytest.mark.parametrize(
    ("matcher", "labels", "alarm", "expected"),
    [
        (Matcher(model="digits"), {}, ALARM, True),
        (Matcher(model="weather"), {}, ALARM, False),
        (Matcher(kind="silence"), {}, ALARM, False),
        (Matcher(level="group", kind="data-drift"), {}, ALARM, True),
        (Matcher(where="site = berlin"), {}, ALARM, True),
        (Matcher(where="site = oslo"), {}, ALARM, False),
        (Matcher(where="device = berlin-1"), {}, replace(ALARM, level="device", subject="berlin-1"), True),
        (Matcher(where="line = 3"), {"line": "3"}, replace(ALARM, level="device", subject="berlin-1"), True),
        (Matcher(where="line = 3"), {"line": "4"}, replace(ALARM, level="device", subject="berlin-1"), False),
        (Matcher(where="site != oslo"), {}, replace(ALARM, level="fleet", subject="all"), False),
        (Matcher(where="all"), {}, replace(ALARM, level="fleet", subject="all"), True),
    ],
)
def test_which_alarms_a_silence_hides(
    *, matcher: Matcher, labels: dict[str, str], alarm: Alarm, expected: bool
) -> None:
    assert matcher.matches(alarm, labels) is expected


@pytest.mark.parametrize(
    ("matcher", "words"),
    [
        (Matcher(), "say which alarms"),
        (Matcher(kind="drift"), "expected a kind out of"),
        (Matcher(level="site"), "expected a level out of"),
        (Matcher(where="site ="), "column"),
    ],
)
def test_a_silence_that_names_nothing_is_refused(matcher: Matcher, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        matcher.check()


@pytest.mark.parametrize(
    ("reason", "seconds", "words"),
    [("", 60.0, "reason"), ("why", 0.0, "ends after now"), ("why", MAX_SECONDS + 1, "within 30 days")],
)
def test_a_silence_has_a_reason_and_an_end(reason: str, seconds: float, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check_term(reason, 1000.0, 1000.0 + seconds)


NOTICE = Notice("alarm.firing", "alarm/7", "data-drift", group="digits/data-drift")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], Send(1000.0)),
        ([Told(1, "alarm.firing", 990.0, is_open=True)], Join(1)),
        ([Told(1, "alarm.firing", 990.0, is_open=False)], Send(1290.0)),
        ([Told(1, "alarm.firing", 500.0, is_open=False)], Send(1000.0)),
        ([Told(1, "alarm.resolved", 990.0, is_open=False)], Send(1000.0)),
        # What is due later holds back what comes after it.
        ([Told(1, "alarm.resolved", 1200.0, is_open=True)], Send(1200.0)),
        ([Told(1, "alarm.firing", 900.0, is_open=True), Told(2, "alarm.resolved", 950.0, is_open=True)],
         Send(1200.0)),
    ],
)  # fmt: skip
def test_where_a_notice_goes(told: list[Told], expected: Join | Send) -> None:
    assert place(NOTICE, told, now=1000.0, interval=300.0) == expected


def test_a_notice_without_a_group_is_told_alone_and_at_once() -> None:
    told = [Told(1, "rollout.held", 990.0, is_open=True)]

    assert place(Notice("rollout.held", "rollout/1", "rollout"), told, now=1000.0, interval=300.0) == Send(
        1000.0
    )


@pytest.mark.parametrize(("tries", "least", "most"), [(1, 2.5, 5), (2, 5, 10), (5, 40, 80), (99, 1800, 3600)])
def test_retries_wait_twice_as_long_each_time_up_to_an_hour(tries: int, least: float, most: float) -> None:
    assert (backoff(tries, 0.0), backoff(tries, 1.0)) == (least, most)


def test_a_message_names_so_many_and_counts_the_rest() -> None:
    content: dict[str, object] = {}
    for number in range(MOST_IN_ONE + 5):
        content = joined(content, {"id": number})

    items = content["items"]
    assert isinstance(items, list)
    assert (len(items), content["omitted"]) == (MOST_IN_ONE, 5)


def test_the_newest_state_of_one_alarm_stands_for_it_in_a_message() -> None:
    content = joined(joined({}, {"id": 1, "effect": 0.5}), {"id": 1, "effect": 0.7})

    assert content == {"items": [{"id": 1, "effect": 0.7}], "omitted": 0}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), True),
        (Wanted(kinds=("data-drift",), levels=("fleet",)), True),
        (Wanted(kinds=("silence",)), False),
        (Wanted(levels=("device",)), False),
        (Wanted(models=("digits",)), False),
    ],
)
def test_receivers_choose(*, wanted: Wanted, expected: bool) -> None:
    assert wanted.takes(NOTICE) is expected


def test_what_never_fired_is_told_only_where_it_was_asked_for() -> None:
    notice = replace(NOTICE, has_fired=False)

    assert (Wanted().takes(notice), Wanted(pending=True).takes(notice)) == (False, True)


DRAFT, RUNNING = State(), State(phase=RolloutPhase.RUNNING)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (DRAFT, RUNNING, "started"),
        (DRAFT, State(phase=RolloutPhase.PENDING_APPROVAL), "approval-wanted"),
        (State(phase=RolloutPhase.PENDING_APPROVAL), State(phase=RolloutPhase.SCHEDULED), "scheduled"),
        (State(phase=RolloutPhase.SCHEDULED), RUNNING, "started"),
        (RUNNING, RUNNING, None),
        (RUNNING, State(phase=RolloutPhase.RUNNING, step=Step.SOAK), None),
        (RUNNING, State(phase=RolloutPhase.RUNNING, step=Step.HOLD), "held"),
        (State(phase=RolloutPhase.RUNNING, step=Step.HOLD), RUNNING, None),
        (RUNNING, State(phase=RolloutPhase.PAUSED), "paused"),
        (State(phase=RolloutPhase.PAUSED), RUNNING, "resumed"),
        (RUNNING, State(phase=RolloutPhase.COMPLETED), "completed"),
        (RUNNING, State(phase=RolloutPhase.ROLLING_BACK), "rolling-back"),
        (State(phase=RolloutPhase.ROLLING_BACK), State(phase=RolloutPhase.ROLLED_BACK), "rolled-back"),
        (RUNNING, State(phase=RolloutPhase.ABORTED), "aborted"),
    ],
)
def test_which_changes_of_a_rollout_are_told(before: State, after: State, expected: str | None) -> None:
    assert change(before, after) == expected


@pytest.mark.parametrize("event", get_args(JobEvent))
@pytest.mark.parametrize("state", get_args(JobState))
def test_a_job_that_has_ended_stays_so(state: JobState, event: JobEvent) -> None:
    following = TRANSITIONS.get((state, event))

    assert (following is None) or state in {"queued", "running", "unknown"}
    assert not (event == "start" and following == "running") or state == "queued"


def past(job: int = 1, **changes: object) -> Past:
    return replace(Past(job, 3, "digits", "data-drift", "done", 1000.0 - 2 * DAY), **changes)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([], None),
        ([past()], None),
        ([past(alarm=7)], "was started for it"),
        ([past(alarm=7, state="failed")], "was started for it"),
        ([past(state="running")], "is running"),
        ([past(state="queued")], "is queued"),
        ([past(state="unknown")], "is unknown"),
        ([past(state="running", cause="concept-drift")], None),
        ([past(state="running", model="weather")], None),
        ([past(created_at=1000.0 - DAY / 2)], "began 43200 of 86400 s ago"),
        ([past(created_at=1000.0 - DAY / 2, model="weather")], None),
        ([past(), past(2)], "2 jobs in seven days, at most 2"),
        ([past(), past(2, created_at=1000.0 - 8 * DAY)], None),
    ],
)
def test_which_alarms_start_a_job(jobs: list[Past], words: str | None) -> None:
    why_not = obstacle(TRIGGER, ALARM, jobs, now=1000.0)

    assert (why_not is None) == (words is None)
    assert (words or "") in (why_not or "")


@pytest.mark.parametrize(
    ("alarm", "expected"),
    [
        (ALARM, True),
        (replace(ALARM, state="pending"), False),
        (replace(ALARM, state="resolved"), False),
        (replace(ALARM, kind="data-quality"), False),
        (replace(ALARM, model=""), False),
    ],
)
def test_a_trigger_takes_what_fires(*, alarm: Alarm, expected: bool) -> None:
    assert TRIGGER.takes(alarm) is expected


def test_a_job_is_given_what_moved_who_saw_it_and_what_to_start_from() -> None:
    alarm = replace(
        ALARM,
        evidence={"features": [{"feature": "brightness", "effect": -0.8}], "devices": ["berlin-1"] * 300},
    )
    parent = Parent("ab" * 32, "digits@1.1.0", 2, [{"name": "digits", "role": "train", "digest": "cd" * 32}])

    report = evidence(alarm, parent, trigger="retrain", now=99.0)

    assert report["features"] == [{"feature": "brightness", "effect": -0.8}]
    assert (len(report["devices"]), report["devices_total"]) == (200, 300)
    assert report["parent"] == {"digest": "ab" * 32, "version": "digits@1.1.0", "release": 2}
    assert report["datasets"][0]["digest"] == "cd" * 32
    assert report["alarm"]["since"] == 0.0
