"""Every transition of the update machine, one line each: state, event, phase after, actions after."""

import pytest
from msgspec.structs import replace

from muster_agent.update import steps
from muster_agent.update.state import ModelState
from muster_agent.update.steps import AnyEvent
from muster_agent.update.updater import DOWNLOAD_SECONDS, MAX_CRASHES, MAX_TRIES, PATIENCE, backoff, step
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.model_states import (
    ACTIVATING,
    ASSIGNED,
    COMMITTED,
    CURRENT,
    DOWNLOADING,
    FAILED,
    IDLE,
    NEXT,
    NOTHING,
    NOW,
    OLDER,
    OTHER,
    PROBATION,
    REJECTED,
    RETRYING,
    ROLLED_BACK,
    SEQUENCE,
    STAGED,
    SUPERSEDED,
    VERIFYING,
    asked,
    first_install,
)

next_, current, other = NEXT.manifest, CURRENT.manifest, OTHER.manifest
again = steps.Wanted(now=NOW, model=asked(NEXT), sequence=SEQUENCE)
newer = steps.Wanted(now=NOW, model=asked(NEXT), sequence=SEQUENCE + 1)
older = steps.Wanted(now=NOW, model=asked(OTHER), sequence=SEQUENCE - 1)
back = steps.Wanted(now=NOW, model=asked(CURRENT), sequence=SEQUENCE + 1)
third = steps.Wanted(now=NOW, model=asked(OTHER), sequence=SEQUENCE + 1)
later = steps.Wanted(now=NOW, model=asked(OTHER), sequence=SEQUENCE + 1, delay=30.0)
gone = steps.Unwanted(now=NOW, sequence=SEQUENCE + 1)
downloaded = steps.Downloaded(now=NOW, digest=next_)
no_network = steps.DownloadFailed(now=NOW, digest=next_, reason=Reason.DOWNLOAD_FAILED)
not_there = steps.DownloadFailed(now=NOW, digest=next_, reason=Reason.TOO_LARGE, retryable=False)
verified = steps.Verified(now=NOW, digest=next_)
unsigned = steps.Refused(now=NOW, digest=next_, reason=Reason.UNSIGNED)
passed = steps.PreflightPassed(now=NOW, digest=next_)
wrong = steps.PreflightFailed(now=NOW, digest=next_, reason=Reason.WRONG_OUTPUT)
activated = steps.Activated(now=NOW, digest=next_)
not_loaded = steps.ActivationFailed(now=NOW, digest=next_, reason=Reason.LOAD_FAILED)
crashed = steps.WorkerFailed(now=NOW, digest=next_, reason=Reason.CRASHED)
old_crashed = steps.WorkerFailed(now=NOW, digest=current, reason=Reason.CRASHED)
old_damaged = steps.ActivationFailed(now=NOW, digest=current, reason=Reason.TAMPERED)
early = steps.Tick(now=NOW - 1)
tick = steps.Tick(now=NOW)
order = steps.RollBackOrdered(now=NOW)
start = steps.Restarted(now=0.0)
third_try = replace(PROBATION, tries=MAX_TRIES)
last_patience = replace(DOWNLOADING, attempts=PATIENCE - 1)
alone = replace(IDLE, previous=None)
looping = {"crashes": MAX_CRASHES - 1, "last_crash": NOW - 9.0}
last_life, lone_life = replace(COMMITTED, **looping), replace(alone, **looping)
last_life_in_work = replace(DOWNLOADING, **looping)
last_life_on_trial = replace(ACTIVATING, **looping)
looped, _ = step(last_life, old_crashed)
same = steps.Wanted(now=NOW, model=asked(CURRENT), sequence=SEQUENCE)
first_activating = first_install(Phase.ACTIVATING)
first_probation = first_install(Phase.PROBATION)

