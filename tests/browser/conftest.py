"""One Chromium for all files of this folder; each page is a fresh context of it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from support.chromium import open_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser
