"""Lines of a push: each is well formed, or is refused with what was expected and what came."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_controller.service.label_lines import CountsLine, IdLine, Refusal, read_lines
from muster_controller.service.label_truth import class_of, summed, truth_of
from muster_models.errors import MessageError, RequestError
from muster_models.manifest import ValueOutput
from muster_models.prediction_id import parse
from support.manifests import make_manifest
from support.truths import class_id, value_id

START = 1_800_000_000.0
VALUES = make_manifest(prediction=ValueOutput("probabilities"))
LABELS = ("cat", "dog", "7")


def counts(**changes: object) -> bytes:
    values: dict[str, object] = {
        "device": "oslo-1",
        "model": "digits",
        "version": "1.0.0",
        "start": START - 600,
        "end": START - 300,
        "confusion": {"3": {"3": 90, "8": 10}},
    }
    line = {name: value for name, value in (values | changes).items() if value is not None}
    return json.dumps(line).encode()


def said_of(body: bytes) -> str:
    (line,) = read_lines(body)
    assert isinstance(line, Refusal)
    return line.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "expected {id, label}"),
        (b'{"id": "mp1.digits.oslo-1.AAAA", "label": "3"}', "was cut off"),
        (b'{"id": "x", "label": "3"}', "expected mp1.<model>.<device>.<code>, got 'x'"),
        (b'{"id": "x"}', "expected id and label alone, got id"),
        (b'{"id": "x", "label": "3", "n": 4}', "expected id and label alone, got id, label, n"),
        (b'{"id": "x", "label": true}', "expected {id, label}"),
        (b'{"id": "x", "lable": "3"}', "unknown field `lable`"),
        (b'{"id": "x", "label": "' + b"9" * 65 + b'"}', "at most 64 characters, got 65"),
        (b'{"label": "3"}', "got label"),
        (b"\xff\xfe", "expected {id, label}"),
        (b"[" * 5000, "expected"),
        (counts(start="yesterday"), "start: expected RFC 3339, got 'yesterday'"),
        (counts(start="2027-01-15T08:00:00"), "RFC 3339 with its zone"),
        (counts(end=None), "end: expected Unix seconds or RFC 3339"),
        (counts(device=None), "expected {id, label}, or {device, model, version, start, end}"),
    ],
)
def test_a_line_of_another_form_is_refused_with_what_was_expected(line: bytes, said: str) -> None:
    try:
        told = said_of(line)
    except RequestError as error:
        told = str(error)

    assert said in told


@pytest.mark.parametrize("body", [b"", b"\n \n", b"[]"])
def test_a_push_of_nothing_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="expected labels, one JSON object a line or in a list, got none"):
        read_lines(body)


def test_lines_keep_their_numbers_over_empty_ones() -> None:
    named = class_id("oslo-1", "ab" * 32, at=START)
    found = read_lines(f'\n{{"id": "{named}", "label": 3}}\n\n{{}}\n'.encode())

    assert [(type(one), one.line) for one in found] == [(IdLine, 2), (Refusal, 4)]


def test_instants_are_taken_as_seconds_and_as_text() -> None:
    (first,) = read_lines(counts(start=START - 600))
    (second,) = read_lines(counts(start="2027-01-15T07:50:00Z"))

    assert isinstance(first, CountsLine)
    assert isinstance(second, CountsLine)
    assert first.start == second.start


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused_in_one_way(body: bytes) -> None:
    try:
        found = read_lines(body)
    except RequestError:
        return

    assert len(found) > 0


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9), st.lists, max_leaves=5))
def test_any_value_of_a_field_is_read_or_refused_in_one_way(value: object) -> None:
    body = json.dumps([{"id": value, "label": value}, {"device": value, "start": value, "confusion": value}])
    try:
        found = read_lines(body.encode())
    except RequestError:  # JSON knows no NaN
        return

    assert all(isinstance(line, Refusal) for line in found)


@pytest.mark.parametrize(("label", "index"), [("cat", 0), ("dog", 1), ("7", 2), ("1", 1), ("2", 2)])
def test_a_label_is_a_name_first_and_an_index_otherwise(label: str, index: int) -> None:
    assert class_of(label, LABELS) == index


@pytest.mark.parametrize("label", ["cow", "3", "-1", "1.0", "", "²", "0000001"])
def test_a_label_that_is_neither_is_refused(label: str) -> None:
    with pytest.raises(MessageError, match="expected a class out of cat, dog, 7, got"):
        class_of(label, LABELS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"confusion": {"3": {"11": 4}}}, "expected a class out of"),
        ({"confusion": {"3": {"3": -1}}}, "expected counts from 0 on, got -1"),
        ({"confusion": {}}, "at least one prediction"),
        ({"confusion": None, "n": 3}, "predicts classes: expected confusion"),
    ],
)
def test_confusion_that_cannot_be_is_refused(changes: dict[str, object], said: str) -> None:
    (line,) = read_lines(counts(**changes))
    assert isinstance(line, CountsLine)

    with pytest.raises(MessageError, match=said):
        summed(line.form, make_manifest())


@pytest.mark.parametrize(
    "sums", [(100, 80.0, 75.0, 62.5), (100, 0.0, 75.0, 10.0), (0, 0.0, 0.0, 0.0), (100, 0.0, -1.0, 1.0)]
)
def test_sums_that_contradict_each_other_are_refused(sums: tuple[int, float, float, float]) -> None:
    names = ("n", "sum_error", "sum_abs_error", "sum_sq_error")
    (line,) = read_lines(counts(confusion=None, **dict(zip(names, sums, strict=True))))
    assert isinstance(line, CountsLine)

    with pytest.raises(MessageError, match="sums contradict each other"):
        summed(line.form, VALUES)


@pytest.mark.parametrize("label", ["warm", "nan", "inf", "1e999"])
def test_a_value_that_is_no_number_is_refused(label: str) -> None:
    named = parse(value_id("oslo-1", "ab" * 32, at=START, value=20.0))

    with pytest.raises(MessageError, match=r"expected a (finite )?number, got"):
        truth_of(label, VALUES, named)


def test_an_id_of_the_other_kind_is_refused() -> None:
    value = parse(value_id("oslo-1", "ab" * 32, at=START, value=20.0))
    named = parse(class_id("oslo-1", "ab" * 32, at=START))

    with pytest.raises(MessageError, match="predicts classes, the id names a value"):
        truth_of("3", make_manifest(), value)
    with pytest.raises(MessageError, match="predicts a value, the id names a class"):
        truth_of("3", VALUES, named)
