r"""The update machine: how one model of a device gets from the version it runs to the one it should run.

Pure: ``step`` takes a state and an event and returns the next state and what to do. The caller saves the
state *before* it carries out the actions, so that a power cut at any point finds on disk what was intended.

    assigned -> downloading -> verifying -> staged -> (shadow) -> activating -> probation -> committed
       ^            |              |          |          |            |             |            |
       +-- failed --+--------------+          |          |            +-------------+------------+
        (for now)   +--------------+----------+----------+                          |
                                              v                                     v
                                   rejected, failed (for good)              rolled back, failed

Rules that hold in every state (tests/property/test_updater_laws.py):

1. Every working phase has a deadline, after which a ``Tick`` alone leads on.
2. The current version stays current until another is committed, and becomes the previous one then.
3. Tries count beginnings of a candidate in shadow, and then of one on trial, and nothing else; one that
   the agent stopped with three times is given up. What held out an hour in shadow is counted anew.
4. Going back needs no network. What failed for good is tried again only for a newer desired state; but what
   damage on the way would explain is fetched again twice before it is refused, and hours later once more.
5. An event about a version that is no longer on its way changes nothing.
6. The current version that dies is started again, ever more slowly; at the third time in a row the previous
   one takes over, and nothing is left to go back to: two versions never take turns.
7. What is in shadow is never activated after it failed there; whatever leads out of the shadow ends it.
"""

from msgspec.structs import replace

from muster_agent.update.moves import (
    LONG_AGO,
    MAX_TRIES,
    NO_ACTIONS,
    backoff,
    because,
    begin_shadow_or_trial,
    begin_trial,
    candidate_of,
    commit,
    doubt,
    enter,
    give_up,
    is_doubtful,
    is_on_its_way,
    leave_current,
    lose_current,
    retry_later,
    roll_back,
    serve_slice,
    slice_seconds,
    without_shadow,
)
from muster_agent.update.state import DETAIL_LENGTH, ON_TRIAL, WORKING, InShadow, ModelState
from muster_agent.update.steps import (
    Abandon,
    Action,
    Activate,
    Activated,
    ActivationFailed,
    AnyEvent,
    Collect,
    Configure,
    Deactivate,
    Download,
    Downloaded,
    DownloadFailed,
    Emit,
    EndShadow,
    Preflight,
    PreflightFailed,
    PreflightPassed,
    Refused,
    Report,
    Restarted,
    RollBackOrdered,
    ShadowBegan,
    ShadowFailed,
    ShadowSkipped,
    Step,
    Tick,
    Unwanted,
    Verified,
    Verify,
    Wanted,
    WorkerFailed,
)
from muster_models.errors import Reason
from muster_models.wire import Phase, SlotReport

MAX_CRASHES = 3  # of the current version; each comes after several restarts of its worker by the runner
CALM_SECONDS = 3600.0  # without a crash; then the next one is the first again
DOWNLOAD_SECONDS = 6 * 3600.0  # a large model over a slow link; the download has tighter bounds of its own
VERIFY_SECONDS = 900.0
PREFLIGHT_SECONDS = 600.0


def step(state: ModelState, event: AnyEvent) -> Step:
    """Return the state after an event, and what to do once that state is saved.

    Total: every state takes every event; one that does not fit changes nothing.
    """
    after, actions = _follow(state, event)
    if state.phase is Phase.SHADOW and after.phase is not Phase.SHADOW:
        return replace(after, shadow=InShadow()), (EndShadow(candidate_of(state)), *actions)
    return after, actions


def _follow(state: ModelState, event: AnyEvent) -> Step:  # noqa: C901, PLR0911 - one line per event
    match event:
        case Wanted():
            return _wanted(state, event)
        case Unwanted():
            return _unwanted(state, event)
        case Downloaded() | Verified() | PreflightPassed() | ShadowBegan() | ShadowSkipped() | Activated():
            return _succeeded(state, event)
        case DownloadFailed():
            return _download_failed(state, event)
        case Refused() | PreflightFailed():
            return _refused(state, event)
        case ShadowFailed():
            return _shadow_failed(state, event)
        case ActivationFailed() | WorkerFailed():
            return _stopped_answering(state, event)
        case Tick():
            return _tick(state, event)
        case RollBackOrdered():
            return _roll_back_ordered(state)
        case Restarted():
            return _restarted(state, event)


# What the controller asks for


