"""What an alarm about drift says, in one sentence, for the page, the API and the command line alike."""

from collections.abc import Mapping
from typing import Any

from muster_controller.domain.drift.measures import ANSWERS

ERRORS = "errors"
_NOUNS = {"scale": "spread", "skew": "skew", "tails": "tails"}


def say(
    *,
    level: str,
    subject: str,
    feature: str,
    effect: float,
    unit: str,
    since: str,
    evidence: Mapping[str, Any],
) -> str:
    """Return the sentence.

    Args:
        since: When it began, in words.
        evidence: As of a signal.

    >>> say(level="group", subject="site=berlin", feature="brightness", effect=-0.8, unit="sd",
    ...     since="14:00", evidence={"devices": ["a", "b"], "features": [{"leg": "location"}]})
    'brightness fell by 0.8 sd on 2 devices of site berlin since 14:00'
    """
    features = list(evidence.get("features", ()))
    lead = features[0] if features else {}
    said = f"{_moved(feature, effect, unit, lead)}{_own(lead)} on {_who(level, subject, evidence)}"
    return f"{said} since {since}{_beside(feature, features)}"


def _moved(feature: str, effect: float, unit: str, lead: Mapping[str, Any]) -> str:
    leg = str(lead.get("leg", "location"))
    went = "rose" if effect >= 0 else "fell"
    if unit == "share" and feature == ERRORS:
        return f"failed calls {went} by {abs(effect) * 100:.2g} % of the calls"
    if unit == "share":
        what = {
            "missing": f"missing values of {feature}",
            "outside": f"values of {feature} beyond its baseline",
        }
        return f"{what.get(leg, feature)} {went} by {abs(effect) * 100:.2g} % of the rows"
    noun = f"{_NOUNS[leg]} of {feature}" if leg in _NOUNS else feature
    return f"{noun} {went} by {abs(effect):.2g} {unit}".rstrip()


def _own(lead: Mapping[str, Any]) -> str:
    if lead.get("unit") == "share" or lead.get("before") is None or lead.get("after") is None:
        return ""
    of = f" {lead['own_unit']}" if lead.get("own_unit") else ""
    return f" (from {lead['before']:.3g} to {lead['after']:.3g}{of})"


def _who(level: str, subject: str, evidence: Mapping[str, Any]) -> str:
    count = len(evidence.get("devices", ()))
    devices = f"{count} device" if count == 1 else f"{count} devices"
    match level:
        case "device":
            return subject
        case "group":
            return f"{devices} of {subject.replace('=', ' ', 1)}"
        case _:
            return f"all {devices}"


def _beside(feature: str, features: list[Mapping[str, Any]]) -> str:
    """Return what else moved: the answers of the model, and how many other columns."""
    others = [str(one["feature"]) for one in features[1:] if "feature" in one]
    inputs = [name for name in others if name not in ANSWERS and name != feature]
    parts = []
    if inputs:
        parts.append("so did " + (inputs[0] if len(inputs) == 1 else f"{len(inputs)} other features"))
    if feature not in ANSWERS and any(_is_missing_answer(one) for one in features[1:]):
        parts.append("calls failed with it")
    elif feature not in ANSWERS and ANSWERS.intersection(others):
        parts.append("predictions moved with it")
    return "".join(f"; {part}" for part in parts)


def _is_missing_answer(one: Mapping[str, Any]) -> bool:
    return one.get("feature") in ANSWERS and one.get("leg") == "missing"
