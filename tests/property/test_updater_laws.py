"""Laws of the update machine, over every state and event, and over courses drawn at random."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.update import steps
from muster_agent.update.moves import DOUBT_SECONDS, DOUBTFUL, MAX_DOUBTS, MAX_TRIES, PATIENCE, SLICE_SECONDS
from muster_agent.update.state import ON_TRIAL, WORKING, AgentState, InShadow, ModelState, kept, report
from muster_agent.update.steps import AnyEvent
from muster_agent.update.updater import MAX_CRASHES, step
from muster_models.errors import Reason
from muster_models.wire import Phase, Shadow
from support.model_states import (
    ALL,
    CURRENT,
    DOWNLOADING,
    NEXT,
    NOTHING,
    NOW,
    OLDER,
    OTHER,
    SEQUENCE,
    SHADOW,
    VERIFYING,
    WORK,
    asked,
)

SLOTS = (OLDER, CURRENT, NEXT, OTHER)
RESTING = frozenset(Phase) - WORKING


def events(digest: str, now: float, jitter: float) -> list[AnyEvent]:
    """Return one event of every kind and outcome, about one version."""
    slot = next(slot for slot in SLOTS if slot.manifest == digest)
    crashed, at = Reason.CRASHED, {"now": now, "jitter": jitter}
    return [
        *(
            steps.Wanted(model=asked(slot, stop=stop), sequence=SEQUENCE + newer, delay=delay, **at)
            for newer, delay, stop in ((-1, 0.0, False), (0, 0.0, False), (1, 0.0, True), (1, 9.0, False))
        ),
        *(
            steps.Wanted(model=asked(slot, shadow=shadow), sequence=SEQUENCE + 1, **at)
            for shadow in (SHADOW, Shadow(seconds=1.5 * SLICE_SECONDS))
        ),
        *(steps.Unwanted(sequence=SEQUENCE + newer, **at) for newer in (-1, 0, 1)),
        steps.Downloaded(digest=digest, **at),
        *(
            steps.DownloadFailed(
                now=now, jitter=jitter, digest=digest, reason=Reason.TOO_LARGE, retryable=again
            )
            for again in (True, False)
        ),
        steps.Verified(digest=digest, **at),
        steps.Refused(digest=digest, reason=Reason.UNSIGNED, detail="x" * 9999, **at),
        steps.PreflightPassed(digest=digest, **at),
        steps.PreflightFailed(digest=digest, reason=crashed, detail="x" * 9999, **at),
        steps.ShadowBegan(digest=digest, **at),
        steps.ShadowSkipped(digest=digest, detail="x" * 9999, **at),
        steps.ShadowFailed(digest=digest, reason=crashed, detail="x" * 9999, **at),
        steps.Activated(digest=digest, **at),
        steps.ActivationFailed(digest=digest, reason=crashed, detail="x" * 9999, **at),
        steps.WorkerFailed(digest=digest, reason=crashed, detail="x" * 9999, **at),
        steps.Tick(**at),
        steps.RollBackOrdered(**at),
        steps.Restarted(**at),
    ]


EVERY_EVENT = [event for slot in SLOTS for event in events(slot.manifest, NOW, 0.5)]
any_event = st.builds(
    events,
    st.sampled_from([slot.manifest for slot in SLOTS]),
    st.floats(0, 10_000),
    st.floats(0, 1),
).flatmap(st.sampled_from)
courses = st.lists(any_event, max_size=40)


def run(course: list[AnyEvent], state: ModelState = NOTHING) -> ModelState:
    for event in course:
        state, _ = step(state, event)
    return state


reachable = st.builds(run, courses, st.sampled_from(ALL))
any_slot = st.none() | st.sampled_from(SLOTS)
# Also states that no course leads to: what stands in a file may be anything that parses.
any_state = st.builds(
    ModelState,
    model=st.just("digits"),
    sequence=st.integers(SEQUENCE - 1, SEQUENCE + 1),
    wanted=st.sampled_from([asked(slot, shadow=shadow) for slot in SLOTS for shadow in (None, SHADOW)]),
    current=any_slot,
    previous=any_slot,
    candidate=st.sampled_from(SLOTS),
    phase=st.sampled_from(Phase),
    target=st.none() | st.sampled_from([slot.manifest for slot in SLOTS]),
    attempts=st.integers(0, PATIENCE + 1),
    doubts=st.integers(0, MAX_DOUBTS + 1),
    tries=st.integers(0, MAX_TRIES + 1),
    deadline=st.none() | st.floats(0, 10_000),
    crashes=st.integers(0, 5),
    last_crash=st.none() | st.floats(0, 10_000),
    revive_at=st.none() | st.floats(0, 10_000),
    shadow=st.builds(InShadow, began=st.booleans(), served=st.floats(0, 1000)),
)


@pytest.mark.parametrize("state", ALL, ids=lambda state: state.phase)
def test_every_phase_takes_every_event(state: ModelState) -> None:
    for event in EVERY_EVENT:
        after, actions = step(state, event)

        assert isinstance(after, ModelState), event
        assert isinstance(actions, tuple), event


@given(any_state, any_event)
def test_even_a_state_that_cannot_be_takes_every_event(state: ModelState, event: AnyEvent) -> None:
    after, _ = step(state, event)

    assert after.model == "digits"


@given(reachable, any_event)
def test_a_phase_that_works_has_a_candidate_and_a_deadline_and_one_that_rests_has_neither(
    state: ModelState, event: AnyEvent
) -> None:
    after, _ = step(state, event)

    if after.phase in WORKING:
        assert after.candidate is not None
        assert after.deadline is not None
        assert after.target == after.candidate.manifest
    elif after.phase in {Phase.FAILED, Phase.REJECTED}:
        assert (after.candidate is None) == (after.deadline is None)
    else:
        assert (after.candidate, after.deadline) == (None, None)


@given(reachable)
def test_time_alone_leads_every_working_phase_on(state: ModelState) -> None:
    if state.phase in WORKING:
        assert state.deadline is not None
        after, _ = step(state, steps.Tick(now=state.deadline))

        assert after.phase is not state.phase or after.shadow.served > state.shadow.served


@given(reachable)
def test_time_alone_ends_every_shadow(state: ModelState) -> None:
    for _ in range(2):
        if state.phase is not Phase.SHADOW:
            break
        assert state.deadline is not None
        state, _ = step(state, steps.Tick(now=state.deadline))

    assert state.phase is not Phase.SHADOW


@given(reachable, any_event)
def test_whatever_leads_out_of_the_shadow_ends_it_first(state: ModelState, event: AnyEvent) -> None:
    after, actions = step(state, event)

    ends = [action for action in actions if isinstance(action, steps.EndShadow)]
    left = state.phase is Phase.SHADOW and after.phase is not Phase.SHADOW
    assert ends == ([steps.EndShadow(state.candidate.manifest)] if left and state.candidate else [])
    assert not left or isinstance(actions[0], steps.EndShadow)
    assert after.phase is Phase.SHADOW or after.shadow == InShadow()


@given(reachable, any_event)
def test_only_a_version_that_is_in_shadow_beside_another_is_begun_with_there(
    state: ModelState, event: AnyEvent
) -> None:
    after, actions = step(state, event)

    for action in actions:
        if isinstance(action, steps.BeginShadow):
            assert after.phase is Phase.SHADOW
            assert (after.candidate and after.candidate.manifest, after.shadow_order) == (
                action.digest,
                action.order,
            )
            assert after.current is not None
            assert not after.stopped
            assert not after.shadow.began


@given(reachable, st.sampled_from(Reason), courses)
def test_what_failed_in_shadow_does_not_answer_until_it_is_asked_for_again(
    state: ModelState, reason: Reason, course: list[AnyEvent]
) -> None:
    if state.phase is Phase.SHADOW and state.candidate is not None:
        digest = state.candidate.manifest
        state, actions = step(state, steps.ShadowFailed(now=0.0, digest=digest, reason=reason))
        assert (state.phase, state.current) == (Phase.FAILED, state.current)
        for event in course:
            if isinstance(event, steps.Wanted | steps.Unwanted) or digest in proven(state):
                continue
            assert steps.Activate(digest) not in actions
            state, actions = step(state, event)


@given(reachable)
def test_time_alone_ends_every_trial(state: ModelState) -> None:
    for _ in range(3):
        if state.phase not in ON_TRIAL:
            break
        assert state.deadline is not None
        state, _ = step(state, steps.Tick(now=state.deadline))

    assert state.phase not in ON_TRIAL


@given(reachable, any_event)
def test_tries_count_beginnings_in_shadow_and_on_trial_and_nothing_else(
    state: ModelState, event: AnyEvent
) -> None:
    after, actions = step(state, event)

    tried = after.phase is Phase.ACTIVATING and steps.Activate(after.target or "") in actions
    shadowed = any(isinstance(action, steps.BeginShadow) for action in actions)
    if not (tried or shadowed):
        assert after.tries in {0, state.tries}
    elif tried and state.phase is Phase.SHADOW:
        assert after.tries == 1  # the trial counts anew
    else:
        assert after.tries in {1, state.tries + 1}


@given(reachable, st.integers(1, 10))
def test_starts_that_never_end_well_bring_the_old_version_back(state: ModelState, starts: int) -> None:
    for _ in range(starts):
        state, _ = step(state, steps.Restarted(now=0.0))

    assert state.tries <= MAX_TRIES
    assert starts <= MAX_TRIES or state.phase not in ON_TRIAL | {Phase.SHADOW}


@given(reachable, any_event)
def test_no_version_that_proved_itself_is_lost_but_by_a_commit_an_order_or_damage(
    state: ModelState, event: AnyEvent
) -> None:
    after, _ = step(state, event)

    lost = proven(state) - proven(after)
    match event:
        case steps.Unwanted():
            pass
        case steps.ActivationFailed(digest=digest):
            assert lost <= {digest}
        case steps.WorkerFailed(digest=digest):  # again and again, with a version to go back to
            assert lost <= ({digest} if state.previous is not None else set())
        case steps.Tick() if after.phase is Phase.COMMITTED:
            assert state.current is None or state.current.manifest not in lost
        case _:
            assert lost == set()


def proven(state: ModelState) -> set[str]:
    return {slot.manifest for slot in (state.current, state.previous) if slot is not None}


@given(reachable, any_event)
def test_only_a_commit_makes_a_version_current(state: ModelState, event: AnyEvent) -> None:
    after, _ = step(state, event)

    if after.current != state.current and after.current is not None and after.current != state.previous:
        assert (state.phase, after.phase) == (Phase.PROBATION, Phase.COMMITTED)
        assert after.current == state.candidate


@given(reachable, any_event)
def test_what_is_activated_is_on_trial_or_proved_itself(state: ModelState, event: AnyEvent) -> None:
    after, actions = step(state, event)

    for action in actions:
        if isinstance(action, steps.Activate):
            slots = {after.current, after.candidate if after.phase in ON_TRIAL else None}
            assert action.digest in {slot.manifest for slot in slots if slot is not None}


@given(reachable, any_event)
def test_after_a_trial_that_failed_the_current_version_answers_or_nothing_does(
    state: ModelState, event: AnyEvent
) -> None:
    after, actions = step(state, event)

    failed = state.phase in ON_TRIAL and after.candidate != state.candidate and after.phase in RESTING
    if failed and after.phase is not Phase.COMMITTED:
        back = steps.Activate(after.current.manifest) if after.current is not None else steps.Deactivate()
        assert back in actions


@given(reachable, any_event)
def test_a_change_of_phase_or_slots_is_reported_once(state: ModelState, event: AnyEvent) -> None:
    after, actions = step(state, event)

    assert actions.count(steps.Report()) <= 1
    if report(after) != report(state):
        assert steps.Report() in actions


@given(reachable, st.sampled_from(EVERY_EVENT))
def test_news_about_a_version_that_is_not_here_changes_nothing(state: ModelState, event: AnyEvent) -> None:
    if isinstance(event, steps.About):
        stranger = replace_digest(event, "f" * 64)

        assert step(state, stranger) == (state, ())


def replace_digest(event: AnyEvent, digest: str) -> AnyEvent:
    fields = vars(event) | {"digest": digest}
    return type(event)(**fields)


@given(reachable, any_event)
def test_an_older_desired_state_changes_nothing(state: ModelState, event: AnyEvent) -> None:
    if isinstance(event, steps.Wanted | steps.Unwanted) and event.sequence < state.sequence:
        assert step(state, event) == (state, ())


@given(reachable, any_event)
def test_the_same_desired_state_twice_is_the_same_as_once(state: ModelState, event: AnyEvent) -> None:
    if isinstance(event, steps.Wanted):
        once, _ = step(state, event)
        left = once.phase in {Phase.SUPERSEDED, Phase.ROLLED_BACK} and once.phase is not state.phase
        if not left:  # the repetition calls what was left for the version that runs idle
            assert step(once, event) == (once, ())


@given(reachable, st.sampled_from(sorted(set(Reason) - DOUBTFUL)))
def test_what_failed_for_good_is_not_tried_again_by_time_starts_or_repetition(
    state: ModelState, reason: Reason
) -> None:
    if state.phase in WORKING and state.phase not in ON_TRIAL and state.candidate is not None:
        digest = state.candidate.manifest
        failed, _ = step(state, steps.Refused(now=0.0, digest=digest, reason=reason))
        again = steps.Wanted(now=9.0, model=failed.wanted or asked(NEXT), sequence=failed.sequence)
        course: list[AnyEvent] = [steps.Tick(now=1e9), steps.Restarted(now=0.0), again, steps.Tick(now=1e9)]

        assert run(course, failed).phase in {failed.phase, Phase.IDLE}
        assert run(course, failed).candidate is None


@given(
    st.sampled_from([DOWNLOADING, VERIFYING]),
    st.lists(st.tuples(st.sampled_from(sorted(DOUBTFUL)), st.floats(0, 1)), min_size=1, max_size=12),
)
def test_what_damage_on_the_way_explains_is_fetched_again_by_time_alone_ever_and_told_once(
    state: ModelState, refusals: list[tuple[Reason, float]]
) -> None:
    told, now = 0, NOW
    for number, (reason, jitter) in enumerate(refusals, 1):
        refused = steps.Refused(now=now, jitter=jitter, digest=NEXT.manifest, reason=reason)
        state, actions = step(state, refused)
        told += sum(isinstance(action, steps.Emit) for action in actions)

        assert state.phase is (Phase.ASSIGNED if number < MAX_DOUBTS else Phase.REJECTED)
        assert state.deadline is not None
        assert number < MAX_DOUBTS or state.deadline - now > DOUBT_SECONDS / 2 - 1
        now = state.deadline
        state, _ = step(state, steps.Tick(now=now))
        assert state.phase is Phase.DOWNLOADING

    assert told == (len(refusals) >= MAX_DOUBTS)


@given(reachable, st.integers(1, 20))
def test_starts_again_and_again_fetch_nothing_that_was_refused(state: ModelState, starts: int) -> None:
    if state.phase is Phase.REJECTED and state.candidate is not None:
        for _ in range(starts):
            state, actions = step(state, steps.Restarted(now=NOW))
            state, more = step(state, steps.Tick(now=NOW + 60))

            assert not any(isinstance(action, steps.Download) for action in actions + more)


_NEEDING_FILES = steps.Download | steps.Verify | steps.Preflight | steps.BeginShadow | steps.Activate


@given(reachable, any_event)
def test_files_that_an_action_needs_are_kept(state: ModelState, event: AnyEvent) -> None:
    after, actions = step(state, event)

    needed = {action.digest for action in actions if isinstance(action, _NEEDING_FILES)}
    assert needed <= kept(AgentState(models={"digits": after}))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_device_without_a_network_says_so_once(jitters: list[float]) -> None:
    state, said = run([steps.Wanted(now=0.0, model=asked(NEXT), sequence=9)]), 0
    for jitter in jitters:
        failed = steps.DownloadFailed(
            now=0.0, digest=NEXT.manifest, reason=Reason.DOWNLOAD_FAILED, jitter=jitter
        )
        state, actions = step(state, failed)
        said += sum(isinstance(action, steps.Emit) for action in actions)
        assert state.deadline is not None
        state, _ = step(state, steps.Tick(now=state.deadline))

    assert state.phase is Phase.DOWNLOADING
    assert said == (len(jitters) >= PATIENCE)


@given(reachable, st.lists(st.floats(0, 1), max_size=30))
def test_a_crash_loop_ends_after_a_bounded_number_of_tries_and_never_in_the_version_that_was_left(
    state: ModelState, jitters: list[float]
) -> None:
    left: list[str] = []
    tried: Counter[str] = Counter()
    for jitter in jitters:
        if state.current is None or state.phase in ON_TRIAL:
            break
        digest = state.current.manifest
        tried[digest] += 1
        failed = steps.WorkerFailed(now=NOW, digest=digest, reason=Reason.CRASHED, jitter=jitter)
        after, actions = step(state, failed)
        assert steps.Activate(digest) not in actions
        assert not {a.digest for a in actions if isinstance(a, steps.Activate)} & set(left)
        if after.current != state.current:
            left.append(digest)
            assert tried[digest] <= MAX_CRASHES
            assert steps.Download(digest) not in actions
        state = after

    assert len(left) <= 1


@given(reachable, any_event)
def test_no_version_that_died_is_started_while_another_is_on_trial(
    state: ModelState, event: AnyEvent
) -> None:
    after, _ = step(state, event)

    if after.phase in ON_TRIAL and state.revive_at is None:
        assert after.revive_at is None


def test_every_pair_of_events_in_every_phase_keeps_the_laws_of_deadlines() -> None:
    for state, first, second in product(WORK, EVERY_EVENT, EVERY_EVENT):
        after = run([first, second], state)

        assert (after.phase in WORKING) <= (after.deadline is not None and after.candidate is not None)
