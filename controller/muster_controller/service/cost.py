"""The cost dial: what windows take, measured and planned, and what that buys."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sqlmodel import Session

from muster_controller.domain.drift import cost
from muster_controller.domain.drift.cost import DAY_SECONDS, Catch, Fleet, Plan, Smallest
from muster_controller.domain.drift.detector import DriftConfig
from muster_controller.domain.drift.groups import groups_of
from muster_controller.service.context import Context
from muster_controller.store import devices, reporting
from muster_controller.store.views import windows
from muster_controller.store.views.windows import Recent, Taken
from muster_models import wire
from muster_models.errors import NotFoundError, RequestError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.privacy import Loss, compose, noise_variance
from muster_models.sketch.size import sketch_bytes, typical_baseline
from muster_models.wire import LATENCY_EDGES_MS, Window

USUAL_ROWS = 10_000.0  # a day, where nobody says and nothing was measured
USUAL_DEVICES = 50
USUAL_GROUPS = 5
ANSWER_COLUMNS = 2  # of a model that names a class: its class and its confidence


@dataclass(frozen=True)
class PlanRequest:
    """What is planned for; what is None is taken from the model, or is a usual value.

    Attributes:
        bytes_per_day: That the windows of one device may take.
        features: Where no model is named.
        design_effect: How many rows say as much as one that depends on no other.
        shift: That should be noticed soon, in standard deviations.
        epsilon: Of differential privacy for each column and window; that of the present reporting.
    """

    bytes_per_day: float
    features: int = 20
    model: str | None = None
    devices: int | None = None
    rows_per_day: float | None = None
    design_effect: float = 1.0
    shift: float = 0.25
    epsilon: float | None = None


@dataclass(frozen=True)
class PlanView:
    """A way to report and what it buys.

    Attributes:
        columns: Features and what describes the answer.
        bins: Of all columns; those of a baseline do not depend on a plan.
        rows: Sketched rows of one window.
        bytes_per_feature: Of the sketch of one window.
        envelope_bytes: Of the message of a window besides its sketch.
        heartbeat_bytes_per_day: What reports take besides the windows, which no budget of theirs covers.
        group: Devices of the group that ``catches`` speaks of.
        false_alarm_days: Mean time to the first false alarm of the whole model, or longer.
        calibration_days: Of a device, in which nothing about it is judged.
        epsilon: Loss of differential privacy for each column and window; 0 for no noise.
        loss: What it comes to in a day for somebody whose rows are in every window.
    """

    model: str | None
    budget: float | None
    columns: int
    bins: int
    devices: int
    group: int
    rows_per_day: float
    window_seconds: float
    sample: float
    rows: int
    bytes_per_window: float
    bytes_per_feature: float
    envelope_bytes: float
    bytes_per_day: float
    heartbeat_bytes_per_day: float
    run_length: float
    false_alarm_days: float
    calibration_days: float
    catches: tuple[Catch, ...]
    smallest: tuple[Smallest, ...]
    epsilon: float
    loss: Loss


@dataclass(frozen=True)
class CostView:
    """What the windows of a model took in the last day, and what the present reporting buys.

    Attributes:
        windows, rows: Of all devices.
        bytes: Of the messages of all windows.
        bytes_per_device: For a whole day, as long as a device reported.
        planned_bytes: What the plan expects of one window with as many rows; ``measured_bytes`` it took.
    """

    model: str
    devices: int
    windows: int
    rows: int
    bytes: int
    bytes_per_device: float
    measured_bytes: float
    planned_bytes: float
    plan: PlanView


def plan(context: Context, wanted: PlanRequest) -> PlanView:
    """Return how devices should report within a budget, and what that buys.

    Raises:
        NotFoundError: No such model.
        RequestError: Not even one window a day fits, or there is no noise for this model.
    """
    with context.reading() as session:
        scene = _scene(context, session, wanted)
    made = cost.make_plan(
        wanted.bytes_per_day, scene.fleet, scene.config, scene.window_bytes, target=wanted.shift
    )
    return scene.view(made, wanted.bytes_per_day)


def show(context: Context, model: str) -> CostView:
    """Return what the windows of a model took in the last day, and what the present reporting buys.

    Raises:
        NotFoundError: No such model.
    """
    with context.reading() as session:
        scene = _scene(context, session, PlanRequest(0.0, model=model))
    taken, how = scene.taken, scene.reporting
    envelope = scene.envelope_bytes
    total = round(taken.sketches + taken.windows * envelope)
    rows = taken.rows / max(1, taken.windows)
    present = cost.describe(how.window_seconds, how.sample, scene.fleet, scene.window_bytes)
    return CostView(
        model=model,
        devices=taken.devices,
        windows=taken.windows,
        rows=taken.rows,
        bytes=total,
        bytes_per_device=total / taken.days if taken.days else 0.0,
        measured_bytes=total / taken.windows if taken.windows else 0.0,
        planned_bytes=scene.window_bytes(rows) if taken.windows else 0.0,
        plan=scene.view(cost.judge(present, scene.fleet, scene.config), None),
    )


@dataclass(frozen=True)
class _Scene:
    """What a plan is made for, and what was measured of it in the last day."""

    model: str | None
    baseline: Baseline
    fleet: Fleet
    config: DriftConfig
    reporting: wire.Reporting
    taken: Taken
    epsilon: float

    @property
    def envelope_bytes(self) -> float:
        return envelope(self.model or "a-model", 1000)

    @property
    def window_bytes(self) -> Callable[[float], float]:
        return functools.partial(message_bytes, self.baseline, self.model or "a-model", epsilon=self.epsilon)

    def view(self, made: Plan, budget: float | None) -> PlanView:
        found = made.reporting
        return PlanView(
            model=self.model,
            budget=budget,
            columns=self.fleet.columns,
            bins=sum(column.bins for column in self.baseline.columns),
            devices=self.fleet.devices,
            group=self.fleet.group,
            rows_per_day=self.fleet.rows_per_day,
            window_seconds=found.window_seconds,
            sample=found.sample,
            rows=found.rows,
            bytes_per_window=found.bytes_per_window,
            bytes_per_feature=sketch_bytes(self.baseline, found.rows, self.epsilon) / self.fleet.columns,
            envelope_bytes=self.envelope_bytes,
            bytes_per_day=found.bytes_per_day,
            heartbeat_bytes_per_day=heartbeat_bytes() * DAY_SECONDS / self.reporting.heartbeat_seconds,
            run_length=made.run_length,
            false_alarm_days=made.false_alarm_days,
            calibration_days=made.calibration_days,
            catches=made.catches,
            smallest=made.smallest,
            epsilon=self.epsilon,
            loss=compose(self.epsilon, self.fleet.columns, round(DAY_SECONDS / found.window_seconds)),
        )


def message_bytes(baseline: Baseline, model: str, rows: float, *, epsilon: float = 0.0) -> float:
    """Return the mean length of the message of a window of so many rows."""
    return envelope(model, rows) + sketch_bytes(baseline, rows, epsilon)


def envelope(model: str, rows: float) -> float:
    """Return the length of the message of a window besides its sketch: names, digests, times, latencies."""
    calls = max(1, round(rows))
    latency = (calls // 3, calls // 2, *[0] * (len(LATENCY_EDGES_MS) - 1))
    message = Window(
        device="device-0000",
        epoch=2**52,
        sequence=10_000,
        model=model,
        manifest="a" * 64,
        baseline="b" * 64,
        start=1e9,
        end=1e9,
        calls=calls,
        errors=0,
        latency=latency,
        sketch=b"",
    )
    return len(wire.encode(message)) + 1.0  # a sketch of more than 255 bytes says so in one byte more


@functools.cache
def heartbeat_bytes() -> int:
    """Return the length of a report of one model."""
    slot = wire.SlotReport("a" * 64, "1.0.0")
    state = wire.ModelReport("a-model", wire.Phase.COMMITTED, slot, slot, "a" * 64)
    health = wire.Health(1e9, 0.1, 2**30, 0, 40.0)
    return len(wire.encode(wire.Report("device-0000", 2**52, 10_000, 1e9, (state,), health)))


def _scene(context: Context, session: Session, wanted: PlanRequest) -> _Scene:
    how = reporting.current(session, context.settings.reporting)
    settings = context.settings.drift
    config = DriftConfig(
        calibration_windows=settings.calibration_windows,
        tolerance=settings.tolerance,
        run_length=settings.run_length,
        minimum_rows=settings.minimum_rows,
        round_seconds=how.window_seconds,
    )
    taken = Taken()
    baseline = typical_baseline(wanted.features + ANSWER_COLUMNS)
    if wanted.model is not None:
        sha256 = _newest(session, wanted.model)
        baseline = context.sketches.baseline(sha256)
        now = context.clock()
        taken = windows.taken(session, Recent(wanted.model, now - DAY_SECONDS, now, None, 0), sha256)
    members = devices.members(session)
    count = wanted.devices or taken.devices or len(members) or USUAL_DEVICES
    sizes: dict[str, int] = {}
    for member in members:
        for group in groups_of(member.labels, settings.group_labels):
            sizes[group] = sizes.get(group, 0) + 1
    several = sorted(size for size in sizes.values() if size > 1)
    epsilon = how.epsilon if wanted.epsilon is None else wanted.epsilon
    if epsilon and baseline.pairs is not None:
        raise RequestError(f"{wanted.model} has pairs, which cannot be told with differential privacy")
    rows = wanted.rows_per_day
    if rows is None:
        # What was sketched is a sample of what was asked.
        rows = taken.calls / taken.days if taken.days else USUAL_ROWS
    fleet = Fleet(
        columns=len(baseline.columns),
        rows_per_day=rows,
        devices=count,
        group=several[len(several) // 2] if several else max(2, count // USUAL_GROUPS),
        groups=len(several) if members else USUAL_GROUPS,
        design_effect=wanted.design_effect,
        count_noise=noise_variance(epsilon) * _squares(baseline),
    )
    return _Scene(wanted.model, baseline, fleet, config, how, taken, epsilon)


def _squares(baseline: Baseline) -> float:
    """Return the sum over its bins of the squared first score of a number, on average."""
    numeric = [column for column in baseline.columns if column.kind == "numeric"] or baseline.columns
    sums = [float(np.square(column.scores()[:, 0]).sum()) for column in numeric]
    return sum(sums) / max(1, len(sums))


def _newest(session: Session, model: str) -> str:
    known = windows.list_baselines(session, model)
    if not known:
        raise NotFoundError(f"no model {model!r}")
    return next(iter(known))
