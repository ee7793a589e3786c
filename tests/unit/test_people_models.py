"""Roles over named models: whom they let do what, and what a refusal says."""

import pytest

from muster_controller.domain.people import FOUNDING, Person, Right, must, why_not, why_not_over
from muster_models.errors import ForbiddenError

ANNA = Person("anna", ("operator",), ("digits", "weather"))


@pytest.mark.parametrize("model", ["digits", "weather"])
def test_the_roles_are_for_each_of_the_models(model: str) -> None:
    assert why_not_over(ANNA, Right.OPERATE, model) == ""


def test_they_are_not_for_another_model() -> None:
    assert (
        why_not_over(ANNA, Right.STOP, "radar")
        == "anna is operator of digits and weather; this takes operator or approver or admin for radar"
    )


def test_they_are_not_for_the_fleet() -> None:
    with pytest.raises(
        ForbiddenError,
        match=r"^anna is operator of digits and weather; .* operator or admin over all models$",
    ):
        must(ANNA, Right.OPERATE, None)


def test_a_role_that_lacks_the_right_lacks_it_for_every_model() -> None:
    carl = Person("carl", ("approver",), ("digits",))

    assert (
        why_not_over(carl, Right.OPERATE, "digits")
        == "carl is approver of digits; this takes operator or admin"
        == why_not(carl, Right.OPERATE)
    )


@pytest.mark.parametrize("model", ["digits", "", None])
def test_who_has_no_models_named_is_over_all_and_over_the_fleet(model: str | None) -> None:
    must(FOUNDING, Right.ADMINISTER, model)
    must(Person("bo", ("operator",)), Right.OPERATE, model)


def test_a_model_without_a_name_is_nobodys() -> None:
    assert why_not_over(ANNA, Right.OPERATE, "") != ""


def test_over_no_model_at_all_is_over_none_and_not_over_all() -> None:
    nobody = Person("nobody", ("operator",), ())

    assert not any(nobody.is_over(model) for model in (None, "", "digits"))
