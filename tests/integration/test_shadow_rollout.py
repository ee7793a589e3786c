"""A rollout with a shadow at the controller: the order goes to those that move; what they count is shown."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from muster_controller import intake
from muster_controller.cli.exits import UsageError
from muster_controller.cli.rollout_terms import Terms
from muster_controller.reconcile.advancing import Advancing
from muster_controller.store import assignments
from muster_controller.store.engine import migrate, unmigrate
from muster_controller.store.views.shadows import reached
from muster_controller.web.app import make_dashboard
from muster_controller.web.plan_form import PlanForm
from muster_models import topics, wire
from muster_models.agreement import add
from muster_models.wire import LATENCY_EDGES_MS, Phase, Shadow, ShadowCounts
from support.controller import window_of
from support.office import Client, Office, open_office
from support.testclient import TestClient

FLEET = ("berlin-1", "berlin-2", "lyon-1", "lyon-2")
BINS = len(LATENCY_EDGES_MS) + 1
NEW = "digits@1.1.0"
SHADOW = {"seconds": 600.0, "share": 0.5, "cpu_percent": 5.0}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    made.install()
    made.enrol(*FLEET)
    yield made
    made.opened.close()


@pytest.fixture
def versions(office: Office) -> tuple[str, str]:
    return tuple(office.release(number).version.digest for number in ("1.0.0", "1.1.0"))  # type: ignore[return-value]  # two


def start(office: Office, current: str, **plan: Any) -> int:
    """Let every device run the first version, and start a rollout of the second; all of it is admitted."""
    for device in FLEET:
        office.report(device, current=current, target=current)
    body = {
        "version": NEW,
        "previous": "digits@1.0.0",
        "stages": [{"percent": 50}, {"percent": 100}],
        "control": 0.0,
        "shadow": SHADOW,
        **plan,
    }
    number: int = Client(office).post("/rollouts", body, status=201)["rollout"]["id"]
    Advancing(office.context.engine, office.opened.baselines, office.context.settings).advance(
        "digits", office.clock.now
    )
    return number


def counts(candidate: str, *, rows: int = 100, agreed: int = 90, slow: bool = False) -> ShadowCounts:
    latency = [0] * BINS
    latency[6 if slow else 2] = 50
    return ShadowCounts(candidate, 50, rows, agreed, 1, 7, tuple(latency), 12.5)


def window(office: Office, device: str, digest: str, shadow: ShadowCounts | None, number: int) -> wire.Window:
    values = np.random.default_rng(number).normal(size=(20, 1))
    end = office.clock.now - 10 * number
    made = window_of(values, office.baseline, device=device, manifest=digest, start=end - 10, end=end)
    return replace(made, epoch=1, sequence=number, shadow=shadow)


def take(office: Office, *messages: wire.Window) -> None:
    read = [intake.read(topics.up(message.device, "window"), wire.encode(message)) for message in messages]
    with office.context.unit() as session:
        intake.store(session, read, baselines=office.opened.baselines, now=office.clock.now)


def refusals(office: Office) -> list[str]:
    return [refusal["last_detail"] for refusal in Client(office).get("/refusals")["items"]]


def test_only_the_devices_that_move_are_told_to_ask_the_version_in_shadow_first(
    office: Office, versions: tuple[str, str]
) -> None:
    current, candidate = versions
    start(office, current)
    with office.context.reading() as session:
        wanted = {device: held[0] for device, held in assignments.of_devices(session, FLEET).items()}

    moved = {device for device, one in wanted.items() if one.digest == candidate}
    assert len(moved) == 2
    assert {device for device, one in wanted.items() if one.shadow is not None} == moved
    assert all(wanted[device].shadow == Shadow(seconds=600.0, share=0.5, cpu_percent=5.0) for device in moved)


def test_a_device_in_shadow_is_on_its_way_and_has_executed_nothing(
    office: Office, versions: tuple[str, str]
) -> None:
    current, candidate = versions
    number = start(office, current, stages=[{"percent": 100}])
    office.clock.now += 1
    for device in FLEET:
        office.report(device, current=current, target=candidate, phase=Phase.SHADOW)
    Advancing(office.context.engine, office.opened.baselines, office.context.settings).advance(
        "digits", office.clock.now
    )
    client = Client(office)
    detail = client.get(f"/rollouts/{number}")

    assert detail["rollout"]["denominators"]["executed"] == 0
    assert detail["rollout"]["step"] == "admit"
    assert {row["outcome"] for row in client.get(f"/rollouts/{number}/devices")["items"]} == {"updating"}
    assert {row["state"] for row in client.get("/devices")["items"]} == {"updating"}


def test_what_candidates_answered_is_added_up_and_shown_on_the_rollout_and_on_the_device(
    office: Office, versions: tuple[str, str]
) -> None:
    current, candidate = versions
    number = start(office, current)
    first, second = counts(candidate), counts(candidate, rows=300, agreed=300, slow=True)
    take(office, window(office, "berlin-1", current, first, 1), window(office, "lyon-1", current, second, 1))
    take(office, window(office, "berlin-1", current, second, 2), window(office, "lyon-2", current, None, 1))
    take(office, window(office, "berlin-1", current, first, 1))  # a repeat
    (shown,) = Client(office).get(f"/rollouts/{number}")["shadow"]
    (of_device,) = Client(office).get("/devices/berlin-1")["shadows"]

    total = add(add(first, second), second)
    assert (shown["candidate"]["name"], shown["version"]["name"]) == (NEW, "digits@1.0.0")
    assert (shown["devices"], shown["rows"], shown["agreed"]) == (2, total.rows, total.agreed)
    assert shown["agreement"] == pytest.approx(690 / 700)
    assert shown["difference"] == pytest.approx(3 * 12.5 / 700)
    assert (shown["calls"]["calls"], shown["calls"]["errors"], shown["dropped"]) == (150, 3, 21)
    assert (shown["calls"]["median_ms"], shown["calls"]["slow_ms"]) == (5.0, 5.0)
    assert shown["beside"]["calls"] == 60
    assert (of_device["rows"], of_device["agreed"], of_device["devices"]) == (400, 390, 1)


def test_the_pages_show_agreement_with_its_rows(office: Office, versions: tuple[str, str]) -> None:
    current, candidate = versions
    number = start(office, current)
    take(office, window(office, "berlin-1", current, counts(candidate), 1))
    with TestClient(make_dashboard(office.context, "token"), follow_redirects=False) as browser:
        browser.post("/login", data={"token": "token"})
        pages = [browser.get(path).text for path in (f"/rollouts/{number}", "/devices/berlin-1")]
        form = browser.get("/rollouts/new").text

    for page in pages:
        assert "90.00 %" in page
        assert "In shadow" in page
    assert 'name="shadow.for"' in form


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidate": "f" * 64},
        {"agreed": 101},
        {"errors": 51},
        {"latency": (1, 2)},
        {"difference": float("inf")},
    ],
    ids=["no version", "more agreed than compared", "more errors than calls", "other bins", "no number"],
)
def test_counts_that_cannot_be_are_refused_and_counted(
    office: Office, versions: tuple[str, str], wrong: dict[str, Any]
) -> None:
    current, candidate = versions
    number = start(office, current)
    take(office, window(office, "berlin-1", current, replace(counts(candidate), **wrong), 1))

    assert len(refusals(office)) == 1
    assert Client(office).get(f"/rollouts/{number}")["shadow"] == []


@pytest.mark.parametrize(
    "order",
    [{}, {"seconds": 0}, {"seconds": 10, "cpu_percent": 0}, {"seconds": 10, "share": 1.5}, {"seconds": 1e9}],
)
def test_an_order_that_no_device_would_take_is_refused_at_once(
    office: Office, versions: tuple[str, str], order: dict[str, float]
) -> None:
    assert len(versions) == 2
    body = {"version": NEW, "shadow": order}

    assert Client(office).ask("POST", "/rollouts/plan", json=body).status_code in {400, 422}


def test_the_deadline_of_a_stage_leaves_time_for_the_shadow(
    office: Office, versions: tuple[str, str]
) -> None:
    number = start(office, versions[0], stage_deadline_seconds=1000.0)
    rollout = Client(office).get(f"/rollouts/{number}")["rollout"]
    deadline = dt.datetime.fromisoformat(rollout["deadline"]).timestamp()

    assert deadline == pytest.approx(office.clock.now + 1000.0 + SHADOW["seconds"])


def test_the_form_and_the_command_line_say_the_same_order() -> None:
    typed = {"version": NEW, "shadow.for": "10m", "shadow.cpu_percent": "5"}
    form = PlanForm(typed).request().plan
    words = Terms(shadow="600", shadow_share="50%", shadow_cpu=5.0).body(NEW)

    assert form["shadow"] == {"seconds": 600.0, "cpu_percent": 5.0}
    assert words["shadow"] == SHADOW
    assert "shadow" not in PlanForm({"version": NEW}).request().plan
    assert "shadow" not in Terms().body(NEW)
    with pytest.raises(UsageError, match="--shadow says"):
        Terms(shadow_cpu=5.0).body(NEW)


def test_latency_is_known_to_the_edge_of_its_bin() -> None:
    latency = [0] * BINS
    latency[0], latency[-1] = 90, 10

    assert (reached(latency, 0.5), reached(latency, 0.95)) == (0.05, None)
    assert reached([0] * BINS, 0.5) is None


def test_the_counts_survive_no_way_down_and_the_table_comes_back_empty(
    office: Office, versions: tuple[str, str]
) -> None:
    current, candidate = versions
    number = start(office, current)
    take(office, window(office, "berlin-1", current, counts(candidate), 1))
    unmigrate(office.context.engine, "0003")
    migrate(office.context.engine)

    assert Client(office).get(f"/rollouts/{number}")["shadow"] == []
