"""Rows on order in headless Chromium: ordered, counted, downloaded and deleted on the page of a model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from muster_controller.serving import bind, make_server
from muster_controller.web.app import make_dashboard
from support.chromium import check, logged_in
from support.handing_out import hand_out
from support.office import Client, Office, open_office, serving

TOKEN = "operator-token"


@dataclass(frozen=True)
class Site:
    """A dashboard that is served."""

    office: Office
    url: str


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    office = open_office(tmp_path / "controller")
    office.install()
    office.release("1.0.0")
    office.enrol("berlin-1", "berlin-2", "oslo-1")
    listener = bind("127.0.0.1", 0, setting="port")
    with serving(make_server(make_dashboard(office.context, TOKEN)), listener):
        yield Site(office, f"http://127.0.0.1:{listener.getsockname()[1]}")
    office.opened.close()


def give(page: Page) -> None:
    """Order rows as a person does."""
    page.get_by_role("button", name="Order rows").click()
    dialog = page.get_by_role("dialog", name="Order rows")
    dialog.get_by_label("Devices").fill("site = berlin")
    expect(dialog.locator("#samples-cohort")).to_have_text("2 of 3 devices")
    check(page)
    dialog.get_by_label("Rows of each device").fill("3")
    dialog.get_by_label("Hours").fill("2")
    dialog.get_by_label("Reason").fill("odd scores")
    dialog.get_by_role("button", name="Order rows").click()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_rows_are_ordered_counted_downloaded_and_deleted(
    site: Site, chromium: Browser, *, dark: bool
) -> None:
    with logged_in(chromium, site.url, TOKEN, dark=dark) as page:
        page.goto("/models/digits")
        card = page.locator("#samples")
        expect(card).to_contain_text("No row was ordered")
        give(page)
        expect(card).to_contain_text("berlin-1 0 of 3, berlin-2 0 of 3")
        expect(card).to_contain_text("in 2 h")
        hand_out(site.office, 1)
        expect(card).to_contain_text("berlin-1 2 of 3")  # the page hears of it
        check(page)

        card.get_by_role("button", name="Download").click()
        dialog = page.get_by_role("dialog", name="Download")
        check(page)
        dialog.get_by_label("Reason").fill("first look")
        with page.expect_download() as download:
            dialog.get_by_role("button", name="Download").click()
        rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
        expect(dialog).to_be_hidden()

        card.get_by_role("button", name="Delete").click()
        dialog = page.get_by_role("dialog", name="Delete")
        dialog.get_by_label("Reason").fill("looked at")
        dialog.get_by_role("button", name="Delete").click()
        expect(card).to_contain_text("rows deleted")
        expect(card.get_by_role("button", name="Download")).to_have_count(0)
        check(page)

    deeds = [(one["action"], one["reason"]) for one in Client(site.office).get("/audit")["items"]]
    assert download.value.suggested_filename == "rows-of-order-1.jsonl"
    assert [row["inputs"]["image"] for row in rows] == [[0.0], [1.0]]
    assert deeds[:3] == [
        ("sample.delete", "looked at"),
        ("sample.read", "first look"),
        ("sample.order", "odd scores"),
    ]
