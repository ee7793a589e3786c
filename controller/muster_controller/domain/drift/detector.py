"""Drift of a fleet: from windows to alarms, one per cause.

Windows fall into rounds by the middle of their time. A round is closed one round later; a window that comes
later still makes a round of its own, in which its device is judged without peers. See ``levels`` and
``detectors`` for how a round is judged and ``incidents`` for how alarms come of it.

What is stated, and what it rests on, is in ``incidents`` and ``sequential``; what it was measured to be is in
``tests/unit/test_drift_detection.py``. Columns and calls are watched apart, each with its part of the stated
rate: when both run as long as their part allows, the model runs as long as stated.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from muster_controller.domain.drift import calls
from muster_controller.domain.drift.detectors import update
from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.drift.incidents import Bounds, follow
from muster_controller.domain.drift.levels import learn
from muster_controller.domain.drift.measures import Entry, Measure, Measures, answer_columns, scorer_of
from muster_controller.domain.drift.placing import AHEAD_ROUNDS, place
from muster_controller.domain.drift.signals import Signal, tell
from muster_controller.domain.drift.state import (
    SIDES,
    DriftState,
    Incident,
    Kind,
    Level,
    Part,
    Store,
    Watched,
    decode_state,
)
from muster_controller.domain.facts import WindowFacts
from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline

__all__ = ["DriftConfig", "DriftState", "Kind", "Level", "Signal", "decode_state", "observe", "retire"]

SHARES_OF_RATE: dict[Part, float] = {"data": 0.9, "performance": 0.1}


@dataclass(frozen=True)
class DriftConfig:
    """How drift is judged; the first four as in the controller's settings.

    Attributes:
        run_length: Mean number of rounds to the first false alarm of the model, over all signals together.
        round_seconds: Length of a round, in which devices are compared; that of a window.
        history_seconds: A window that is older is counted and not judged.
    """

    calibration_windows: int = 24
    tolerance: float = 0.05
    run_length: float = 2000.0
    minimum_rows: int = 30
    round_seconds: float = 300.0
    history_seconds: float = 14 * 86_400.0

    def of(self, part: Part) -> "DriftConfig":
        """Return how one part is judged: it has its share of the rate, and latency a tolerance of its own."""
        return dataclasses.replace(
            self,
            run_length=self.run_length / SHARES_OF_RATE[part],
            tolerance=tolerance_of(part, self.tolerance),
        )


@dataclass(frozen=True)
class Terms:
    """How one part is judged: its settings, who belongs together, and as in ``update`` and ``Bounds``."""

    config: DriftConfig
    groups: Groups
    sides: Store
    answers: frozenset[int]


def tolerance_of(part: Part, tolerance: float) -> float:
    """Return what does not matter in one part, where ``tolerance`` does not matter in columns."""
    return max(tolerance, calls.TOLERANCE) if part == "performance" else tolerance


def observe(
    state: DriftState,
    windows: Sequence[WindowFacts],
    baseline: Baseline,
    config: DriftConfig,
    *,
    groups: Groups,
    now: float,
) -> tuple[DriftState, list[Signal]]:
    """Take in windows of one baseline and return every active alarm, and those resolved in this call.

    Args:
        groups: Names of the groups that each device belongs to, as ``label=value``.
        now: Unix seconds by the controller's clock: closes rounds.

    Raises:
        SketchError: State or windows belong to another baseline.
    """
    if state.baseline != baseline.digest:
        raise SketchError(f"expected drift of baseline {baseline.digest[:12]}, got {state.baseline[:12]}")
    if any(window.sketch is not None and window.sketch.baseline != state.baseline for window in windows):
        raise SketchError(f"expected windows of baseline {state.baseline[:12]} alone")
    placed = place(windows, state, config.round_seconds, config.history_seconds, now=now)
    sketched = [(window, window.sketch) for window in placed.windows if window.sketch is not None]
    scored = scorer_of(baseline).measure([sketch for _, sketch in sketched])
    in_order = iter(scored)
    data = [None if window.sketch is None else next(in_order) for window in placed.windows]
    news: dict[Part, list[tuple[WindowFacts, Measure]]] = {
        "data": [(window, measure) for (window, _), measure in zip(sketched, scored, strict=True)],
        "performance": list(
            zip(placed.windows, calls.measure_calls(placed.windows, data, baseline), strict=True)
        ),
    }
    answers: dict[Part, frozenset[int]] = {"data": answer_columns(baseline), "performance": frozenset()}
    parts: dict[Part, Watched] = {}
    signals: list[Signal] = []
    for part, watched in state.parts.items():
        added = _add(watched, news[part], config.round_seconds)
        terms = Terms(config.of(part), groups, calls.SIDES if part == "performance" else SIDES, answers[part])
        parts[part], ended = _close_all(added, terms, now=now)
        signals += tell(part, parts[part].incidents, ended, baseline, now=now)
    return DriftState(state.baseline, parts, placed.spans, placed.counted), signals


def retire(
    state: DriftState, devices: Collection[str], baseline: Baseline, *, now: float
) -> tuple[DriftState, list[Signal]]:
    """Forget devices that no longer run a version with this baseline; alarms about them alone are resolved.

    Silence does not resolve an alarm: a device that is merely out of reach must not be retired.
    """
    gone = frozenset(devices)
    parts: dict[Part, Watched] = {}
    signals: list[Signal] = []
    for part, watched in state.parts.items():
        ended = [incident for incident in watched.incidents if gone.issuperset(incident.devices)]
        parts[part] = _without(watched, gone, ended)
        signals += tell(part, parts[part].incidents, ended, baseline, now=now)
    spans = {device: known for device, known in state.spans.items() if device not in gone}
    return dataclasses.replace(state, parts=parts, spans=spans), signals


def _without(watched: Watched, gone: frozenset[str], ended: list[Incident]) -> Watched:
    return dataclasses.replace(
        watched,
        levels=watched.levels.without(gone),
        incidents=tuple(incident for incident in watched.incidents if incident not in ended),
        banks={**watched.banks, "device": watched.banks["device"].without(gone)},
        open={
            index: {device: entry for device, entry in held.items() if device not in gone}
            for index, held in watched.open.items()
        },
        waiting={device: entry for device, entry in watched.waiting.items() if device not in gone},
    )


def _add(watched: Watched, news: Sequence[tuple[WindowFacts, Measure]], seconds: float) -> Watched:
    """Return the part with new windows in its open rounds."""
    rounds = {index: dict(held) for index, held in watched.open.items()}
    for window, measure in news:
        if measure.rows:
            held = rounds.setdefault(int((window.start + window.end) / 2 // seconds), {})
            entry = Entry(window.manifest, measure)
            held[window.device] = held[window.device].plus(entry) if window.device in held else entry
    return dataclasses.replace(watched, open=rounds)


def _close_all(watched: Watched, terms: Terms, *, now: float) -> tuple[Watched, list[Incident]]:
    """Close every round that is over."""
    config = terms.config
    current = int(now // config.round_seconds)
    # One further ahead is numbered by another length of rounds: devices were told to report differently.
    rounds = {index: held for index, held in watched.open.items() if index <= current + AHEAD_ROUNDS}
    ended: list[Incident] = []
    for index in sorted(index for index in rounds if index < current - 1):
        end = (index + 1) * config.round_seconds
        held = rounds.pop(index)
        watched, over = _close(watched, held, terms, now=now, end=end)
        ended += over
    return dataclasses.replace(watched, open=rounds), ended


def _close(
    watched: Watched,
    held: Mapping[str, Entry],
    terms: Terms,
    *,
    now: float,
    end: float,
) -> tuple[Watched, tuple[Incident, ...]]:
    config, groups = terms.config, terms.groups
    measured, waiting = _gather(watched, held, config.minimum_rows)
    watched = dataclasses.replace(watched, waiting=waiting)
    if not measured:
        return watched, ()
    covered = frozenset(device for incident in watched.incidents for device in incident.devices)
    levels, found = learn(watched.levels, Measures.of(measured), config.calibration_windows, covered=covered)
    watched = dataclasses.replace(watched, levels=levels)
    if not found.names:
        return watched, ()
    watched = update(watched, found, groups, tolerance=config.tolerance, end=end, sides=terms.sides)
    bounds = Bounds(config.run_length, config.tolerance, config.calibration_windows, terms.answers)
    return follow(watched, groups, bounds, seen=frozenset(found.names), now=now)


def _gather(
    watched: Watched, held: Mapping[str, Entry], minimum_rows: int
) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """Return what has rows enough to be tested, and what has to wait for more."""
    measured: dict[str, Entry] = {}
    waiting = dict(watched.waiting)
    for device, entry in held.items():
        before = waiting.pop(device, None)
        total = entry if before is None else before.plus(entry)
        (measured if total.measure.rows >= minimum_rows else waiting)[device] = total
    return measured, waiting
