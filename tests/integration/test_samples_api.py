"""Rows on order by the API: who may be asked, what is shown, and that every read is in the audit trail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster_controller.store import samples
from support.handing_out import hand_out, open_asked
from support.office import Client, Office

BODY = {"model": "digits", "where": "site = berlin", "rows": 10, "seconds": 3600, "reason": "odd scores"}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_asked(tmp_path / "controller") as made:
        yield made


@pytest.fixture
def client(office: Office) -> Client:
    return Client(office)


def deeds(client: Client) -> list[tuple[str, str, str]]:
    found: list[dict[str, Any]] = client.get("/audit")["items"]
    return [
        (one["action"], one["subject"], one["reason"]) for one in found if one["action"].startswith("sample.")
    ]


def test_an_order_names_the_devices_of_its_selector_and_is_audited(client: Client) -> None:
    made = client.post("/samples", BODY, status=201)

    assert [one["device"] for one in made["devices"]] == ["berlin-1", "berlin-2"]
    assert (made["rows"], made["received"], made["open"], made["ended"]) == (10, 0, True, None)
    assert client.get("/samples")["items"] == [made] == [client.get(f"/samples/{made['id']}")]
    assert deeds(client) == [("sample.order", "sample 1", "odd scores")]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"rows": 0}, 400),
        ({"rows": 1001}, 400),
        ({"seconds": 0}, 400),
        ({"seconds": 31 * 86_400}, 400),
        ({"where": "site = lyon"}, 400),
        ({"where": "site ="}, 400),
        ({"model": "weather"}, 404),
        ({"reason": ""}, 422),
        ({"colour": "red"}, 422),
    ],
    ids=str,
)
def test_an_order_that_is_not_as_it_must_be_is_refused(
    client: Client, changes: dict[str, object], status: int
) -> None:
    client.refusal("POST", "/samples", status=status, json={**BODY, **changes})

    assert client.get("/samples")["items"] == []


def test_every_read_of_rows_is_audited_and_looking_at_the_order_is_not(
    office: Office, client: Client
) -> None:
    number = client.post("/samples", BODY, status=201)["id"]
    hand_out(office, number)
    client.get(f"/samples/{number}")

    (batch,) = client.get(f"/samples/{number}/rows", reason="ticket 4")
    rest = client.get(f"/samples/{number}/rows", after=batch["id"])

    assert (batch["device"], batch["rows"], rest) == ("berlin-1", 2, [])
    assert batch["version"]["name"] == "digits@1.0.0"
    assert batch["inputs"] == {"image": [[0.0], [1.0]]}
    assert batch["outputs"] == {"probabilities": [[None, None], [None, None]]}
    assert deeds(client) == [
        ("sample.read", "sample 1", ""),
        ("sample.read", "sample 1", "ticket 4"),
        ("sample.order", "sample 1", "odd scores"),
    ]


def test_rows_are_deleted_by_order_once(office: Office, client: Client) -> None:
    number = client.post("/samples", BODY, status=201)["id"]
    hand_out(office, number)

    ended = client.post(f"/samples/{number}/delete", {"reason": "done"})

    assert (ended["open"], ended["received"]) == (False, 2)
    client.refusal("GET", f"/samples/{number}/rows", status=409)
    client.refusal("POST", f"/samples/{number}/delete", status=409, json={})
    with office.context.reading() as session:
        assert samples.batches(session, number, after=0, limit=10) == []
    assert deeds(client)[0] == ("sample.delete", "sample 1", "done")


def test_rows_of_an_order_that_is_past_its_end_are_shown_to_nobody(office: Office, client: Client) -> None:
    number = client.post("/samples", BODY, status=201)["id"]
    hand_out(office, number)
    office.clock.now += 3600

    client.refusal("GET", f"/samples/{number}/rows", status=409)
    assert client.get(f"/samples/{number}")["open"] is False


def test_an_order_that_is_not_there_is_not_found(client: Client) -> None:
    for request in ("GET /samples/7", "GET /samples/7/rows", "POST /samples/7/delete"):
        method, path = request.split()
        client.refusal(method, path, status=404, json={})
