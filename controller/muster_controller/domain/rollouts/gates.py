"""The gates of a rollout: absolute limits, and comparisons with the control."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np

from muster_controller.domain.rollouts.evidence import Gate, Verdict
from muster_controller.domain.rollouts.gauges import UNITS, gate_of, margin_of, sides_of
from muster_controller.domain.rollouts.ledger import Ledger, Trial
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.plan import Plan
from muster_controller.domain.sequential import log_mean

# Gates that compare share the error budget evenly, whether or not the model has something for each of them.
COMPARING = ("errors", "missing", "latency", "confidence", "class mix", "value")


def absolute(plan: Plan, ledger: Ledger, seen: Trialled) -> Iterator[Gate]:
    """Yield the gates that hold whatever the control does."""
    limits, totals = plan.limits, ledger.totals
    faults, base = len(seen.of(Outcome.FAULT)), len(seen.executed | seen.reachable)
    yield _limit("failures", faults, base, limit=limits.failures, minimum=1, why=seen.why(Outcome.FAULT))
    yield _limit(
        "failed calls", totals.errors, totals.calls, limit=limits.errors, minimum=limits.minimum_calls
    )
    yield _limit(
        "missing predictions",
        totals.missing,
        totals.predictions,
        limit=limits.missing,
        minimum=limits.minimum_calls,
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
        return Gate(name, Verdict.INCONCLUSIVE, None, limit, "share", detail=f"{total} of {minimum} seen")
    verdict = Verdict.UNHEALTHY if hits > limit * total else Verdict.HEALTHY
    told = ", ".join(f"{reason} {count}" for reason, count in why.items()) if len(why) > 1 else "".join(why)
    detail = f"{hits} of {total}: {told}" if told else f"{hits} of {total}"
    return Gate(name, verdict, hits / total, limit, "share", detail=detail)


def comparing(plan: Plan, ledger: Ledger) -> Iterator[Gate]:
    """Yield one gate per kind of gauge that either arm was ever seen to have."""
    gauges = {gauge for tracks in ledger.before.values() for gauge in tracks} | set(ledger.trials)
    kinds: dict[str, list[str]] = {}
    for gauge in sorted(gauges):
        kinds.setdefault(gate_of(gauge), []).append(gauge)
    if not kinds:
        yield Gate("comparison", Verdict.INCONCLUSIVE, None, 0.0, detail="nothing seen in either arm")
    for name in COMPARING:
        if name in kinds:
            yield _compare(plan, ledger, name, kinds[name])


def _compare(plan: Plan, ledger: Ledger, name: str, gauges: list[str]) -> Gate:
    bound, needed = len(COMPARING) / plan.error_budget, 1 / plan.hold_budget
    margin = margin_of(gauges[0], plan.margins)
    trials = [
        (f"{gauge} {'up' if side > 0 else 'down'}", trial)
        for gauge in gauges
        for side, trial in zip(sides_of(gauge), ledger.trials.get(gauge, ()), strict=False)
    ]
    if len({title.rpartition(" ")[0] for title, _ in trials}) < len(gauges):
        return Gate(name, Verdict.INCONCLUSIVE, None, margin, detail="not seen in both arms")
    harms = np.array([log_mean(np.array(trial.harm)) for _, trial in trials])
    safe = np.array([log_mean(np.array(trial.assurance)) for _, trial in trials])
    harm, worst = float(log_mean(harms)), int(np.argmin(safe))
    title, trial = trials[int(np.argmax(harms))] if harm >= math.log(bound) else trials[worst]
    if harm >= math.log(bound):
        verdict, detail = Verdict.UNHEALTHY, f"{title}: {trial.effect:+.3f}, tolerated {margin:g}"
    elif safe[worst] >= math.log(needed):
        verdict, detail = Verdict.HEALTHY, ""
    else:
        verdict, detail = Verdict.INCONCLUSIVE, f"{title}: {_outlook(trial, float(safe[worst]), needed)}"
    return Gate(
        name=name,
        verdict=verdict,
        effect=trial.effect if trial.rounds else None,
        margin=margin,
        unit=UNITS[name],
        evidence=_value(harm),
        bound=bound,
        assurance=_value(float(safe[worst])),
        needed=needed,
        detail=detail,
    )


def _outlook(trial: Trial, safe: float, needed: float) -> str:
    """Say by when the evidence would be enough, if it goes on as it did."""
    if trial.rounds == 0 or safe <= 0:
        return "not yet told apart from its margin"
    rest = math.ceil((math.log(needed) - safe) / (safe / trial.rounds))
    return f"about {rest} more rounds"


def _value(log: float) -> float:
    # JSON has no infinity, and nobody reads more digits than these.
    return float(f"{math.exp(min(log, 200.0)):.3g}")
