r"""The update machine: how one model of a device gets from the version it runs to the one it should run.

Pure: ``step`` takes a state and an event and returns the next state and what to do. The caller saves the
state *before* it carries out the actions, so that a power cut at any point finds on disk what was intended.

    assigned -> downloading -> verifying -> staged -> activating -> probation -> committed
       ^            |              |          |           |             |            |
       +-- failed --+--------------+          |           +-------------+------------+--> rolled back, failed
        (for now)   +--------------+----------+--> rejected, failed (for good)

Rules that hold in every state (tests/property/test_updater_laws.py):

1. Every working phase has a deadline, after which a ``Tick`` alone leads on.
2. The current version stays current until another is committed, and becomes the previous one then.
3. Tries count activations of a candidate on trial and nothing else; after the third it is given up.
4. Going back needs no network. What failed for good is tried again only for a newer desired state.
5. An event about a version that is no longer on its way changes nothing.
6. The current version that dies is started again, ever more slowly; at the third time in a row the previous
   one takes over, and nothing is left to go back to: two versions never take turns.
"""

from typing import Literal

from msgspec.structs import replace

from muster_agent.update.state import DETAIL_LENGTH, ON_TRIAL, WORKING, ModelState
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
    Preflight,
    PreflightFailed,
    PreflightPassed,
    Refused,
    Report,
    Restarted,
    RollBackOrdered,
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

MAX_TRIES = 3
MAX_CRASHES = 3  # of the current version; each comes after several restarts of its worker by the runner
PATIENCE = 5  # attempts that fail before the controller is told "failed"; trying goes on
BACKOFF_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 900.0
CALM_SECONDS = 3600.0  # without a crash; then the next one is the first again
DOWNLOAD_SECONDS = 6 * 3600.0  # a large model over a slow link; the download has tighter bounds of its own
VERIFY_SECONDS = 900.0
PREFLIGHT_SECONDS = 600.0
ACTIVATION_SECONDS = 300.0


NO_ACTIONS: tuple[Action, ...] = ()


def step(state: ModelState, event: AnyEvent) -> Step:  # noqa: PLR0911 - one line per event
    """Return the state after an event, and what to do once that state is saved.

    Total: every state takes every event; one that does not fit changes nothing.
    """
    match event:
        case Wanted():
            return _wanted(state, event)
        case Unwanted():
            return _unwanted(state, event)
        case Downloaded() | Verified() | PreflightPassed() | Activated():
            return _succeeded(state, event)
        case DownloadFailed():
            return _download_failed(state, event)
        case Refused() | PreflightFailed():
            return _refused(state, event)
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
        tries=0,
        deadline=event.now + event.delay,
    )
    started, more = _begin_download(begun, event.now) if event.delay <= 0 else (begun, NO_ACTIONS)
    return started, (*actions, *more, Report())


def _stay(state: ModelState) -> Step:
    """What runs is what is wanted: whatever was on its way is not wanted any more."""
    assert state.current is not None
    if state.phase in ON_TRIAL:
        return _roll_back(state, Reason.ORDERED, "the version before is wanted again")
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
        freed, actions = _roll_back(state, reason, "another version is wanted")
        return freed, (abandon, *(action for action in actions if not isinstance(action, Collect | Report)))
    return replace(state, candidate=None, deadline=None), (abandon,)


# The way of a candidate


def _begin_download(state: ModelState, now: float) -> Step:
    return _enter(state, Phase.DOWNLOADING, now + DOWNLOAD_SECONDS, Download(_candidate(state)))


def _begin_trial(state: ModelState, now: float) -> Step:
    trial = replace(state, tries=state.tries + 1, revive_at=None)
    return _enter(trial, Phase.ACTIVATING, now + ACTIVATION_SECONDS, Activate(_candidate(state)))


def _enter(state: ModelState, phase: Phase, deadline: float, action: Action) -> Step:
    return replace(state, phase=phase, deadline=deadline), (action,)


def _candidate(state: ModelState) -> str:
    assert state.candidate is not None
    return state.candidate.manifest


def _is_on_its_way(state: ModelState, digest: str) -> bool:
    return state.phase in WORKING and state.candidate is not None and state.candidate.manifest == digest


def _succeeded(state: ModelState, event: Downloaded | Verified | PreflightPassed | Activated) -> Step:
    if not _is_on_its_way(state, event.digest):
        return state, NO_ACTIONS
    after, actions = _advance(state, event)
    return after, (*actions, Report()) if actions else NO_ACTIONS


