"""Whether a genuine version fits this machine, and what is said when it does not."""

import re

import pytest

from muster_agent.machine import Machine, check_fit, check_settings, this_machine
from muster_models.errors import FitError, Reason
from muster_models.manifest import Setting
from support.manifests import make_manifest

HERE = Machine("1.2.0", {"onnx": "onnxruntime 1.32.0"}, "aarch64", 2**30, "Europe/Berlin")


def test_this_machine_knows_itself() -> None:
    machine = this_machine()

    assert "onnx" in machine.runtimes
    assert machine.memory_bytes > 2**20
    assert machine.hardware != ""
    assert re.fullmatch(r"[A-Za-z0-9+_/-]+", machine.time_zone)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hardware": ("x86_64", "riscv64")}, Reason.WRONG_HARDWARE),
        ({"runtime": "tflite"}, Reason.WRONG_RUNTIME),
        ({"min_agent": "1.2.1"}, Reason.AGENT_TOO_OLD),
        ({"min_agent": "1.10.0"}, Reason.AGENT_TOO_OLD),
    ],
)
def test_a_version_for_another_machine_is_refused(changes: dict[str, object], reason: Reason) -> None:
    with pytest.raises(FitError) as caught:
        check_fit(make_manifest(**changes), HERE)

    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "changes", [{}, {"hardware": ("aarch64",)}, {"min_agent": "1.2.0"}, {"min_agent": "0.9.12"}]
)
def test_a_version_for_this_machine_fits(changes: dict[str, object]) -> None:
    check_fit(make_manifest(**changes), HERE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"treshold": 0.5}, "no setting 'treshold', it has ['threshold']"),
        ({"threshold": 1.5}, "expected 0.0 to 1.0, got 1.5"),
        ({"threshold": float("nan")}, "expected 0.0 to 1.0, got nan"),
    ],
)
def test_a_setting_that_was_not_declared_so_is_refused(settings: dict[str, float], said: str) -> None:
    manifest = make_manifest(settings=(Setting("threshold", 0.5, 0.0, 1.0),))

    with pytest.raises(FitError, match=re.escape(said)) as caught:
        check_settings(manifest, settings)

    assert caught.value.reason is Reason.BAD_SETTING
