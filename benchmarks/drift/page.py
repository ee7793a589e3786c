"""The page of operating characteristics: false incidents and delays over n, effect and heterogeneity.

Held-out seeds: nothing of the detector was chosen on them, and nobody looks at them for that.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drift import sources
from drift.cases import ONSET, Case
from drift.fleet import Setting
from drift.judge import poisson
from drift.runs import SPARSE, Result, muster_result, planted
from drift.table import machine, summary
from muster_controller.domain.drift.detector import DriftConfig

HELD_OUT = tuple(range(1001, 1021))
DELAY_SEEDS = HELD_OUT[:4]
TEMPLATE = Path(__file__).with_name("page.md")
COMMAND = "scripts/bench drift --page docs/drift-operating-characteristics.md"
DEVICES, COLUMNS = 25, 4
QUIET_WINDOWS, DRIFT_WINDOWS = 100, 45
ROWS = (100, 300, 1000)
QUIET_ROWS = (100, 1000)
EFFECTS = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Unlike:
    """How devices and rows differ from the textbook: offsets and season in sd, correlation of rows."""

    offsets: float
    autocorrelation: float
    season: float

    def words(self) -> str:
        """Return it for a table."""
        return f"{self.offsets:g} | {self.autocorrelation:g} | {self.season:g}"


QUIET = (
    Unlike(0.0, 0.0, 0.0),
    Unlike(0.05, 0.0, 0.0),
    Unlike(0.25, 0.0, 0.0),
    Unlike(0.1, 0.7, 0.04),
    Unlike(0.2, 0.9, 0.1),
)
DRIFTING = (Unlike(0.1, 0.0, 0.0), Unlike(0.1, 0.7, 0.04), Unlike(0.2, 0.9, 0.1))


@dataclass(frozen=True)
class Cell:
    """One line of a table: the setting, and what all its seeds say together."""

    rows: int
    effect: float
    unlike: Unlike
    said: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Tell whether false incidents can be within the stated rate, or drift is found by half or more."""
        if self.effect:
            return self.said["delay"] is not None
        return bool(self.said["false_low"] <= self.said["stated_per_1000"])


def write(path: Path) -> None:
    """Measure both tables and write the page."""
    path.write_text(render(list(_quiet()), list(_drifting()), machine()), encoding="utf-8")


def settings() -> dict[str, Any]:
    """Return what the page states about the detector and the fleets, by name."""
    fleet = Setting(devices=DEVICES, columns=COLUMNS)
    return asdict(DriftConfig()) | {
        "devices": fleet.devices, "columns": fleet.columns, "calibration": fleet.calibration,
        "reference_rows": fleet.reference_rows, "quiet_windows": QUIET_WINDOWS,
    }  # fmt: skip


def _quiet() -> Iterator[Cell]:
    for rows in QUIET_ROWS:
        for unlike in QUIET:
            yield _cell(rows, 0.0, unlike, HELD_OUT)


def _drifting() -> Iterator[Cell]:
    for unlike in DRIFTING:
        for rows in ROWS:
            for effect in EFFECTS:
                yield _cell(rows, effect, unlike, DELAY_SEEDS)


def _cell(rows: int, effect: float, unlike: Unlike, seeds: Sequence[int]) -> Cell:
    sys.stderr.write(f"n={rows} effect={effect} {unlike}\n")
    case = Case("page", "", "shift", "five", effect) if effect else Case("page", "")
    setting = {
        **dataclasses.asdict(unlike), "rows": rows, "devices": DEVICES, "columns": COLUMNS,
        "windows": DRIFT_WINDOWS if effect else QUIET_WINDOWS,
    }  # fmt: skip
    results = [_run(case, setting, at, seed) for at, seed in enumerate(seeds)]
    return Cell(rows, effect, unlike, summary(results))


def _run(case: Case, setting: dict[str, float], at: int, seed: int) -> Result:
    name = sources.NAMES[at % len(sources.NAMES)]
    fleet, truth = planted(case, sources.load(name), setting, seed=seed)
    return muster_result(fleet, truth, case=case.name, data=name, seed=seed, wire=SPARSE)


