"""The gates of a rollout: absolute limits, and comparisons with the control.

The comparisons share the plan's error budget. A gate that holds the share w of it is unhealthy when its
e-process reaches (1 + ``STAKE``) / (w x budget): by Ville's inequality a version that is within its margin
ever gets there with probability w x budget at most, and all gates together with probability ``budget`` (a
union bound, so whatever depends on what). Only gates that have something to compare hold a share. Which
ones do is settled before the first stage is admitted, because from then on nothing new is learned of the
time before.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from muster_controller.domain.rollouts.judging.evidence import Gate, Verdict
from muster_controller.domain.rollouts.judging.gauges import gate_of, margin_of, sides_of, unit_of
from muster_controller.domain.rollouts.judging.ledger import STAKE, Ledger, Trial
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.planning.conditions import (
    ACCURACY,
    COMPARING,
    COUNTER_PREFIX,
    CRASHED,
    ESTIMATE,
    INVALID,
    Minimum,
)
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.sequential import interval, log_mean
from muster_models.wire import LATENCY_EDGES_MS

NOT_BOTH = "not seen in both arms"
LEAST_SHARE = 1e-9  # of the budget: less is as good as none
LATE = 0.05  # of the calls may take longer than ``Limits.p95_ms``


def absolute(plan: Plan, ledger: Ledger, seen: Trialled) -> Iterator[Gate]:
    """Yield the gates that hold whatever the control does."""
    limits, totals, calls = plan.limits, ledger.totals, plan.limits.minimum_calls
    faults, base = len(seen.of(Outcome.FAULT)), len(seen.executed | seen.reachable)
    yield _limit("failures", faults, base, limit=limits.failures, minimum=1, why=seen.why(Outcome.FAULT))
    yield _limit("failed calls", totals.errors, totals.calls, limit=limits.errors, minimum=calls)
    yield _limit(
        "missing predictions", totals.missing, totals.predictions, limit=limits.missing, minimum=calls
    )
    if limits.crashes_per_device is not None:
        yield _crashes(ledger, seen, limits.crashes_per_device)
    if limits.p95_ms is not None:
        late = _late(totals.latency, limits.p95_ms)
        yield _limit("late calls", late, sum(totals.latency), limit=LATE, minimum=calls)
    if limits.agreement is not None:
        counting = seen.outcomes
        counts = [counted for device, counted in sorted(ledger.agreement.items()) if device in counting]
        agreed, rows = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        yield _least("agreement", agreed, rows, limit=limits.agreement, minimum=limits.agreement_rows)
    if limits.accuracy is not None:
        yield _least(
            "accuracy",
            totals.right,
            totals.labels,
            limit=limits.accuracy,
            minimum=plan.minimums.labels,
        )


def _limit(
    name: str,
    hits: int,
    total: int,
    *,
    limit: float,
    minimum: int,
    why: Mapping[str, int] = MappingProxyType({}),
) -> Gate:
    if total < minimum:
        detail = f"{total} of {minimum} seen"
        return Gate(name, Verdict.INCONCLUSIVE, None, limit, "share", detail=detail, samples=total)
    verdict = Verdict.UNHEALTHY if hits > limit * total else Verdict.HEALTHY
    told = ", ".join(f"{reason} {count}" for reason, count in why.items()) if len(why) > 1 else "".join(why)
    detail = f"{hits} of {total}: {told}" if told else f"{hits} of {total}"
    share = hits / total
    return Gate(name, verdict, share, limit, "share", detail=detail, value=share, samples=total)


def _least(name: str, hits: int, total: int, *, limit: float, minimum: int) -> Gate:
    """Return the gate of a share that must not be smaller than ``limit``."""
    gate = _limit(name, hits, total, limit=limit, minimum=minimum)
    if gate.verdict is Verdict.INCONCLUSIVE:
        return gate
    verdict = Verdict.UNHEALTHY if hits < limit * total else Verdict.HEALTHY
    return Gate(
        name, verdict, gate.effect, limit, "share", detail=gate.detail, value=gate.value, samples=total
    )


def _crashes(ledger: Ledger, seen: Trialled, limit: int) -> Gate:
    """Return the gate of crashes on any one device; those that a person has acknowledged are left out."""
    counting = seen.outcomes
    counts = {device: count for device, count in ledger.crashes.items() if device in counting}
    most = max(counts.values(), default=0)
    over = sorted((d for d, count in counts.items() if count > limit), key=lambda d: (-counts[d], d))
    if not over and not seen.executed:
        detail = "no device has run the version"
        return Gate("crashes", Verdict.INCONCLUSIVE, None, limit, "", detail=detail)
    verdict = Verdict.UNHEALTHY if over else Verdict.HEALTHY
    named = ", ".join(f"{device} {counts[device]}" for device in over[:3])
    detail = f"on {len(over)} devices: {named}" if over else f"{sum(counts.values())} in all"
    return Gate("crashes", verdict, most, limit, "", detail=detail, value=most, samples=len(seen.executed))


def _late(latency: Sequence[int], limit_ms: float) -> int:
    """Return the calls that took longer than a limit for certain: those in bins that begin at it or later."""
    first = next((i + 1 for i, edge in enumerate(LATENCY_EDGES_MS) if edge >= limit_ms), len(latency))
    return sum(latency[first:])


def shares(plan: Plan, ledger: Ledger) -> dict[str, float]:
    """Return the share of the error budget that each gate holds which compares, in the order of showing.

    A gate holds one when either arm was seen to have something for it, or the plan asks for it by name.
    """
    margins = plan.margins
    kinds = {gate_of(gauge) for tracks in ledger.before.values() for gauge in tracks}
    asked = {*margins.required, *(COUNTER_PREFIX + name for name in margins.counters)}
    optional = {
        INVALID: margins.invalid,
        ESTIMATE: margins.estimate,
        ACCURACY: margins.accuracy,
        CRASHED: margins.crashes,
    }
    asked |= {gate for gate, margin in optional.items() if margin is not None}
    unwanted = {gate for gate, margin in optional.items() if margin is None}
    order = (*COMPARING, *sorted(COUNTER_PREFIX + name for name in margins.counters))
    held = {g: margins.weights.get(g, 1.0) for g in order if g in (kinds | asked) - unwanted}
    total = sum(held.values()) or 1.0
    return {gate: weight / total for gate, weight in held.items() if weight / total >= LEAST_SHARE}


def bound_of(plan: Plan, share: float) -> float:
    """Return the e-value at which a gate is unhealthy that holds a share of the error budget."""
    return (1 + STAKE) / (plan.error_budget * share)


def comparing(plan: Plan, ledger: Ledger, now: float) -> Iterator[Gate]:
    """Yield one gate per kind of gauge that either arm was ever seen to have, or that the plan names.

    Crashes are no gauge: see ``judging.crashes``.
    """
    gauges: dict[str, list[str]] = {}
    for gauge in sorted({g for tracks in ledger.before.values() for g in tracks} | set(ledger.trials)):
        gauges.setdefault(gate_of(gauge), []).append(gauge)
    held = shares(plan, ledger)
    if not gauges or not held:
        detail = "no gate has a share of the error budget" if gauges else "nothing seen in either arm"
        yield Gate("comparison", Verdict.INCONCLUSIVE, None, 0.0, detail=detail)
    for name, share in held.items():
        if name == CRASHED:
            continue
        if name in gauges:
            yield _compare(plan, ledger, name, gauges[name], share=share, now=now)
        else:
            margin = margin_of(name, plan.margins)
            detail = _unseen(ledger, name)
            yield Gate(name, Verdict.INCONCLUSIVE, None, margin, unit_of(name), detail=detail, share=share)


def _unseen(ledger: Ledger, gate: str) -> str:
    if not gate.startswith(COUNTER_PREFIX):
        return "never seen"
    if not ledger.counters:
        return "never seen: no application of a device that is compared counts anything"
    return f"never seen: the applications count {', '.join(ledger.counters)}"


def _compare(plan: Plan, ledger: Ledger, name: str, gauges: list[str], *, share: float, now: float) -> Gate:
    bound, needed = bound_of(plan, share), 1 / plan.hold_budget
    margin = margin_of(gauges[0], plan.margins)
    trials = [
        (f"{gauge} {'up' if side > 0 else 'down'}", trial)
        for gauge in gauges
        for side, trial in zip(sides_of(gauge, plan.margins), ledger.trials.get(gauge, ()), strict=False)
    ]
    if len({title.rpartition(" ")[0] for title, _ in trials}) < len(gauges):
        return Gate(
            name, Verdict.INCONCLUSIVE, None, margin, unit_of(name), detail=NOT_BOTH, bound=bound, share=share
        )
    harms = np.array([log_mean(np.array(trial.harm)) for _, trial in trials])
    safe = np.array([log_mean(np.array(trial.assurance)) for _, trial in trials])
    harm, worst = float(log_mean(harms)), int(np.argmin(safe))
    is_harmful = harm >= math.log(bound)
    title, trial = trials[int(np.argmax(harms)) if is_harmful else worst]
    lacking = _lacking(trial, plan.minimums.gates.get(name, Minimum()), _labels(plan, name))
    if is_harmful:
        verdict, detail = Verdict.UNHEALTHY, f"{title}: {trial.effect:+.3f}, tolerated {margin:g}"
    elif safe[worst] >= math.log(needed) and not lacking:
        verdict, detail = Verdict.HEALTHY, ""
    else:
        verdict = Verdict.INCONCLUSIVE
        detail = f"{title}: {lacking or _outlook(_rest(trial, float(safe[worst]), needed))}"
    ends = interval(
        trial.rounds, precision=trial.precision, score=trial.score, slack=trial.slack, p=plan.hold_budget
    )
    rest = _rest(trial, float(safe[worst]), needed) if verdict is Verdict.INCONCLUSIVE else None
    return Gate(
        name=name,
        verdict=verdict,
        effect=trial.effect if trial.rounds else None,
        margin=margin,
        unit=unit_of(name),
        evidence=_value(harm),
        bound=_value(math.log(bound)),
        assurance=_value(float(safe[worst])),
        needed=needed,
        detail=detail,
        value=trial.level if trial.rounds else None,
        control=trial.beside if trial.rounds else None,
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        samples=round(trial.samples),
        share=share,
        spent=min(max(harm / math.log(bound), 0.0), 1.0),
        earliest=None if rest is None or lacking else now + rest * plan.round_seconds,
    )


def _labels(plan: Plan, name: str) -> int:
    return plan.minimums.labels if name == ACCURACY else 0


def _lacking(trial: Trial, least: Minimum, labels: int) -> str:
    """Return which of the plan's least evidence is missing, in words; empty when none is."""
    wanted = max(least.samples, labels)
    if trial.rounds < least.rounds:
        return f"{trial.rounds} of {least.rounds} rounds"
    return f"{trial.samples:.0f} of {wanted} samples" if trial.samples < wanted else ""


def _rest(trial: Trial, safe: float, needed: float) -> int | None:
    """Return after how many more rounds the evidence would be enough, if it goes on as it did."""
    if trial.rounds == 0 or safe <= 0:
        return None
    return max(0, math.ceil((math.log(needed) - safe) / (safe / trial.rounds)))


def _outlook(rest: int | None) -> str:
    return "not yet told apart from its margin" if rest is None else f"about {rest} more rounds"


def _value(log: float) -> float:
    # JSON has no infinity, and nobody reads more digits than these.
    return float(f"{math.exp(min(log, 200.0)):.3g}")
