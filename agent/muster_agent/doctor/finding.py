"""What one check found, and what every check is given."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from muster_agent.config import Folder, Settings

State = Literal["good", "notice", "wrong"]
SECONDS = 5.0  # for one connection
COMPARE_CLOCKS = (
    "compare the clock with another one first (date -u), and set it: timedatectl set-ntp true; "
    "if it is right, "
)
SET_CLOCK = "set the clock, and let a time service keep it: timedatectl set-ntp true"


class Finding(Struct, frozen=True):
    """What one check found.

    Attributes:
        state: ``good``; ``notice`` for what works and could be better; ``wrong`` for what does not work.
        said: What was found.
        fix: What to do; empty when there is nothing to do.
    """

    check: str
    state: State
    said: str
    fix: str = ""


@dataclass(frozen=True)
class Case:
    """One device, and the time by its clock in Unix seconds."""

    folder: Folder
    settings: Settings
    clock: Callable[[], float]


Check = Callable[[Case], Iterator[Finding]]


def enrol_again(case: Case) -> str:
    """Return how a device gets another identity."""
    return (
        f"on the controller: muster device token {case.settings.device} --again; then into a new folder: "
        f"muster-agent enrol {case.settings.controller} TOKEN --folder FOLDER"
    )


def short(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split())[:200]


def instant(seconds: float) -> str:
    """Return Unix seconds as a person reads them."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
