"""Every message between agent and controller, as one tagged union.

Uplink messages are MessagePack. Those that travel through the outbox carry ``(device, epoch, sequence)``,
which names them for ever, so a repeat changes nothing. Desired state is JSON inside a signed envelope
(see ``trust.director``). Pure: no clock, no socket.
"""

from enum import StrEnum
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from muster_models.errors import MessageError, Reason
from muster_models.manifest import ModelName, Sha256, VersionName

T = TypeVar("T")

FORMAT: Literal[1] = 1
MAX_BYTES = 256 * 1024
Seconds = Annotated[float, Meta(ge=0, lt=2**40)]
Number = Annotated[int, Meta(ge=0, le=2**53)]  # what every reader holds exactly
DeviceId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{2,62}\Z")]
Detail = Annotated[str, Meta(max_length=600)]
# What an application counts: few and short, so that they cost a window some hundred bytes at most.
CounterName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.-]{0,31}\Z")]
MAX_COUNTERS = 16  # of one window
MAX_SAMPLE_ROWS = 1000  # of one order, from each device
MAX_SAMPLE_BYTES = 96 * 1024  # of the inputs in one message, and of the outputs
SampleBytes = Annotated[bytes, Meta(max_length=MAX_SAMPLE_BYTES)]


class Phase(StrEnum):
    """Where a device is on the way to its desired version."""

    IDLE = "idle"  # nothing to do: the current version is the desired one
    ASSIGNED = "assigned"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    SHADOW = "shadow"  # it answers beside the current version, and nobody is given its answers
    ACTIVATING = "activating"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


class SlotReport(Struct, frozen=True, array_like=True):
    """An installed version, by re-hashing its files."""

    manifest: Sha256
    version: VersionName


class ModelReport(Struct, frozen=True):
    """What one device really runs of one model.

    Attributes:
        target: The version the device last worked towards; its outcome is ``phase`` and ``reason``.
        tries: Activations tried of a candidate that is on trial.
        stopped: The model answers with its fallback by order.
    """

    model: ModelName
    phase: Phase
    current: SlotReport | None = None
    previous: SlotReport | None = None
    target: Sha256 | None = None
    reason: Reason | None = None
    detail: Detail = ""
    tries: int = 0
    stopped: bool = False


class OutboxStatus(Struct, frozen=True):
    """How full the outbox is and what it lost.

    Attributes:
        merged: Windows that were merged into another since the outbox was made.
        dropped: Messages that were dropped.
        first: Sequence of the oldest message that is still held, ``last + 1`` when there is none; the
            controller need not wait for what lies before it. 0 when it is not said.
    """

    epoch: Number
    last: Number
    waiting: Number
    bytes: Number
    merged: Number = 0
    dropped: Number = 0
    first: Number = 0


class Health(Struct, frozen=True):
    """How a device is at one moment.

    Attributes:
        at: By its own clock, which a hello lets the controller compare with its own.
        load: Average of runnable processes over a minute, per processor.
        memory_bytes: Of the agent with the processes that it started.
        waiting: Messages in the outbox.
        celsius: The warmest part that the device measures; None where it measures none.
        behind_seconds: How far its clock lies behind the newest time that it saw signed; 0 when it does not.
    """

    at: Seconds
    load: Annotated[float, Meta(ge=0, le=1e6)]
    memory_bytes: Number
    waiting: Number
    celsius: Annotated[float, Meta(ge=-274, le=10_000)] | None = None
    behind_seconds: Seconds = 0.0


class Hello(Struct, frozen=True, tag="hello"):
    """Sent after each connect and now and then: who I am and which desired state I hold."""

    device: DeviceId
    desired: Number  # sequence of the newest desired state that was accepted; 0 for none
    agent: str
    runtimes: dict[str, str]
    hardware: str
    memory_bytes: Number
    disk_free_bytes: Number
    time_zone: str
    isolation: str
    models: tuple[ModelReport, ...]
    outbox: OutboxStatus
    health: Health | None = None
    format: Literal[1] = FORMAT


class Report(Struct, frozen=True, tag="report"):
    """State of every model on the device; sent on each change and as a heartbeat."""

    device: DeviceId
    epoch: Number
    sequence: Number
    at: Seconds
    models: tuple[ModelReport, ...]
    health: Health | None = None
    format: Literal[1] = FORMAT


