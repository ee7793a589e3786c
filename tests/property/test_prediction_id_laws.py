"""Prediction ids: what goes in comes out, one text per prediction, and nothing else is taken for one."""

import base64
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_models.errors import MessageError
from muster_models.prediction_id import (
    MAX_LENGTH,
    ClassAnswer,
    PredictionId,
    ValueAnswer,
    parse,
)

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{2,62}", fullmatch=True)
ANSWERS = st.one_of(
    st.builds(ClassAnswer, st.integers(0, 65_535), st.integers(0, 255).map(lambda level: level / 255)),
    st.builds(ValueAnswer, st.floats(width=32, allow_nan=False, allow_infinity=False)),
)
IDS = st.builds(
    PredictionId,
    model=NAMES,
    device=NAMES,
    version=st.binary(min_size=8, max_size=8).map(bytes.hex),
    at=st.integers(0, 2**48 - 1),
    number=st.integers(0, 2**32 - 1),
    answer=ANSWERS,
)
TEXT = st.text(alphabet=string.ascii_letters + string.digits + "-_.=+/ \n", max_size=MAX_LENGTH + 9)


@given(IDS)
def test_an_id_says_what_it_was_made_of(made: PredictionId) -> None:
    assert parse(made.encode()) == made


@given(IDS)
def test_an_id_is_short_and_survives_files_addresses_and_shells(made: PredictionId) -> None:
    text = made.encode()

    assert len(text) <= MAX_LENGTH
    assert set(text) <= set(string.ascii_letters + string.digits + "-_.")


@given(IDS, IDS)
def test_two_predictions_never_have_one_id(first: PredictionId, second: PredictionId) -> None:
    assert (first.encode() == second.encode()) == (first == second)


@given(IDS, st.data())
def test_one_changed_character_is_found(made: PredictionId, data: st.DataObject) -> None:
    text = made.encode()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.").filter(text[at].__ne__))

    with pytest.raises(MessageError):
        parse(text[:at] + other + text[at + 1 :])


@given(IDS, st.integers(1, 60))
def test_an_id_that_was_cut_off_or_written_on_is_found(made: PredictionId, characters: int) -> None:
    text = made.encode()

    for damaged in (text[:-characters], text + "A" * characters, text.upper(), f" {text}"):
        with pytest.raises(MessageError):
            parse(damaged)


@given(st.one_of(TEXT, st.text(max_size=300), TEXT.map(lambda tail: f"mp1.digits.press-1.{tail}")))
@settings(max_examples=500)
def test_whatever_else_comes_is_refused_in_one_way(text: str) -> None:
    try:
        found = parse(text)
    except MessageError:
        return

    assert found.encode() == text


@given(st.binary(max_size=40))
@settings(max_examples=500)
def test_any_bytes_behind_the_names_are_refused_or_have_one_form(data: bytes) -> None:
    text = "mp1.digits.press-1." + base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    try:
        found = parse(text)
    except MessageError:
        return

    assert found.encode() == text


def test_a_later_form_is_named() -> None:
    with pytest.raises(MessageError, match="expected a prediction id of form mp1, got one of form mp2"):
        parse("mp2.digits.press-1.AAAA")


@pytest.mark.parametrize(
    "changes",
    [
        {"at": -1},
        {"at": 2**48},
        {"number": 2**32},
        {"answer": ClassAnswer(65_536, 0.5)},
        {"answer": ValueAnswer(1e39)},
        {"version": "ab"},
    ],
)
def test_what_no_id_can_hold_has_none(changes: dict[str, object]) -> None:
    values: dict[str, object] = {
        "model": "digits",
        "device": "press-1",
        "version": "5f3c9a0b11223344",
        "at": 1,
        "number": 1,
        "answer": ClassAnswer(1, 0.5),
    }
    made = PredictionId(**(values | changes))  # type: ignore[arg-type]  # by name

    with pytest.raises(ValueError, match="has no id"):
        made.encode()
