"""From what an operator asks for to a plan, and what stands in the way of starting it."""

import secrets
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlmodel import Session

from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts.judging.answerable import find_unanswerable, find_uncompared
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_controller.service.context import Context
from muster_controller.service.people import too_few
from muster_controller.service.versions import resolve
from muster_controller.store import assignments, labels, reporting
from muster_controller.store import rollouts as store
from muster_controller.store.device_facts import device_facts
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
        document["previous"] = _named(session, request.previous, release.manifest.model)
    else:
        document["previous"] = _common(context, session, parse_plan(document))
    return parse_plan(document)


def _named(session: Session, name: str, model: str) -> str:
    release = resolve(session, name)
    if release.manifest.model != model:
        raise RequestError(f"previous: expected a version of {model}, got {release.name}")
    return release.digest


def keep_seed(request: RolloutRequest, plan: Plan) -> RolloutRequest:
    """Return what is asked for, with the seed of a plan where it names none: the draw stays what it was."""
    return replace(request, plan={"seed": plan.seed, **request.plan})


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


def _unanswerable(session: Session, plan: Plan) -> tuple[str, ...]:
    """Return the conditions of a plan that can never be judged."""
    previous = None if plan.previous is None else resolve(session, plan.previous)
    is_labelled = previous is not None and bool(labels.after(session, previous.digest, upto=0, limit=1))
    return find_unanswerable(
        plan,
        resolve(session, plan.digest).manifest,
        None if previous is None else previous.manifest,
        is_labelled=is_labelled,
    )


def find_obstacles(
    session: Session, plan: Plan, facts: Facts, *, authors: Collection[str] = (), number: int | None = None
) -> tuple[str, ...]:
    """Return why a rollout cannot start now, in words.

    Args:
        authors: Will not count among those who approve.
        number: Of the rollout that is to have this plan; None for one that is not stored yet.
    """
    found: list[str] = []
    for digest in (plan.digest, plan.previous):
        release = None if digest is None else resolve(session, digest)
        if release is not None and release.withdrawn_at is not None:
            found.append(f"{release.name} was withdrawn")
    found += _unanswerable(session, plan)
    if plan.approval is not None:
        asked = plan.approval
        found += too_few(session, asked.roles, model=plan.model, needed=asked.needed, authors=authors)
    cohort = set(draw.cohort(plan, facts.devices))
    if not cohort:
        found.append(f"no device is {plan.selector!r}")
    elif plan.previous is not None and plan.control > 0 and (alone := find_uncompared(plan, len(cohort))):
        found.append(alone)
    for other in store.in_phases(session, store.LIVE, model=plan.model):
        if other.id == number:
            continue
        drawn = store.members(session, other.id)
        shared = cohort & set(drawn or draw.cohort(parse_plan(other.plan), facts.devices))
        if shared:
            names = ", ".join(sorted(shared)[:3])
            found.append(
                f"rollout {other.id} of {plan.model} is {other.phase} on {len(shared)} of them: {names}"
            )
    return tuple(found)
