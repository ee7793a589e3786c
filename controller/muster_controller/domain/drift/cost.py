"""What bytes buy: from a budget to a length of windows, and from there to the shifts that are caught. Pure.

Bytes come from the codec itself (``sketch.size``), delays from the detectors' own betting: a shift that is
there in every window moves each detector along its mean path, and what counts is when that path crosses the
bound that e-BH sets for a single alarm. So a delay is about the median, not a guarantee; rows that depend on
each other, and devices that wander, are what ``design_effect`` stands for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.drift.detector import SHARES_OF_RATE, DriftConfig
from muster_controller.domain.drift.detectors import (
    BET_WEIGHTS,
    COMPONENT_WEIGHTS,
    MEDIAN,
    SCORE_WEIGHT,
    SLACKS,
)
from muster_controller.domain.drift.incidents import HOLD_ROUNDS
from muster_controller.domain.drift.peers import PEERS
from muster_controller.domain.drift.state import SIDES
from muster_controller.domain.sequential import see
from muster_models.errors import RequestError

Level = Literal["device", "group", "fleet"]
DAY_SECONDS = 86_400.0
HOUR_SECONDS = 3600.0
# Every one divides a day, so that windows begin at the same times each day.
LENGTHS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 21_600, 28_800, 43_200, 86_400)
SAMPLES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
SHIFTS = (0.1, 0.25, 0.5, 1.0)
MOST_WINDOWS = 1000  # a shift that takes longer is not caught
_LOCATION_WEIGHT = SCORE_WEIGHT * COMPONENT_WEIGHTS[0] / len(SIDES) * BET_WEIGHTS
_GRID = np.geomspace(0.05, 4.0, 60)  # shifts among which the smallest that is caught is looked for

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fleet:
    """Who reports what.

    Attributes:
        columns: Features and what describes the answer.
        rows_per_day: Of one device.
        group: Devices that a group has, such as those of a site.
        groups: How many groups are watched.
        design_effect: How many rows say as much as one that depends on no other, at least 1.
        count_noise: Variance that differential privacy adds to a window's sum of scores.
    """

    columns: int
    rows_per_day: float
    devices: int = 50
    group: int = 10
    groups: int = 5
    design_effect: float = 1.0
    count_noise: float = 0.0


@dataclass(frozen=True)
class Reporting:
    """One way to report.

    Attributes:
        sample: Share of rows that are sketched.
        rows: Sketched rows of one window of one device.
    """

    window_seconds: float
    sample: float
    rows: int
    bytes_per_window: float

    @property
    def bytes_per_day(self) -> float:
        """Of one device."""
        return self.bytes_per_window * DAY_SECONDS / self.window_seconds


@dataclass(frozen=True)
class Catch:
    """What a shift of one feature, which stays, takes to be noticed.

    Attributes:
        shift: In standard deviations of the baseline.
        windows: Until its detector crosses; None where it is not within 1,000.
        hours: Until the alarm fires at the latest: a round is closed one later, and attributed for two more.
    """

    level: Level
    devices: int
    shift: float
    windows: int | None
    hours: float | None


@dataclass(frozen=True)
class Smallest:
    """The smallest shift that is noticed in some time; None where not even four standard deviations are."""

    level: Level
    days: float
    shift: float | None


@dataclass(frozen=True)
class Plan:
    """A way to report and what it buys.

    Attributes:
        false_alarm_days: Mean time to the first false alarm of the whole model, or longer.
        calibration_days: Of a device, in which nothing about it is judged.
    """

    reporting: Reporting
    catches: tuple[Catch, ...]
    smallest: tuple[Smallest, ...]
    run_length: float
    false_alarm_days: float
    calibration_days: float


def make_plan(
    budget: float,
    fleet: Fleet,
    config: DriftConfig,
    window_bytes: Callable[[float], float],
    *,
    target: float = 0.25,
) -> Plan:
    """Return the way to report within a budget that notices a shift of one device first.

    Where that takes equally long, or is not noticed on one device, a group and the fleet decide, and then
    the largest sample.

    Args:
        budget: Bytes that the windows of one device may take a day.
        config: How drift is judged; its length of rounds does not matter.
        window_bytes: Length of the message of a window of so many rows, in bytes.
        target: The shift, in standard deviations.

    Raises:
        RequestError: Not even the longest windows fit; says how many bytes those take.
    """
    affordable = list(_affordable(budget, fleet, window_bytes))
    if not affordable:
        least = describe(DAY_SECONDS, SAMPLES[-1], fleet, window_bytes).bytes_per_day
        raise RequestError(
            f"{fleet.columns} columns take at least {least:.0f} bytes a day in one window, got a budget of "
            f"{budget:.0f}: sketch fewer features, or grant more"
        )
    delays = np.stack([_hours(scope, target, affordable, fleet, config) for scope in _levels(fleet)], axis=1)
    order = [
        (*delay, -one.sample, one.bytes_per_day)
        for delay, one in zip(delays.tolist(), affordable, strict=True)
    ]
    best = order.index(min(order))
    return judge(affordable[best], fleet, config)


def describe(
    window_seconds: float, sample: float, fleet: Fleet, window_bytes: Callable[[float], float]
) -> Reporting:
    """Return a way to report with its rows and bytes."""
    rows = round(fleet.rows_per_day * window_seconds / DAY_SECONDS * sample)
    return Reporting(window_seconds, sample, rows, window_bytes(rows))


def judge(reporting: Reporting, fleet: Fleet, config: DriftConfig) -> Plan:
    """Return what a way to report buys."""
    days = reporting.window_seconds / DAY_SECONDS
    return Plan(
        reporting,
        tuple(_catches(reporting, fleet, config, SHIFTS)),
        tuple(_smallest(reporting, fleet, config)),
        config.run_length,
        config.run_length * days,
        config.calibration_windows * days * _windows_per_test(reporting, config),
    )


def _affordable(budget: float, fleet: Fleet, window_bytes: Callable[[float], float]) -> Iterator[Reporting]:
    for sample in SAMPLES:
        for seconds in LENGTHS:
            found = describe(seconds, sample, fleet, window_bytes)
            if found.bytes_per_day <= budget:
                yield found


def _hours(
    scope: tuple[Level, int], shift: float, ways: Sequence[Reporting], fleet: Fleet, config: DriftConfig
) -> Floats:
    """Return how many hours a shift takes for each way to report; infinite where it is not noticed."""
    z = np.concatenate([_bets(scope, (shift,), one, fleet, config) for one in ways])
    tests = _first_crossing(z, _bound(fleet, config))
    each = np.array([_windows_per_test(one, config) for one in ways])
    lengths = np.array([one.window_seconds / HOUR_SECONDS if one.rows else np.inf for one in ways])
    return np.asarray((tests + 1 + HOLD_ROUNDS) * each * lengths)


def _windows_per_test(reporting: Reporting, config: DriftConfig) -> int:
    """Return how many windows are added up until there are rows enough."""
    return max(1, int(np.ceil(config.minimum_rows / max(reporting.rows, 1))))


def _catches(
    reporting: Reporting, fleet: Fleet, config: DriftConfig, shifts: Sequence[float]
) -> Iterator[Catch]:
    each = _windows_per_test(reporting, config)
    for level, devices in _levels(fleet):
        tests = _tests((level, devices), shifts, reporting=reporting, fleet=fleet, config=config)
        for shift, test in zip(shifts, tests.tolist(), strict=True):
            if reporting.rows < 1 or not np.isfinite(test):
                yield Catch(level, devices, shift, None, None)
            else:
                windows = int(test) * each
                late = windows + (1 + HOLD_ROUNDS) * each
                yield Catch(level, devices, shift, windows, late * reporting.window_seconds / HOUR_SECONDS)


def _smallest(reporting: Reporting, fleet: Fleet, config: DriftConfig) -> Iterator[Smallest]:
    each = _windows_per_test(reporting, config)
    per_day = DAY_SECONDS / reporting.window_seconds / each
    for level, devices in _levels(fleet):
        tests = _tests((level, devices), _GRID.tolist(), reporting=reporting, fleet=fleet, config=config)
        tests += 1 + HOLD_ROUNDS
        for days in (1.0, 7.0):
            caught = _GRID[(tests <= days * per_day) & (reporting.rows > 0)]
            yield Smallest(level, days, float(caught[0]) if len(caught) else None)


def _levels(fleet: Fleet) -> Iterator[tuple[Level, int]]:
    yield "device", 1
    if fleet.groups and 1 < fleet.group < fleet.devices:
        yield "group", fleet.group
    if fleet.devices >= PEERS:
        yield "fleet", fleet.devices


def _tests(
    scope: tuple[Level, int],
    shifts: Sequence[float],
    *,
    reporting: Reporting,
    fleet: Fleet,
    config: DriftConfig,
) -> Floats:
    """Return how many tests each shift takes; infinite where it is not noticed."""
    return _first_crossing(_bets(scope, shifts, reporting, fleet, config), _bound(fleet, config))


def _bound(fleet: Fleet, config: DriftConfig) -> float:
    """Return what the weighted detectors of one column must reach for a single alarm, by e-BH."""
    subjects = fleet.devices + fleet.groups + 1
    return config.run_length / SHARES_OF_RATE["data"] * subjects * fleet.columns


def _bets(
    scope: tuple[Level, int],
    shifts: Sequence[float],
    reporting: Reporting,
    fleet: Fleet,
    config: DriftConfig,
) -> NDArray[np.float32]:
    """Return what each bet of the detector sees of each shift in one test, on average."""
    level, devices = scope
    each = _windows_per_test(reporting, config)
    rows = max(1, reporting.rows) * each
    # Variance of a score mean of one device: of its rows, and of the noise on the counts of its windows.
    single = fleet.design_effect / rows + fleet.count_noise * each / rows**2
    peers = fleet.devices - devices
    match level:
        case "fleet":
            noise = MEDIAN * single / devices
        case "device" | "group":
            noise = single / devices + (MEDIAN * single / peers if peers >= PEERS else 0.0)
    doubt = noise / config.calibration_windows
    allowed = np.sqrt(config.tolerance**2 + doubt * np.square(SLACKS, dtype=np.float64))
    moved = np.array([location_score(shift) for shift in shifts])
    return np.asarray(((moved[:, None] - allowed) / np.sqrt(noise)).astype(np.float32))


def _first_crossing(z: NDArray[np.float32], bound: float) -> Floats:
    detectors = np.zeros_like(z)
    found = np.full(len(z), np.inf)
    for test in range(1, MOST_WINDOWS + 1):
        detectors = see(detectors, z)
        crossed = detectors.astype(np.float64) @ _LOCATION_WEIGHT >= bound
        found[crossed & np.isinf(found)] = test
        if np.isfinite(found).all():
            break
    return found


def location_score(shift: float) -> float:
    """Return the mean of the first score when normal values have moved by so many standard deviations.

    √12 (Φ(s/√2) - ½), which is about 0.98 s for a small s: the score of the mid-rank is uniform.

    >>> round(location_score(0.25), 3)
    0.243
    """
    return float(np.sqrt(12) * (NormalDist().cdf(shift / np.sqrt(2)) - 0.5))
