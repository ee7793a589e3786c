"""What holds for roles over models, whoever has which: fewer models never let anybody do more."""

from hypothesis import given
from hypothesis import strategies as st

from muster_controller.domain.people import ROLES, Person, Right, Role, why_not, why_not_over

NAMES = ("digits", "weather", "radar")
HELD = st.lists(st.sampled_from(ROLES), min_size=1, unique=True).map(tuple)
MODELS = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)
ABOUT = st.sampled_from((*NAMES, "unknown", None))
Thing = tuple[Right, str | None]


def able(person: Person) -> set[Thing]:
    """Return everything that a person may do, to whichever model, and to the fleet."""
    things = [(right, model) for right in Right for model in (*NAMES, "unknown", None)]
    return {(right, model) for right, model in things if not why_not_over(person, right, model)}


@given(HELD, MODELS)
def test_over_some_models_one_may_never_more_than_over_all(
    roles: tuple[Role, ...], models: tuple[str, ...]
) -> None:
    assert able(Person("anna", roles, models)) <= able(Person("anna", roles))


@given(HELD, MODELS, MODELS)
def test_what_one_may_grows_with_the_models(
    roles: tuple[Role, ...], models: tuple[str, ...], more: tuple[str, ...]
) -> None:
    assert able(Person("anna", roles, models)) <= able(Person("anna", roles, (*models, *more)))


@given(HELD, HELD, MODELS)
def test_what_one_may_grows_with_the_roles(
    roles: tuple[Role, ...], more: tuple[Role, ...], models: tuple[str, ...]
) -> None:
    assert able(Person("anna", roles, models)) <= able(Person("anna", (*roles, *more), models))


@given(HELD, MODELS)
def test_over_models_one_may_exactly_what_the_roles_allow_to_these(
    roles: tuple[Role, ...], models: tuple[str, ...]
) -> None:
    person = Person("anna", roles, models)

    assert able(person) == {(right, model) for right in person.rights for model in models}


@given(HELD, st.none() | MODELS, st.sampled_from(Right), ABOUT)
def test_a_refusal_always_says_who_one_is(
    roles: tuple[Role, ...], models: tuple[str, ...] | None, right: Right, model: str | None
) -> None:
    person = Person("anna", roles, models)
    said = why_not_over(person, right, model)

    assert said == "" or said.startswith(f"{person}; this takes ")
    assert bool(why_not(person, right)) is (right not in person.rights)
