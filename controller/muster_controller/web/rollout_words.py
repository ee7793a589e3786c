"""What the pages of a rollout say in words: what a button does, what happened, what a gate tolerates."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import msgspec

from muster_controller.domain.rollouts.judging.evidence import Gate
from muster_controller.domain.rollouts.judging.gauges import sides_of
from muster_controller.domain.rollouts.planning.conditions import Margins
from muster_controller.service.rollout_explain import RoundView
from muster_controller.service.rollout_views import RolloutDetail
from muster_controller.store.views.history import AuditView
from muster_controller.store.views.rollouts import EvidenceView, RolloutView

FEW = 3  # of what is missing, in the timeline


@dataclass(frozen=True)
class Moment:
    """Something in the course of a rollout.

    Attributes:
        kind: ``step``, ``verdict`` or the action of a person.
        who: Empty for the rollout itself.
        verdict: Of a verdict.
    """

    at: dt.datetime
    kind: str
    text: str
    who: str = ""
    verdict: str = ""


def timeline(detail: RolloutDetail) -> list[Moment]:
    """Return steps, verdicts and what people did, newest first."""
    steps = [Moment(note.at, "step", note.detail) for note in detail.notes]
    acts = [Moment(act.at, act.action, _done(act), who=act.actor) for act in detail.audit]
    verdicts = [
        Moment(one.at, "verdict", _told(one), verdict=one.verdict) for one in _changes(detail.history)
    ]
    return sorted([*steps, *acts, *verdicts], key=lambda moment: moment.at, reverse=True)


def _done(act: AuditView) -> str:
    """Say why a person did something, and what an edit changed."""
    return "; ".join([act.reason, *act.detail.get("changes", ())])


def _changes(history: Sequence[EvidenceView]) -> list[EvidenceView]:
    """Return the evidence at which stage or verdict changed, of a list newest first."""
    kept: list[EvidenceView] = []
    for one, before in zip_longest(history, history[1:]):
        if before is None or (one.verdict, one.stage) != (before.verdict, before.stage):
            kept.append(one)
    return kept


def _told(one: EvidenceView) -> str:
    against = [f"{gate.name}: {gate.detail}" for gate in one.gates if gate.verdict == "unhealthy"]
    missing = (
        [*one.missing[:FEW], f"and {len(one.missing) - FEW} more"] if len(one.missing) > FEW else one.missing
    )
    seen = "; ".join(against) or "; ".join(missing) or "every gate is healthy"
    return f"stage {one.stage + 1}, round {one.rounds}: {seen}"


def tolerated(gate: Gate, plan: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return from where to where a gate tolerates a difference; None where every value is."""
    sides = sides_of(gate.name, msgspec.convert(plan["margins"], Margins))
    return (-gate.margin if -1.0 in sides else None, gate.margin if 1.0 in sides else None)


def interval(gate: Gate) -> str:
    """Say a gate's difference and its interval in words."""
    if gate.effect is None:
        return "nothing seen"
    unit = f" {gate.unit}" if gate.unit else ""
    if gate.low is None or gate.high is None:
        return f"{gate.effect:+.3g}{unit}"
    return f"{gate.effect:+.3g}{unit}, between {gate.low:+.3g} and {gate.high:+.3g}"


def budget(evidence: EvidenceView) -> list[tuple[str, float, float]]:
    """Return the gates that hold a share of the error budget, with what they have spent of it."""
    return [(gate.name, gate.share, gate.spent) for gate in evidence.gates if gate.share > 0]


def effects(rollout: RolloutView, *, abort: str, window: float) -> dict[str, str]:
    """Return what each order would do to this rollout now."""
    updated = f"{rollout.denominators.targeted} devices that were given {rollout.version.name}"
    back = rollout.previous.name if rollout.previous is not None else "nothing"
    last = rollout.stage + 1 == rollout.stages
    kept = "go back" if abort == "revert" else "keep the version"
    following = (
        "The rollout completes: control included, every device is given it."
        if last
        else (f"Stage {rollout.stage + 2} of {rollout.stages} is given the version.")
    )
    return {
        "pause": "No further device is given the version and no stage ends; harm still rolls back by itself.",
        "resume": "The step that was left begins anew. The failures seen so far are accepted.",
        "promote": f"The stage ends as if it had been judged healthy. {following}",
        "abort": f"The rollout ends. By the plan, updated devices {kept}.",
        "retry": "Every device on which the version failed is given it again; tries begin anew.",
        "rollback": f"The {updated} go back to {back}; the rollback window is {window / 86_400:.3g} days.",
    }


def spent(evidence: EvidenceView) -> str:
    """Say what each gate has spent of its share of the error budget."""
    return ", ".join(f"{name} {part:.0%} of {share:.0%}" for name, share, part in budget(evidence))


def courses(rounds: Sequence[RoundView]) -> dict[str, list[RoundView]]:
    """Return the rounds of each gauge and direction, oldest first, under its name."""
    found: dict[str, list[RoundView]] = {}
    for row in rounds:
        name = row.gauge if row.gate == row.gauge else f"{row.gate}: {row.gauge}"
        found.setdefault(f"{name}, {row.direction}", []).append(row)
    return found
