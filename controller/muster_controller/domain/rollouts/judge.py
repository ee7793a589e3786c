"""The verdict on a version, from everything that was observed."""

from collections.abc import Iterator, Mapping

from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.evidence import Denominators, Evidence, Verdict
from muster_controller.domain.rollouts.gates import absolute, comparing
from muster_controller.domain.rollouts.ledger import Ledger
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.plan import Plan

QUORUM = 0.5  # of the devices that run the version and can be reached: so many must send windows


def judge(plan: Plan, ledger: Ledger, seen: Trialled, *, stage: int, step: str, now: float) -> Evidence:
    """Return the verdict on a version and everything that it rests on.

    1. One gate that is unhealthy makes the verdict unhealthy.
    2. Whatever is missing, a gate's own evidence included, makes it inconclusive.
    3. Otherwise it is healthy: there was enough evidence, and none of it was against the version.
    """
    gates = (*absolute(plan, ledger, seen), *(comparing(plan, ledger) if seen.control else ()))
    missing = (*_absent(plan, ledger, seen, stage=stage), *(
        f"{gate.name}: {gate.detail}" for gate in gates if gate.verdict is Verdict.INCONCLUSIVE
    ))  # fmt: skip
    if any(gate.verdict is Verdict.UNHEALTHY for gate in gates):
        verdict = Verdict.UNHEALTHY
    else:
        verdict = Verdict.INCONCLUSIVE if missing else Verdict.HEALTHY
    reporting = seen.of(Outcome.RUNNING, Outcome.TRIAL) & set(ledger.reporting)
    return Evidence(
        at=now,
        stage=stage,
        step=step,
        verdict=verdict,
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
    )


def is_prepared(plan: Plan, ledger: Ledger, *, arms: Mapping[str, int], reachable: frozenset[str]) -> bool:
    """Tell whether control and first stage have been seen long enough before a version is admitted.

    Args:
        arms: Of the witnesses.
    """
    return all(_is_known(plan, ledger, {d for d in reachable if arms.get(d) == arm}) for arm in (CONTROL, 0))


def _is_known(plan: Plan, ledger: Ledger, devices: set[str]) -> bool:
    tracks = [ledger.before.get(device, {}).values() for device in devices]
    known = sum(any(track.rounds >= plan.before_rounds for track in held) for held in tracks)
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
    wanted = plan.stages[stage].minimum_rounds
    if ledger.rounds < wanted:
        yield f"{ledger.rounds} of {wanted} rounds"
    heard = running & set(ledger.reporting) & seen.reachable
    if len(heard) < QUORUM * len(running & seen.reachable) or not heard:
        yield f"windows of {len(heard)} of {len(running & seen.reachable)} devices that run the version"
