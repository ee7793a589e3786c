"""What is asked of every method: fleets without drift, drift of every form and scope, and natural drift."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drift.fleet import SITE_SIZE, Fleet, Setting, describe
from drift.judge import Truth
from drift.planting import Course, Form, Plant, Who
from drift.sources import Source

ONSET = 5  # windows after the calibration
WINDOWS = 30  # that are judged where drift is planted
QUIET_WINDOWS = 100  # and where none is
HETEROGENEOUS = {"offsets": 0.1, "autocorrelation": 0.7, "season": 0.04}
_LEVELS: dict[Who, str] = {
    "nobody": "none",
    "one": "device",
    "five": "device",
    "site": "group",
    "fleet": "fleet",
}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        setting: Fields of ``Setting`` that differ from its defaults.
    """

    name: str
    says: str
    form: Form = "none"
    who: Who = "nobody"
    size: float = 0.0
    course: Course = "abrupt"
    setting: Mapping[str, float] = field(default_factory=dict)

    def settle(self, asked: Mapping[str, float]) -> Setting:
        """Return the setting of this case, with what was asked for at the command line in its place."""
        windows = QUIET_WINDOWS if self.form == "none" else WINDOWS
        changes: dict[str, Any] = {**self.setting, **asked}
        return dataclasses.replace(Setting(windows=windows), **changes)


CASES: tuple[Case, ...] = (
    Case("none: identical devices", "no drift, every device alike", setting={"offsets": 0.0}),
    Case("none: offsets 0.05", "no drift, devices differ a little", setting={"offsets": 0.05}),
    Case("none: offsets 0.25", "no drift, devices differ much", setting={"offsets": 0.25}),
    Case("none: autocorrelation 0.7", "no drift, rows hang together, a day's course", setting=HETEROGENEOUS),
    Case("shift 0.25", "one device, one feature", "shift", "one", 0.25),
    Case("shift 0.25 autocorrelated", "rows hang together", "shift", "one", 0.25, setting=HETEROGENEOUS),
    Case("shift 0.5", "one device, one feature", "shift", "one", 0.5),
    Case("scale 1.25", "one device, one feature", "scale", "one", 1.25),
    Case("outliers 2 %", "one device, 12 sd beyond all values of the set", "outliers", "one", 0.02),
    Case("missing 10 %", "one device, one feature", "missing", "one", 0.1),
    Case("stuck sensor", "one device, one feature stands still", "stuck", "one", 1.0),
    Case("incremental 0.5", "one device, growing over 20 windows", "shift", "one", 0.5, "incremental"),
    Case("gradual 0.5", "one device, in a growing share of rows", "shift", "one", 0.5, "gradual"),
    Case("recurring 0.5", "one device, 10 windows on, 10 off", "shift", "one", 0.5, "recurring"),
    Case("site 0.5", "all five devices of one site", "shift", "site", 0.5),
    Case("five of 50 0.5", "five devices of five sites", "shift", "five", 0.5),
    Case("fleet 0.1", "every device", "shift", "fleet", 0.1),
    Case("fleet 0.1 autocorrelated", "every device", "shift", "fleet", 0.1, setting=HETEROGENEOUS),
)  # fmt: skip


def prepare(case: Case, source: Source, setting: Setting, *, seed: int) -> tuple[Fleet, Truth]:
    """Return the fleet of a case, and what a method ought to say about it."""
    chance = np.random.default_rng([seed, 1])
    drifted = int(chance.choice(describe(source).steady))
    others = chance.permutation([at for at in range(len(source.columns)) if at != drifted])
    columns = tuple(sorted([drifted, *others[: setting.columns - 1].tolist()]))
    column = columns.index(drifted)
    devices = _chosen(case.who, setting.devices, chance)
    held = source.table[:, drifted]
    plant = Plant(
        form=case.form,
        size=case.size,
        devices=devices,
        columns=(column,),
        onset=ONSET,
        course=case.course,
        scales=((float(np.nanmax(held)), float(np.nanstd(held))),),
    )
    truth = Truth(_LEVELS[case.who], frozenset(devices), frozenset({column}), ONSET)
    return Fleet(source, setting, plant, columns=columns, seed=seed), truth


def _chosen(who: Who, devices: int, chance: np.random.Generator) -> tuple[int, ...]:
    match who:
        case "nobody":
            return ()
        case "one":
            return (int(chance.integers(devices)),)
        case "five":
            # Of as many sites, so that nothing but the drift is common to them.
            sites = chance.permutation(max(1, devices // SITE_SIZE))[:5]
            return tuple(sorted(int(site * SITE_SIZE + chance.integers(SITE_SIZE)) for site in sites))
        case "site":
            first = int(chance.integers(max(1, devices // SITE_SIZE))) * SITE_SIZE
            return tuple(range(first, min(first + SITE_SIZE, devices)))
        case "fleet":
            return tuple(range(devices))