class ShadowCounts(Struct, frozen=True):
    """How a candidate that answers in shadow compares with the version of the window; all of it adds up.

    Attributes:
        candidate: Digest of its manifest.
        calls: Calls that it was asked as well, failed ones included.
        rows: Rows that both answered; of these, ``agreed`` had the same class, or values within ``TOLERANCE``
            standard deviations of the current version's baseline.
        errors: Calls that it failed; none of their rows is compared.
        dropped: Sampled calls that it was not asked: it was busy, or its share of the processor was used up.
        latency: Counts of its calls per bin of ``LATENCY_EDGES_MS``; one entry more than there are edges.
        difference: Sum over rows of the absolute difference of two values; 0 for classes.
    """

    candidate: Sha256
    calls: Number
    rows: Number
    agreed: Number
    errors: Number
    dropped: Number
    latency: tuple[Number, ...]
    difference: Annotated[float, Meta(ge=0)] = 0.0


class Window(Struct, frozen=True, tag="window"):
    """The sketch of one version on one device over one period.

    Attributes:
        start, end: Unix seconds; windows of a device do not overlap per model.
        calls: Predictions asked for, failed ones included; ``rows`` of the sketch counts what was sampled.
        errors: Calls that failed.
        latency: Counts per bin of ``LATENCY_EDGES_MS``; one entry more than there are edges.
        sketch: Bytes of ``sketch.codec``; may be empty when no row was sampled. Of failed calls it holds the
            rows of those whose inputs lacked something that is measured, each without an answer.
        parts: How many windows were merged into this one.
        shadow: What a candidate answered to the same calls; None where none was asked.
        counters: What the application counted while this version answered, by name.
    """

    device: DeviceId
    epoch: Number
    sequence: Number
    model: ModelName
    manifest: Sha256
    baseline: Sha256
    start: Seconds
    end: Seconds
    calls: Number
    errors: Number
    latency: tuple[Number, ...]
    sketch: bytes
    parts: Number = 1
    shadow: ShadowCounts | None = None
    counters: Annotated[dict[CounterName, Number], Meta(max_length=MAX_COUNTERS)] = {}
    format: Literal[1] = FORMAT


class Event(Struct, frozen=True, tag="event"):
    """Something that happened once and must never be lost: a refusal, an activation, a crash."""

    device: DeviceId
    epoch: Number
    sequence: Number
    at: Seconds
    kind: Literal[
        "refused", "installed", "activated", "committed", "rolled-back", "failed", "crashed", "dropped"
    ]
    model: str = ""
    manifest: str = ""
    reason: Reason | None = None
    detail: Detail = ""
    format: Literal[1] = FORMAT


class Sample(Struct, frozen=True, tag="sample"):
    """Rows that an operator ordered and the device's own settings allow; or why none come.

    Attributes:
        order: Its number.
        inputs, outputs: Of ``rows`` rows, as ``tensors`` encodes them; empty where there are none.
        reason: Why rows of this order do not come; None where some do.
    """

    device: DeviceId
    epoch: Number
    sequence: Number
    at: Seconds
    order: Number
    model: ModelName
    manifest: str = ""
    rows: Annotated[int, Meta(ge=0, le=MAX_SAMPLE_ROWS)] = 0
    inputs: SampleBytes = b""
    outputs: SampleBytes = b""
    reason: Reason | None = None
    detail: Detail = ""
    format: Literal[1] = FORMAT


class Name(Struct, frozen=True):
    """What names an outboxed message for ever, whatever else it says."""

    device: DeviceId
    epoch: Number
    sequence: Number


class Stored(Struct, frozen=True, tag="stored"):
    """Everything of ``epoch`` up to and including ``upto`` is in the database: the device may forget it."""

    epoch: Number
    upto: Number
    format: Literal[1] = FORMAT


LATENCY_EDGES_MS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
# Two values agree when they differ by no more than this many standard deviations of the output column in the
# current version's baseline, which is signed. Half of what is called a small effect (Cohen's d = 0.2).
TOLERANCE = 0.1

Outboxed = Report | Window | Event | Sample
Uplink = Hello | Report | Window | Event | Sample


