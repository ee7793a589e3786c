"""One step of the loop: live rollouts are decided, and what devices should run follows from all of them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller.config import Settings
from muster_controller.delivery.post import Post
from muster_controller.domain.facts import DeviceFacts
from muster_controller.domain.rollouts import machine as domain
from muster_controller.domain.rollouts.machine import Decision, State, Tick
from muster_controller.domain.rollouts.plan import Plan, parse_plan
from muster_controller.store import assignments, events, rollouts
from muster_controller.store.baselines import Baselines
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.facts import device_facts, rollout_facts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Course:
    """A rollout with its plan and where it has come to.

    Attributes:
        decision: What was decided in this step; None when it is no longer live.
    """

    stored: rollouts.Rollout
    plan: Plan
    state: State
    decision: Decision | None = None


@dataclass(frozen=True)
class _Order:
    """What one rollout wants some devices to run."""

    rollout: int
    plan: Plan
    digests: Mapping[str, str | None]


class Advancing:
    """Carries rollouts on."""

    def __init__(self, engine: Engine, baselines: Baselines, settings: Settings) -> None:
        self._engine = engine
        self._baselines = baselines
        self._post = Post(settings)
        self._reachable_seconds = settings.reachable_seconds

    def models(self) -> list[str]:
        """Return the models that have a rollout."""
        with Reading(self._engine) as session:
            return rollouts.models(session)

    def advance(self, model: str, now: float) -> None:
        """Decide every live rollout of a model and assign versions.

        Everything that follows is stored in one transaction, and only when no operator's command changed a
        rollout since it was read: then the next step decides anew.
        """
        with Reading(self._engine) as session:
            courses = [self._decide(session, course, now) for course in _courses(session, model)]
            orders = _orders(courses, device_facts(session, model))
            changed = _changes(orders, assignments.of_model(session, model))
        news = [course for course in courses if course.decision is not None]
        if not news and not changed:
            return
        with Unit(self._engine) as session:
            if any(rollouts.get(session, one.stored.id).state != one.stored.state for one in courses):
                return
            for course in news:
                _save(session, course, self._post, now)
            for order in changed:
                assignments.assign(
                    session,
                    model,
                    order.digests,
                    rollout=order.rollout,
                    probation_seconds=order.plan.probation_seconds,
                    now=now,
                    candidate=order.plan.digest,
                    shadow=order.plan.shadow,
                )

    def _decide(self, session: Session, course: _Course, now: float) -> _Course:
        if not domain.is_live(course.state):
            return course
        facts = rollout_facts(
            session,
            course.plan.model,
            upto=course.state.upto,
            since=course.state.history_since,
            now=now,
            reachable_seconds=self._reachable_seconds,
            baselines=self._baselines,
        )
        decision = domain.decide(course.plan, course.state, Tick(facts))
        return _Course(course.stored, course.plan, decision.state, decision)


def _courses(session: Session, model: str) -> list[_Course]:
    """Return the rollouts of a model, newest first."""
    return [
        _Course(stored, parse_plan(stored.plan), domain.from_json(stored.state))
        for stored in rollouts.of_model(session, model)
    ]


def _orders(courses: list[_Course], devices: Mapping[str, DeviceFacts]) -> list[_Order]:
    """Return what each rollout decides for devices: the newest one that names a device decides for it."""
    orders: list[_Order] = []
    decided: set[str] = set()
    for course in courses:
        if devices.keys() <= decided:
            break
        named = domain.assignments(course.plan, course.state, devices)
        left = {device: digest for device, digest in named.items() if device not in decided}
        orders.append(_Order(course.stored.id, course.plan, left))
        decided |= left.keys()
    return orders


def _changes(orders: list[_Order], held: Mapping[str, str]) -> list[_Order]:
    """Return the part of the orders that is not so already."""
    parts = [
        _Order(order.rollout, order.plan, {d: v for d, v in order.digests.items() if held.get(d) != v})
        for order in orders
    ]
    return [part for part in parts if part.digests]


def _save(session: Session, course: _Course, post: Post, now: float) -> None:
    assert course.decision is not None
    number, state = course.stored.id, course.decision.state
    rollouts.save(session, number, phase=state.phase, state=domain.to_json(state), now=now)
    before = domain.from_json(course.stored.state)
    post.rollout_changed(session, number, course.plan, before=before, after=state, now=now)
    found = course.decision.evidence
    if found is not None:
        evidence = rollouts.Evidence(found.stage, found.verdict, msgspec.to_builtins(found, str_keys=True))
        rollouts.add_evidence(session, number, [evidence], now)
    for note in course.decision.notes:
        _log.info("rollout %d: %s", number, note)
        detail = f"rollout {number}: {note}"
        events.note(
            session, "rollout", now=now, model=course.plan.model, digest=course.plan.digest, detail=detail
        )
