"""A rollout explained: what its gates said and what was decided, computed again from what is stored."""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from muster_controller.domain.rollouts.judging.evidence import Verdict
from muster_controller.domain.rollouts.judging.gates import bound_of, shares
from muster_controller.domain.rollouts.judging.gauges import gate_of, margin_of, sides_of, unit_of
from muster_controller.domain.rollouts.judging.ledger import Entry, Ledger, Trial
from muster_controller.domain.rollouts.judging.recount import GateAgain, Recount, recount
from muster_controller.domain.rollouts.judging.replay import Point, differences
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import Code, State
from muster_controller.domain.sequential import log_mean
from muster_controller.service.context import Context
from muster_controller.service.rollout_stored import MAX_WINDOWS, Record, Stored
from muster_controller.stepping import course_of
from muster_controller.store.baselines import Baselines
from muster_controller.store.engine import Reading
from muster_models.errors import RequestError

MAX_DIFFERENCES = 100
UNRECORDED = "the verdict that ended it stands in no record"


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
class VerdictAgain:
    """One recorded verdict, and what is computed again of it.

    Attributes:
        id: Of the record.
        stage: Counted from 1.
        again: None: it cannot be computed.
        agrees: Nothing differs.
        gates: Limits, comparisons and the checks on the experiment, each with where it differs, in words.
        differences: Besides those of gates.
    """

    id: int
    at: dt.datetime
    stage: int
    step: str
    verdict: Verdict
    again: Verdict | None
    agrees: bool
    gates: tuple[GateAgain, ...]
    differences: tuple[str, ...]


@dataclass(frozen=True)
class RolloutExplained:
    """The evidence of a rollout, computed again.

    Attributes:
        windows: That it was computed from: those of the version, and of the devices that are compared.
        verdicts: Every recorded one, oldest first.
        same: Everything is what the rollout judged by.
        differences: Where it is not, in words; the first 100.
        unchecked: Gates that rest on more windows than are read at once: they are not computed again.
    """

    number: int
    windows: int
    rounds: tuple[RoundView, ...]
    verdicts: tuple[VerdictAgain, ...]
    same: bool
    differences: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


def explain(
    context: Context, number: int, *, gate: str | None = None, most: int = MAX_WINDOWS
) -> RolloutExplained:
    """Compute the evidence of a rollout again, and every verdict that rests on it, from what is stored.

    Args:
        gate: Show this one alone; all of them are computed.
        most: Windows that are read at once.

    Raises:
        NotFoundError: No such rollout.
        RequestError: It has not begun, so there is nothing to compute; no gate has that name; a baseline
            that windows were made over is lost; a record cannot be read; or there is too much to be read.
    """
    with Reading(context.engine) as session:
        found = course_of(session, number)
        plan, state = found.plan, found.state
        if not state.started_at:
            raise RequestError(f"rollout {number} has not begun: there is no evidence yet")
        stored = Stored(session, number, plan, state, baselines=Baselines(context.blobs), most=most)
        again = _again(plan, state, stored)
    _check(number, gate, plan, stored.records, again.ledger)
    verdicts = [_verdict(record, again.recounts[index], gate) for index, record in enumerate(stored.records)]
    apart = [
        *differences(state.ledger, again.ledger),
        *_unrecorded(state, stored.records),
        *(
            words
            for index, record in enumerate(stored.records)
            for words in _apart(record, again.recounts[index])
        ),
    ]
    return RolloutExplained(
        number=number,
        windows=stored.count,
        rounds=tuple(one for one in again.rounds if gate in {None, one.gate}),
        verdicts=tuple(verdicts),
        same=not apart,
        differences=tuple(apart[:MAX_DIFFERENCES]),
        unchecked=stored.without,
    )


@dataclass
class _Again:
    """What was computed again.

    Attributes:
        recounts: Of each record, by its index.
    """

    ledger: Ledger = field(default_factory=Ledger)
    rounds: list[RoundView] = field(default_factory=list)
    recounts: dict[int, Recount] = field(default_factory=dict)


def _again(plan: Plan, state: State, stored: Stored) -> _Again:
    again = _Again()
    records = [record.evidence for record in stored.records]
    for found in recount(
        plan, state.ledger, records, stored.inputs, crashes=stored.crashes, without=stored.without
    ):
        if isinstance(found, Recount):
            again.recounts[found.index] = found
        elif isinstance(found.done, Entry):
            again.rounds += _rounds(plan, again.ledger, found, found.done)
            again.ledger = found.ledger
    return again


def _check(number: int, gate: str | None, plan: Plan, records: Sequence[Record], ledger: Ledger) -> None:
    """Refuse the name of a gate that there is not."""
    recorded = (one.name for r in records for one in (*r.evidence.gates, *r.evidence.experiment))
    known = dict.fromkeys((*shares(plan, ledger), *recorded))
    if gate is not None and gate not in known:
        there = f"there are {', '.join(known)}" if known else "there is none before anything was seen"
        raise RequestError(f"rollout {number} has no gate {gate!r}; {there}")


def _verdict(record: Record, again: Recount, gate: str | None) -> VerdictAgain:
    evidence = record.evidence
    return VerdictAgain(
        id=record.id,
        at=dt.datetime.fromtimestamp(evidence.at, dt.UTC),
        stage=evidence.stage + 1,
        step=evidence.step,
        verdict=evidence.verdict,
        again=again.again,
        agrees=again.agrees and not record.differences,
        gates=tuple(one for one in again.gates if gate in {None, one.name}),
        differences=(*record.differences, *again.differences),
    )


def _apart(record: Record, again: Recount) -> Iterator[str]:
    """Yield where a record is not what follows from what is stored, in words."""
    for words in (*record.differences, *again.differences):
        yield f"record {record.id}: {words}"
    for gate in again.gates:
        if gate.differences:
            yield f"record {record.id}, {gate.name}: {'; '.join(gate.differences)}"


def _unrecorded(state: State, records: Sequence[Record]) -> Iterator[str]:
    ended = records[-1].evidence.verdict if records else None
    if state.code is Code.UNHEALTHY and ended is not Verdict.UNHEALTHY:
        yield UNRECORDED


def _rounds(plan: Plan, before: Ledger, point: Point, entry: Entry) -> Iterator[RoundView]:
    """Yield what every gauge says that an entry taught something about."""
    if entry.kind == "stage" or point.ledger.trials == before.trials:
        return
    at = dt.datetime.fromtimestamp(entry.current * plan.round_seconds, dt.UTC)
    held = shares(plan, point.ledger)
    for gauge, trials in sorted(point.ledger.trials.items()):
        share = held.get(gate_of(gauge))
        if share is not None and trials != before.trials.get(gauge):
            yield from _gauge(plan, gauge, trials, at=at, stage=point.stages, share=share)


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
