"""What operators and strangers type: everything is read or refused, nothing breaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_controller.api.peer import read_peer
from muster_controller.cli.exits import UsageError
from muster_controller.cli.labels import parse_labels
from muster_controller.cli.output import text
from muster_controller.domain.rollouts.planning.terms import parse_share, parse_stages
from muster_controller.store.views.paging import cut, encode_cursor, number_cursor, text_cursor
from muster_models.errors import RequestError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.integers())
def test_a_number_cursor_reads_back(key: int) -> None:
    assert number_cursor(encode_cursor(key)) == key


@given(st.text())
def test_a_text_cursor_reads_back(key: str) -> None:
    assert text_cursor(encode_cursor(key)) == key


@given(st.text())
def test_any_text_is_a_cursor_or_is_refused(cursor: str) -> None:
    for read in (text_cursor, number_cursor):
        try:
            key = read(cursor)
        except RequestError:
            continue
        assert isinstance(key, str | int)


@given(st.text())
def test_a_cursor_of_one_kind_of_list_is_refused_by_the_other(key: str) -> None:
    with pytest.raises(RequestError):
        number_cursor(encode_cursor(key))


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=40), st.integers(1, 10))
def test_pages_hold_every_row_once_in_order(rows: list[int], limit: int) -> None:
    ordered = sorted(rows)
    found: list[int] = []
    after: int | None = -1
    while after is not None:
        left = [row for row in ordered if row > after][: limit + 1]
        page = cut(left, limit, view=int, key=int)
        found += page.items
        after = number_cursor(page.next)

    assert found == ordered


@given(st.text() | st.floats().map(str) | st.floats().map("{}%".format))
def test_any_text_is_a_share_or_is_refused(typed: str) -> None:
    try:
        share = parse_share(typed)
    except RequestError:
        return

    assert 0 <= share <= 1


@given(st.text() | st.lists(st.floats().map("{}%".format)).map(",".join))
def test_any_text_is_stages_or_is_refused(typed: str) -> None:
    try:
        stages = parse_stages(typed)
    except RequestError:
        return

    assert all(0 <= stage.get("percent", 0) <= 100 for stage in stages)


@given(st.lists(st.text()))
def test_any_texts_are_labels_or_a_usage_error(texts: list[str]) -> None:
    try:
        labels = parse_labels(tuple(texts))
    except UsageError:
        return

    assert all(key and value for key, value in labels.items())


@given(JSON)
def test_every_answer_can_be_shown(value: object) -> None:
    assert text(value) or value == ""


NAMES = st.lists(st.tuples(st.tuples(st.sampled_from(["commonName", "organizationName"]), st.text())))


@given(NAMES, st.integers(0, 2**160))
def test_a_peer_has_exactly_one_common_name(subject: list[tuple[tuple[str, str]]], serial: int) -> None:
    peer = read_peer({"subject": tuple(subject), "serialNumber": f"{serial:040X}"})

    names = [value for part in subject for key, value in part if key == "commonName"]
    if len(names) == 1:
        assert peer is not None
        assert (peer.name, int(peer.serial, 16)) == (names[0], serial)
    else:
        assert peer is None
