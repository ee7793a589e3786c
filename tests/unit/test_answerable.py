"""Plans that ask for what can never be known are refused before they start, with the reason and the fix."""

from typing import Any

import pytest

from muster_controller.domain.rollouts.judging.answerable import find_unanswerable
from muster_controller.domain.rollouts.planning.conditions import COMPARING
from muster_models.manifest import Manifest, ValueOutput
from support.manifests import make_manifest
from support.rollouts import make_plan

CURVE = ((10, 9),) * 33
CLASSES = make_manifest(reliability=CURVE)
VALUE = make_manifest(prediction=ValueOutput("probabilities"))


def found(plan: dict[str, Any], version: Manifest = CLASSES, *, is_labelled: bool = True) -> tuple[str, ...]:
    made = make_plan(**plan)
    previous = version if made.previous is not None else None
    return find_unanswerable(made, version, previous, is_labelled=is_labelled)


@pytest.mark.parametrize("version", [CLASSES, VALUE])
def test_a_plan_with_the_usual_margins_can_be_answered(version: Manifest) -> None:
    assert found({}, version) == ()
    assert found({"previous": None, "control": 0.0}, version) == ()


@pytest.mark.parametrize(
    ("margins", "words"),
    [
        ({"confidence": 0.01}, "margins.confidence: digits predicts a number, so there is no confidence"),
        ({"classes": 0.2}, "margins.classes: digits predicts a number, so there is no class mix"),
        ({"required": ["class mix"]}, "margins.classes: digits predicts a number, so there is no class mix"),
        ({"accuracy": 0.1}, "margins.accuracy: digits predicts a number, so there is no labelled accuracy"),
    ],
)
def test_what_a_model_of_a_number_has_not(margins: dict[str, Any], words: str) -> None:
    assert any(one.startswith(words) for one in found({"margins": margins}, VALUE))


def test_what_a_model_of_classes_has_not() -> None:
    assert found({"margins": {"value": 0.1}})[0].startswith("margins.value: digits predicts classes")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"margins": {"required": ["confidnce"]}}, "margins.required: no gate is called 'confidnce'"),
        (
            {"margins": {"weights": {"counter scrap": 2.0}}},
            "margins.weights: no gate is called 'counter scrap'",
        ),
        ({"minimums": {"gates": {"error": {"rounds": 3}}}}, "minimums.gates: no gate is called 'error'"),
        (
            {"margins": {"required": ["errors"], "weights": {"errors": 0.0}}},
            "margins.weights: errors is asked for and has no share",
        ),
        ({"margins": {"required": ["out of range"]}}, "margins.required: out of range has no margin"),
        ({"margins": {"required": ["crashed devices"]}}, "margins.required: crashed devices has no margin"),
        ({"minimums": {"gates": {"crashed devices": {"rounds": 3}}}}, "minimums.gates: crashed devices only"),
        ({"margins": {"crashes": 1.5}, "control": 0.0}, "crashed devices: control is 0, so there is nothing"),
        (
            {"margins": {"counters": {"scrap": {"margin": 0.1}}}, "control": 0.0},
            "counter scrap: control is 0",
        ),
        (
            {"margins": {"counters": {"scrap": {"margin": 0.1}}}, "previous": None},
            "counter scrap: there is no previous version",
        ),
        ({"limits": {"agreement": 0.9}}, "limits.agreement: without shadow"),
    ],
)
def test_a_question_without_an_answer_is_named_with_its_field(plan: dict[str, Any], words: str) -> None:
    assert [one for one in found(plan) if one.startswith(words)]


def test_an_estimate_needs_a_curve_of_both_versions() -> None:
    plan = {"margins": {"estimate": 0.05}}

    assert found(plan) == ()
    assert len(found(plan, make_manifest())) == 2


def test_labels_are_compared_only_where_there_ever_were_some() -> None:
    plan = {"margins": {"accuracy": 0.05}}

    assert found(plan) == ()
    assert found(plan, is_labelled=False)[0].endswith("push labels first")


def test_agreement_is_asked_for_with_a_shadow() -> None:
    assert found({"limits": {"agreement": 0.9}, "shadow": {"seconds": 60.0}}) == ()


def test_a_budget_that_no_gate_has_a_share_of_is_refused() -> None:
    words = found({"margins": {"weights": dict.fromkeys(COMPARING, 0.0)}})

    assert words[0].startswith("margins.weights: no gate has a share")
