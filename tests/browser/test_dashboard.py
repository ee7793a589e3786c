"""The dashboard in headless Chromium, over the real fleet on which the story was told."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from story.chapters import DRIFTED
from story.fleet import STATIONS
from support.chromium import logged_in, open_chromium
from support.told import Told

SHOTS = Path(os.environ.get("MUSTER_SCREENSHOTS", Path(__file__).parents[2] / ".cache/screenshots"))
ROLLOUT_MS = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture(params=["light", "dark"])
def page(told: Told, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A logged-in page in either colour scheme; an error in its console fails the test."""
    with logged_in(chromium, told.fleet.url, told.fleet.token, dark=request.param == "dark") as page:
        yield page


@pytest.fixture
def light_page(told: Told, chromium: Browser) -> Iterator[Page]:
    with logged_in(chromium, told.fleet.url, told.fleet.token) as page:
        yield page


def shoot(page: Page, name: str, scheme: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}-{scheme}.png", full_page=True)


def scheme_of(page: Page) -> str:
    dark: bool = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    return "dark" if dark else "light"


@pytest.mark.parametrize(
    ("name", "path", "heading"),
    [
        ("overview", "/", "Overview"),
        ("devices", "/devices", "Devices"),
        ("device", "/devices/porto-2", "porto-2"),
        ("models", "/models", "Models"),
        ("model", "/models/digits", "digits"),
        ("version", "/versions/{digits@1.2.0}", "digits@1.2.0"),
        ("drift", f"/models/digits/drift?subject=site%3D{DRIFTED}", "Drift of digits"),
        ("rollouts", "/rollouts", "Rollouts"),
        ("rollout-new", "/rollouts/new", "New rollout"),
        ("rollout", "/rollouts/{bad}", "digits@1.2.0"),
        ("alarms", "/alarms", "Alarms"),
        ("alarm", "/alarms/1", f"data-drift: site={DRIFTED}"),
        ("events", "/events?kind=refused", "Events"),
        ("audit", "/audit", "Audit"),
    ],
)
def test_every_page_opens_reads_well_and_is_accessible(
    told: Told, page: Page, name: str, path: str, heading: str
) -> None:
    bad = told.facts.rollouts["digits@1.2.0"]["rollout"]["id"]
    for mark, value in {"{bad}": str(bad), "{digits@1.2.0}": told.facts.digests["digits@1.2.0"]}.items():
        path = path.replace(mark, value)

    page.goto(path)

    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    shoot(page, name, scheme_of(page))
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0, "the page is wider than the window"


def test_the_overview_names_what_needs_attention(light_page: Page) -> None:
    attention = light_page.locator("#attention")

    expect(attention).to_contain_text(f"site={DRIFTED}")
    expect(attention).to_contain_text("digits@1.2.0")


def test_the_events_page_shows_every_attack_with_its_reason(light_page: Page) -> None:
    light_page.goto("/events?kind=refused")

    for reason in ("replayed", "wrong-key", "tampered"):
        expect(light_page.locator("#list code", has_text=reason).first).to_be_visible()


def test_the_page_of_the_bad_rollout_says_which_gate_undid_it(told: Told, light_page: Page) -> None:
    light_page.goto(f"/rollouts/{told.facts.rollouts['digits@1.2.0']['rollout']['id']}")

    expect(light_page.locator("#phase")).to_contain_text("rolled-back")
    expect(light_page.locator("#gates tr", has_text="unhealthy").first).to_be_visible()


def test_an_operator_clicks_through_a_rollout_and_sees_it_live(told: Told, light_page: Page) -> None:
    page = light_page
    page.goto("/rollouts/new")
    page.get_by_label("Version").select_option("weather@1.1.0")
    cohort = page.get_by_label("Cohort: a selector")
    cohort.fill("role = stat")
    expect(page.locator("#cohort")).to_contain_text("0 of 8 devices")
    cohort.fill("role = station")
    expect(page.locator("#cohort")).to_contain_text("2 of 8 devices")
    page.get_by_label("Stages").fill("50%, 100%")
    page.get_by_label("Control").fill("0%")
    page.get_by_label("Soak").fill("600s")
    page.get_by_label("Rounds").fill("2")
    page.get_by_label("Probation").fill("1s")
    page.get_by_label("Reason").fill("a better forecast")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="weather@1.1.0")).to_be_visible()

    command(page, "Pause", "wait for the shift to end")
    expect(page.locator("#phase")).to_contain_text("paused")
    command(page, "Resume", "go on")
    expect(page.locator("#phase")).to_contain_text("soak", timeout=ROLLOUT_MS)
    shoot(page, "rollout-live", "light")
    command(page, "Promote", "seen enough")
    expect(page.locator("#denominators .tile").first).to_contain_text("2", timeout=ROLLOUT_MS)
    expect(page.locator("#phase")).to_contain_text("soak", timeout=ROLLOUT_MS)
    command(page, "Abort", "the show is over", mode="keep")

    # Nothing was reloaded: the open page hears of it.
    expect(page.locator("#phase")).to_contain_text("aborted", timeout=ROLLOUT_MS)
    assert {told.story.api.get(f"/devices/{device}")["device"]["state"] for device in STATIONS} == {"healthy"}


def command(page: Page, name: str, reason: str, mode: str | None = None) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()
    dialog = page.get_by_role("dialog", name=name)
    if mode is not None:
        dialog.get_by_role("combobox").select_option(mode)
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=name, exact=True).click()


def test_a_pause_without_a_reason_is_not_sent(told: Told, light_page: Page) -> None:
    light_page.goto("/devices/porto-1")
    light_page.get_by_role("button", name="Revoke", exact=True).first.click()
    dialog = light_page.get_by_role("dialog", name="Revoke")

    dialog.get_by_role("button", name="Revoke", exact=True).click()

    expect(dialog).to_be_visible()
    assert told.story.api.get("/devices/porto-1")["device"]["revoked_at"] is None


def test_a_phone_shows_every_page_in_one_column(told: Told, light_page: Page) -> None:
    light_page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/devices", "/models/digits", "/models/digits/drift", "/rollouts/1"):
        light_page.goto(path)
        wider: int = light_page.evaluate("document.documentElement.scrollWidth - innerWidth")

        assert wider <= 0, path
    shoot(light_page, "rollout-phone", "light")


def test_the_keyboard_reaches_search_and_content(light_page: Page) -> None:
    light_page.goto("/devices")
    light_page.keyboard.press("Tab")
    expect(light_page.get_by_role("link", name="Skip to content")).to_be_focused()
    light_page.keyboard.press("/")

    expect(light_page.get_by_label("Part of an id")).to_be_focused()


def test_the_theme_can_be_chosen_and_is_remembered(light_page: Page) -> None:
    light_page.get_by_role("button", name="Theme").click()
    light_page.goto("/devices")

    expect(light_page.locator("html")).to_have_attribute("data-theme", "dark")