def _wanted(state: ModelState, event: Wanted) -> Step:
    if event.sequence < state.sequence:
        return state, NO_ACTIONS
    told = replace(state, wanted=event.model, sequence=event.sequence)
    configured = _configure(told) if _configure(told) != _configure(state) else NO_ACTIONS
    after, actions = _pursue(told, event, is_newer=event.sequence > state.sequence)
    if after.phase is Phase.SHADOW and after.shadow_order != state.shadow_order:
        begun, more = begin_shadow_or_trial(replace(after, tries=0, shadow=InShadow()), event.now)
        after, actions = begun, (*actions, *more, Report())
    reported = (Report(),) if configured and Report() not in actions else NO_ACTIONS
    return after, configured + actions + reported


def _pursue(state: ModelState, event: Wanted, *, is_newer: bool) -> Step:
    slot = SlotReport(event.model.manifest, event.model.version)
    if state.current is not None and state.current.manifest == slot.manifest:
        return _stay(state)
    if state.target == slot.manifest and (state.phase in WORKING or not is_newer):
        return state, NO_ACTIONS  # on its way; or it failed, and nobody has asked again since
    freed, actions = _drop_candidate(state, Reason.SUPERSEDED)
    begun = replace(
        freed,
        candidate=slot,
        target=slot.manifest,
        phase=Phase.ASSIGNED,
        reason=None,
        detail="",
        attempts=0,
        doubts=0,
        tries=0,
        deadline=event.now + event.delay,
    )
    started, more = _begin_download(begun, event.now) if event.delay <= 0 else (begun, NO_ACTIONS)
    return started, (*actions, *more, Report())


def _stay(state: ModelState) -> Step:
    """What runs is what is wanted: whatever was on its way is not wanted any more."""
    assert state.current is not None
    if state.phase in ON_TRIAL:
        return roll_back(state, Reason.ORDERED, "the version before is wanted again")
    if state.candidate is not None:
        freed, actions = _drop_candidate(state, Reason.SUPERSEDED)
        superseded = replace(freed, phase=Phase.SUPERSEDED, reason=Reason.SUPERSEDED, detail="")
        return superseded, (*actions, Collect(), Report())
    if state.target == state.current.manifest and state.phase in {Phase.IDLE, Phase.COMMITTED}:
        return state, NO_ACTIONS
    idle = replace(state, phase=Phase.IDLE, target=state.current.manifest, reason=None, detail="", tries=0)
    return idle, (Report(),)


def _unwanted(state: ModelState, event: Unwanted) -> Step:
    if event.sequence < state.sequence:
        return state, NO_ACTIONS
    abandoned = (Abandon(state.candidate.manifest),) if state.candidate is not None else NO_ACTIONS
    empty = ModelState(state.model, sequence=event.sequence)
    if state == replace(empty, sequence=state.sequence):
        return empty, NO_ACTIONS
    return empty, (*abandoned, Deactivate(), Collect(), Report())


def _drop_candidate(state: ModelState, reason: Reason) -> Step:
    if state.candidate is None:
        return state, NO_ACTIONS
    abandon = Abandon(state.candidate.manifest)
    if state.phase in ON_TRIAL:
        freed, actions = roll_back(state, reason, "another version is wanted")
        return freed, (abandon, *(action for action in actions if not isinstance(action, Collect | Report)))
    return replace(state, candidate=None, deadline=None), (abandon,)


# The way of a candidate


def _begin_download(state: ModelState, now: float) -> Step:
    return enter(state, Phase.DOWNLOADING, now + DOWNLOAD_SECONDS, Download(candidate_of(state)))


_Success = Downloaded | Verified | PreflightPassed | ShadowBegan | ShadowSkipped | Activated


def _succeeded(state: ModelState, event: _Success) -> Step:
    if not is_on_its_way(state, event.digest):
        return state, NO_ACTIONS
    after, actions = _advance(state, event)
    return after, (*actions, Report()) if actions else NO_ACTIONS


def _advance(state: ModelState, event: _Success) -> Step:  # noqa: PLR0911 - one line per event
    digest, now = event.digest, event.now
    match event:
        case Downloaded() if state.phase is Phase.DOWNLOADING:
            clean = replace(state, reason=None, detail="")
            return enter(clean, Phase.VERIFYING, now + VERIFY_SECONDS, Verify(digest))
        case Verified() if state.phase is Phase.VERIFYING:
            genuine = replace(state, doubts=0)
            staged, actions = enter(genuine, Phase.STAGED, now + PREFLIGHT_SECONDS, Preflight(digest))
            return staged, (*actions, Emit("installed", digest))
        case PreflightPassed() if state.phase is Phase.STAGED:
            return begin_shadow_or_trial(state, now)
        case ShadowBegan() if state.phase is Phase.SHADOW and not state.shadow.began:
            return _go_on_in_shadow(state, served=state.shadow.served, now=now)
        case ShadowSkipped(detail=detail) if state.phase is Phase.SHADOW:
            return begin_trial(without_shadow(state, detail), now)
        case Activated() if state.phase is Phase.ACTIVATING:
            assert state.wanted is not None
            probation = now + state.wanted.probation_seconds
            return enter(state, Phase.PROBATION, probation, Emit("activated", digest))
        case _:
            return state, NO_ACTIONS


