"""The pages of a rollout in headless Chromium: the form beside its file, the live preview, and the orders."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from muster_controller.serving import bind, make_server
from muster_controller.web.app import make_dashboard
from support.chromium import logged_in, open_chromium
from support.office import Office, serving
from support.rolling import live, open_fleet, start

SHOTS = Path(os.environ.get("MUSTER_SCREENSHOTS", Path(__file__).parents[2] / ".cache/screenshots"))
TOKEN = "operator-token"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_fleet(tmp_path / "controller")
    yield made
    made.opened.close()


@pytest.fixture(params=["light", "dark"])
def page(office: Office, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A logged-in page in either colour scheme; an error in its console fails the test."""
    listener = bind("127.0.0.1", 0, setting="port")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with (
        serving(make_server(make_dashboard(office.context, TOKEN)), listener),
        logged_in(chromium, url, TOKEN, dark=request.param == "dark", window=(1440, 900)) as page,
    ):
        yield page


def look(page: Page, name: str) -> None:
    """Keep a picture of the page, and hold it against the rules of accessibility."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    dark: bool = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.screenshot(path=SHOTS / f"{name}-{'dark' if dark else 'light'}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    wider: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0, "the page is wider than the window"


def test_a_plan_is_previewed_while_it_is_typed_and_says_the_same_as_a_file(
    page: Page, office: Office
) -> None:
    live(office, 4)
    page.goto("/rollouts/new?version=digits%401.1.0")
    page.get_by_label("Seed").fill("spring")
    page.get_by_label("Stages, the last one 100 %").fill("1, 50%, 100%")
    expect(page.locator("#preview")).to_contain_text("+1 = 1")
    page.get_by_role("group", name="The plan as").get_by_label("YAML").check()
    file = page.locator("textarea[name=file]")
    expect(file).to_have_value("version: digits@1.1.0\nstages: [1, 50%, 100%]\nseed: spring\n")
    look(page, "rollout-new-file")

    file.fill("version: digits@1.1.0\nstages: [100%]\ncontroll: 10%\n")
    expect(page.locator("#preview [role=alert]")).to_contain_text("line 3: controll: no such field")
    file.fill("version: digits@1.1.0\nstages: [100%]\ncontrol: 10%\n")
    expect(page.locator("#preview")).to_contain_text("control: 1")
    page.get_by_role("group", name="The plan as").get_by_label("Form").check()

    expect(page.get_by_label("Stages, the last one 100 %")).to_have_value("100%")
    expect(page.get_by_label("Control, share of the cohort")).to_have_value("10%")
    for summary in page.locator("details > summary").all()[2:]:
        summary.click()
    look(page, "rollout-new-form")


def test_without_a_script_a_plan_is_previewed_by_its_button(page: Page, office: Office) -> None:
    live(office, 4)
    browser, origin = page.context.browser, page.url.rstrip("/")
    assert browser is not None
    bare = browser.new_context(
        java_script_enabled=False, base_url=origin, storage_state=page.context.storage_state()
    )
    plain = bare.new_page()
    plain.goto("/rollouts/new?version=digits%401.1.0")
    plain.get_by_label("Stages, the last one 100 %").fill("1, 50%, 100%")
    plain.get_by_label("Reason").fill("spring")
    plain.get_by_role("button", name="Preview").click()

    expect(plain.locator("#preview")).to_contain_text("+1 = 1")
    expect(plain.get_by_label("Stages, the last one 100 %")).to_have_value("1, 50%, 100%")
    expect(plain.get_by_label("Reason")).to_have_value("spring")
    plain.get_by_role("button", name="Start").click()
    expect(plain.locator("#stages")).to_contain_text("Stage 3")
    bare.close()


def test_a_plan_that_waits_is_edited_on_its_page(page: Page, office: Office) -> None:
    number = start(office, start_at=office.clock.now + 3600)
    live(office, 4)
    page.goto(f"/rollouts/{number}")
    page.get_by_role("link", name="Edit", exact=True).click()
    expect(page.get_by_role("heading", name=f"Edit the plan of rollout {number}")).to_be_visible()
    page.get_by_label("Stages, the last one 100 %").fill("1, 100%")
    expect(page.locator("#preview")).to_contain_text("+1 = 1")
    expect(page.locator("#preview")).not_to_contain_text("Cannot start")
    look(page, "rollout-edit")
    page.get_by_label("Reason").fill("one device first")
    page.get_by_role("button", name="Save").click()

    expect(page.locator("#timeline")).to_contain_text("one device first; stages: {percent: 25, ")
    expect(page.locator("#stages li").first).to_contain_text("1 devices")


def test_operators_see_the_stage_beside_its_control_and_steer_it(page: Page, office: Office) -> None:
    number = start(office, ramp={"per_minute": 60}, limits={"p95_ms": 200})
    live(office, 16)
    page.goto(f"/rollouts/{number}")

    expect(page.locator("#gates svg.span").first).to_be_visible()
    expect(page.locator("#experiment")).to_contain_text("sample ratio")
    look(page, "rollout-gates")
    page.get_by_role("link", name="latency", exact=True).click()
    expect(page.get_by_role("heading", name="Evidence, round by round", level=1)).to_be_visible()
    look(page, "rollout-explain")
    page.go_back()
    page.get_by_role("link", name="control 3").click()
    expect(page.locator("#devices tbody tr")).to_have_count(3)

    page.get_by_role("button", name="Roll back", exact=True).first.click()
    dialog = page.get_by_role("dialog", name="Roll back")
    expect(dialog).to_contain_text("go back to digits@1.0.0")
    look(page, "rollout-roll-back")
    dialog.get_by_label("Reason").fill("the customer asked")
    dialog.get_by_role("button", name="Roll back", exact=True).click()
    expect(page.locator("#phase")).to_contain_text("rolling-back")
    expect(page.locator("#timeline")).to_contain_text("the customer asked")


def test_a_phone_shows_form_and_rollout_in_one_column(page: Page, office: Office) -> None:
    number = start(office)
    live(office, 8)
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/rollouts/new", f"/rollouts/{number}"):
        page.goto(path)
        wider: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")

        assert wider <= 0, path


def test_a_table_wider_than_its_card_is_reached_by_keyboard_and_stays_so_while_the_page_lives(
    page: Page, office: Office
) -> None:
    number = start(office)
    live(office, 8)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/rollouts/{number}")
    gates = page.get_by_role("region", name="Gates: the stage against its concurrent control")
    gates.focus()
    gates.evaluate("card => { card.scrollLeft = 60 }")
    before = gates.inner_text()

    live(office, 8)

    expect(gates).not_to_have_text(before)
    expect(gates).to_be_focused()
    expect(gates).to_have_js_property("scrollLeft", 60)
    look(page, "rollout-phone-gates")
