"""The moves of the update machine: from one state to the next, once ``updater`` knows what happened. Pure."""

from typing import Literal

from msgspec.structs import replace

from muster_agent.update.state import DETAIL_LENGTH, WORKING, InShadow, ModelState
from muster_agent.update.steps import (
    Abandon,
    Action,
    Activate,
    ActivationFailed,
    BeginShadow,
    Collect,
    Deactivate,
    Emit,
    Refused,
    Report,
    Step,
    WorkerFailed,
)
from muster_models.errors import Reason
from muster_models.wire import Phase, Shadow

MAX_TRIES = 3
# What one damaged byte of a file or of a document makes of it.
DOUBTFUL = frozenset({Reason.TAMPERED, Reason.UNSIGNED, Reason.WRONG_KEY})
MAX_DOUBTS = 3  # refusals in a row before they are believed
DOUBT_SECONDS = 6 * 3600.0  # about; then what was refused is looked at again, once each time
PATIENCE = 5  # attempts that fail before the controller is told "failed"; trying goes on
BACKOFF_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 900.0
LONG_AGO = 32  # attempts after which waiting does not get longer
ACTIVATION_SECONDS = 300.0
# A shadow that lasts days is served in slices. Each is saved, so that a device that is switched off at night
# does not begin anew; and a version that held out for one did not take the agent down at its start.
SLICE_SECONDS = 3600.0

NO_ACTIONS: tuple[Action, ...] = ()


def enter(state: ModelState, phase: Phase, deadline: float, action: Action) -> Step:
    """Go on to a phase that ends at ``deadline`` by itself, and begin with what it is for."""
    return replace(state, phase=phase, deadline=deadline), (action,)


def candidate_of(state: ModelState) -> str:
    """Return the digest of the version on its way; there must be one."""
    assert state.candidate is not None
    return state.candidate.manifest


def is_on_its_way(state: ModelState, digest: str) -> bool:
    """Tell whether a version is on its way."""
    return state.phase in WORKING and state.candidate is not None and state.candidate.manifest == digest


def because(state: ModelState, reason: Reason, detail: str) -> ModelState:
    """Give the reason of what became of a version."""
    return replace(state, reason=reason, detail=detail[:DETAIL_LENGTH])


# Shadow and trial


def begin_shadow_or_trial(state: ModelState, now: float) -> Step:
    """Let the candidate answer unseen first where that is ordered and possible, else at once."""
    order = state.shadow_order
    if order is not None:
        return begin_shadow(state, order, now)
    is_ordered = state.wanted is not None and state.wanted.shadow is not None
    told = without_shadow(state, "no other version answers here") if is_ordered else state
    return begin_trial(told, now)


def without_shadow(state: ModelState, detail: str) -> ModelState:
    """Say that an order to answer in shadow is not followed, and why."""
    return replace(state, detail=f"no shadow: {detail}"[:DETAIL_LENGTH])


def begin_shadow(state: ModelState, order: Shadow, now: float) -> Step:
    """Begin with the shadow, or begin anew with what is left of it."""
    begun = replace(state, tries=state.tries + 1, shadow=InShadow(served=state.shadow.served))
    return enter(begun, Phase.SHADOW, now + ACTIVATION_SECONDS, BeginShadow(candidate_of(state), order))


def serve_slice(state: ModelState, order: Shadow, now: float, *, served: float) -> ModelState:
    """Let the shadow go on for a slice, or for what is left of it."""
    deadline = now + slice_seconds(order, served)
    return replace(state, shadow=InShadow(began=True, served=served), deadline=deadline)


def slice_seconds(order: Shadow, served: float) -> float:
    """Return how long the slice is that follows after so many seconds in shadow."""
    return min(SLICE_SECONDS, max(order.seconds - served, 0.0))


def begin_trial(state: ModelState, now: float) -> Step:
    """Let the candidate answer."""
    tries = 0 if state.phase is Phase.SHADOW else state.tries
    trial = replace(state, tries=tries + 1, revive_at=None)
    return enter(trial, Phase.ACTIVATING, now + ACTIVATION_SECONDS, Activate(candidate_of(state)))


def commit(state: ModelState) -> Step:
    """Make the candidate on trial the current version."""
    committed = replace(
        state,
        phase=Phase.COMMITTED,
        previous=state.current,
        current=state.candidate,
        candidate=None,
        deadline=None,
        crashes=0,
    )
    return committed, (Emit("committed", candidate_of(state)), Collect(), Report())


# What goes wrong


def give_up(
    state: ModelState, phase: Literal[Phase.FAILED, Phase.REJECTED], reason: Reason, detail: str
) -> Step:
    """Leave a candidate for good."""
    digest = candidate_of(state)
    kind: Literal["failed", "refused"] = "failed" if phase is Phase.FAILED else "refused"
    after = replace(because(state, reason, detail), phase=phase, candidate=None, deadline=None)
    return after, (Abandon(digest), Emit(kind, digest, reason, after.detail), Collect(), Report())