def _go_on_in_shadow(state: ModelState, *, served: float, now: float) -> Step:
    order = state.shadow_order
    if order is None or served >= order.seconds:
        return begin_trial(state, now)
    return serve_slice(state, order, now, served=served), NO_ACTIONS


# What goes wrong


def _download_failed(state: ModelState, event: DownloadFailed) -> Step:
    if not is_on_its_way(state, event.digest) or state.phase in ON_TRIAL:
        return state, NO_ACTIONS
    if event.retryable:
        return retry_later(state, event.reason, event.detail, now=event.now, jitter=event.jitter)
    return give_up(state, Phase.FAILED, event.reason, event.detail)


def _refused(state: ModelState, event: Refused | PreflightFailed) -> Step:
    if not is_on_its_way(state, event.digest) or state.phase in ON_TRIAL:
        return state, NO_ACTIONS
    if isinstance(event, Refused) and is_doubtful(state, event):
        return doubt(state, event)
    return give_up(state, Phase.REJECTED, event.reason, event.detail)


def _shadow_failed(state: ModelState, event: ShadowFailed) -> Step:
    if state.phase is not Phase.SHADOW or not is_on_its_way(state, event.digest):
        return state, NO_ACTIONS
    return give_up(state, Phase.FAILED, event.reason, f"in shadow: {event.detail}")


def _stopped_answering(state: ModelState, event: ActivationFailed | WorkerFailed) -> Step:
    if is_on_its_way(state, event.digest):
        if state.phase in ON_TRIAL:
            return roll_back(state, event.reason, event.detail)
        return state, NO_ACTIONS
    if state.current is None or state.current.manifest != event.digest:
        return state, NO_ACTIONS
    after, actions = _current_failed(state, event)
    if after.phase is Phase.SHADOW and after.current != state.current:
        # What was compared with is gone: begin with what answers now, or let the candidate try.
        begun, more = begin_shadow_or_trial(replace(after, shadow=InShadow()), event.now)
        return begun, (*actions, *more)
    return after, actions


def _current_failed(state: ModelState, event: ActivationFailed | WorkerFailed) -> Step:
    match event:
        case ActivationFailed():
            return lose_current(state, event)
        case WorkerFailed():
            return _died(state, event)


def _died(state: ModelState, event: WorkerFailed) -> Step:
    """Start the current version again, ever more slowly: it proved itself once. But not for ever."""
    calm = state.last_crash is None or event.now - state.last_crash > CALM_SECONDS
    crashes = 1 if calm else state.crashes + 1
    counted = replace(state, crashes=crashes, last_crash=event.now)
    told = Emit("crashed", event.digest, event.reason, event.detail[:DETAIL_LENGTH])
    if state.phase in ON_TRIAL:
        return counted, (told,)  # another answers, or is about to; it must not be displaced
    if crashes >= MAX_CRASHES and state.previous is not None:
        return leave_current(counted, event)
    revived = replace(counted, revive_at=event.now + backoff(crashes, event.jitter))
    return revived, (told, Report())


# Time, the person at the device, and a new start


def _tick(state: ModelState, event: Tick) -> Step:
    revived: tuple[Action, ...] = NO_ACTIONS
    if state.revive_at is not None and event.now >= state.revive_at:
        revived = (Activate(state.current.manifest),) if state.current is not None else NO_ACTIONS
        state = replace(state, revive_at=None)
    if state.deadline is None or event.now < state.deadline:
        return state, revived
    after, actions = _deadline_passed(state, event)
    return after, revived + actions


def _deadline_passed(state: ModelState, event: Tick) -> Step:  # noqa: PLR0911 - one line per phase
    late = f"{state.phase} took too long"
    match state.phase:
        case Phase.ASSIGNED | Phase.FAILED:
            return _begin_again(state, event.now)
        case Phase.REJECTED if state.candidate is not None:
            return _begin_again(state, event.now)
        case Phase.DOWNLOADING:
            return retry_later(state, Reason.TIMED_OUT, late, now=event.now, jitter=event.jitter)
        case Phase.VERIFYING | Phase.STAGED:
            return give_up(state, Phase.FAILED, Reason.TIMED_OUT, late)
        case Phase.SHADOW:
            return _slice_passed(state, event)
        case Phase.ACTIVATING:
            return roll_back(state, Reason.TIMED_OUT, late)
        case Phase.PROBATION:
            return commit(state)
        case Phase.IDLE | Phase.COMMITTED | Phase.ROLLED_BACK | Phase.REJECTED | Phase.SUPERSEDED:
            return replace(state, deadline=None), NO_ACTIONS


