"""Checks on the experiment itself: whether stage and control may be compared at all.

A comparison is worth what its randomisation is worth. Four things take that away: windows of one arm arrive
less often than those of the other (sample ratio mismatch: who is heard is then not who was drawn), devices of
one arm are part of another rollout, devices of the control run the version, and clocks are wrong. A check
that fails says nothing against the version: it makes the verdict inconclusive, and so never healthy.

Shares of two arms are compared by an e-value: under the null the number of devices of the stage among all
that have a property is hypergeometric, and the likelihood ratio of Fisher's noncentral form, averaged over a
few odds ratios, has mean 1. It changes only when a device is heard for the first time, so ``LOOKS`` looks are
allowed for in each stage, and by a union bound all of them fail wrongly with probability ``CHANCE`` at most.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import comb

from muster_controller.domain.facts import FirstCrash
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.evidence import Gate, Verdict
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.planning.plan import Plan

LOOKS = 10  # at counts that differ, in one stage
CHANCE = 0.01  # that a check of shares ever fails although nothing is wrong
SETTLED_ROUNDS = 3  # before that, devices that were given the version late have not reported yet
CLEAN_ROUNDS = 3  # after so many without a sign of it, what was wrong with a device is over
WRONG_CLOCKS = 0.1  # of the witnesses may have one
ODDS = (1 / 16, 1 / 4, 4.0, 16.0)
_NAMED = 3

SAMPLE_RATIO, TWO_ROLLOUTS = "sample ratio", "two rollouts"
CONTAMINATED, CLOCKS = "contaminated control", "clocks"


@dataclass(frozen=True)
class Cast:
    """Who is compared with whom.

    Attributes:
        arms: Of the witnesses.
        reachable: Witnesses that were heard of lately.
        given: When witnesses of the stages were given the version, Unix seconds; only of those who were.
        crashed: The first crash of witnesses since the rollout began; only where the plan compares crashes.
        has_control: One was drawn, and is not given the version yet.
    """

    arms: Mapping[str, int]
    reachable: Collection[str]
    given: Mapping[str, float] = field(default_factory=dict)
    crashed: Mapping[str, FirstCrash] = field(default_factory=dict)
    has_control: bool = False

    def control(self) -> set[str]:
        """Return the devices of the control."""
        return {device for device, arm in self.arms.items() if arm == CONTROL}


NOBODY = Cast({}, ())


def check(plan: Plan, ledger: Ledger, seen: Trialled, cast: Cast, now: float) -> Iterator[Gate]:
    """Yield the checks; those about two arms only while a control keeps the previous version."""
    current = int(now // plan.round_seconds)
    control = cast.control()
    if control and seen.control:
        running = seen.of(Outcome.RUNNING) & cast.arms.keys()
        yield _sample_ratio(plan, ledger, cast, running)
        yield _two_rollouts(plan, ledger, running, control)
        yield _contaminated(ledger, control, current)
    yield _clocks(ledger, cast, current)


def evidence_of_skew(hits: int, total: int, beside_hits: int, beside_total: int) -> float:
    """Return the e-value against "both arms have a property equally often", given how many have it in all.

    >>> round(evidence_of_skew(0, 5, 45, 45)), round(evidence_of_skew(4, 5, 43, 45), 2)
    (5325, 0.88)
    """
    both = hits + beside_hits
    counts = range(max(0, both - beside_total), min(total, both) + 1)
    ways = {k: comb(total, k) * comb(beside_total, both - k) for k in counts}
    in_all = sum(ways.values())
    mean = {odds: sum(n * odds**k for k, n in ways.items()) / in_all for odds in ODDS}
    return sum(odds**hits / mean[odds] for odds in ODDS) / len(ODDS)


def _sample_ratio(plan: Plan, ledger: Ledger, cast: Cast, running: set[str]) -> Gate:
    # Those that cannot be reached are silent for a reason of their own, in both arms alike.
    stage = running & set(cast.reachable)
    control = cast.control() & set(cast.reachable)
    heard = stage & set(ledger.reporting), control & set(ledger.heard)
    words = "windows of {} of {} devices of the stage, and of {} of {} of the control"
    return _skew(
        SAMPLE_RATIO, plan, ledger, stage=(heard[0], stage), control=(heard[1], control), words=words
    )


def _two_rollouts(plan: Plan, ledger: Ledger, running: set[str], control: set[str]) -> Gate:
    beside = set(ledger.beside)
    words = "{} of {} devices of the stage are in a rollout of another model, and {} of {} of the control"
    return _skew(
        TWO_ROLLOUTS,
        plan,
        ledger,
        stage=(running & beside, running),
        control=(control & beside, control),
        words=words,
    )


def _skew(
    name: str,
    plan: Plan,
    ledger: Ledger,
    *,
    stage: tuple[set[str], set[str]],
    control: tuple[set[str], set[str]],
    words: str,
) -> Gate:
    """Return the check that as large a part of the stage as of the control has a property."""
    hits, total, beside_hits, beside_total = map(len, (*stage, *control))
    evidence = evidence_of_skew(hits, total, beside_hits, beside_total)
    bound = LOOKS * len(plan.stages) / CHANCE
    # Before that nothing is held against it, and ``judge`` waits.
    failed = ledger.rounds >= SETTLED_ROUNDS and evidence >= bound
    return Gate(
        name=name,
        verdict=Verdict.INCONCLUSIVE if failed else Verdict.HEALTHY,
        effect=_share(hits, total) - _share(beside_hits, beside_total),
        margin=0.0,
        unit="share",
        evidence=float(f"{evidence:.3g}"),
        bound=bound,
        detail=words.format(hits, total, beside_hits, beside_total),
        value=_share(hits, total),
        control=_share(beside_hits, beside_total),
        samples=total + beside_total,
    )


def _contaminated(ledger: Ledger, control: set[str], current: int) -> Gate:
    lately = {d: at for d, at in ledger.contaminated.items() if d in control and at >= current - CLEAN_ROUNDS}
    detail = f"of the control answered with the version: {_names(lately)}" if lately else ""
    return _absolute(CONTAMINATED, len(lately), len(control), limit=0.0, detail=detail)


def _clocks(ledger: Ledger, cast: Cast, current: int) -> Gate:
    lately = {d for d, at in ledger.misdated.items() if d in cast.arms and at >= current - CLEAN_ROUNDS}
    detail = f"sent windows from the future: {_names(lately)}" if lately else ""
    return _absolute(CLOCKS, len(lately), len(cast.arms), limit=WRONG_CLOCKS, detail=detail)


def _absolute(name: str, hits: int, total: int, *, limit: float, detail: str) -> Gate:
    share = _share(hits, total)
    verdict = Verdict.INCONCLUSIVE if share > limit else Verdict.HEALTHY
    return Gate(name, verdict, share, limit, "share", detail=detail, value=share, samples=total)


def _share(hits: int, total: int) -> float:
    return hits / total if total else 0.0


def _names(devices: Collection[str]) -> str:
    named = ", ".join(sorted(devices)[:_NAMED])
    return f"{named} and {len(devices) - _NAMED} more" if len(devices) > _NAMED else named
