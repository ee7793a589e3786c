"""The dashboard in headless Chromium, over the real fleet on which the story was told."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from story.chapters import DRIFTED
from story.fleet import STATIONS
from support.chromium import PHONE, check_width, hold_still, logged_in, look, shoot
from support.told import Told

PATIENCE_SECONDS = 60.0


@pytest.fixture(params=["light", "dark"])
def page(told: Told, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A logged-in page in either colour scheme; an error in its console fails the test."""
    with logged_in(chromium, told.fleet.url, told.fleet.token, dark=request.param == "dark") as page:
        yield page


@pytest.fixture
def light_page(told: Told, chromium: Browser) -> Iterator[Page]:
    with logged_in(chromium, told.fleet.url, told.fleet.token) as page:
        yield page


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
        ("alarm", "/alarms/{alarm}", f"data-drift: site={DRIFTED}"),
        ("events", "/events?kind=refused", "Events"),
        ("audit", "/audit", "Audit"),
    ],
)
def test_every_page_opens_reads_well_and_is_accessible(
    told: Told, page: Page, name: str, path: str, heading: str
) -> None:
    marks = {
        "{bad}": told.facts.rollouts["digits@1.2.0"]["rollout"]["id"],
        "{digits@1.2.0}": told.facts.digests["digits@1.2.0"],
        "{alarm}": next(alarm["id"] for alarm in told.facts.alarms if alarm["kind"] == "data-drift"),
    }
    for mark, value in marks.items():
        path = path.replace(mark, str(value))
    hold_still(page)

    page.goto(path)

    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    look(page, name)


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
    expect(page.locator("#phase")).to_contain_text("soak")
    shoot(page, "rollout-live")
    command(page, "Promote", "seen enough")
    expect(page.locator("#denominators .tile").first).to_contain_text("2")
    expect(page.locator("#phase")).to_contain_text("soak")
    command(page, "Abort", "the show is over", mode="keep")

    # Nothing was reloaded: the open page hears of it.
    expect(page.locator("#phase")).to_contain_text("aborted")
    told.story.api.wait("both stations are well", lambda: are_well(told) or None, seconds=PATIENCE_SECONDS)


def are_well(told: Told) -> bool:
    """Tell whether both stations run what they should; who has just changed says so a moment later."""
    devices = [told.story.api.get(f"/devices/{device}")["device"] for device in STATIONS]
    return {device["state"] for device in devices} == {"healthy"}


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
    light_page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    for path in ("/", "/devices", "/models/digits", "/models/digits/drift", "/rollouts/1"):
        light_page.goto(path)
        check_width(light_page)
    shoot(light_page, "rollout-phone")


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
