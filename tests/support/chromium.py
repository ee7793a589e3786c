"""Headless Chromium, logged in to a dashboard, and what every page is held against."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

# As root Chromium needs no sandbox of its own; without a network it should not look for one.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WINDOW = (1280, 860)
PHONE = (390, 844)
PATIENCE_MS = 60_000  # for anything to become true, on a machine that does much else
SHOTS = Path(os.environ.get("MUSTER_SCREENSHOTS", Path(__file__).parents[2] / ".cache/screenshots"))


@contextlib.contextmanager
def open_chromium() -> Iterator[Browser]:
    """Start the browser that ``scripts/browser`` brings."""
    path = shutil.which("chromium")
    assert path is not None, "scripts/browser brings Chromium"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=PATIENCE_MS)
        yield browser
        browser.close()


@contextlib.contextmanager
def logged_in(
    browser: Browser, url: str, token: str, *, dark: bool = False, window: tuple[int, int] = WINDOW
) -> Iterator[Page]:
    """Open a page in which the operator has logged in; an error in its console fails the test."""
    context = browser.new_context(
        base_url=url,
        color_scheme="dark" if dark else "light",
        viewport={"width": window[0], "height": window[1]},
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto("/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.wait_for_load_state()
    yield page
    context.close()
    assert problems == [], problems


def hold_still(page: Page) -> None:
    """Let pages that are opened from now on hear of no change: what is measured does not change meanwhile."""
    page.route_web_socket("**/live", lambda _: None)


def look(page: Page, name: str) -> None:
    """Keep the picture of a page, and hold it against the rules of accessibility."""
    shoot(page, name)
    check(page)


def shoot(page: Page, name: str) -> None:
    """Keep the picture of a page, under a name that also says in which colours."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    dark: bool = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.screenshot(path=SHOTS / f"{name}-{'dark' if dark else 'light'}.png", full_page=True)


def check(page: Page) -> None:
    """Hold a page against the rules of accessibility, and its width against that of the window."""
    found = Axe().run(page)
    assert found.violations_count == 0, f"{page.url}: {found.generate_report()}"
    check_width(page)


def check_width(page: Page) -> None:
    """Find out whether a page must be scrolled sideways."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0, f"{page.url} is {wider} pixels wider than the window"
