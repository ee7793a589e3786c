"""A rollout explained: what its gates said, round by round, computed again from stored windows."""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlmodel import Session

from muster_controller.domain.facts import LabelFacts
from muster_controller.domain.rollouts.judging.gates import bound_of, shares
from muster_controller.domain.rollouts.judging.gauges import gate_of, margin_of, sides_of, unit_of
from muster_controller.domain.rollouts.judging.ledger import Ledger, Trial
from muster_controller.domain.rollouts.judging.replay import Inputs, course, differences
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import State
from muster_controller.domain.sequential import log_mean
from muster_controller.service.context import Context
from muster_controller.stepping import course_of
from muster_controller.store import observed, windows
from muster_controller.store.baselines import Baselines
from muster_controller.store.engine import Reading
from muster_controller.store.facts import window_facts
from muster_models.errors import RequestError

MAX_WINDOWS = 100_000


@dataclass(frozen=True)
class RoundView:
    """One gauge in one direction, after one round.

    Attributes:
        at: When the round began after which this was known.
        stage: Counted from 1.
        rounds: Compared in the stage so far.
        effect: Version minus control, less the difference before, over those rounds.
        level, control: Means over those rounds of the gauge itself.
        evidence: Against "within the margin"; unhealthy at ``bound`` together with the gate's other gauges.
        assurance: Against "outside the margin"; healthy at ``needed``.
    """

    at: dt.datetime
    stage: int
    gate: str
    gauge: str
    direction: str
    rounds: int
    effect: float
    level: float
    control: float
    margin: float
    unit: str
    evidence: float
    bound: float
    assurance: float
    needed: float


@dataclass(frozen=True)
class RolloutExplained:
    """The evidence of a rollout, computed again.

    Attributes:
        windows: That it was computed from: those of the devices that are compared.
        same: It is what the rollout judged by.
        differences: Where it is not, in words.
    """

    number: int
    windows: int
    rounds: tuple[RoundView, ...]
    same: bool
    differences: tuple[str, ...]


def explain(context: Context, number: int, *, gate: str | None = None) -> RolloutExplained:
    """Compute the evidence of a rollout again from the stored windows and labels.

    Args:
        gate: Show this one alone.

    Raises:
        NotFoundError: No such rollout.
        RequestError: It has not begun, so there is nothing to compute; no gate has that name; or a baseline
            that windows were made over is lost.
    """
    with Reading(context.engine) as session:
        found = course_of(session, number)
        plan, state = found.plan, found.state
        if not state.started_at:
            raise RequestError(f"rollout {number} has not begun: there is no evidence yet")
        inputs = _inputs(session, plan, state, Baselines(context.blobs))
    rounds = list(_rounds(plan, state.ledger, inputs))
    *_, (_, again) = course(plan, state.ledger, inputs)
    held = shares(plan, again)
    if gate is not None and gate not in held:
        raise RequestError(
            f"rollout {number} has no gate {gate!r} that compares; there are {', '.join(held)}"
        )
    chosen = tuple(one for one in rounds if gate in {None, one.gate})
    apart = differences(state.ledger, again)
    return RolloutExplained(number, len(inputs.windows), chosen, not apart, apart)


def _inputs(session: Session, plan: Plan, state: State, baselines: Baselines) -> Inputs:
    """Return what is stored of a rollout; only the devices that are compared matter."""
    stored = windows.of_devices(
        session,
        plan.model,
        state.witnesses,
        since=state.history_since,
        upto=state.ledger.upto,
        limit=MAX_WINDOWS,
    )
    facts = window_facts(stored, baselines)
    if len(facts) != len(stored):
        raise RequestError(f"the baseline of {len(stored) - len(facts)} windows of {plan.model} is lost")
    return Inputs(
        windows=list(zip((one.id for one in stored), facts, strict=True)),
        arms={name: state.members[name].arm for name in state.witnesses if name in state.members},
        started=state.started_at,
        labels=list(_labels(session, plan, state)),
        reliability=observed.reliability(session, plan) if plan.margins.estimate is not None else {},
    )


def _labels(session: Session, plan: Plan, state: State) -> Iterator[tuple[int, LabelFacts]]:
    upto, last = 0, state.ledger.labels_upto
    while upto < last:
        found, newest = observed.labels_after(session, plan, state, upto=upto)
        yield from (one for one in found if one[0] <= last)
        if newest == upto:
            return
        upto = newest


def _rounds(plan: Plan, stored: Ledger, inputs: Inputs) -> Iterator[RoundView]:
    """Yield what every gauge said each time a round taught something about it."""
    stage, before = 0, Ledger()
    for entry, ledger in course(plan, stored, inputs):
        if entry.kind == "stage":
            stage += 1
        elif ledger.trials != before.trials:
            at = dt.datetime.fromtimestamp(entry.current * plan.round_seconds, dt.UTC)
            held = shares(plan, ledger)
            for gauge, trials in sorted(ledger.trials.items()):
                share = held.get(gate_of(gauge))
                if share is not None and trials != before.trials.get(gauge):
                    yield from _gauge(plan, gauge, trials, at=at, stage=stage, share=share)
        before = ledger


def _gauge(
    plan: Plan, gauge: str, trials: Sequence[Trial], *, at: dt.datetime, stage: int, share: float
) -> Iterator[RoundView]:
    for side, trial in zip(sides_of(gauge, plan.margins), trials, strict=True):
        yield RoundView(
            at=at,
            stage=stage,
            gate=gate_of(gauge),
            gauge=gauge,
            direction="up" if side > 0 else "down",
            rounds=trial.rounds,
            effect=trial.effect,
            level=trial.level,
            control=trial.beside,
            margin=margin_of(gauge, plan.margins),
            unit=unit_of(gate_of(gauge)),
            evidence=_value(trial.harm),
            bound=bound_of(plan, share),
            assurance=_value(trial.assurance),
            needed=1 / plan.hold_budget,
        )


def _value(wealth: Sequence[float]) -> float:
    # JSON has no infinity, and nobody reads more digits than these.
    return float(f"{math.exp(min(float(log_mean(np.array(wealth))), 200.0)):.3g}")