def _advance(state: ModelState, event: Downloaded | Verified | PreflightPassed | Activated) -> Step:
    digest, now = event.digest, event.now
    match event:
        case Downloaded() if state.phase is Phase.DOWNLOADING:
            clean = replace(state, reason=None, detail="")
            return _enter(clean, Phase.VERIFYING, now + VERIFY_SECONDS, Verify(digest))
        case Verified() if state.phase is Phase.VERIFYING:
            staged, actions = _enter(state, Phase.STAGED, now + PREFLIGHT_SECONDS, Preflight(digest))
            return staged, (*actions, Emit("installed", digest))
        case PreflightPassed() if state.phase is Phase.STAGED:
            return _begin_trial(state, now)
        case Activated() if state.phase is Phase.ACTIVATING:
            assert state.wanted is not None
            probation = now + state.wanted.probation_seconds
            return _enter(state, Phase.PROBATION, probation, Emit("activated", digest))
        case _:
            return state, NO_ACTIONS


def _commit(state: ModelState) -> Step:
    committed = replace(
        state,
        phase=Phase.COMMITTED,
        previous=state.current,
        current=state.candidate,
        candidate=None,
        deadline=None,
        crashes=0,
    )
    return committed, (Emit("committed", _candidate(state)), Collect(), Report())


# What goes wrong


def _download_failed(state: ModelState, event: DownloadFailed) -> Step:
    if not _is_on_its_way(state, event.digest) or state.phase in ON_TRIAL:
        return state, NO_ACTIONS
    if event.retryable:
        return _retry_later(state, event.reason, event.detail, now=event.now, jitter=event.jitter)
    return _give_up(state, Phase.FAILED, event.reason, event.detail)


def _refused(state: ModelState, event: Refused | PreflightFailed) -> Step:
    if not _is_on_its_way(state, event.digest) or state.phase in ON_TRIAL:
        return state, NO_ACTIONS
    return _give_up(state, Phase.REJECTED, event.reason, event.detail)


def _give_up(
    state: ModelState, phase: Literal[Phase.FAILED, Phase.REJECTED], reason: Reason, detail: str
) -> Step:
    digest = _candidate(state)
    kind: Literal["failed", "refused"] = "failed" if phase is Phase.FAILED else "refused"
    after = replace(_because(state, reason, detail), phase=phase, candidate=None, deadline=None)
    return after, (Abandon(digest), Emit(kind, digest, reason, after.detail), Collect(), Report())


def _retry_later(state: ModelState, reason: Reason, detail: str, *, now: float, jitter: float) -> Step:
    attempts = state.attempts + 1
    phase = Phase.ASSIGNED if attempts < PATIENCE else Phase.FAILED
    after = replace(
        _because(state, reason, detail),
        phase=phase,
        attempts=attempts,
        deadline=now + backoff(attempts, jitter),
    )
    digest = _candidate(state)
    # Events are never dropped, so a device that is offline for a month says this once.
    emitted = (Emit("failed", digest, reason, after.detail),) if attempts == PATIENCE else NO_ACTIONS
    return after, (Abandon(digest), *emitted, Report())


def backoff(attempts: int, jitter: float) -> float:
    """Return the seconds to wait after ``attempts`` failures: doubling, capped, the upper half drawn."""
    longest = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(attempts - 1, 32))
    return longest * (0.5 + jitter / 2)


def _because(state: ModelState, reason: Reason, detail: str) -> ModelState:
    return replace(state, reason=reason, detail=detail[:DETAIL_LENGTH])


def _roll_back(state: ModelState, reason: Reason, detail: str) -> Step:
    """End a trial. The current version answers again; on a first install nothing does."""
    digest = _candidate(state)
    after = replace(_because(state, reason, detail), candidate=None, deadline=None, revive_at=None)
    if state.current is None:
        after = replace(after, phase=Phase.FAILED)
        return after, (Deactivate(), Emit("failed", digest, reason, after.detail), Collect(), Report())
    after = replace(after, phase=Phase.ROLLED_BACK)
    back = Activate(state.current.manifest)
    return after, (back, Emit("rolled-back", digest, reason, after.detail), Collect(), Report())


def _stopped_answering(state: ModelState, event: ActivationFailed | WorkerFailed) -> Step:
    if _is_on_its_way(state, event.digest):
        if state.phase in ON_TRIAL:
            return _roll_back(state, event.reason, event.detail)
        return state, NO_ACTIONS
    if state.current is None or state.current.manifest != event.digest:
        return state, NO_ACTIONS
    match event:
        case ActivationFailed():
            return _lose_current(state, event)
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
        return _leave_current(counted, event)
    revived = replace(counted, revive_at=event.now + backoff(crashes, event.jitter))
    return revived, (told, Report())