def _begin_again(state: ModelState, now: float) -> Step:
    after, actions = _begin_download(state, now)
    return after, (*actions, Report())


def _slice_passed(state: ModelState, event: Tick) -> Step:
    order, course = state.shadow_order, state.shadow
    if order is not None and not course.began:
        return give_up(state, Phase.FAILED, Reason.TIMED_OUT, "in shadow: it took too long to begin")
    served = course.served + (slice_seconds(order, course.served) if order is not None else 0.0)
    # What held out for a slice did not take the agent down at its start.
    after, actions = _go_on_in_shadow(replace(state, tries=0), served=served, now=event.now)
    return after, (*actions, Report())


def _roll_back_ordered(state: ModelState) -> Step:
    detail = "ordered at the device"
    is_only_in_shadow = state.phase is Phase.SHADOW and state.previous is None
    if state.phase in ON_TRIAL or is_only_in_shadow:
        return roll_back(state, Reason.ORDERED, detail)
    if state.current is None or state.previous is None:
        return state, NO_ACTIONS
    left = state.current
    freed, abandoned = _drop_candidate(state, Reason.ORDERED)
    # The two change places, so that an order given by mistake can be given again.
    swapped = replace(
        because(freed, Reason.ORDERED, detail),
        phase=Phase.ROLLED_BACK,
        crashes=0,
        current=state.previous,
        previous=left,
        target=left.manifest,
        revive_at=None,
    )
    emitted = Emit("rolled-back", left.manifest, Reason.ORDERED, detail)
    return swapped, (*abandoned, Activate(state.previous.manifest), emitted, Collect(), Report())


def _restarted(state: ModelState, event: Restarted) -> Step:
    # Crashes are counted on: switching a device off and on does not make its version a good one.
    last_crash = event.now if state.crashes else None
    fresh = replace(state, last_crash=last_crash, revive_at=None)
    serve = (Activate(state.current.manifest),) if state.current is not None else NO_ACTIONS
    after, actions = _resume(fresh, event)
    # Collecting may have been what was interrupted.
    always = (*_configure(state), *serve, *(action for action in actions if action not in serve))
    return after, (*always, *(action for action in (Collect(), Report()) if action not in always))


def _resume(state: ModelState, event: Restarted) -> Step:
    match state.phase:
        case Phase.ASSIGNED | Phase.DOWNLOADING | Phase.VERIFYING | Phase.FAILED:
            if state.candidate is None:
                return state, NO_ACTIONS
            wait = backoff(state.attempts, event.jitter) if state.attempts else 0.0
            phase = Phase.FAILED if state.phase is Phase.FAILED else Phase.ASSIGNED
            return replace(state, phase=phase, deadline=event.now + wait), NO_ACTIONS
        case Phase.REJECTED if state.candidate is not None:
            # Sooner than without a start, but a crash loop must not fetch it again and again.
            return replace(state, deadline=event.now + backoff(LONG_AGO, event.jitter)), NO_ACTIONS
        case Phase.STAGED:
            # A trial run must not be able to take the agent down at every start.
            detail = "the agent stopped during preflight"
            return retry_later(state, Reason.CRASHED, detail, now=event.now, jitter=event.jitter)
        case Phase.SHADOW | Phase.ACTIVATING | Phase.PROBATION:
            return _resume_trial(state, event.now)
        case Phase.IDLE | Phase.COMMITTED | Phase.ROLLED_BACK | Phase.REJECTED | Phase.SUPERSEDED:
            return state, NO_ACTIONS


def _resume_trial(state: ModelState, now: float) -> Step:
    in_shadow = state.phase is Phase.SHADOW
    if state.tries < MAX_TRIES:
        return begin_shadow_or_trial(state, now) if in_shadow else begin_trial(state, now)
    if in_shadow:
        detail = f"in shadow: the agent stopped {state.tries} times"
        return give_up(state, Phase.FAILED, Reason.CRASHED, detail)
    return roll_back(state, Reason.CRASHED, f"the agent stopped {state.tries} times on trial")


def _configure(state: ModelState) -> tuple[Action, ...]:
    if state.wanted is None:
        return NO_ACTIONS
    return (Configure(tuple(sorted(state.settings.items())), stop=state.stopped),)
