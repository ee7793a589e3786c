"""What is written of a plan reads back as the same, and whatever a file holds is read or refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_controller.domain.rollouts.planning import terms
from muster_controller.domain.rollouts.planning.fields import Reading, fields_of, read_fields, show_fields
from muster_controller.domain.rollouts.planning.file import PlanFile, read_plan_file, write_plan_file
from muster_controller.domain.rollouts.planning.lines import Fields, read_yaml, write_yaml
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_models.errors import RequestError
from support.plans import parts


@given(parts(Plan))
@settings(max_examples=150, deadline=None)
def test_what_is_written_of_a_plan_reads_back_as_the_same(document: dict[str, Any]) -> None:
    written = write_yaml(show_fields(document, Plan))
    node = read_yaml(written)
    reading = Reading()
    assert isinstance(node, Fields)

    read = read_fields(node, Plan, reading=reading)

    assert reading.problems == []
    assert read == document
    assert write_yaml(show_fields(read, Plan)) == written


@given(
    st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True).map(sorted),
    st.fixed_dictionaries(
        {}, optional={"control": st.floats(0, 0.5), "probation_seconds": st.floats(0, 1e8)}
    ),
    st.from_regex(r"[^@\s]{1,9}@[^@\s]{1,9}|[0-9a-f]{64}", fullmatch=True),
)
def test_a_whole_file_reads_back_as_the_same(sizes: list[int], rest: dict[str, Any], version: str) -> None:
    percents = [{"percent": float(size)} for size in (*sizes, 100)]
    file = PlanFile(version, "a-name-that-is-longer@1.0.0", {"stages": percents, **rest})

    assert read_plan_file(write_plan_file(file)) == file


KEYS = st.sampled_from([*fields_of(Plan), "version", "previous", "for", "per", "margin", "percent", "days"])
SCRAPS = st.sampled_from(
    [
        "25%",
        "1e400%",
        "10m",
        "-1h",
        "null",
        "~",
        "NaN",
        ".inf",
        "22:00",
        "2027-02-30T00:00:00Z",
        "9" * 30,
        "\t",
    ]
)
NODES = st.recursive(
    st.text(max_size=12) | SCRAPS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=15,
)


def as_json(value: Any) -> str:
    """Return nested values as YAML's own subset, so that structure survives whatever a text holds."""
    match value:
        case str():
            return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
        case list():
            return f"[{', '.join(map(as_json, value))}]"
        case _:
            return f"{{{', '.join(f'{as_json(key)}: {as_json(entry)}' for key, entry in value.items())}}}"


@given(st.text() | NODES.map(as_json))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_plan_or_is_refused(text: str) -> None:
    try:
        file = read_plan_file(text)
    except RequestError:
        return
    assert read_plan_file(write_plan_file(file)) == file


def test_what_would_grow_without_bound_is_refused_at_once() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50))
    for text in (bomb, "[" * 10_000, "version: " + "a" * 70_000, "? " * 5000, "!!python/object:os.system x"):
        with pytest.raises(RequestError):
            read_plan_file(text)


WRITTEN: list[tuple[Callable[[Any], str], Callable[[str], float], st.SearchStrategy[Any]]] = [
    (terms.write_number, terms.parse_number, st.floats(-1e300, 1e300)),
    (terms.write_share, terms.parse_share, st.floats(0, 1)),
    (terms.write_duration, terms.parse_duration, st.floats(0, 1e12)),
    (terms.write_duration, terms.parse_duration, st.integers(0, 10**8)),
    (terms.write_size, terms.parse_size, st.integers(0, 10**15)),
    (terms.write_instant, terms.parse_instant, st.floats(0, 3e11)),
    (terms.write_instant, terms.parse_instant, st.integers(0, 253_402_300_799)),
]


@pytest.mark.parametrize(("write", "parse", "held"), WRITTEN)
def test_an_amount_reads_back_as_it_was_written(
    write: Callable[[Any], str], parse: Callable[[str], float], held: st.SearchStrategy[Any]
) -> None:
    @given(held)
    def check(value: float) -> None:
        assert parse(write(value)) == value

    check()


@given(st.text() | SCRAPS)
def test_any_text_is_an_amount_or_is_refused(text: str) -> None:
    for _, parse, _ in WRITTEN:
        try:
            value = parse(text)
        except RequestError:
            continue
        assert abs(value) < float("inf")
