"""What commands say in words."""

from typing import Any

import pytest

from muster_controller.cli.models import tell_fallbacks
from muster_controller.cli.output import text
from muster_controller.cli.roles import role_name, said_name


def running(name: str, devices: int, fallback: float | None) -> dict[str, Any]:
    return {"version": {"name": name}, "devices": devices, "fallback": fallback}


def test_a_stop_order_tells_what_devices_will_answer_by_the_version_that_they_run() -> None:
    told = tell_fallbacks([running("digits@1.1.0", 2, -1.0), running("digits@1.0.0", 1, None)])

    assert told == (
        "2 devices with digits@1.1.0: its fallback answers, -1; "
        "1 device with digits@1.0.0: it declares no fallback, so calls fail with 'ordered'"
    )


def test_a_stop_order_for_what_nobody_runs_says_so() -> None:
    assert "no device runs a version of it now" in tell_fallbacks([])


@pytest.mark.parametrize("instant", ["2026-11-25T19:30:03Z", "2026-11-25T19:30:03.123456Z"])
def test_a_time_in_a_table_has_a_zone(instant: str) -> None:
    assert text(instant) == "2026-11-25 19:30:03 UTC"


@pytest.mark.parametrize(
    ("word", "role"), [("root", "root"), ("targets", "targets"), ("digits", "model-digits")]
)
def test_a_role_has_one_name_on_the_command_line(word: str, role: str) -> None:
    assert (role_name(word), said_name(role)) == (role, word)
