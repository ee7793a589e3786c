"""People, approvals and drills in headless Chromium: letting in, agreeing, and what one may not press."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from muster_controller.service import people, rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.serving import bind, make_server
from muster_controller.web.app import make_dashboard
from support.chromium import logged_in, look
from support.office import OPERATOR, Office, open_office, serving

TOKEN = "operator-token"
FLEET = ("berlin-1", "berlin-2", "oslo-1", "oslo-2")
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


@dataclass(frozen=True)
class Desk:
    """A dashboard, and the tokens of those who log in to it."""

    office: Office
    url: str
    chromium: Browser
    tokens: dict[str, str]

    @contextlib.contextmanager
    def open(self, name: str, *, dark: bool = False) -> Iterator[Page]:
        with logged_in(self.chromium, self.url, self.tokens[name], dark=dark) as page:
            yield page


@pytest.fixture
def desk(tmp_path: Path, chromium: Browser) -> Iterator[Desk]:
    office = open_office(tmp_path / "controller")
    office.install()
    first = office.release("1.0.0", fallback=-1.0).version.digest
    office.release("1.1.0")
    office.enrol(*FLEET)
    for device in FLEET:
        office.report(device, current=first, target=first)
    tokens = {"operator": TOKEN}
    for name, roles in (("anna", ["auditor"]), ("bo", ["approver"]), ("carl", ["approver"])):
        token = people.add(office.context, OPERATOR, name, roles=roles).token
        assert token is not None
        tokens[name] = token
    listener = bind("127.0.0.1", 0, setting="port")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with serving(make_server(make_dashboard(office.context, TOKEN)), listener):
        yield Desk(office, url, chromium, tokens)
    office.opened.close()


@SCHEMES
def test_an_admin_lets_somebody_in_and_hands_over_the_token(desk: Desk, *, dark: bool) -> None:
    with desk.open("operator", dark=dark) as page:
        page.goto("/people")
        page.get_by_role("button", name="Let somebody in", exact=True).click()
        dialog = page.get_by_role("dialog", name="Let somebody in")
        look(page, "people-add")
        dialog.get_by_label("Name").fill("dina")
        dialog.get_by_label("approver may").check()
        dialog.get_by_label("Reason").fill("night shift")
        dialog.get_by_role("button", name="Let somebody in", exact=True).click()
        expect(page.locator("#token")).to_contain_text("msp1.")
        look(page, "people")
        token = page.locator("#token").inner_text()
        page.goto("/people")
        expect(page.locator("#token")).to_have_count(0)

    with logged_in(desk.chromium, desk.url, token) as page:
        expect(page.locator(".foot")).to_contain_text("dina")


@SCHEMES
def test_an_auditor_sees_what_others_may_press_and_why_not(desk: Desk, *, dark: bool) -> None:
    with desk.open("anna", dark=dark) as page:
        page.goto("/models/digits")
        stop = page.get_by_role("button", name="Emergency stop")
        expect(stop).to_be_disabled()
        expect(stop).to_have_attribute("title", "anna is auditor; this takes operator or approver or admin")
        look(page, "model-auditor")
        page.goto("/rollouts/new")
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()


@SCHEMES
def test_an_approver_agrees_with_what_the_page_shows(desk: Desk, *, dark: bool) -> None:
    plan = {"stages": [{"percent": 100}], "control": 0.0, "approval": {"needed": 2}}
    request = RolloutRequest("digits@1.1.0", "digits@1.0.0", plan)
    number = rollouts.start_rollout(desk.office.context, OPERATOR, request, "spring").rollout.id
    with desk.open("bo", dark=dark) as page:
        expect(page.locator("#attention")).to_contain_text("2 of 2 approvals by approver")
        page.goto(f"/rollouts/{number}")
        page.get_by_role("button", name="Approve", exact=True).click()
        dialog = page.get_by_role("dialog", name="Approve")
        dialog.get_by_label("Reason").fill("read it")
        dialog.get_by_role("button", name="Approve", exact=True).click()
        expect(page.locator("#approval")).to_contain_text("1 of 2 approvals by approver")
        look(page, "rollout-approval")
