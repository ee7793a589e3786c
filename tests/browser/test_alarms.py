"""The pages about alarms in headless Chromium: acknowledging, silencing, receivers and jobs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from muster_controller.config import JobSettings, WebhookSettings
from muster_controller.reconcile.training import Training
from muster_controller.serving import bind, make_server
from muster_controller.web.app import make_dashboard
from support.alarms import raise_alarm
from support.chromium import open_chromium
from support.office import Office, open_office, serving

SHOTS = Path(os.environ.get("MUSTER_SCREENSHOTS", Path(__file__).parents[2] / ".cache/screenshots"))
TOKEN = "operator-token"
DESK = WebhookSettings("desk", "https://desk.example/hook?key=secret", "desk.secret")
RETRAIN = JobSettings("retrain", kinds=("data-drift",), command=("/opt/training/run",))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


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
    with serving(make_server(make_dashboard(office.context, TOKEN)), listener):
        context = chromium.new_context(
            base_url=url, color_scheme=request.param, viewport={"width": 1280, "height": 860}
        )
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto("/login")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        yield page
        context.close()
    assert problems == []


def look(page: Page, path: str, heading: str, name: str) -> None:
    """Open a page, keep its picture, and hold it against the rules of accessibility."""
    page.goto(path)
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    SHOTS.mkdir(parents=True, exist_ok=True)
    dark: bool = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.screenshot(path=SHOTS / f"{name}-{'dark' if dark else 'light'}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    wider: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0, "the page is wider than the window"


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

    look(page, "/alarms", "Alarms", "alarms-cared-for")
    expect(page.locator("#list tr", has_text="oslo-1")).to_contain_text("silenced")
    look(page, "/alarms/1", "data-drift: site=berlin", "alarm-acknowledged")
    look(page, "/alarms/2", "silence: oslo-1", "alarm-silence")
    look(page, "/silences", "Silences", "silences")
    look(page, "/deliveries", "Webhooks", "deliveries")
    look(page, "/jobs", "Retraining jobs", "jobs")
    look(page, "/jobs/1", "retrain #1", "job")
    page.goto("/")
    expect(page.locator("#attention")).to_contain_text("All is well")
