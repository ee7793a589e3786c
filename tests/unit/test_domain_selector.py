"""Selectors over labels."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_controller.domain.selector import MAX_DEPTH, MAX_LENGTH, known_by, parse
from muster_models.errors import RequestError

BERLIN = known_by("press-1", {"site": "berlin", "hw": "rpi5", "role": "press"})
OSLO = known_by("press-2", {"site": "oslo", "hw": "rpi4"})


@pytest.mark.parametrize(
    ("text", "berlin", "oslo"),
    [
        ("all", True, True),
        ("site = berlin", True, False),
        ("site=berlin", True, False),
        ('site = "berlin"', True, False),
        ("site != berlin", False, True),
        ("site in (berlin, oslo)", True, True),
        ("site in (oslo)", False, True),
        ("role exists", True, False),
        ("not role exists", False, True),
        ("role = press", True, False),
        ("role != press", False, True),
        ("site = berlin and hw = rpi5", True, False),
        ("site = berlin and hw = rpi4", False, False),
        ("site = berlin or hw = rpi4", True, True),
        ("site = oslo or site = berlin and hw = rpi4", False, True),
        ("(site = oslo or site = berlin) and hw = rpi4", False, True),
        ("not (site = oslo or hw = rpi5)", False, False),
        ("not not all", True, True),
        ("device = press-2", False, True),
        ("device in (press-1, press-3) and site = berlin", True, False),
        ('"in" = x or site = oslo', False, True),
    ],
)
def test_a_selector_chooses_devices_by_their_labels(text: str, *, berlin: bool, oslo: bool) -> None:
    selector = parse(text)

    assert (selector.matches(BERLIN), selector.matches(OSLO)) == (berlin, oslo)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: expected a label, 'not', 'all' or '(', got the end"),
        ("site", "column 5: expected '=', '!=', 'in' or 'exists', got the end"),
        ("site =", "column 7: expected a value, got the end"),
        ("site = berlin hw = rpi5", "column 15: expected 'and', 'or' or the end, got 'hw'"),
        ("site in berlin", "column 9: expected '(', got 'berlin'"),
        ("site in (berlin", "column 16: expected ')', got the end"),
        ("(site = berlin", "column 15: expected ')', got the end"),
        ("site = berlin and", "column 18: expected a label"),
        ("site = and", "column 8: expected a value, got 'and'"),
        ("site ~ berlin", "column 6: expected a label, a value or a sign, got '~'"),
        ('site = "berlin', "column 8: expected a label, a value or a sign"),
    ],
)
def test_a_wrong_selector_is_refused_with_the_column(text: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(text)

    assert message in str(caught.value)


def test_a_selector_that_is_too_long_or_too_deep_is_refused() -> None:
    with pytest.raises(RequestError, match="at most 1000 characters"):
        parse("a" * (MAX_LENGTH + 1))
    with pytest.raises(RequestError, match="at most 50 nested"):
        parse("not " * (MAX_DEPTH + 1) + "all")


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                ["site", "=", "!=", "in", "(", ")", ",", "and", "or", "not", "all", "exists", '"x"']
            ),
            max_size=14,
        ).map(" ".join),
    )
)
def test_any_text_is_a_selector_or_is_refused(text: str) -> None:
    try:
        selector = parse(text)
    except RequestError:
        return

    assert selector.matches(BERLIN) in {True, False}