class Reporting(Struct, frozen=True, forbid_unknown_fields=True):
    """How a device reports.

    Attributes:
        window_seconds: Length of a window, aligned to the wall clock.
        sample: Share of rows that are sketched, 0..1.
        heartbeat_seconds: Time between reports when nothing changes.
        window_rows: Sketched rows after which a window ends before its time; 0 for never.
        save_seconds: Time between two copies of the open window on disk, which a restart goes on from; 0 for
            none. What was seen since the last copy is what an agent that is killed loses.
        epsilon: Differential privacy of each column and window: the loss that noise on its counts allows;
            0 for no noise. See ``sketch.privacy``.
    """

    window_seconds: Annotated[float, Meta(ge=0.5, le=86_400)] = 300.0
    sample: Annotated[float, Meta(ge=0, le=1)] = 1.0
    heartbeat_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    window_rows: Annotated[int, Meta(ge=0, le=2**30)] = 0
    save_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 600.0
    epsilon: Annotated[float, Meta(ge=0, le=100)] = 0.0


class Shadow(Struct, frozen=True, forbid_unknown_fields=True):
    """An order that a candidate first answers beside the current version, without its answers being returned.

    Attributes:
        seconds: How long; it is activated afterwards, unless it failed.
        share: Of the calls, 0..1, drawn at random: those that it answers too.
        cpu_percent: Of one core, on average: the most that its answers may use.
    """

    seconds: Annotated[float, Meta(gt=0, le=604_800)]
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    cpu_percent: Annotated[float, Meta(gt=0, le=100)] = 10.0


class SampleOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """An order that a device hands out rows of a model, which it follows only where its own settings say so.

    Attributes:
        id: Names the order for ever.
        rows: The most that leave this device for it.
        expires: Unix seconds, after which none does.
    """

    id: Number
    model: ModelName
    rows: Annotated[int, Meta(ge=1, le=MAX_SAMPLE_ROWS)]
    expires: Seconds


class DesiredModel(Struct, frozen=True, forbid_unknown_fields=True):
    """The version one device should run of one model.

    Attributes:
        manifest: SHA-256 of the manifest, which must be listed for ``model@version``.
        settings: Values for settings that the manifest declares.
        stop: Answer with the declared fallback instead of the model.
        probation_seconds: How long a new version must run without failing before it is committed.
        shadow: What comes before its activation; None: nothing.
    """

    model: ModelName
    version: VersionName
    manifest: Sha256
    settings: dict[str, float] = {}
    stop: bool = False
    probation_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    shadow: Shadow | None = None


class Desired(Struct, frozen=True, forbid_unknown_fields=True):
    """What one device should run and how it should report; signed by the director key.

    Attributes:
        sequence: Grows with every change for this device; decides which of two is newer.
        issued, expires: Unix seconds.
        samples: Orders to hand out rows; none by default.
    """

    device: DeviceId
    sequence: Number
    issued: Seconds
    expires: Seconds
    models: tuple[DesiredModel, ...]
    reporting: Reporting = Reporting()
    samples: tuple[SampleOrder, ...] = ()
    format: Literal[1] = FORMAT


_encoder = msgspec.msgpack.Encoder()
_uplink: msgspec.msgpack.Decoder[Uplink] = msgspec.msgpack.Decoder(Uplink)
_name = msgspec.msgpack.Decoder(Name)
_stored = msgspec.msgpack.Decoder(Stored)
_desired = msgspec.json.Decoder(Desired)


def encode(message: Uplink | Stored) -> bytes:
    """Return the bytes of a message for MQTT."""
    return _encoder.encode(message)


def decode_uplink(payload: bytes) -> Uplink:
    """Parse what a device sent.

    Raises:
        MessageError: Too large, not MessagePack, or not of a known form.
    """
    return _decode(_uplink, payload)


def read_name(payload: bytes) -> Name | None:
    """Return the name of an outboxed message that cannot be decoded; None when it has none either."""
    try:
        return _decode(_name, payload)
    except MessageError:
        return None


def decode_stored(payload: bytes) -> Stored:
    """Parse a watermark.

    Raises:
        MessageError: Too large, not MessagePack, or not a watermark.
    """
    return _decode(_stored, payload)


def encode_desired(desired: Desired) -> bytes:
    """Return the canonical bytes that the director signs."""
    return msgspec.json.encode(desired, order="sorted")


def decode_desired(payload: bytes) -> Desired:
    """Parse the payload of a *verified* director envelope.

    Raises:
        MessageError: Not the expected form; unknown fields are refused.
    """
    return _decode(_desired, payload)


def _decode(decoder: "msgspec.msgpack.Decoder[T] | msgspec.json.Decoder[T]", payload: bytes) -> T:
    if len(payload) > MAX_BYTES:
        raise MessageError(f"a message has at most {MAX_BYTES} bytes, got {len(payload)}", Reason.TOO_LARGE)
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"message: {error}") from error
