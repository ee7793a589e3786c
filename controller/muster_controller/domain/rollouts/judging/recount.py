"""Whether a recorded verdict is what follows from what is stored, gate by gate.

Pure: ``replay`` makes the ledgers again, ``looks`` the evidence; here the two are held against each other.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields

from msgspec.structs import replace

from muster_controller.domain.rollouts.judging.evidence import Evidence, Gate, Verdict
from muster_controller.domain.rollouts.judging.judge import verdict_of
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.judging.looks import Crashed, judge_again
from muster_controller.domain.rollouts.judging.replay import Inputs, Point, course
from muster_controller.domain.rollouts.planning.plan import Plan

CLOSE = 1e-6  # relative: sums of floats in another order
ROUNDED = 0.011  # relative, of e-values, of which three digits are recorded
OF_EVERYBODY = frozenset({"failed calls", "missing predictions", "late calls"})  # rest on every window
NOT_KEPT = "it does not say what was known then, so it cannot be computed again"
_WEALTH = frozenset({"evidence", "assurance"})
_FIGURES = tuple(field.name for field in fields(Gate) if field.name not in {"name", "verdict"})


@dataclass(frozen=True)
class GateAgain:
    """One gate, or one check of the experiment, as it was recorded and as it is computed again.

    Attributes:
        again: None: it is not computed again, because it rests on more windows than are read at once.
        differences: In words; empty when they agree.
    """

    name: str
    verdict: Verdict
    again: Verdict | None
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recount:
    """One recorded verdict, and what is computed again of it.

    Attributes:
        index: Of the record.
        again: None: it cannot be computed.
        differences: Besides those of gates, in words.
    """

    index: int
    again: Verdict | None
    gates: tuple[GateAgain, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.differences and not any(gate.differences for gate in self.gates)


def recount(
    plan: Plan,
    stored: Ledger,
    records: Sequence[Evidence],
    inputs: Inputs,
    *,
    crashes: Sequence[Crashed] = (),
    without: Collection[str] = (),
) -> Iterator[Point | Recount]:
    """Yield the points of a rollout's course, and every recorded verdict held against what follows there.

    Args:
        stored: The newest ledger.
        records: In order.
        inputs: What is stored besides.
        crashes: Of the plan's two versions since the rollout began, in order.
        without: Gates that cannot be computed from ``inputs``: they are taken as they were recorded.
    """
    looks = [(index, one.look) for index, one in enumerate(records) if one.look is not None]
    for index, record in enumerate(records):
        if record.look is None:
            yield Recount(index, None, differences=(NOT_KEPT,))
    for point in course(plan, stored, inputs, [look for _, look in looks]):
        yield point
        if isinstance(point.done, int):
            index, look = looks[point.done]
            stage = min(max(point.stages - 1, 0), len(plan.stages) - 1)
            again = judge_again(plan, point.ledger, records[index], look, crashes, stage=stage)
            again = replace(
                again, look=replace(look, upto=point.ledger.upto, labels_upto=point.ledger.labels_upto)
            )
            yield _compare(index, records[index], again, without)


def _compare(index: int, recorded: Evidence, again: Evidence, without: Collection[str]) -> Recount:
    if without:
        again = _as_recorded(recorded, again, without)
    named = {gate.name: gate for gate in (*again.gates, *again.experiment)}
    gates = [_gate(gate, named.get(gate.name), without) for gate in (*recorded.gates, *recorded.experiment)]
    sides = [
        ("verdict", recorded.verdict, again.verdict),
        ("stage", recorded.stage + 1, again.stage + 1),
        ("gates", _names(recorded), _names(again)),
        ("rounds", recorded.rounds, again.rounds),
        ("denominators", recorded.denominators, again.denominators),
        ("missing", sorted(recorded.missing), sorted(again.missing)),
        ("failures", recorded.failures, again.failures),
        ("failed", recorded.failed, again.failed),
        ("earliest", recorded.earliest, again.earliest),
        ("windows and labels up to", _upto(recorded), _upto(again)),
    ]
    found = tuple(f"{name}: {_told(one)}, again {_told(other)}" for name, one, other in sides if one != other)
    return Recount(index, again.verdict, tuple(gates), found)


def _as_recorded(recorded: Evidence, again: Evidence, names: Collection[str]) -> Evidence:
    """Return the evidence with some gates as they were recorded, and the verdict that follows then."""
    held = {gate.name: gate for gate in recorded.gates if gate.name in names}
    gates = tuple(held.get(gate.name, gate) for gate in again.gates)
    computed = (words for words in again.missing if words.partition(":")[0] not in names)
    missing = (*computed, *(words for words in recorded.missing if words.partition(":")[0] in names))
    return replace(
        again, gates=gates, missing=missing, verdict=verdict_of(gates, missing), earliest=recorded.earliest
    )


def _upto(evidence: Evidence) -> tuple[int, int] | None:
    return None if evidence.look is None else (evidence.look.upto, evidence.look.labels_upto)


def _names(evidence: Evidence) -> list[str]:
    return [gate.name for gate in (*evidence.gates, *evidence.experiment)]


def _gate(recorded: Gate, again: Gate | None, without: Collection[str]) -> GateAgain:
    if again is None:
        return GateAgain(recorded.name, recorded.verdict, None, ("the plan asks for no such gate",))
    if recorded.name in without:
        return GateAgain(recorded.name, recorded.verdict, None)
    found = [f"verdict: {recorded.verdict}, again {again.verdict}"] * (recorded.verdict is not again.verdict)
    for name in _FIGURES:
        one, other = getattr(recorded, name), getattr(again, name)
        if not _alike(one, other, ROUNDED if name in _WEALTH else CLOSE):
            found.append(f"{name}: {_told(one)}, again {_told(other)}")
    return GateAgain(recorded.name, recorded.verdict, again.verdict, tuple(found))


def _alike(one: object, other: object, tolerance: float) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=CLOSE)
    return one == other


def _told(value: object) -> str:
    if value is None or value == []:
        return "nothing"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
