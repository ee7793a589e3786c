"""From what an operator asks for to a plan, and what stands in the way of starting it."""

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts.plan import Plan, parse_plan
from muster_controller.service.context import Context
from muster_controller.service.versions import resolve
from muster_controller.store import assignments, reporting
from muster_controller.store import rollouts as store
from muster_controller.store.facts import device_facts
from muster_controller.store.views.rollouts import LIVE
from muster_models.errors import RequestError


@dataclass(frozen=True)
class RolloutRequest:
    """What an operator asks for.

    Attributes:
        version: ``model@version`` or a digest.
        previous: The version that the control keeps and a rollback returns to; None takes the one that most
            devices of the cohort are assigned.
        plan: Other fields of ``domain.plan.Plan``; what is left out has the plan's default.
    """

    version: str
    previous: str | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)


def make_plan(context: Context, session: Session, request: RolloutRequest) -> Plan:
    """Return the plan that a request asks for, everything that was left out filled in.

    Raises:
        NotFoundError: No such version.
        RequestError: A field of the plan is not of the expected form.
    """
    release = resolve(session, request.version)
    fixed = {"model", "digest", "previous"} & request.plan.keys()
    if fixed:
        raise RequestError(f"plan: {sorted(fixed)} follow from the version, they are not given apart")
    document: dict[str, Any] = {
        "round_seconds": reporting.current(session, context.settings.reporting).window_seconds,
        "seed": secrets.token_hex(4),
        **request.plan,
        "model": release.manifest.model,
        "digest": release.digest,
        "previous": None,
    }
    if request.previous is not None:
        document["previous"] = resolve(session, request.previous).digest
    else:
        document["previous"] = _common(context, session, parse_plan(document))
    return parse_plan(document)


def _common(context: Context, session: Session, plan: Plan) -> str | None:
    """Return the version that most devices of the cohort are assigned, other than the new one.

    One that was withdrawn is nothing to go back to.
    """
    cohort = draw.cohort(plan, gather(context, session, plan.model).devices)
    assigned = assignments.of_model(session, plan.model)
    held = Counter(assigned[device] for device in cohort if device in assigned)
    del held[plan.digest]
    listed = [digest for digest in held if resolve(session, digest).withdrawn_at is None]
    return min(listed, key=lambda digest: (-held[digest], digest), default=None)


def gather(context: Context, session: Session, model: str) -> Facts:
    """Return what is known about every device and one model, without windows."""
    known = device_facts(session, model)
    return Facts(context.clock(), known, reachable_seconds=context.settings.reachable_seconds)


def find_obstacles(session: Session, plan: Plan, facts: Facts) -> tuple[str, ...]:
    """Return why a rollout cannot start now, in words."""
    found: list[str] = []
    for digest in (plan.digest, plan.previous):
        release = None if digest is None else resolve(session, digest)
        if release is not None and release.withdrawn_at is not None:
            found.append(f"{release.name} was withdrawn")
    cohort = set(draw.cohort(plan, facts.devices))
    if not cohort:
        found.append(f"no device is {plan.selector!r}")
    for other in store.in_phases(session, LIVE, model=plan.model):
        shared = cohort & set(draw.cohort(parse_plan(other.plan), facts.devices))
        if shared:
            names = ", ".join(sorted(shared)[:3])
            found.append(
                f"rollout {other.id} of {plan.model} is {other.phase} on {len(shared)} of them: {names}"
            )
    return tuple(found)
