"""What was known when a verdict was made: written down with the verdict, and called to mind again.

Windows, labels and crashes are stored for themselves, by number. What devices reported is not: a report
replaces the one before. So a look names the devices that comparisons and limits speak of, and counts the
others by kind, which is all that a verdict asks of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from msgspec.structs import replace

from muster_controller.domain.facts import FirstCrash
from muster_controller.domain.rollouts.judging.evidence import Became, Evidence, Look
from muster_controller.domain.rollouts.judging.experiment import Cast
from muster_controller.domain.rollouts.judging.judge import judge
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.outcome import CODES, NOTHING, Outcome, Trialled
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.roster import Names

_FAILED = (Outcome.FAULT, Outcome.HINDERED)
_OUTCOMES: tuple[Became, ...] = get_args(Became)
_NAMELESS = "\n"  # begins what stands for a device that a look does not name; no id has one


@dataclass(frozen=True)
class Crashed:
    """A device told that a version crashed on it.

    Attributes:
        number: In the order in which that became known.
        digest: Of the version.
        at: Unix seconds by the device's clock.
    """

    number: int
    device: str
    digest: str
    at: float


def look_of(plan: Plan, ledger: Ledger, seen: Trialled, cast: Cast, *, crashes_upto: int) -> Look:
    """Write down what a verdict on ``ledger``, ``seen`` and ``cast`` rests on."""
    named = {*cast.arms, *ledger.crashes, *ledger.agreement, *seen.of(*_FAILED)}
    rows = {name: row for name in sorted(named) if (row := seen.names.rows.get(name)) is not None}
    outcomes: dict[Became, list[str]] = {}
    for name, row in rows.items():
        if seen.codes[row] != NOTHING:
            outcomes.setdefault(_OUTCOMES[seen.codes[row]], []).append(name)
    silent = {name for name, row in rows.items() if not seen.heard[row] and seen.codes[row] != NOTHING}
    return Look(
        entries=len(ledger.journal),
        upto=ledger.upto,
        labels_upto=ledger.labels_upto,
        crashes_upto=crashes_upto,
        outcomes={outcome: tuple(names) for outcome, names in sorted(outcomes.items())},
        reasons={name: seen.reasons[name] for name in sorted(seen.of(*_FAILED))},
        quiet=tuple(sorted(silent | (cast.arms.keys() - set(cast.reachable)))),
        others=tuple(_others(ledger, seen, rows.values())),
        given=dict(cast.given) if plan.margins.crashes is not None else {},
        has_control=cast.has_control,
        beside=ledger.beside,
        agreement=ledger.agreement,
    )


def _others(ledger: Ledger, seen: Trialled, named: Iterable[int]) -> Iterator[tuple[Became, bool, bool, int]]:
    is_other = seen.codes != NOTHING
    is_other[list(named)] = False
    if not is_other.any():
        return
    reports = np.zeros(len(is_other), np.bool_)
    reports[[row for name in ledger.reporting if (row := seen.names.rows.get(name)) is not None]] = True
    kinds = (seen.codes * 4 + seen.heard * 2 + reports)[is_other]
    for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True):
        code, flags = divmod(int(kind), 4)
        yield _OUTCOMES[code], bool(flags & 2), bool(flags & 1), int(count)


def judge_again(
    plan: Plan, ledger: Ledger, recorded: Evidence, look: Look, crashes: Iterable[Crashed], *, stage: int
) -> Evidence:
    """Return the evidence that follows from a look, and from a ledger that was computed again up to it.

    Args:
        recorded: Says of which step and instant.
        crashes: Of the plan's two versions since the rollout began, in order.
        stage: That was running, by its index.
    """
    known = [one for one in crashes if one.number <= look.crashes_upto]
    others = tuple(_placeholders(look))
    limited = plan.limits.crashes_per_device is not None
    told = Counter(one.device for one in known if one.digest == plan.digest) if limited else {}
    ledger = replace(
        ledger,
        crashes=dict(told),
        agreement=look.agreement,
        beside=look.beside,
        reporting=(*ledger.reporting, *(name for name, _, _, reports in others if reports)),
    )
    cast = Cast(
        ledger.arms,
        ledger.arms.keys() - set(look.quiet),
        given=look.given,
        crashed=_first(plan, known) if plan.margins.crashes is not None else {},
        has_control=look.has_control,
    )
    seen = _seen(look, others, control=recorded.denominators.control)
    return judge(plan, ledger, seen, stage=stage, step=recorded.step, now=recorded.at, cast=cast)


def _first(plan: Plan, known: Iterable[Crashed]) -> dict[str, FirstCrash]:
    first: dict[str, FirstCrash] = {}
    for one in known:
        if one.device not in first or one.at < first[one.device].at:
            first[one.device] = FirstCrash(one.at, of_version=one.digest == plan.digest)
    return first


def _placeholders(look: Look) -> Iterator[tuple[str, Outcome, bool, bool]]:
    """Yield a device for each that a look counts and does not name."""
    number = 0
    for outcome, is_heard, reports, count in look.others:
        for _ in range(count):
            number += 1
            yield f"{_NAMELESS}{number}", Outcome(outcome), is_heard, reports


def _seen(look: Look, others: Iterable[tuple[str, Outcome, bool, bool]], *, control: int) -> Trialled:
    quiet = set(look.quiet)
    rows = [
        (name, Outcome(outcome), name not in quiet)
        for outcome, names in look.outcomes.items()
        for name in names
    ]
    rows += [(name, outcome, is_heard) for name, outcome, is_heard, _ in others]
    rows.sort()
    failed = {name: "unknown" for name, outcome, _ in rows if outcome in _FAILED}
    return Trialled(
        names=Names([name for name, _, _ in rows]),
        codes=np.array([CODES[outcome] for _, outcome, _ in rows], np.int8),
        heard=np.array([is_heard for _, _, is_heard in rows], np.bool_),
        control=control,
        reasons=failed | look.reasons,
    )
