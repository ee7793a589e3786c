"""Headless Chromium, logged in to a dashboard."""

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, expect, sync_playwright

# As root Chromium needs no sandbox of its own; without a network it should not look for one.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WINDOW = (1280, 860)


@contextlib.contextmanager
def open_chromium() -> Iterator[Browser]:
    """Start the browser that ``scripts/browser`` brings."""
    path = shutil.which("chromium")
    assert path is not None, "scripts/browser brings Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
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
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto("/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    yield page
    context.close()
    assert problems == []