# fmt: off
TABLE = [
    # state           event        phase after         actions after
    # what the controller asks for
    (NOTHING,          newer,       Phase.DOWNLOADING,  "Configure Download Report"),
    (NOTHING,          gone,        Phase.IDLE,         ""),
    (IDLE,             later,       Phase.ASSIGNED,     "Report"),
    (IDLE,             newer,       Phase.DOWNLOADING,  "Download Report"),
    (IDLE,             older,       Phase.IDLE,         ""),
    (IDLE,             back,        Phase.IDLE,         ""),
    (COMMITTED,        back,        Phase.COMMITTED,    ""),
    (ROLLED_BACK,      back,        Phase.IDLE,         "Report"),
    (ROLLED_BACK,      again,       Phase.ROLLED_BACK,  ""),
    (ROLLED_BACK,      newer,       Phase.DOWNLOADING,  "Download Report"),
    (REJECTED,         again,       Phase.REJECTED,     ""),
    (REJECTED,         newer,       Phase.DOWNLOADING,  "Download Report"),
    (FAILED,           again,       Phase.FAILED,       ""),
    (FAILED,           newer,       Phase.DOWNLOADING,  "Download Report"),
    (RETRYING,         again,       Phase.FAILED,       ""),
    (RETRYING,         newer,       Phase.DOWNLOADING,  "Abandon Download Report"),
    (RETRYING,         back,        Phase.SUPERSEDED,   "Abandon Collect Report"),
    (SUPERSEDED,       back,        Phase.IDLE,         "Report"),
    (DOWNLOADING,      again,       Phase.DOWNLOADING,  ""),
    (DOWNLOADING,      newer,       Phase.DOWNLOADING,  ""),
    (DOWNLOADING,      older,       Phase.DOWNLOADING,  ""),
    (DOWNLOADING,      third,       Phase.DOWNLOADING,  "Abandon Download Report"),
    (DOWNLOADING,      back,        Phase.SUPERSEDED,   "Abandon Collect Report"),
    (PROBATION,        third,       Phase.DOWNLOADING,  "Abandon Activate Emit Download Report"),
    (PROBATION,        back,        Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    (PROBATION,        gone,        Phase.IDLE,         "Abandon Deactivate Collect Report"),
    (IDLE,             gone,        Phase.IDLE,         "Deactivate Collect Report"),
    # the way of a candidate
    (ASSIGNED,         early,       Phase.ASSIGNED,     ""),
    (ASSIGNED,         tick,        Phase.DOWNLOADING,  "Download Report"),
    (DOWNLOADING,      downloaded,  Phase.VERIFYING,    "Verify Report"),
    (VERIFYING,        verified,    Phase.STAGED,       "Preflight Emit Report"),
    (STAGED,           passed,      Phase.ACTIVATING,   "Activate Report"),
    (ACTIVATING,       activated,   Phase.PROBATION,    "Emit Report"),
    (PROBATION,        early,       Phase.PROBATION,    ""),
    (PROBATION,        tick,        Phase.COMMITTED,    "Emit Collect Report"),
    # out of turn
    (IDLE,             downloaded,  Phase.IDLE,         ""),
    (DOWNLOADING,      verified,    Phase.DOWNLOADING,  ""),
    (DOWNLOADING,      activated,   Phase.DOWNLOADING,  ""),
    (RETRYING,         downloaded,  Phase.FAILED,       ""),
    (PROBATION,        passed,      Phase.PROBATION,    ""),
    (PROBATION,        unsigned,    Phase.PROBATION,    ""),
    (PROBATION,        no_network,  Phase.PROBATION,    ""),
    # what goes wrong on the way
    (DOWNLOADING,      no_network,  Phase.ASSIGNED,     "Abandon Report"),
    (last_patience,    no_network,  Phase.FAILED,       "Abandon Emit Report"),
    (DOWNLOADING,      not_there,   Phase.FAILED,       "Abandon Emit Collect Report"),
    (DOWNLOADING,      unsigned,    Phase.REJECTED,     "Abandon Emit Collect Report"),
    (DOWNLOADING,      tick,        Phase.ASSIGNED,     "Abandon Report"),
    (RETRYING,         tick,        Phase.DOWNLOADING,  "Download Report"),
    (VERIFYING,        unsigned,    Phase.REJECTED,     "Abandon Emit Collect Report"),
    (VERIFYING,        no_network,  Phase.ASSIGNED,     "Abandon Report"),
    (VERIFYING,        tick,        Phase.FAILED,       "Abandon Emit Collect Report"),
    (STAGED,           wrong,       Phase.REJECTED,     "Abandon Emit Collect Report"),
    (STAGED,           tick,        Phase.FAILED,       "Abandon Emit Collect Report"),
    # what goes wrong on trial
    (ACTIVATING,       not_loaded,  Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    (ACTIVATING,       tick,        Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    (ACTIVATING,       crashed,     Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    (PROBATION,        crashed,     Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    (first_activating, not_loaded,  Phase.FAILED,       "Deactivate Emit Collect Report"),
    (first_probation,  crashed,     Phase.FAILED,       "Deactivate Emit Collect Report"),
    # what goes wrong afterwards
    (COMMITTED,        old_crashed, Phase.COMMITTED,    "Emit Report"),
    (last_life,        old_crashed, Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    (last_life_in_work, old_crashed, Phase.DOWNLOADING, "Activate Emit Collect Report"),
    (last_life_on_trial, old_crashed, Phase.ACTIVATING, "Emit"),
    (lone_life,        old_crashed, Phase.IDLE,         "Emit Report"),
    (looped,           old_crashed, Phase.ROLLED_BACK,  ""),
    (looped,           same,        Phase.ROLLED_BACK,  ""),
    (looped,           start,       Phase.ROLLED_BACK,  "Configure Activate Collect Report"),
    (looped,           order,       Phase.ROLLED_BACK,  ""),
    (looped,           back,        Phase.DOWNLOADING,  "Download Report"),
    (COMMITTED,        crashed,     Phase.COMMITTED,    ""),
    (COMMITTED,        old_damaged, Phase.ROLLED_BACK,  "Activate Emit Report"),
    (alone,            old_damaged, Phase.FAILED,       "Deactivate Emit Report"),
    (DOWNLOADING,      old_damaged, Phase.DOWNLOADING,  "Activate Emit Report"),
    # the person at the device
    (IDLE,             order,       Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    (alone,            order,       Phase.IDLE,         ""),
    (NOTHING,          order,       Phase.IDLE,         ""),
    (DOWNLOADING,      order,       Phase.ROLLED_BACK,  "Abandon Activate Emit Collect Report"),
    (PROBATION,        order,       Phase.ROLLED_BACK,  "Activate Emit Collect Report"),
    # a new start
    (NOTHING,          start,       Phase.IDLE,         "Collect Report"),
    (IDLE,             start,       Phase.IDLE,         "Configure Activate Collect Report"),
    (DOWNLOADING,      start,       Phase.ASSIGNED,     "Configure Activate Collect Report"),
    (VERIFYING,        start,       Phase.ASSIGNED,     "Configure Activate Collect Report"),
    (STAGED,           start,       Phase.ASSIGNED,     "Configure Activate Abandon Report Collect"),
    (RETRYING,         start,       Phase.FAILED,       "Configure Activate Collect Report"),
    (ACTIVATING,       start,       Phase.ACTIVATING,   "Configure Activate Activate Collect Report"),
    (PROBATION,        start,       Phase.ACTIVATING,   "Configure Activate Activate Collect Report"),
    (third_try,        start,       Phase.ROLLED_BACK,  "Configure Activate Emit Collect Report"),
]
# fmt: on


@pytest.mark.parametrize(("state", "event", "phase", "actions"), TABLE)
def test_the_table_of_transitions(state: ModelState, event: AnyEvent, phase: Phase, actions: str) -> None:
    after, done = step(state, event)

    assert (after.phase, " ".join(type(action).__name__ for action in done)) == (phase, actions)


def test_a_commit_makes_the_candidate_current_and_keeps_the_one_before() -> None:
    after, _ = step(PROBATION, tick)

    assert (after.current, after.previous, after.candidate) == (NEXT, CURRENT, None)


def test_a_crash_in_probation_brings_the_old_version_back_and_says_why() -> None:
    after, actions = step(PROBATION, crashed)

    assert actions[:2] == (
        steps.Activate(current),
        steps.Emit("rolled-back", next_, Reason.CRASHED),
    )
    assert (after.current, after.previous, after.target, after.reason) == (
        CURRENT,
        OLDER,
        next_,
        Reason.CRASHED,
    )


def test_a_way_back_ordered_at_the_device_can_be_taken_back() -> None:
    once, _ = step(IDLE, order)
    twice, _ = step(once, order)

    assert (once.current, once.previous) == (OLDER, CURRENT)
    assert (twice.current, twice.previous) == (CURRENT, OLDER)


def test_a_version_left_by_order_is_not_installed_again_by_the_same_desired_state() -> None:
    left, _ = step(IDLE, order)
    same = steps.Wanted(now=NOW, model=asked(CURRENT), sequence=SEQUENCE)

    assert step(left, same) == (left, ())


def test_the_only_version_is_fetched_again_when_the_disk_damaged_it() -> None:
    after, _ = step(alone, old_damaged)
    again_, actions = step(after, steps.Tick(now=NOW + 3600))

    assert after.deadline is not None
    assert again_.phase is Phase.DOWNLOADING
    assert steps.Download(current) in actions


def test_a_stop_order_reaches_the_running_version_without_an_update() -> None:
    stopped = steps.Wanted(now=NOW, model=asked(CURRENT, stop=True), sequence=SEQUENCE + 1)
    after, actions = step(IDLE, stopped)

    assert actions == (steps.Configure((), stop=True), steps.Report())
    assert after.stopped
    assert after.phase is Phase.IDLE


def test_a_download_that_times_out_is_tried_again_later() -> None:
    begun, _ = step(IDLE, newer)
    late, _ = step(begun, steps.Tick(now=NOW + DOWNLOAD_SECONDS))

    assert late.reason is Reason.TIMED_OUT
    assert late.deadline == NOW + DOWNLOAD_SECONDS + backoff(1, 0.5)


def test_a_version_that_dies_is_started_again_ever_more_slowly_where_nothing_came_before() -> None:
    state, waits = alone, []
    for _ in range(9):
        state, _ = step(state, old_crashed)
        assert state.revive_at is not None
        waits.append(state.revive_at - NOW)
        state, actions = step(state, steps.Tick(now=state.revive_at))
        assert actions == (steps.Activate(current),)

    assert waits == [backoff(crashes, 0.5) for crashes in range(1, 10)]


def test_a_version_that_dies_again_and_again_gives_way_to_the_one_before_and_says_why() -> None:
    state, lives = COMMITTED, 0
    while state.current == CURRENT:
        state, actions = step(state, old_crashed)
        lives += 1
        if state.revive_at is not None:
            state, _ = step(state, steps.Tick(now=state.revive_at))

    assert lives == MAX_CRASHES
    assert actions[:2] == (
        steps.Activate(OLDER.manifest),
        steps.Emit("rolled-back", current, Reason.CRASHED, "it died 3 times in a row: "),
    )
    assert (state.current, state.previous, state.target) == (OLDER, None, current)
    assert (state.reason, state.crashes, state.revive_at) == (Reason.CRASHED, 0, None)


def test_the_version_gone_back_to_never_gives_way_to_the_one_that_was_left() -> None:
    state = looped
    for _ in range(10):
        state, actions = step(state, replace_digest(old_crashed, OLDER.manifest))
        assert state.revive_at is not None
        state, revived = step(state, steps.Tick(now=state.revive_at))

        assert steps.Activate(current) not in (*actions, *revived)
    assert (state.current, state.previous) == (OLDER, None)


def replace_digest(event: steps.WorkerFailed, digest: str) -> steps.WorkerFailed:
    return steps.WorkerFailed(now=event.now, digest=digest, reason=event.reason)


def test_an_hour_without_a_crash_is_forgiven() -> None:
    state, _ = step(replace(COMMITTED, crashes=9, last_crash=NOW - 3601), old_crashed)

    assert state.crashes == 1


def test_a_new_start_forgives_no_crash() -> None:
    state, _ = step(last_life, start)
    after, _ = step(state, old_crashed)

    assert (after.phase, after.current) == (Phase.ROLLED_BACK, OLDER)


def test_backoff_doubles_up_to_a_quarter_of_an_hour_and_is_spread() -> None:
    assert [backoff(attempts, 1.0) for attempts in (1, 2, 3, 40)] == [2.0, 4.0, 8.0, 900.0]
    assert backoff(40, 0.0) == 450.0
