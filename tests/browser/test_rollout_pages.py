"""The pages of a rollout in headless Chromium: the form beside its file, the live preview, and the orders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from muster_controller.serving import bind, make_server
from muster_controller.web.app import make_dashboard
from support.chromium import PHONE, check_width, logged_in, look
from support.office import Office, serving
from support.rolling import live, open_fleet, start

TOKEN = "operator-token"
WIDE = (1440, 900)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_fleet(tmp_path / "controller")
    yield made
    made.opened.close()


@pytest.fixture
def url(office: Office) -> Iterator[str]:
    listener = bind("127.0.0.1", 0, setting="port")
    with serving(make_server(make_dashboard(office.context, TOKEN)), listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=["light", "dark"])
def page(url: str, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A logged-in page in either colour scheme, for tests that look at it."""
    with logged_in(chromium, url, TOKEN, dark=request.param == "dark", window=WIDE) as page:
        yield page


@pytest.fixture
def light_page(url: str, chromium: Browser) -> Iterator[Page]:
    with logged_in(chromium, url, TOKEN, window=WIDE) as page:
        yield page


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


def test_without_a_script_a_plan_is_previewed_by_its_button(light_page: Page, office: Office) -> None:
    page = light_page
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
    page.wait_for_load_state()  # its script, which asks for the preview
    page.get_by_label("Stages, the last one 100 %").fill("1, 100%")
    expect(page.locator("#preview")).to_contain_text("+1 = 1")
    expect(page.locator("#preview")).not_to_contain_text("Cannot start")
    look(page, "rollout-edit")
    page.get_by_label("Reason").fill("one device first")
    page.get_by_role("button", name="Save").click()

    expect(page.locator("#timeline")).to_contain_text("one device first; stages: {percent: 25, ")
    expect(page.locator("#stages li").first).to_contain_text("1 device,")


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


def test_a_phone_shows_form_and_rollout_in_one_column(light_page: Page, office: Office) -> None:
    page = light_page
    number = start(office)
    live(office, 8)
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    for path in ("/rollouts/new", f"/rollouts/{number}"):
        page.goto(path)
        check_width(page)


def test_what_changed_before_a_page_listens_is_shown_all_the_same(light_page: Page, office: Office) -> None:
    page = light_page
    number = start(office)
    live(office, 8)
    sockets: list[WebSocketRoute] = []
    page.route_web_socket("**/live", lambda route: sockets.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    page.goto(f"/rollouts/{number}")
    gates = page.locator("#gates")
    before = gates.inner_text()

    live(office, 8)
    sockets[0].connect_to_server()

    expect(gates).not_to_have_text(before)


def test_a_dialog_that_is_open_stays_so_whatever_becomes_of_the_page(
    light_page: Page, office: Office
) -> None:
    page = light_page
    number = start(office)
    live(office, 8)
    page.goto(f"/rollouts/{number}")
    page.get_by_role("button", name="Pause", exact=True).click()
    dialog = page.get_by_role("dialog", name="Pause")
    dialog.get_by_label("Reason").fill("the shift ends")
    dialog.get_by_role("heading", name="Pause").click()  # from here on nothing of it has the focus
    waiting = page.locator("#waiting").inner_text()

    live(office, 16)

    expect(page.locator("#waiting")).not_to_have_text(waiting)
    expect(dialog.get_by_label("Reason")).to_have_value("the shift ends")


def test_a_card_that_scrolls_no_more_is_no_stop_of_the_keyboard_any_more(
    light_page: Page, office: Office
) -> None:
    page = light_page
    number = start(office)
    live(office, 8)
    page.goto(f"/rollouts/{number}")
    gates = page.locator("#gates")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    expect(gates).to_have_attribute("role", "region")
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})

    expect(gates).not_to_have_attribute("tabindex", "0")
    expect(gates).not_to_have_attribute("role", "region")


def test_a_table_wider_than_its_card_is_reached_by_keyboard_and_stays_so_while_the_page_lives(
    page: Page, office: Office
) -> None:
    number = start(office)
    live(office, 8)
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
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
