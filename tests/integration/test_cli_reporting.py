"""The real ``muster drift plan`` and ``muster reporting`` against a real controller."""

import json
from collections.abc import Iterator

import pytest

from support.controller_process import ControllerProcess


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path_factory.mktemp("reporting")) as running:
        yield running


def test_a_plan_says_what_a_budget_buys_and_changes_nothing(controller: ControllerProcess) -> None:
    before = json.loads(controller.muster("reporting", "show", "-o", "json").out)

    shown = controller.muster("drift", "plan", "--bytes-per-day", "2000", "--features", "20")
    told = controller.muster(
        "drift", "plan", "--bytes-per-day", "2000", "--features", "20", "--devices", "50", "-o", "json"
    )

    assert shown.code == 0, shown.err
    assert "12 h long" in shown.out
    assert "one device" in shown.out
    assert "all 50 devices" in shown.out
    view = json.loads(told.out)
    assert view["bytes_per_day"] <= 2000
    assert {one["level"] for one in view["catches"]} == {"device", "group", "fleet"}
    assert json.loads(controller.muster("reporting", "show", "-o", "json").out) == before


def test_a_plan_is_applied_to_the_whole_fleet_with_a_reason_and_can_be_taken_back(
    controller: ControllerProcess,
) -> None:
    silent = controller.muster("drift", "plan", "--bytes-per-day", "20000", "--apply")
    applied = controller.muster(
        "drift",
        "plan",
        "--bytes-per-day",
        "20000",
        "--epsilon",
        "0.5",
        "--apply",
        "--reason",
        "metered links",
    )
    shown = json.loads(controller.muster("reporting", "show", "-o", "json").out)
    reset = json.loads(controller.muster("reporting", "reset", "--reason", "enough", "-o", "json").out)

    assert silent.code == 2
    assert "say why with --reason" in silent.err
    assert applied.code == 0, applied.err
    assert "ε = 0.5 for each column and window" in applied.out
    assert "every device of the fleet reports so" in applied.err
    assert (shown["epsilon"], shown["window_seconds"] > 60) == (0.5, True)
    assert (reset["epsilon"], reset["changed_at"]) == (0.0, None)
    trail = controller.muster("audit", "list", "-o", "json")
    assert "metered links" in trail.out


def test_one_field_is_changed_and_the_others_stay(controller: ControllerProcess) -> None:
    nothing = controller.muster("reporting", "set", "--reason", "why")
    wrong = controller.muster("reporting", "set", "--sample", "2", "--reason", "why")
    done = controller.muster(
        "reporting", "set", "--window-rows", "5000", "--save-seconds", "30", "--reason", "why", "-o", "json"
    )

    assert nothing.code == 2
    assert "--window-rows" in nothing.err
    assert wrong.code != 0
    assert "reporting: Expected `float` <= 1.0" in wrong.err
    view = json.loads(done.out)
    assert (view["window_rows"], view["save_seconds"], view["sample"]) == (5000, 30.0, 1.0)


def test_a_budget_that_buys_nothing_is_refused_with_what_is_needed(controller: ControllerProcess) -> None:
    done = controller.muster("drift", "plan", "--bytes-per-day", "100")

    assert done.code != 0
    assert "22 columns take at least" in done.err
