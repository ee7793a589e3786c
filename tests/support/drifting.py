"""Presses in the store of a controller: a site drifts, a sensor breaks, one is slow, the rest is calm."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from muster_controller.config import DriftSettings
from muster_controller.domain.drift.detector import DriftConfig, DriftState, decode_state, observe
from muster_controller.service.label_pushing import push_labels
from muster_controller.store import devices, windows
from muster_controller.store import drift as drift_store
from muster_controller.store.baselines import Baselines
from muster_controller.store.facts import window_facts
from muster_models.manifest import ClassOutput, FeatureSpec
from muster_models.sketch.baseline import Baseline, Origin, make_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.features import CLASS, CONFIDENCE, Column
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import sketch_rows
from muster_models.wire import LATENCY_EDGES_MS, Reporting, Window
from support.office import Clock, Office, open_office

SITES = ("berlin", "lyon", "oslo", "porto")
DEVICES = tuple(f"{site}-{number}" for site in SITES for number in (1, 2, 3))
UNITS = {"brightness": "lux", "temperature": "°C", "vibration": "mm/s", "humidity": "% rH", "pressure": "bar"}
KINDS: dict[str, Column] = {
    **dict.fromkeys(UNITS, "numeric"),
    "material": "category",
    CONFIDENCE: "confidence",
    CLASS: "class",
}
LABELS = ("fine", "scratch", "dent", "stain")
MATERIALS = np.array(("steel", "brass", "copper", "zinc", "tin"), dtype=object)
SECONDS, CALIBRATION = 300.0, 12
DRIFTED, BROKEN, SLOW = "berlin", "oslo-2", "lyon-1"


@dataclass(frozen=True)
class Ill:
    """What is wrong with a device.

    Attributes:
        dim: By how many standard deviations its light is darker.
        missing: Share of its humidity values that are missing.
        strange: Share of its rows that are of a material which the baseline does not hold.
        slow: Latency bins that its calls are slower.
    """

    dim: float = 0.0
    missing: float = 0.0
    strange: float = 0.0
    slow: int = 0


def draw(rows: int, chance: np.random.Generator, own: float = 0.0, ill: Ill = Ill()) -> Rows:
    """Return what a press sees and answers; ``own`` is what is peculiar to it."""
    light = chance.normal(own - ill.dim, 1.0, rows)
    heat = chance.normal(own / 2, 1.0, rows)
    numbers = np.column_stack(
        [
            420 + 35 * light,
            61 + 4 * heat,
            np.exp(0.4 * chance.normal(own, 1.0, rows)),
            np.where(chance.random(rows) < ill.missing, np.nan, 40 + 6 * chance.normal(-own, 1.0, rows)),
            5 + 0.2 * heat + 0.1 * chance.normal(0, 1.0, rows),
            np.clip(
                1 / (1 + np.exp(-2.2 - chance.normal(0, 0.8, rows) - 0.8 * np.minimum(light, 1))), 0.25, 1
            ),
            chance.choice(4, rows, p=(0.82 - 0.05 * ill.dim, 0.09, 0.06, 0.03 + 0.05 * ill.dim)),
        ]
    )
    material = chance.choice(MATERIALS[:4], rows, p=(0.55, 0.25, 0.15, 0.05))
    material[chance.random(rows) < ill.strange] = MATERIALS[4]
    return Rows(numbers, (material,))


def make_press_baseline() -> Baseline:
    """Return what the presses' evaluation set looked like."""
    return make_baseline(draw(3000, np.random.default_rng(1)), KINDS, classes=len(LABELS), units=UNITS)


