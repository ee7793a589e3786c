"""The pages about drift in headless Chromium, over a fleet in the store in which three things went wrong."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from muster_controller.web.app import make_dashboard
from support.chromium import PHONE, WINDOW, check, hold_still, logged_in
from support.drifting import BROKEN, DRIFTED, ILL, Fleet, Ill, drifted_fleet, push_truth
from support.office import serving
from support.waiting import until

TOKEN = "operator-token"
BUDGET = 30_000  # bytes over the wire of a page that nothing of is cached
DRIFT = "/models/press/drift"
PAGES = (
    "/models/press",
    DRIFT,
    f"{DRIFT}?subject={BROKEN}&feature=humidity",
    f"{DRIFT}?statistic=psi&above=0.2",
    "/alarms/1",
    "/alarms/1/explain",
)


@dataclass(frozen=True)
class Site:
    """A dashboard that is served."""

    fleet: Fleet
    url: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    fleet = drifted_fleet(tmp_path_factory.mktemp("fleet"))
    push_truth(fleet)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        app = make_dashboard(fleet.office.context, TOKEN)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
        with serving(server, listener):
            yield Site(fleet, f"http://127.0.0.1:{listener.getsockname()[1]}")
    fleet.office.opened.close()


@pytest.fixture
def page(site: Site, chromium: Browser) -> Iterator[Page]:
    with logged_in(chromium, site.url, TOKEN) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("window", [WINDOW, PHONE], ids=["desk", "phone"])
def test_every_page_is_accessible_and_fits_its_window(
    site: Site, chromium: Browser, *, dark: bool, window: tuple[int, int]
) -> None:
    with logged_in(chromium, site.url, TOKEN, dark=dark, window=window) as page:
        for path in PAGES:
            page.goto(path)
            check(page)


@pytest.mark.parametrize("path", PAGES)
def test_a_cold_page_is_small_over_the_wire(page: Page, path: str) -> None:
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    wire.send("Network.setCacheDisabled", {"cacheDisabled": True})
    sizes: list[float] = []
    wire.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    hold_still(page)
    page.goto("about:blank")  # nothing of the page before is counted
    sizes.clear()

    page.goto(path)

    # The page, its style, its script. Asked of the page, so that what the browser tells meanwhile is heard.
    assert until(lambda: bool(page.evaluate("true")) and len(sizes) >= 3)
    assert sum(sizes) < BUDGET


def test_from_the_incident_one_comes_to_its_feature_by_the_keyboard(page: Page) -> None:
    page.goto("/models/press")
    link = page.locator("#incidents .notice", has_text="brightness").get_by_role("link", name="look at it")
    link.focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="brightness", level=2)).to_be_visible()
    expect(page.locator("nav [aria-current]", has_text=f"site={DRIFTED}")).to_be_visible()
    expect(page.locator("#chosen path.band")).to_be_visible()


def test_a_wide_map_is_scrolled_by_the_keyboard(page: Page) -> None:
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page.goto(DRIFT)
    heat = page.get_by_role("region", name="Who moved")
    heat.focus()
    page.keyboard.press("ArrowRight")

    expect(heat).to_be_focused()
    # Asked again from here: what waits within the page is JavaScript as text, which its policy forbids.
    assert until(lambda: bool(page.evaluate("document.querySelector('#heat .scroll').scrollLeft > 0")))


def test_charts_follow_the_theme(page: Page) -> None:
    page.goto(DRIFT)
    colour = "getComputedStyle(document.querySelector('#chosen .mark')).fill"
    light: str = page.evaluate(colour)
    page.get_by_role("button", name="Theme").click()

    assert page.evaluate(colour) != light


def test_an_open_page_shows_what_is_new_and_keeps_open_what_was_opened(site: Site, page: Page) -> None:
    page.goto(f"{DRIFT}?subject=porto-1&feature=pressure")
    expect(page.locator(".pill")).to_have_attribute("data-state", "live")
    page.get_by_text("The windows as a table").click()
    before = page.locator("#counts").inner_text()
    page.get_by_text("The windows as a table").blur()

    site.fleet.report(2, ILL | {"porto-1": Ill(missing=0.5)})

    expect(page.locator("#counts")).not_to_have_text(before)
    expect(page.locator("#chosen details#table")).to_have_attribute("open", "")


def test_the_files_of_the_dashboard_are_first_party(page: Page, site: Site) -> None:
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(DRIFT)

    assert hosts == {site.url.split("/")[2]}


def test_a_threshold_is_named_on_the_page_and_shown_beside_its_false_alarms(page: Page) -> None:
    page.goto(f"{DRIFT}?subject=site={DRIFTED}&feature=brightness")
    expect(page.locator("#threshold")).to_contain_text("never thresholded, unless you name one here")
    page.get_by_label("Statistic").select_option("KS")
    page.get_by_label("Above").fill("0.1")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#threshold")).to_contain_text("KS above 0.1, in")
    expect(page.locator("#threshold")).to_contain_text(f"windows of site={DRIFTED}")

    expect(page.get_by_label("Statistic")).to_have_value("ks")
    expect(page.get_by_label("Above")).to_have_value("0.1")
    expect(page.locator("#threshold")).to_contain_text("False alarms of this choice")
    expect(page.locator("#chosen-title")).to_contain_text("brightness")
    check(page)