def render(quiet: Sequence[Cell], drifting: Sequence[Cell], made_on: str) -> str:
    """Return the page: ``page.md`` with its fields filled in."""
    return TEMPLATE.read_text(encoding="utf-8").format(
        command=COMMAND,
        machine=made_on,
        first_seed=HELD_OUT[0],
        last_seed=HELD_OUT[-1],
        last_delay_seed=DELAY_SEEDS[-1],
        sets=", ".join(sources.NAMES),
        settings="\n".join(f"| `{name}` | {value} |" for name, value in settings().items()),
        run_length=f"{DriftConfig().run_length:,.0f}",
        quiet="\n".join(map(_quiet_line, quiet)),
        together=_together(quiet),
        devices=DEVICES,
        onset=ONSET,
        after=DRIFT_WINDOWS - ONSET,
        drifting="\n".join(map(_drift_line, drifting)),
        limits=_limits(quiet, drifting),
        calibration=DriftConfig().calibration_windows,
    )


def _quiet_line(cell: Cell) -> str:
    said = cell.said
    interval = f"{said['false_low']:.2g} to {said['false_high']:.2g}"
    return (
        f"| {cell.rows:,} | {cell.unlike.words()} | {said['false']} | {said['feature_windows']:,} "
        f"| {said['false_per_1000']:.2g} | {interval} | {said['stated_per_1000']:.2g} |"
    )


def _together(cells: Sequence[Cell]) -> str:
    """Return what all rows say together: only so many rounds can show that the stated rate is kept."""
    rounds = sum(cell.said["runs"] for cell in cells) * QUIET_WINDOWS
    false = sum(cell.said["false"] for cell in cells)
    low, high = (end / rounds for end in poisson(false))
    stated = 1 / DriftConfig().run_length
    verdict = "is kept" if high <= stated else "is broken" if low > stated else "may be kept"
    return (
        f"All rows together: {false} false incidents in {rounds:,} rounds, so that the rate is at most\n"
        f"one in {1 / high:,.0f} rounds (95 %); the stated one, one in {1 / stated:,.0f}, {verdict}."
    )


def _drift_line(cell: Cell) -> str:
    said = cell.said
    delay = "not" if said["delay"] is None else f"{said['delay']:g}"
    found = f"{said['found']} of {said['subjects']}"
    return (
        f"| {cell.unlike.words()} | {cell.rows:,} | {cell.effect:g} | {found} | {delay} | {said['false']} |"
    )


def _limits(quiet: Sequence[Cell], drifting: Sequence[Cell]) -> str:
    """Return a line for every setting in which the detector fails; these are its limits, not its bugs."""
    loud = [
        f"- **False incidents above the stated rate** at {_where(cell)}: {_rate(cell)} per 1,000."
        for cell in quiet
        if not cell.holds
    ]
    missed: dict[str, list[str]] = {}
    for cell in drifting:
        if not cell.holds:
            missed.setdefault(_where(cell), []).append(f"{cell.effect:g}")
    blind = [
        f"- **Shifts of {', '.join(effects)} sd are not found** by half of the devices within "
        f"{DRIFT_WINDOWS - ONSET} windows at {where}."
        for where, effects in missed.items()
    ]
    return "\n".join(loud + blind) or "- In every row above the stated rate holds and half or more is found."


def _rate(cell: Cell) -> str:
    return f"{cell.said['false_per_1000']:.2g}"


def _where(cell: Cell) -> str:
    """Return the setting in words, with how many independent rows say as much about a mean."""
    memory = cell.unlike.autocorrelation
    worth = cell.rows * (1 - memory) / (1 + memory)
    also = f" (worth {worth:.0f} independent ones)" if memory else ""
    return f"{cell.rows:,} rows{also}, offsets {cell.unlike.offsets:g}, correlation {memory:g}"
