"""What is known about devices and their windows when something is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from muster_models.errors import Reason
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.window import Sketch
from muster_models.wire import Phase


@dataclass(frozen=True)
class DeviceFacts:
    """One device and one model.

    Attributes:
        seen: When anything was last heard of it, Unix seconds; None for never.
        current: Digest of the version that it runs; None for none.
        target: Digest that it last worked towards; ``phase`` and ``reason`` are about that.
    """

    device: str
    labels: Mapping[str, str] = field(default_factory=dict)
    seen: float | None = None
    current: str | None = None
    target: str | None = None
    phase: Phase = Phase.IDLE
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True)
class WindowFacts:
    """One window, decoded.

    Attributes:
        manifest: Digest of the version that answered.
        start, end: Unix seconds by the device's clock.
        calls, errors: As in ``wire.Window``; ``latency`` counts calls per bin of ``LATENCY_EDGES_MS``.
        sketch: None when no row was sampled; else made with the bins of ``baseline``.
    """

    device: str
    manifest: str
    start: float
    end: float
    calls: int
    errors: int
    latency: Sequence[int] = ()
    sketch: Sketch | None = None
    baseline: Baseline | None = None


@dataclass(frozen=True)
class Facts:
    """Everything a rollout sees in one tick.

    Attributes:
        now: Unix seconds by the controller's clock.
        devices: Every enrolled device that is not revoked, by id; the plan's selector chooses among them.
        windows: Of the plan's model and any version, new since ``State.upto``, in order of arrival.
        upto: Id of the newest window among them, or ``State.upto`` when there is none.
        reachable_seconds: A device that was silent for longer does not count as reachable.
    """

    now: float
    devices: Mapping[str, DeviceFacts]
    windows: Sequence[WindowFacts] = ()
    upto: int = 0
    reachable_seconds: float = 900.0

    def is_reachable(self, device: DeviceFacts) -> bool:
        """Tell whether a device was heard of lately enough to be waited for."""
        return device.seen is not None and self.now - device.seen <= self.reachable_seconds
