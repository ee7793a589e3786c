"""What the detectors said, round by round, computed again from stored windows by the same functions.

The controller's loop judges what has arrived whenever it ticks; a replay ticks once a round. So an alarm's
times may differ by one tick, and windows that came in that tick are judged a round later; what a detector
says does not differ otherwise.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from muster_controller.domain.drift.attribution import LEGS, Scene, make_scene
from muster_controller.domain.drift.detector import DriftConfig, observe
from muster_controller.domain.drift.detectors import column_values, subject_values
from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.drift.incidents import reach
from muster_controller.domain.drift.levels import FORGET
from muster_controller.domain.drift.signals import Signal
from muster_controller.domain.drift.state import DriftState, Level, Part
from muster_controller.domain.facts import WindowFacts
from muster_models.sketch.baseline import Baseline


@dataclass(frozen=True)
class Arrived:
    """A window and when it came, Unix seconds by the controller's clock."""

    at: float
    window: WindowFacts


@dataclass(frozen=True)
class Asked:
    """Whose evidence is asked for: a subject, and one leg of one column of it."""

    part: Part
    level: Level
    subject: str
    column: int
    leg: str


@dataclass(frozen=True)
class Step:
    """What was known at the end of one round.

    Attributes:
        end: Of the round that was judged, Unix seconds.
        devices: Devices of the subject that are calibrated.
        value, bound: Logarithms of the subject's detector, and of what it had to reach to cross.
        column: Logarithm of the detector of the column that is asked for.
        effect: Distance of the middle device from its own level in this round; None when none was there.
        recent: Moving average of that, which is what an alarm reports.
        state: ``quiet``, ``pending``, ``firing`` or ``resolved``: of an alarm about the subject.
    """

    end: float
    devices: int
    value: float
    bound: float
    column: float
    effect: float | None
    recent: float
    state: str


@dataclass(frozen=True)
class Told:
    """What a replay found: the evidence round by round, and every alarm about the subject as last told."""

    steps: tuple[Step, ...]
    alarms: tuple[Signal, ...]


def replay(
    arrived: Iterable[Arrived],
    baseline: Baseline,
    config: DriftConfig,
    asked: Asked,
    *,
    groups: Groups,
    until: float,
) -> Told:
    """Judge windows again, one round after the other.

    Args:
        arrived: In the order of arrival.
        until: Unix seconds; rounds that were closed later are left out.

    Raises:
        SketchError: A window belongs to another baseline.
    """
    state, steps, told = DriftState.new(baseline), list[Step](), dict[float, Signal]()
    before: Scene | None = None
    for now, windows in _ticks(arrived, config.round_seconds, until):
        state, signals = observe(state, windows, baseline, config, groups=groups, now=now)
        about = [s for s in signals if (s.level, s.subject) == (asked.level, asked.subject)]
        told |= {signal.since: signal for signal in about if _is_of(signal, asked)}
        scene = make_scene(state.parts[asked.part], groups, config.calibration_windows)
        said = [signal.state for signal in about if _is_of(signal, asked)]
        end = (now // config.round_seconds - 1) * config.round_seconds
        steps.append(_step(state, scene, before, config, asked, end=end, said=said))
        before = scene
    return Told(tuple(steps), tuple(told.values()))


def _ticks(
    arrived: Iterable[Arrived], seconds: float, until: float
) -> Iterator[tuple[float, list[WindowFacts]]]:
    """Yield the end of each round, and what came by then."""
    waiting = iter(arrived)
    following = next(waiting, None)
    if following is None:
        return
    index = int(following.at // seconds) + 1
    while index * seconds <= until:
        windows = []
        while following is not None and following.at <= index * seconds:
            windows.append(following.window)
            following = next(waiting, None)
        yield index * seconds, windows
        index += 1


def _is_of(signal: Signal, asked: Asked) -> bool:
    return (signal.kind == "performance") == (asked.part == "performance")


def _step(
    state: DriftState,
    scene: Scene,
    before: Scene | None,
    config: DriftConfig,
    asked: Asked,
    *,
    end: float,
    said: Sequence[str],
) -> Step:
    watched = state.parts[asked.part]
    bank, leg = watched.banks[asked.level], LEGS.index(asked.leg)
    at = bank.index().get(asked.subject)
    there = scene.members(asked.level, asked.subject)
    recent = scene.moved[there, asked.column, leg]
    bound = reach(
        [subject_values(one) for one in watched.banks.values()],
        config.of(asked.part).run_length,
    )
    return Step(
        end=end,
        devices=int(there.sum()),
        value=_log(0.0 if at is None else float(subject_values(bank)[at])),
        bound=_log(bound),
        column=_log(0.0 if at is None else float(column_values(bank)[at, asked.column])),
        effect=_effect(scene, before, asked, leg),
        recent=float(np.median(recent)) if len(recent) else 0.0,
        state=said[-1] if said else "quiet",
    )


def _effect(scene: Scene, before: Scene | None, asked: Asked, leg: int) -> float | None:
    """Return the distance of this round alone, which is what moved the moving average."""
    if before is None:
        return None
    found = []
    for name in [scene.names[at] for at in np.flatnonzero(scene.members(asked.level, asked.subject))]:
        now = float(scene.moved[scene.index[name], asked.column, leg])
        old = float(before.moved[before.index[name], asked.column, leg]) if name in before.index else 0.0
        if now != old:
            found.append((now - (1 - FORGET) * old) / FORGET)
    return float(np.median(found)) if found else None


def _log(value: float) -> float:
    return float(np.log(max(value, 1e-30)))
