"""What a rollout may still have to go back to is kept: such a version is not withdrawn by the way."""

import datetime as dt
from collections.abc import Iterable, Mapping

from sqlmodel import Session

from muster_controller.domain.rollouts import machine as rollout
from muster_controller.domain.rollouts.machine import RolloutPhase, State
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_controller.service.context import Context
from muster_controller.store import rollouts as store
from muster_controller.store import versions
from muster_models.errors import ConflictError, RequestError
from muster_models.trust.roles import MODEL_PREFIX
from muster_models.trust.view import view

_ENDED = frozenset({RolloutPhase.COMPLETED, RolloutPhase.ABORTED})  # with devices on the new version, maybe


def why_kept(plan: Plan, state: State, now: float) -> str:
    """Return why the version is kept that a rollout replaces, in words; empty when it is not."""
    if plan.previous is None or state.phase is RolloutPhase.ROLLED_BACK or not state.started_at:
        return ""
    if state.phase not in _ENDED:
        return f"it is {state.phase}"
    until = state.since + plan.rollback_window_seconds
    day = dt.datetime.fromtimestamp(until, dt.UTC)
    return f"it can be rolled back until {day:%Y-%m-%d %H:%M} UTC" if now < until else ""


def check_kept(
    context: Context, session: Session, documents: Mapping[str, bytes], *, override: bool, reason: str
) -> tuple[str, ...]:
    """Return, in words, what new documents would take away from rollouts, when that is ordered all the same.

    Args:
        context: Of this controller.
        session: In the transaction that accepts them.
        documents: By role; only models' roles list versions.
        override: It is ordered all the same.
        reason: Why; must be given with ``override``.

    Raises:
        ConflictError: A rollout may have to go back to a version that would no longer be listed.
        RequestError: ``override`` without a reason.
    """
    lost = tuple(
        text
        for role, document in documents.items()
        if role.startswith(MODEL_PREFIX)
        for text in _lost(context, session, _gone(context, role, document))
    )
    if lost and not override:
        raise ConflictError(
            f"{'; '.join(lost)}; to withdraw it all the same: muster version withdraw --override --reason WHY"
        )
    if lost and not reason.strip():
        raise RequestError(f"{'; '.join(lost)}: an override needs a reason")
    return lost


def _gone(context: Context, role: str, document: bytes) -> set[str]:
    """Return the digests that are listed now and that a document no longer lets run."""
    model, new = role.removeprefix(MODEL_PREFIX), view(role, document)
    left = {one.digest for one in new.versions if one.release >= new.floor}
    return set(context.repository.listed(model).values()) - left


def _lost(context: Context, session: Session, digests: set[str]) -> Iterable[str]:
    for stored in store.returning_to(session, digests) if digests else ():
        plan, state = parse_plan(stored.plan), rollout.from_json(stored.state, {})
        why = why_kept(plan, state, context.clock())
        if why:
            assert stored.previous is not None
            name = versions.get(session, stored.previous).name
            yield f"rollout {stored.id} returns to {name}: {why}"
