"""Rows on order on the page of a model, without a browser: ordering, what came, downloading, deleting."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from muster_controller.service import people
from muster_controller.store import samples
from muster_models.errors import Reason
from muster_models.wire import Sample
from support.handing_out import hand_out, open_asked
from support.office import OPERATOR, Client, Office
from support.testclient import TestClient, signed_in

TOKEN = "operator-token"
PAGE = "/models/digits"
ORDER = {"where": "site = berlin", "rows": "3", "hours": "2", "reason": "odd scores"}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_asked(tmp_path / "controller") as made:
        yield made


@pytest.fixture
def browser(office: Office) -> Iterator[TestClient]:
    with signed_in(office.context, TOKEN) as client:
        yield client


def send(browser: TestClient, path: str, **fields: str) -> tuple[int, str]:
    """Send a form of the model's page; return the status and what came, or where to go on."""
    token = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get(PAGE).text)
    assert token is not None
    answer = browser.post(path, data={"form_token": token[1], **fields})
    return answer.status_code, answer.headers.get("location") or answer.text


def card(browser: TestClient) -> str:
    """Return what a person reads about rows on order, but for what stands in dialogs."""
    found = re.search(r'<section[^>]* id="samples".*?</section>', browser.get(PAGE).text, re.DOTALL)
    assert found is not None
    text = re.sub(r"<dialog.*?</dialog>", " ", found[0], flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


def deeds(office: Office) -> list[tuple[str, str, str]]:
    items = Client(office).get("/audit")["items"]
    return [(one["action"], one["actor"], one["reason"]) for one in items if "sample." in one["action"]]


def test_without_an_order_the_page_says_that_no_row_is_here(browser: TestClient) -> None:
    assert "No row was ordered, so none is here." in card(browser)


def test_an_order_is_given_on_the_page_and_shows_what_came_and_what_may_come(
    browser: TestClient, office: Office
) -> None:
    assert send(browser, f"{PAGE}/samples", **ORDER) == (303, f"{PAGE}#samples")

    hand_out(office, 1)
    with office.context.unit() as session:
        no = Sample(
            "berlin-2", 1, 1, office.clock.now, 1, "digits", reason=Reason.NOT_ALLOWED, detail="agent.toml"
        )
        samples.receive(session, no, office.clock.now)

    assert re.search(
        r"#1 site = berlin open 2 1 berlin-1 2 of 3, berlin-2 not allowed in 2 h operator odd scores",
        card(browser),
    )
    assert deeds(office) == [("sample.order", "operator", "odd scores")]


def test_rows_are_downloaded_one_a_line_and_the_reader_is_noted(browser: TestClient, office: Office) -> None:
    send(browser, f"{PAGE}/samples", **{**ORDER, "rows": "100"})
    for sequence in range(25):  # more than one read of the service holds
        hand_out(office, 1, rows=2, sequence=sequence + 1)
    status, text = send(browser, "/samples/1/rows", reason="first look")
    rows = [json.loads(line) for line in text.splitlines()]

    assert status == 200
    assert len(rows) == 50
    assert rows[1] == {
        "device": "berlin-1",
        "at": rows[0]["at"],
        "version": "1.0.0",
        "inputs": {"image": [1.0]},
        "outputs": {"probabilities": [None, None]},
    }
    assert {deed for deed in deeds(office) if deed[0] == "sample.read"} == {
        ("sample.read", "operator", "first look")
    }


def test_a_file_of_rows_has_a_name_and_is_kept_nowhere(browser: TestClient, office: Office) -> None:
    send(browser, f"{PAGE}/samples", **ORDER)
    hand_out(office, 1)
    token = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get(PAGE).text)
    assert token is not None
    answer = browser.post("/samples/1/rows", data={"form_token": token[1], "reason": "first look"})

    assert answer.headers["content-disposition"] == 'attachment; filename="rows-of-order-1.jsonl"'
    assert answer.headers["cache-control"] == "no-store"


def test_an_order_is_deleted_on_the_page_and_its_rows_are_not_to_be_had(
    browser: TestClient, office: Office
) -> None:
    send(browser, f"{PAGE}/samples", **ORDER)
    hand_out(office, 1)

    assert send(browser, "/samples/1/delete", reason="looked at") == (303, f"{PAGE}#samples")
    assert "#1 site = berlin over 2 0 " in card(browser)
    assert "rows deleted" in card(browser)
    status, text = send(browser, "/samples/1/rows", reason="again")
    assert status == 409
    assert "order 1 for rows is over" in text


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"rows": "1001"}, 400, "expected 1 to 1000 rows"),
        ({"rows": "many"}, 400, "rows"),
        ({"hours": "nan"}, 400, "hours"),
        ({"hours": "721"}, 400, "within 30 days"),
        ({"where": "site = lyon"}, 400, "names 1 to 100 devices, got 0"),
        ({"reason": " "}, 400, "needs a reason"),
    ],
)
def test_an_order_that_is_not_as_it_must_be_is_a_page_that_says_why(
    browser: TestClient, office: Office, changes: dict[str, str], status: int, words: str
) -> None:
    got, text = send(browser, f"{PAGE}/samples", **{**ORDER, **changes})

    assert (got, deeds(office)) == (status, [])
    assert words in unescape(text)


def test_who_only_looks_sees_the_counts_and_is_refused_the_rows(browser: TestClient, office: Office) -> None:
    send(browser, f"{PAGE}/samples", **ORDER)
    hand_out(office, 1)
    token = people.add(office.context, OPERATOR, "anna", roles=["auditor"]).token
    browser.cookies.clear()
    assert browser.post("/login", data={"token": token}).status_code == 303
    status, text = send(browser, "/samples/1/rows", reason="curious")

    assert "berlin-1 2 of 3" in card(browser)
    assert status == 403
    assert "anna is auditor" in text
