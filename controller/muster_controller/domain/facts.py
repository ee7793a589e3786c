"""What is known about devices and their windows when something is decided."""

from collections.abc import Collection, Mapping, Sequence
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
        zone: Name of its time zone, such as ``Europe/Berlin``, as the device says.
        hardware, agent, runtimes: As in ``wire.Hello``; empty when it never said.
        memory_bytes, disk_free_bytes: 0 when it never said.
    """

    device: str
    labels: Mapping[str, str] = field(default_factory=dict)
    seen: float | None = None
    current: str | None = None
    target: str | None = None
    phase: Phase = Phase.IDLE
    reason: Reason | None = None
    detail: str = ""
    zone: str = "UTC"
    hardware: str = ""
    agent: str = ""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    disk_free_bytes: int = 0


@dataclass(frozen=True)
class WindowFacts:
    """One window, decoded.

    Attributes:
        manifest: Digest of the version that answered.
        start, end: Unix seconds by the device's clock.
        calls, errors: As in ``wire.Window``; ``latency`` counts calls per bin of ``LATENCY_EDGES_MS``.
        sketch: None when no row was sampled; else made with the bins of ``baseline``.
        counters: What the application counted meanwhile, by name.
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
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelFacts:
    """What became known about the predictions of one device, version and window of time.

    Attributes:
        end: Of that window, Unix seconds by the device's clock.
        of, right: Labelled predictions of classes, and how many were right.
    """

    device: str
    manifest: str
    end: float
    of: int
    right: int


@dataclass(frozen=True)
class FirstCrash:
    """When a device crashed for the first time since a rollout began.

    Attributes:
        at: Unix seconds.
        of_version: It ran the rollout's version; else the one before.
    """

    at: float
    of_version: bool


@dataclass(frozen=True)
class Observed:
    """What is known of a rollout's two versions besides windows; each part only where the plan asks for it.

    Attributes:
        crashes: Of the version since the rollout began, by device. A device tells of one a minute at most.
        first_crashes: Of witnesses of both arms.
        crashes_upto: Number of the newest crash of either version that is known.
        agreement: By device, rows on which candidate and current version agreed, and rows compared.
        reliability: By version: evaluation rows per bin of confidence, and how many were answered right.
        labels: New since ``Ledger.labels_upto``, in order of arrival; ``labels_upto`` is the newest's number.
        beside: Devices that another rollout, of another model, has given a version.
    """

    crashes: Mapping[str, int] = field(default_factory=dict)
    first_crashes: Mapping[str, FirstCrash] = field(default_factory=dict)
    crashes_upto: int = 0
    agreement: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reliability: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    labels: Sequence[LabelFacts] = ()
    labels_upto: int = 0
    beside: Collection[str] = ()


@dataclass(frozen=True)
class Facts:
    """Everything a rollout sees in one tick.

    Attributes:
        now: Unix seconds by the controller's clock.
        devices: Every enrolled device that is not revoked, by id; the plan's selector chooses among them.
        windows: Of the plan's model and any version, new since ``State.upto``, in order of arrival.
        upto: Id of the newest window among them, or ``State.upto`` when there is none.
        reachable_seconds: A device that was silent for longer does not count as reachable.
        download_bytes: Of all files of the plan's version; 0 when that is not known.
        elsewhere: Devices that belong to another rollout of the model, which is live or newer: its number.
        observed: What is known besides windows.
        offsets: Of each time zone that is known, by name: seconds by which its walls are ahead of UTC now.
        withdrawn: The plan's version is no longer listed.
    """

    now: float
    devices: Mapping[str, DeviceFacts]
    windows: Sequence[WindowFacts] = ()
    upto: int = 0
    reachable_seconds: float = 900.0
    download_bytes: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    observed: Observed = Observed()
    offsets: Mapping[str, float] = field(default_factory=lambda: {"UTC": 0.0})
    withdrawn: bool = False

    def is_reachable(self, device: DeviceFacts) -> bool:
        """Tell whether a device was heard of lately enough to be waited for."""
        return device.seen is not None and self.now - device.seen <= self.reachable_seconds
