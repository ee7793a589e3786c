"""Every transition of the update machine, one line each: state, event, phase after, actions after."""

import pytest
from msgspec.structs import replace

from muster_agent.update import steps
from muster_agent.update.moves import MAX_DOUBTS, MAX_TRIES, PATIENCE, SLICE_SECONDS, backoff
from muster_agent.update.state import InShadow, ModelState
from muster_agent.update.steps import AnyEvent
from muster_agent.update.updater import DOWNLOAD_SECONDS, MAX_CRASHES, step
from muster_models.errors import Reason
from muster_models.wire import Phase, Shadow
from support.model_states import (
    ACTIVATING,
    ASSIGNED,
    BEGINNING,
    COMMITTED,
    CURRENT,
    DOUBTED,
    DOWNLOADING,
    FAILED,
    IDLE,
    IN_SHADOW,
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
    SHADOW,
    SHADOWED,
    STAGED,
    SUPERSEDED,
    TO_BE_SHADOWED,
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
unlisted = steps.Refused(now=NOW, digest=next_, reason=Reason.NOT_LISTED)
damaged = steps.Refused(now=NOW, digest=next_, reason=Reason.TAMPERED)
passed = steps.PreflightPassed(now=NOW, digest=next_)
wrong = steps.PreflightFailed(now=NOW, digest=next_, reason=Reason.WRONG_OUTPUT)
shadow_began = steps.ShadowBegan(now=NOW, digest=next_)
no_room = steps.ShadowSkipped(now=NOW, digest=next_, detail="two versions do not fit")
not_finite = steps.ShadowFailed(now=NOW, digest=next_, reason=Reason.NOT_FINITE, detail="output 'y'")
longer = steps.Wanted(now=NOW, model=asked(NEXT, shadow=Shadow(seconds=9.0)), sequence=SEQUENCE + 1)
same_order = steps.Wanted(now=NOW, model=SHADOWED, sequence=SEQUENCE + 1)
stop = steps.Wanted(now=NOW, model=asked(NEXT, shadow=SHADOW, stop=True), sequence=SEQUENCE + 1)
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
last_doubt = replace(DOWNLOADING, doubts=MAX_DOUBTS - 1)
known_wrong = replace(DOWNLOADING, doubts=MAX_DOUBTS)
last_patience = replace(DOWNLOADING, attempts=PATIENCE - 1)
alone = replace(IDLE, previous=None)
looping = {"crashes": MAX_CRASHES - 1, "last_crash": NOW - 9.0}
last_life, lone_life = replace(COMMITTED, **looping), replace(alone, **looping)
last_life_in_work = replace(DOWNLOADING, **looping)
last_life_on_trial = replace(ACTIVATING, **looping)
looped, _ = step(last_life, old_crashed)
same = steps.Wanted(now=NOW, model=asked(CURRENT), sequence=SEQUENCE)
third_shadow = replace(IN_SHADOW, tries=MAX_TRIES)
lone_shadow = replace(IN_SHADOW, previous=None)
last_life_in_shadow = replace(IN_SHADOW, **looping)
nothing_to_compare = replace(TO_BE_SHADOWED, current=None, previous=None)
stopped_one = replace(TO_BE_SHADOWED, wanted=asked(NEXT, shadow=SHADOW, stop=True))
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
    (DOWNLOADING,      unlisted,    Phase.REJECTED,     "Abandon Emit Collect Report"),
    (DOWNLOADING,      unsigned,    Phase.ASSIGNED,     "Abandon Report"),
    (DOWNLOADING,      damaged,     Phase.ASSIGNED,     "Abandon Report"),
    (last_doubt,       damaged,     Phase.REJECTED,     "Abandon Emit Report"),
    (last_doubt,       downloaded,  Phase.VERIFYING,    "Verify Report"),
    (known_wrong,      damaged,     Phase.REJECTED,     "Abandon Report"),
    (DOUBTED,          early,       Phase.REJECTED,     ""),
    (DOUBTED,          tick,        Phase.DOWNLOADING,  "Download Report"),
    (DOUBTED,          again,       Phase.REJECTED,     ""),
    (DOUBTED,          newer,       Phase.DOWNLOADING,  "Abandon Download Report"),
    (DOUBTED,          back,        Phase.SUPERSEDED,   "Abandon Collect Report"),
    (DOUBTED,          gone,        Phase.IDLE,         "Abandon Deactivate Collect Report"),
    (DOUBTED,          order,       Phase.ROLLED_BACK,  "Abandon Activate Emit Collect Report"),
    (DOUBTED,          downloaded,  Phase.REJECTED,     ""),
    (DOUBTED,          old_damaged, Phase.REJECTED,     "Activate Emit Report"),
    (DOUBTED,          start,       Phase.REJECTED,     "Configure Activate Collect Report"),
    (DOWNLOADING,      tick,        Phase.ASSIGNED,     "Abandon Report"),
    (RETRYING,         tick,        Phase.DOWNLOADING,  "Download Report"),
    (VERIFYING,        unlisted,    Phase.REJECTED,     "Abandon Emit Collect Report"),
    (VERIFYING,        unsigned,    Phase.ASSIGNED,     "Abandon Report"),
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
    # in shadow
    (TO_BE_SHADOWED,   passed,      Phase.SHADOW,       "BeginShadow Report"),
    (nothing_to_compare, passed,    Phase.ACTIVATING,   "Activate Report"),
    (stopped_one,      passed,      Phase.ACTIVATING,   "Activate Report"),
    (BEGINNING,        shadow_began, Phase.SHADOW,      ""),
    (IN_SHADOW,        shadow_began, Phase.SHADOW,      ""),
    (BEGINNING,        no_room,     Phase.ACTIVATING,   "EndShadow Activate Report"),
    (BEGINNING,        not_finite,  Phase.FAILED,       "EndShadow Abandon Emit Collect Report"),
    (BEGINNING,        no_network,  Phase.ASSIGNED,     "EndShadow Abandon Report"),
    (BEGINNING,        unsigned,    Phase.REJECTED,     "EndShadow Abandon Emit Collect Report"),
    (BEGINNING,        tick,        Phase.FAILED,       "EndShadow Abandon Emit Collect Report"),
    (IN_SHADOW,        early,       Phase.SHADOW,       ""),
    (IN_SHADOW,        tick,        Phase.ACTIVATING,   "EndShadow Activate Report"),
    (IN_SHADOW,        not_finite,  Phase.FAILED,       "EndShadow Abandon Emit Collect Report"),
    (IN_SHADOW,        crashed,     Phase.SHADOW,       ""),
    (IN_SHADOW,        activated,   Phase.SHADOW,       ""),
    (IN_SHADOW,        old_crashed, Phase.SHADOW,       "Emit Report"),
    (last_life_in_shadow, old_crashed, Phase.SHADOW,    "Activate Emit Collect Report BeginShadow"),
    (IN_SHADOW,        old_damaged, Phase.SHADOW,       "Activate Emit Report BeginShadow"),
    (lone_shadow,      old_damaged, Phase.ACTIVATING,   "EndShadow Deactivate Emit Report Activate"),
    (IN_SHADOW,        again,       Phase.ACTIVATING,   "EndShadow Activate Report"),
    (IN_SHADOW,        same_order,  Phase.SHADOW,       ""),
    (IN_SHADOW,        longer,      Phase.SHADOW,       "BeginShadow Report"),
    (IN_SHADOW,        stop,        Phase.ACTIVATING,   "EndShadow Configure Activate Report"),
    (IN_SHADOW,        third,       Phase.DOWNLOADING,  "EndShadow Abandon Download Report"),
    (IN_SHADOW,        back,        Phase.SUPERSEDED,   "EndShadow Abandon Collect Report"),
    (IN_SHADOW,        gone,        Phase.IDLE,         "EndShadow Abandon Deactivate Collect Report"),
    (IN_SHADOW,        order,       Phase.ROLLED_BACK,  "EndShadow Abandon Activate Emit Collect Report"),
    (lone_shadow,      order,       Phase.ROLLED_BACK,  "EndShadow Activate Emit Collect Report"),
    (PROBATION,        not_finite,  Phase.PROBATION,    ""),
    (IDLE,             not_finite,  Phase.IDLE,         ""),
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
    (IN_SHADOW,        start,       Phase.SHADOW,       "Configure Activate BeginShadow Collect Report"),
    (third_shadow, start, Phase.FAILED, "EndShadow Configure Activate Abandon Emit Collect Report"),
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


def test_what_fails_in_shadow_says_that_it_was_in_shadow_and_leaves_the_current_version() -> None:
    after, actions = step(IN_SHADOW, not_finite)

    assert steps.Emit("failed", next_, Reason.NOT_FINITE, "in shadow: output 'y'") in actions
    assert (after.current, after.previous, after.candidate) == (CURRENT, OLDER, None)
    assert (after.detail, after.shadow) == ("in shadow: output 'y'", InShadow())


def test_an_order_that_cannot_be_followed_is_said_in_the_report() -> None:
    told, _ = step(BEGINNING, no_room)
    lone, _ = step(nothing_to_compare, passed)

    assert told.detail == "no shadow: two versions do not fit"
    assert lone.detail == "no shadow: no other version answers here"


def test_a_shadow_of_hours_is_served_in_slices_that_survive_a_restart() -> None:
    hours = 2.5 * SLICE_SECONDS
    state, _ = step(replace(TO_BE_SHADOWED, wanted=asked(NEXT, shadow=Shadow(seconds=hours))), passed)
    state, _ = step(state, shadow_began)
    lengths, began = [], NOW
    while state.phase is Phase.SHADOW:
        assert state.deadline is not None
        lengths.append(state.deadline - began)
        began = state.deadline
        state, _ = step(state, steps.Tick(now=began))
        if state.phase is Phase.SHADOW:
            state, _ = step(state, steps.Restarted(now=0.0))
            state, _ = step(state, replace_now(shadow_began, 0.0))
            began = 0.0

    assert lengths == [SLICE_SECONDS, SLICE_SECONDS, SLICE_SECONDS / 2]
    assert state.phase is Phase.ACTIVATING


def replace_now(event: steps.ShadowBegan, now: float) -> steps.ShadowBegan:
    return steps.ShadowBegan(now=now, digest=event.digest)


def test_a_candidate_that_takes_the_agent_down_in_shadow_is_given_up_after_three_starts() -> None:
    state, starts = IN_SHADOW, 0
    while state.phase is Phase.SHADOW:
        state, actions = step(state, start)
        starts += 1

    assert starts == MAX_TRIES
    assert (state.phase, state.reason) == (Phase.FAILED, Reason.CRASHED)
    assert state.detail == "in shadow: the agent stopped 3 times"
    assert steps.Activate(current) in actions


def test_a_trial_after_a_shadow_has_all_its_tries() -> None:
    state, _ = step(third_shadow, tick)

    assert (state.phase, state.tries) == (Phase.ACTIVATING, 1)


def test_backoff_doubles_up_to_a_quarter_of_an_hour_and_is_spread() -> None:
    assert [backoff(attempts, 1.0) for attempts in (1, 2, 3, 40)] == [2.0, 4.0, 8.0, 900.0]
    assert backoff(40, 0.0) == 450.0