def _leave_current(state: ModelState, event: WorkerFailed) -> Step:
    """Go back from a version that proved itself once and now dies whenever it is started."""
    assert state.previous is not None
    detail = f"it died {state.crashes} times in a row: {event.detail}"
    after = _fall_back(state, event.reason, detail)
    emitted = Emit("rolled-back", event.digest, event.reason, detail[:DETAIL_LENGTH])
    return after, (Activate(state.previous.manifest), emitted, Collect(), Report())


def _fall_back(state: ModelState, reason: Reason, detail: str) -> ModelState:
    """Give up the current version for the previous one; what is on its way stays so and keeps its story."""
    left = state.current
    after = replace(state, current=state.previous, previous=None, revive_at=None, crashes=0, last_crash=None)
    if state.candidate is not None or left is None:
        return after
    told = replace(_because(after, reason, detail), target=left.manifest, deadline=None)
    return replace(told, phase=Phase.ROLLED_BACK)


def _lose_current(state: ModelState, event: ActivationFailed) -> Step:
    """Let the previous version take over from one that cannot be loaded any more, as after disk damage."""
    back = (Activate(state.previous.manifest),) if state.previous is not None else (Deactivate(),)
    kind: Literal["rolled-back", "failed"] = "rolled-back" if state.previous is not None else "failed"
    emitted = Emit(kind, event.digest, event.reason, event.detail[:DETAIL_LENGTH])
    after, actions = _fall_back(state, event.reason, event.detail), (*back, emitted, Report())
    if state.candidate is not None or state.previous is not None:
        return after, actions
    if state.wanted is None or state.wanted.manifest != event.digest:
        return replace(after, phase=Phase.FAILED), actions
    # Nothing to go back to: get the same version again, which replaces the damaged files.
    again = replace(after, phase=Phase.FAILED, candidate=state.current, tries=0, attempts=state.attempts + 1)
    return replace(again, deadline=event.now + backoff(again.attempts, event.jitter)), actions


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


def _deadline_passed(state: ModelState, event: Tick) -> Step:
    late = f"{state.phase} took too long"
    match state.phase:
        case Phase.ASSIGNED | Phase.FAILED:
            after, actions = _begin_download(state, event.now)
            return after, (*actions, Report())
        case Phase.DOWNLOADING:
            return _retry_later(state, Reason.TIMED_OUT, late, now=event.now, jitter=event.jitter)
        case Phase.VERIFYING | Phase.STAGED:
            return _give_up(state, Phase.FAILED, Reason.TIMED_OUT, late)
        case Phase.ACTIVATING:
            return _roll_back(state, Reason.TIMED_OUT, late)
        case Phase.PROBATION:
            return _commit(state)
        case Phase.IDLE | Phase.COMMITTED | Phase.ROLLED_BACK | Phase.REJECTED | Phase.SUPERSEDED:
            return replace(state, deadline=None), NO_ACTIONS


def _roll_back_ordered(state: ModelState) -> Step:
    detail = "ordered at the device"
    if state.phase in ON_TRIAL:
        return _roll_back(state, Reason.ORDERED, detail)
    if state.current is None or state.previous is None:
        return state, NO_ACTIONS
    left = state.current
    freed, abandoned = _drop_candidate(state, Reason.ORDERED)
    # The two change places, so that an order given by mistake can be given again.
    swapped = replace(
        _because(freed, Reason.ORDERED, detail),
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
        case Phase.STAGED:
            # A trial run must not be able to take the agent down at every start.
            detail = "the agent stopped during preflight"
            return _retry_later(state, Reason.CRASHED, detail, now=event.now, jitter=event.jitter)
        case Phase.ACTIVATING | Phase.PROBATION:
            if state.tries >= MAX_TRIES:
                return _roll_back(state, Reason.CRASHED, f"the agent stopped {state.tries} times on trial")
            return _begin_trial(state, event.now)
        case Phase.IDLE | Phase.COMMITTED | Phase.ROLLED_BACK | Phase.REJECTED | Phase.SUPERSEDED:
            return state, NO_ACTIONS


def _configure(state: ModelState) -> tuple[Action, ...]:
    if state.wanted is None:
        return NO_ACTIONS
    return (Configure(tuple(sorted(state.settings.items())), stop=state.stopped),)
