"""The pages about alarms in headless Chromium: acknowledging, silencing, receivers and jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from muster_controller.config import JobSettings, WebhookSettings
from muster_controller.reconcile.training import Training
from muster_controller.serving import bind, make_server
from muster_controller.web.app import make_dashboard
from support.alarms import raise_alarm
from support.chromium import logged_in, look
from support.office import Office, open_office, serving

TOKEN = "operator-token"
DESK = WebhookSettings("desk", "https://desk.example/hook?key=secret", "desk.secret")
RETRAIN = JobSettings("retrain", kinds=("data-drift",), command=("/opt/training/run",))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller", webhooks=(DESK,), jobs=(RETRAIN,))
    made.install()
    made.release("1.0.0")
    made.enrol("berlin-1", "berlin-2", "oslo-1", "oslo-2")
    now, engine, settings = made.clock.now, made.context.engine, made.context.settings
    raise_alarm(engine, settings, now, baseline=made.baseline.digest, since=now - 900, fired_at=now - 600)
    quiet = {"devices": ["oslo-1"], "devices_total": 1, "last_heard": now - 4000}
    about = {"kind": "silence", "level": "device", "subject": "oslo-1", "model": "", "feature": ""}
    size = {"evidence": quiet, "effect": 1.0, "unit": "devices"}
    raise_alarm(engine, settings, now, since=now - 3000, fired_at=now - 2500, **about, **size)
    Training(engine, settings).train(now)
    yield made
    made.opened.close()


@pytest.fixture(params=["light", "dark"])
def page(office: Office, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    listener = bind("127.0.0.1", 0, setting="port")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with (
        serving(make_server(make_dashboard(office.context, TOKEN)), listener),
        logged_in(chromium, url, TOKEN, dark=request.param == "dark") as page,
    ):
        yield page


def visit(page: Page, path: str, heading: str, name: str) -> None:
    """Open a page and look at it."""
    page.goto(path)
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    look(page, name)


def test_an_operator_acknowledges_and_silences_by_clicking(page: Page) -> None:
    page.goto("/alarms/1")
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    dialog = page.get_by_role("dialog", name="Acknowledge")
    dialog.get_by_label("Reason").fill("the lamp is being replaced")
    dialog.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.locator("#state")).to_contain_text("acknowledged")

    page.goto("/silences")
    page.get_by_role("button", name="New silence", exact=True).click()
    dialog = page.get_by_role("dialog", name="New silence")
    dialog.get_by_label("Kind").select_option("silence")
    dialog.get_by_label("Subject").fill("device = oslo-1")
    dialog.get_by_label("Reason").fill("it is being moved")
    dialog.get_by_role("button", name="New silence", exact=True).click()
    expect(page.locator("#list")).to_contain_text("device = oslo-1")

    visit(page, "/alarms", "Alarms", "alarms-cared-for")
    expect(page.locator("#list tr", has_text="oslo-1")).to_contain_text("silenced")
    visit(page, "/alarms/1", "data-drift: site=berlin", "alarm-acknowledged")
    visit(page, "/alarms/2", "silence: oslo-1", "alarm-silence")
    visit(page, "/silences", "Silences", "silences")
    visit(page, "/deliveries", "Webhooks", "deliveries")
    visit(page, "/jobs", "Retraining jobs", "jobs")
    visit(page, "/jobs/1", "retrain #1", "job")
    page.goto("/")
    expect(page.locator("#attention")).to_contain_text("All is well")