@dataclass
class Fleet:
    """Twelve presses at four sites that report to one controller."""

    office: Office
    digest: str
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    rounds: int = 0

    def __post_init__(self) -> None:
        self.own = {name: 0.2 * self.chance.standard_normal() for name in DEVICES}

    @property
    def baseline(self) -> Baseline:
        return self.office.baseline

    def report(self, count: int, ill: Mapping[str, Ill] | None = None) -> None:
        """Let every press send so many windows, and the controller judge each round."""
        for _ in range(count):
            start, self.office.clock.now = self.office.clock.now, self.office.clock.now + SECONDS
            sent = [self._window(name, start, (ill or {}).get(name, Ill())) for name in DEVICES]
            with self.office.context.unit() as session:
                windows.add(session, sent, self.office.clock.now)
                devices.saw(session, DEVICES, self.office.clock.now)
            self.judge()

    def judge(self) -> None:
        """Let the detectors see what is new, as the controller's loop does."""
        context, now = self.office.context, self.office.clock.now
        with context.reading() as session:
            judged = drift_store.judged(session, "press", self.baseline.digest)
            upto = 0 if judged is None else judged.upto
            found = windows.after(session, "press", self.baseline.digest, upto=upto, limit=10_000)
            groups = {
                member.id: tuple(f"{key}={value}" for key, value in member.labels.items())
                for member in devices.members(session)
            }
        state = DriftState.new(self.baseline) if judged is None else decode_state(judged.state)
        facts = window_facts(found, Baselines(context.blobs))
        config = DriftConfig(calibration_windows=CALIBRATION, round_seconds=SECONDS)
        state, signals = observe(state, facts, self.baseline, config, groups=groups, now=now)
        with context.unit() as session:
            kept = drift_store.Judged(found[-1].id if found else upto, state.encode())
            drift_store.save(session, "press", self.baseline.digest, judged=kept, now=now)
            for signal in signals:
                drift_store.save_alarm(session, "press", self.baseline.digest, signal=signal)

    def _window(self, device: str, start: float, ill: Ill) -> tuple[Window, int]:
        rows = draw(int(self.chance.integers(150, 250)), self.chance, self.own[device], ill)
        latency = np.bincount(
            np.clip(self.chance.normal(6.5 + ill.slow, 1.2, len(rows)).astype(int), 0, len(LATENCY_EDGES_MS)),
            minlength=len(LATENCY_EDGES_MS) + 1,
        )
        self.rounds += 1
        window = Window(
            epoch=1,
            sequence=self.rounds,
            device=device,
            model="press",
            manifest=self.digest,
            baseline=self.baseline.digest,
            start=start,
            end=start + SECONDS - 1,
            calls=len(rows),
            errors=0,
            latency=tuple(latency.tolist()),
            sketch=encode(sketch_rows(rows, self.baseline), self.baseline),
        )
        return window, len(rows)


ILL = {name: Ill(dim=0.8) for name in DEVICES if name.startswith(DRIFTED)}
ILL |= {BROKEN: Ill(missing=0.3), SLOW: Ill(slow=2)}


def open_fleet(folder: Path, *, origin: Origin = "reference") -> Fleet:
    """Found a controller with one version of ``press`` and twelve devices that reported nothing yet."""
    office = open_office(
        folder,
        clock=Clock(1_800_000_000.0),
        drift=DriftSettings(calibration_windows=CALIBRATION),
        reporting=Reporting(window_seconds=SECONDS),
    )
    office.baseline = msgspec.structs.replace(make_press_baseline(), origin=origin)
    office.install()
    features = tuple(
        FeatureSpec(name, "image", column=at, unit=UNITS.get(name, ""), kind=kind)
        for at, (name, kind) in enumerate(KINDS.items())
        if kind in {"numeric", "category"}
    )
    release = office.release(
        model="press", features=features, prediction=ClassOutput("probabilities", LABELS)
    )
    office.enrol(*DEVICES)
    return Fleet(office, release.version.digest)


def drifted_fleet(folder: Path) -> Fleet:
    """Return the fleet after 60 rounds, in the last fourteen of which something was wrong."""
    fleet = open_fleet(folder)
    fleet.report(46)
    fleet.report(14, ILL)
    return fleet


def push_truth(fleet: Fleet, *, right: int = 90, wrong: int = 10) -> None:
    """Let the truth about some answers of the last rounds become known."""
    now = fleet.office.clock.now
    lines = [
        {
            "device": "porto-1",
            "model": "press",
            "version": "1.0.0",
            "start": now - (back + 1) * SECONDS,
            "end": now - back * SECONDS - 1,
            "confusion": {"fine": {"fine": right, "dent": wrong}},
        }
        for back in range(1, 5)
    ]
    pushed = push_labels(fleet.office.context, "operator", json.dumps(lines).encode())
    assert pushed.refused == 0, pushed.refusals
