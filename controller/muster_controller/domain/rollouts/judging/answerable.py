"""Which of a plan's questions can never be answered: found before a rollout starts, and refused.

A gate without data would hold the rollout for ever, or worse, be read as one that was passed.
"""

from collections.abc import Iterator

from muster_controller.domain.rollouts.planning.conditions import (
    ACCURACY,
    CLASS_MIX,
    COMPARING,
    CONFIDENCE,
    COUNTER_PREFIX,
    CRASHED,
    ESTIMATE,
    INVALID,
    VALUE,
    Margins,
)
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_models.manifest import ClassOutput, Manifest

_OF_CLASSES = {CONFIDENCE: "confidence", CLASS_MIX: "classes", ESTIMATE: "estimate", ACCURACY: "accuracy"}
_OF_VALUES = {VALUE: "value"}
_OPTIONAL = {INVALID: "invalid", ESTIMATE: "estimate", ACCURACY: "accuracy", CRASHED: "crashes"}


def find_unanswerable(
    plan: Plan, version: Manifest, previous: Manifest | None, *, is_labelled: bool = True
) -> tuple[str, ...]:
    """Return the conditions of a plan for which there can be no data, each with the reason and the fix.

    Args:
        version: The version to roll out.
        previous: The version of the control; None for a first installation.
        is_labelled: Predictions of the previous version were ever labelled.
    """
    return (
        *_misspelt(plan),
        *_of_the_output(plan, version),
        *_without_control(plan, previous),
        *_without_curve(plan, version, previous),
        *_without_labels(plan, version, is_labelled=is_labelled),
        *_without_shadow(plan),
    )


def _misspelt(plan: Plan) -> Iterator[str]:
    margins = plan.margins
    known = {*COMPARING, *(COUNTER_PREFIX + name for name in margins.counters)}
    named = (
        ("margins.required", margins.required),
        ("margins.weights", margins.weights),
        ("minimums.gates", plan.minimums.gates),
    )
    for field, names in named:
        for name in sorted(set(names) - known):
            yield f"{field}: no gate is called {name!r}; there are {', '.join(sorted(known))}"
    for name in sorted({*margins.required, *(COUNTER_PREFIX + name for name in margins.counters)} & known):
        if margins.weights.get(name) == 0:
            yield f"margins.weights: {name} is asked for and has no share of the error budget; give it one"
        if name in _OPTIONAL and getattr(margins, _OPTIONAL[name]) is None:
            yield f"margins.required: {name} has no margin; set margins.{_OPTIONAL[name]}"
    if CRASHED in plan.minimums.gates:
        yield f"minimums.gates: {CRASHED} only ever speaks against a version, so it waits for nothing"
    if all(margins.weights.get(name, 1.0) == 0 for name in known):
        yield "margins.weights: no gate has a share of the error budget; give one to at least one"


def _asked(plan: Plan) -> dict[str, str]:
    """Return the gates that the plan asks for by name, or by a margin that is not the usual one."""
    usual, fields = Margins(), _OF_CLASSES | _OF_VALUES
    return {
        gate: f"margins.{field}"
        for gate, field in fields.items()
        if gate in plan.margins.required or getattr(plan.margins, field) != getattr(usual, field)
    }


def _of_the_output(plan: Plan, version: Manifest) -> Iterator[str]:
    has_classes = isinstance(version.prediction, ClassOutput)
    kind, other = ("classes", _OF_VALUES) if has_classes else ("a number", _OF_CLASSES)
    for gate, field in _asked(plan).items():
        if gate in other:
            yield f"{field}: {version.model} predicts {kind}, so there is no {gate}; leave it out"
    if plan.margins.invalid is not None and not version.features:
        yield f"margins.invalid: {version.model} declares no features, so no value is out of range"


def find_uncompared(plan: Plan, devices: int) -> str:
    """Return why what the plan asks for cannot be compared in so small a cohort; empty where it can."""
    asked = _beside_control(plan)
    if devices > 1 or not asked:
        return ""
    return (
        f"{', '.join(asked)}: one device alone has no control to be compared with; take more, or set limits"
    )


def _beside_control(plan: Plan) -> list[str]:
    """Return the gates that compare and for which the plan asks."""
    margins = plan.margins
    named = {*margins.required, *(COUNTER_PREFIX + name for name in margins.counters), *_asked(plan)}
    return sorted(named | ({CRASHED} if margins.crashes is not None else set()))


def _without_control(plan: Plan, previous: Manifest | None) -> Iterator[str]:
    asked = _beside_control(plan)
    if asked and previous is None:
        yield f"{', '.join(asked)}: there is no previous version to compare with; use limits instead"
    elif asked and plan.control == 0:
        yield f"{', '.join(asked)}: control is 0, so there is nothing to compare with; set control"


def _without_curve(plan: Plan, version: Manifest, previous: Manifest | None) -> Iterator[str]:
    if plan.margins.estimate is None:
        return
    for manifest in (version, previous):
        if manifest is not None and not manifest.reliability:
            yield (
                f"margins.estimate: {manifest.model}@{manifest.version} does not say how often it is right "
                f"when it is so sure; publish it with an evaluation set that has answers"
            )


def _without_labels(plan: Plan, version: Manifest, *, is_labelled: bool) -> Iterator[str]:
    if plan.limits.accuracy is not None and not isinstance(version.prediction, ClassOutput):
        yield f"limits.accuracy: {version.model} predicts a number, which is not right or wrong; leave it out"
    if plan.margins.accuracy is not None and not is_labelled:
        yield (
            "margins.accuracy: no prediction of the previous version was ever labelled, so there is nothing "
            "to compare with; push labels first"
        )


def _without_shadow(plan: Plan) -> Iterator[str]:
    if plan.limits.agreement is None:
        return
    if plan.shadow is None:
        yield "limits.agreement: without shadow, candidate and current are never asked the same; set shadow"
    elif plan.previous is None:
        yield "limits.agreement: there is no current version to agree with; leave it out"
