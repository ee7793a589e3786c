"""The body of a plan in the API: every field of a plan, and nulls that mean something."""

from muster_controller.api.rollouts import PlanBody
from muster_controller.domain.rollouts.planning.fields import FROM_VERSION
from muster_controller.domain.rollouts.planning.plan import Plan


def test_the_api_takes_every_field_of_a_plan() -> None:
    fields = set(PlanBody.model_fields) - {"version", "previous", "reason"}

    assert fields == set(Plan.__struct_fields__) - FROM_VERSION


def test_a_null_within_a_part_means_no_limit_and_at_the_top_nothing() -> None:
    body = PlanBody.model_validate(
        {"version": "digits@1.0.0", "control": None, "limits": {"crashes_per_device": None}}
    )

    assert body.request().plan == {"limits": {"crashes_per_device": None}}
