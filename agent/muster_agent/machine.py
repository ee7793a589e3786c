"""What this machine is, and whether a version fits it. Asked once, at start."""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from muster_models import __version__
from muster_models.errors import FitError, Reason
from muster_models.manifest import Manifest, RuntimeKind
from muster_models.runtime.load import installed

MAX_RUNTIME = 200  # characters of what the controller is told of one engine


@dataclass(frozen=True)
class Machine:
    """Facts about a device.

    Attributes:
        agent: Version of this program.
        runtimes: Engines by kind, each with its name and version.
        hardware: As ``platform.machine()`` names it.
        time_zone: IANA name; ``UTC`` when it is not known.
    """

    agent: str
    runtimes: Mapping[RuntimeKind, str]
    hardware: str
    memory_bytes: int
    time_zone: str


def this_machine() -> Machine:
    """Return the facts about the machine that this process runs on."""
    return Machine(
        agent=__version__,
        runtimes=installed(),
        hardware=platform.machine(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        time_zone=_time_zone(),
    )


def told_runtimes(runtimes: Mapping[RuntimeKind, str], lacking: Mapping[RuntimeKind, str]) -> dict[str, str]:
    """Return engines as the controller is told of them, and why one runs on less than the device asks for."""
    return {
        kind: f"{name}; CPU: {lacking[kind]}"[:MAX_RUNTIME] if kind in lacking else name
        for kind, name in runtimes.items()
    }


def check_fit(manifest: Manifest, machine: Machine) -> None:
    """Return if this machine can run a version.

    Raises:
        FitError: It cannot; the message says what the version asks for and what is here.
    """
    if manifest.hardware and machine.hardware not in manifest.hardware:
        wanted = ", ".join(manifest.hardware)
        raise FitError(
            Reason.WRONG_HARDWARE, f"{manifest.name} is for {wanted}, this device is {machine.hardware}"
        )
    if manifest.runtime not in machine.runtimes:
        here = ", ".join(machine.runtimes) or "none"
        raise FitError(
            Reason.WRONG_RUNTIME, f"{manifest.name} needs the {manifest.runtime} engine, installed: {here}"
        )
    if _release(machine.agent) < _release(manifest.min_agent):
        raise FitError(
            Reason.AGENT_TOO_OLD, f"{manifest.name} needs agent {manifest.min_agent}, this is {machine.agent}"
        )


def check_settings(manifest: Manifest, settings: Mapping[str, float]) -> None:
    """Return if a version declares every setting and each value lies in its range.

    Raises:
        FitError: ``bad-setting``; the message names the setting and the range.
    """
    declared = {setting.name: setting for setting in manifest.settings}
    for name, value in settings.items():
        setting = declared.get(name)
        if setting is None:
            raise FitError(
                Reason.BAD_SETTING, f"{manifest.name} has no setting {name!r}, it has {sorted(declared)}"
            )
        if not setting.minimum <= value <= setting.maximum:
            raise FitError(
                Reason.BAD_SETTING,
                f"setting {name!r} of {manifest.name}: expected {setting.minimum} to {setting.maximum}, "
                f"got {value}",
            )


def _release(version: str) -> tuple[int, ...]:
    # Numbers only: an early version of 1.2.0 may run what asks for 1.2.0.
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _time_zone() -> str:
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name:
        # Where the system has one, this is a link to .../zoneinfo/<name>.
        name = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    return name if re.fullmatch(r"[A-Za-z0-9+_/-]{1,64}", name) else "UTC"