def retry_later(state: ModelState, reason: Reason, detail: str, *, now: float, jitter: float) -> Step:
    """Leave a candidate for now."""
    attempts = state.attempts + 1
    phase = Phase.ASSIGNED if attempts < PATIENCE else Phase.FAILED
    after = replace(
        because(state, reason, detail),
        phase=phase,
        attempts=attempts,
        deadline=now + backoff(attempts, jitter),
    )
    digest = candidate_of(state)
    # Events are never dropped, so a device that is offline for a month says this once.
    emitted = (Emit("failed", digest, reason, after.detail),) if attempts == PATIENCE else NO_ACTIONS
    return after, (Abandon(digest), *emitted, Report())


def is_doubtful(state: ModelState, event: Refused) -> bool:
    """Tell whether a version was refused, while it arrives, for what damage on the way would explain."""
    return event.reason in DOUBTFUL and state.phase in {Phase.DOWNLOADING, Phase.VERIFYING}


def doubt(state: ModelState, event: Refused) -> Step:
    """Get again what was refused for a damage that may have come on the way; believe it the third time.

    Even then it is looked at again some hours later, without anybody asking: a mirror may have been mended.
    What of the version was found to be genuine stays on the disk until then.
    """
    doubts, digest = state.doubts + 1, candidate_of(state)
    doubted = replace(because(state, event.reason, event.detail), doubts=doubts)
    if doubts < MAX_DOUBTS:
        soon = event.now + backoff(doubts, event.jitter)
        return replace(doubted, phase=Phase.ASSIGNED, deadline=soon), (Abandon(digest), Report())
    rejected = replace(doubted, phase=Phase.REJECTED, deadline=event.now + doubt_seconds(event.jitter))
    # Events are never dropped, so a mirror that stays wrong is told of once.
    emitted = (Emit("refused", digest, event.reason, doubted.detail),) if doubts == MAX_DOUBTS else NO_ACTIONS
    return rejected, (Abandon(digest), *emitted, Report())


def doubt_seconds(jitter: float) -> float:
    """Return the seconds until a version that was refused is looked at again; the upper half drawn."""
    return DOUBT_SECONDS * (0.5 + jitter / 2)


def backoff(attempts: int, jitter: float) -> float:
    """Return the seconds to wait after ``attempts`` failures: doubling, capped, the upper half drawn."""
    longest = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(attempts - 1, LONG_AGO))
    return longest * (0.5 + jitter / 2)


def roll_back(state: ModelState, reason: Reason, detail: str) -> Step:
    """End a trial. The current version answers again; on a first install nothing does."""
    digest = candidate_of(state)
    after = replace(because(state, reason, detail), candidate=None, deadline=None, revive_at=None)
    if state.current is None:
        after = replace(after, phase=Phase.FAILED)
        return after, (Deactivate(), Emit("failed", digest, reason, after.detail), Collect(), Report())
    after = replace(after, phase=Phase.ROLLED_BACK)
    back = Activate(state.current.manifest)
    return after, (back, Emit("rolled-back", digest, reason, after.detail), Collect(), Report())


def fall_back(state: ModelState, reason: Reason, detail: str) -> ModelState:
    """Give up the current version for the previous one; what is on its way stays so and keeps its story."""
    left = state.current
    after = replace(state, current=state.previous, previous=None, revive_at=None, crashes=0, last_crash=None)
    if state.candidate is not None or left is None:
        return after
    told = replace(because(after, reason, detail), target=left.manifest, deadline=None)
    return replace(told, phase=Phase.ROLLED_BACK)


def leave_current(state: ModelState, event: WorkerFailed) -> Step:
    """Go back from a version that proved itself once and now dies whenever it is started."""
    assert state.previous is not None
    detail = f"it died {state.crashes} times in a row: {event.detail}"
    after = fall_back(state, event.reason, detail)
    emitted = Emit("rolled-back", event.digest, event.reason, detail[:DETAIL_LENGTH])
    return after, (Activate(state.previous.manifest), emitted, Collect(), Report())


def lose_current(state: ModelState, event: ActivationFailed) -> Step:
    """Let the previous version take over from one that cannot be loaded any more, as after disk damage."""
    back = (Activate(state.previous.manifest),) if state.previous is not None else (Deactivate(),)
    kind: Literal["rolled-back", "failed"] = "rolled-back" if state.previous is not None else "failed"
    emitted = Emit(kind, event.digest, event.reason, event.detail[:DETAIL_LENGTH])
    after, actions = fall_back(state, event.reason, event.detail), (*back, emitted, Report())
    if state.candidate is not None or state.previous is not None:
        return after, actions
    if state.wanted is None or state.wanted.manifest != event.digest:
        return replace(after, phase=Phase.FAILED), actions
    # Nothing to go back to: get the same version again, which replaces the damaged files.
    again = replace(after, phase=Phase.FAILED, candidate=state.current, tries=0, attempts=state.attempts + 1)
    return replace(again, deadline=event.now + backoff(again.attempts, event.jitter)), actions
