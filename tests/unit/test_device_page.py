"""The page about devices names every reason, once, with something to do about it."""

import re

from muster_models.errors import Reason
from support.fixtures import ROOT


def test_every_reason_has_one_line_on_the_page_about_devices() -> None:
    page = (ROOT / "docs/device.md").read_text()

    table = page.partition("## Reasons\n")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| (.+) \|$", table, re.MULTILINE)

    assert [reason for reason, _, _ in rows] == list(Reason)
