"""The verdict on a version, from everything that was observed."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.crashes import crashing
from muster_controller.domain.rollouts.judging.evidence import Denominators, Evidence, Gate, Verdict
from muster_controller.domain.rollouts.judging.experiment import NOBODY, SETTLED_ROUNDS, Cast, check
from muster_controller.domain.rollouts.judging.gates import absolute, comparing, shares
from muster_controller.domain.rollouts.judging.gauges import gate_of
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.planning.conditions import ACCURACY, COUNTER_PREFIX
from muster_controller.domain.rollouts.planning.plan import Plan

_NAMED = 3
# Limits alone are not what was planned.
NO_CONTROL = "a device of the control, of which none is left to compare with: abort, or promote by order"
QUORUM = 0.5  # of the devices that run the version and can be reached: so many must send windows


def judge(
    plan: Plan,
    ledger: Ledger,
    seen: Trialled,
    *,
    stage: int,
    step: str,
    now: float,
    cast: Cast = NOBODY,
) -> Evidence:
    """Return the verdict on a version and everything that it rests on.

    1. One gate that is unhealthy makes the verdict unhealthy.
    2. Whatever is missing, a gate's own evidence included, makes it inconclusive; so does an experiment that
       is not what was planned.
    3. Otherwise it is healthy: there was enough evidence, and none of it was against the version.

    Args:
        cast: Of the witnesses.
    """
    compared = (*comparing(plan, ledger, now), *crashing(plan, ledger, cast)) if seen.control else ()
    gates = (*absolute(plan, ledger, seen), *compared)
    checks = tuple(check(plan, ledger, seen, cast, now))
    doubtful = [gate for gate in (*checks, *gates) if gate.verdict is Verdict.INCONCLUSIVE]
    missing = (
        *_absent(plan, ledger, seen, stage=stage),
        *([NO_CONTROL] if cast.has_control and not seen.control else ()),
        *_unheard(plan, ledger, seen, cast),
        *(f"{gate.name}: {gate.detail}" for gate in doubtful),
    )
    reporting = seen.of(Outcome.RUNNING, Outcome.TRIAL) & set(ledger.reporting)
    return Evidence(
        at=now,
        stage=stage,
        step=step,
        verdict=verdict_of(gates, missing),
        rounds=ledger.rounds,
        denominators=Denominators(
            targeted=len(seen.outcomes),
            reachable=len(seen.reachable),
            executed=len(seen.executed),
            reporting=len(reporting),
            control=seen.control,
        ),
        gates=gates,
        missing=missing,
        failures=seen.why(Outcome.FAULT, Outcome.HINDERED),
        failed=tuple(sorted(seen.of(Outcome.FAULT, Outcome.HINDERED))),
        experiment=checks,
        earliest=_earliest(plan, ledger, doubtful, stage=stage, now=now) if missing else None,
    )


def verdict_of(gates: Iterable[Gate], missing: Collection[str]) -> Verdict:
    """Return what gates say together, and what is missing."""
    if any(gate.verdict is Verdict.UNHEALTHY for gate in gates):
        return Verdict.UNHEALTHY
    return Verdict.INCONCLUSIVE if missing else Verdict.HEALTHY


def _earliest(
    plan: Plan, ledger: Ledger, doubtful: Sequence[Gate], *, stage: int, now: float
) -> float | None:
    """Return when the evidence would be enough if it goes on as it did; None where that cannot be told."""
    rest = _wanted_rounds(plan, stage) - ledger.rounds
    if any(gate.earliest is None for gate in doubtful) or not (doubtful or rest > 0):
        return None
    at = [gate.earliest for gate in doubtful if gate.earliest is not None]
    return max([*at, now + max(rest, 0) * plan.round_seconds])


def _wanted_rounds(plan: Plan, stage: int) -> int:
    wanted = plan.stages[stage].minimum_rounds
    has_control = plan.previous is not None and plan.control > 0
    return max(wanted, SETTLED_ROUNDS) if has_control else wanted


def is_prepared(plan: Plan, ledger: Ledger, *, arms: Mapping[str, int], reachable: frozenset[str]) -> bool:
    """Tell whether control and first stage have been seen long enough before a version is admitted.

    Args:
        arms: Of the witnesses.
    """
    sides = [{device for device in reachable if arms.get(device) == arm} for arm in (CONTROL, 0)]
    return all(_is_known(plan, ledger, side) and _has_counted(plan, ledger, side) for side in sides)


def _has_counted(plan: Plan, ledger: Ledger, devices: set[str]) -> bool:
    """Tell whether every counter that the plan names was seen often enough on some device of an arm."""
    named = {COUNTER_PREFIX + name for name in plan.margins.counters}
    tracks = [ledger.before.get(device, {}) for device in devices]
    return all(
        any(name in held and held[name].rounds >= plan.before_rounds for held in tracks) for name in named
    )


def _is_known(plan: Plan, ledger: Ledger, devices: set[str]) -> bool:
    # Every gauge that is to be compared: what the control shows too late is compared with nothing for ever.
    # Labels come whenever they come, and are not waited for.
    wanted = shares(plan, ledger).keys() - {ACCURACY}
    known = 0
    for device in devices:
        tracks = ledger.before.get(device, {})
        compared = [track for gauge, track in tracks.items() if gate_of(gauge) in wanted]
        held = compared or list(tracks.values())
        known += bool(held) and all(track.rounds >= plan.before_rounds for track in held)
    return known > 0 and known >= QUORUM * len(devices)


def _absent(plan: Plan, ledger: Ledger, seen: Trialled, *, stage: int) -> Iterator[str]:
    """Yield what is missing besides the gates' own evidence."""
    running = seen.of(Outcome.RUNNING)
    if not running:
        yield "no device has committed the version"
    if len(seen.unsettled) > plan.limits.failures * len(seen.reachable):
        yield f"{len(seen.unsettled)} reachable devices have no outcome yet"
    if seen.executed and len(running) < (1 - plan.limits.failures) * len(seen.executed):
        yield f"only {len(running)} of {len(seen.executed)} executed devices run the version"
    wanted = _wanted_rounds(plan, stage)
    if ledger.rounds < wanted:
        yield f"{ledger.rounds} of {wanted} rounds"
    heard = running & set(ledger.reporting) & seen.reachable
    if len(heard) < QUORUM * len(running & seen.reachable) or not heard:
        yield f"windows of {len(heard)} of {len(running & seen.reachable)} devices that run the version"


def _unheard(plan: Plan, ledger: Ledger, seen: Trialled, cast: Cast) -> Iterator[str]:
    """Yield who of the stage is still to be compared.

    Only those count that can be compared: they are known from the time before, and heard of lately. As
    applications may rest, as many of the stage are asked for as of the control, less those that may fail.
    """
    known = {
        device
        for device in cast.reachable
        if any(track.rounds >= plan.before_rounds for track in ledger.before.get(device, {}).values())
    }
    compared = {device for device, rounds in ledger.compared.items() if rounds}
    stage, control = seen.of(Outcome.RUNNING) & known, cast.control() & known
    wanted = (1 - plan.limits.failures) * len(stage) * len(control & compared) / max(len(control), 1)
    if len(stage & compared) < wanted:
        silent = sorted(stage - compared)
        more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
        yield f"{', '.join(silent[:_NAMED])}{more} to be compared"
