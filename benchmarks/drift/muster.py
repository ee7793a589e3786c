"""Muster's own path, as it runs: baseline, sketch of each window, bytes on the wire, detector.

``sketch_rows``, ``encode``, ``decode_all`` and ``observe`` are the product's; nothing is set but what
``DriftConfig`` has as its defaults.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from drift.fleet import Block, Setting
from drift.judge import Alarm
from muster_controller.domain.drift.detector import DriftConfig, DriftState, Signal, observe
from muster_controller.domain.facts import WindowFacts
from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.codec import decode_all, encode
from muster_models.sketch.window import Sketch, sketch_rows
from muster_models.wire import LATENCY_EDGES_MS

MANIFEST = "0" * 64
STEADY = 5  # bin of the latency of every call: calls do not drift here


@dataclass(frozen=True)
class Run:
    """What came of one fleet.

    Attributes:
        bytes_sent: Per feature-window.
        device_seconds, fleet_seconds: CPU per feature-window: sketch and encode; decode and detect.
    """

    alarms: tuple[Alarm, ...]
    bytes_sent: float
    device_seconds: float
    fleet_seconds: float


class Windows(Protocol):
    """What a fleet is to a method."""

    @property
    def setting(self) -> Setting:
        """What the fleet is like."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features."""

    def reference(self) -> Block:
        """Return the rows of the evaluation set."""

    def windows(self) -> Iterable[Block]:
        """Return blocks of shape (devices, rows, columns): the calibration's, then those that are judged."""


class Watch:
    """Drift detection over the windows of one fleet, one round after the other."""

    def __init__(
        self, names: tuple[str, ...], groups: dict[str, tuple[str, ...]], baseline: Baseline
    ) -> None:
        self.config = DriftConfig()
        self.baseline = baseline
        self.state = DriftState.new(baseline)
        self.alarms: list[Alarm] = []
        self._names, self._groups = names, groups
        self._index = {name: index for index, name in enumerate(names)}
        self._round = 0
        self._told: set[tuple[str, str, float]] = set()
        self._columns = {column.name: index for index, column in enumerate(baseline.columns)}

    def see(self, sketches: list[Sketch]) -> None:
        """Take in one round, and close it: on the wall clock that happens one window later."""
        seconds = self.config.round_seconds
        start = self._round * seconds
        windows = [
            WindowFacts(
                name,
                MANIFEST,
                start,
                start + seconds,
                sketch.rows,
                0,
                _latency(sketch),
                sketch,
                self.baseline,
            )
            for name, sketch in zip(self._names, sketches, strict=True)
        ]
        self.state, signals = observe(
            self.state, windows, self.baseline, self.config, groups=self._groups, now=start + 2 * seconds
        )
        for signal in signals:
            self._note(signal)
        self._round += 1

    def _note(self, signal: Signal) -> None:
        name = (signal.level, signal.subject, signal.since)
        if signal.fired_at is None or name in self._told:
            return
        self._told.add(name)
        features = [feature["feature"] for feature in signal.evidence["features"]] or [signal.feature]
        self.alarms.append(
            Alarm(
                self._round - self.config.calibration_windows,
                signal.level,
                frozenset(self._index[device] for device in signal.evidence["devices"]),
                frozenset(self._columns[feature] for feature in features if feature in self._columns),
            )
        )


def _latency(sketch: Sketch) -> tuple[int, ...]:
    """Return the latency of calls that all took as long."""
    return tuple(sketch.rows if index == STEADY else 0 for index in range(len(LATENCY_EDGES_MS) + 1))


def baseline_of(fleet: Windows) -> Baseline:
    """Return the baseline of a fleet's reference."""
    return make_baseline(fleet.reference().astype(np.float64), dict.fromkeys(fleet.columns, "numeric"))


def run(fleet: Windows, *, wire: int = 1) -> Run:
    """Watch a whole fleet.

    Args:
        wire: Every how many rounds the sketches are encoded and decoded. Counts are exact on the wire, so
            this changes no alarm; the page of operating characteristics saves half of its time by it.
    """
    baseline = baseline_of(fleet)
    watch = Watch(fleet.setting.names(), fleet.setting.groups(), baseline)
    sent = device = controller = 0.0
    rounds = 0
    for index, block in enumerate(fleet.windows()):
        if index % wire:
            watch.see([sketch_rows(rows, baseline) for rows in block])
            continue
        began = time.process_time()
        messages = send(block, baseline)
        between = time.process_time()
        watch.see(receive(messages, baseline))
        sent += sum(map(len, messages))
        device += between - began
        controller += time.process_time() - between
        rounds += 1
    total = fleet.setting.devices * len(fleet.columns) * rounds
    return Run(tuple(watch.alarms), sent / total, device / total, controller / total)


def send(block: Block, baseline: Baseline) -> list[bytes]:
    """Return what the devices send about one round."""
    return [encode(sketch_rows(rows, baseline), baseline) for rows in block]


def receive(messages: list[bytes], baseline: Baseline) -> list[Sketch]:
    """Return the sketches that the controller reads.

    Raises:
        SketchError: A message is not what ``send`` made.
    """
    sketches: list[Sketch] = []
    for sketch in decode_all(messages, baseline):
        if isinstance(sketch, SketchError):
            raise sketch
        sketches.append(sketch)
    return sketches
