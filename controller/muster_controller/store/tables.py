"""Every table. Rows live only in ``store``; the rest of the controller sees domain values.

Times are integer Unix milliseconds (UTC). JSON columns hold small documents that are only read whole.
"""

from typing import Any

from sqlalchemy import JSON, Column, Index, LargeBinary
from sqlmodel import Field, SQLModel


class Device(SQLModel, table=True):
    """An enrolled machine."""

    id: str = Field(primary_key=True)
    labels: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    hardware: str = ""
    agent: str = ""
    runtimes: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    isolation: str = ""
    time_zone: str = "UTC"
    memory_bytes: int = 0
    disk_free_bytes: int = 0
    enrolled_at: int
    certificate_serial: str
    certificate_expires: int
    revoked_at: int | None = None
    last_seen: int | None = Field(default=None, index=True)
    outbox_waiting: int = 0
    outbox_merged: int = 0
    outbox_dropped: int = 0
    desired_held: int = 0  # newest desired sequence the device says it holds
    # Of the last change of what is known of the device and its models: larger than that of any change before,
    # of any device.
    revision: int = Field(default=0, index=True)
    # Fields of wire.Health, and skew_seconds: the device's clock less ours, when a hello came.
    health: dict[str, float | None] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )


class EnrolmentToken(SQLModel, table=True):
    """A one-time token; only its hash is kept."""

    digest: str = Field(primary_key=True)
    device: str = Field(index=True)
    labels: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: int
    expires_at: int
    used_at: int | None = None
    revoked_at: int | None = None
    again: bool = False  # for a device that is enrolled and lost its identity


class BulkToken(SQLModel, table=True):
    """A token that admits several devices, whose ids begin with one prefix; only its hash is kept."""

    digest: str = Field(primary_key=True)
    prefix: str
    labels: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    count: int
    used: int = 0
    created_at: int
    expires_at: int
    revoked_at: int | None = None


class BulkUse(SQLModel, table=True):
    """One device that a bulk token admitted, by its key: the same key asking again is the same device."""

    digest: str = Field(primary_key=True)
    key: str = Field(primary_key=True)  # SHA-256 of the public key
    device: str
    certificate: str  # PEM: what the same key is given again when the answer got lost
    at: int


class EnrolmentRequest(SQLModel, table=True):
    """A machine without a token that asks to be let in."""

    key: str = Field(primary_key=True)  # SHA-256 of the public key
    code: str = Field(index=True, unique=True)
    device: str
    address: str = Field(index=True)
    state: str  # pending, accepted, refused, enrolled
    certificate: str = ""  # PEM, once enrolled: what the same key is given again when the answer got lost
    labels: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    asked_at: int = Field(index=True)
    expires_at: int


class Certificate(SQLModel, table=True):
    """A certificate that was issued to a device. Several of one device may be good: a renewal overlaps."""

    device: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    expires_at: int
    revoked_at: int | None = Field(default=None, index=True)


class Version(SQLModel, table=True):
    """A released version: its manifest exactly as it was signed."""

    digest: str = Field(primary_key=True)
    model: str = Field(index=True)
    version: str
    release: int
    baseline: str = Field(index=True)  # SHA-256 of the baseline file
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    published_at: int
    withdrawn_at: int | None = None

    __table_args__ = (Index("version_name", "model", "version", unique=True),)


class Assignment(SQLModel, table=True):
    """The version that one device should run of one model, and who decided so."""

    device: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    digest: str = Field(index=True)
    rollout: int | None = Field(default=None, index=True)
    since: int
    probation_seconds: float = 60.0
    # Fields of wire.Shadow: what comes before the version is activated; None for nothing.
    shadow: dict[str, float] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )


class StopOrder(SQLModel, table=True):
    """An order that a model answers with its fallback on every device, also on those that join later."""

    model: str = Field(primary_key=True)
    at: int


class DesiredState(SQLModel, table=True):
    """The newest signed desired state of one device."""

    device: str = Field(primary_key=True)
    sequence: int
    envelope: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    content: str  # SHA-256 of what it says apart from sequence and times: tells whether a new one is needed
    issued_at: int
    expires_at: int
    sent_at: int | None = Field(default=None, index=True)


class Running(SQLModel, table=True):
    """What one device last reported for one model."""

    device: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    current: str | None = Field(default=None, index=True)
    previous: str | None = None
    target: str | None = None
    phase: str = "idle"
    reason: str | None = None
    detail: str = ""
    tries: int = 0
    stopped: bool = False
    at: int
    # The newest message that is in this row: an older one that comes late must not undo it.
    epoch: int = 0
    sequence: int = 0


class Run(SQLModel, table=True):
    """Which device ran which version from when to when: one row per change of the current version."""

    id: int | None = Field(default=None, primary_key=True)
    device: str = Field(index=True)
    model: str
    digest: str = Field(index=True)
    since: int
    until: int | None = None


class Received(SQLModel, table=True):
    """Identity of every outboxed message that is stored, so that a repeat changes nothing."""

    device: str = Field(primary_key=True)
    epoch: int = Field(primary_key=True)
    sequence: int = Field(primary_key=True)


class Watermark(SQLModel, table=True):
    """Up to which sequence everything of a device's epoch is stored without a gap."""

    device: str = Field(primary_key=True)
    epoch: int = Field(primary_key=True)
    upto: int


class EventRecord(SQLModel, table=True):
    """An event of a device or of the controller itself (``device`` empty)."""

    __tablename__ = "event"
    __table_args__ = (Index("event_version", "digest", "kind", "at"),)
    id: int | None = Field(default=None, primary_key=True)
    device: str = Field(index=True)
    at: int = Field(index=True)
    kind: str
    model: str = ""
    digest: str = ""
    reason: str | None = None
    detail: str = ""


class WindowRecord(SQLModel, table=True):
    """One window of one device, still encoded."""

    __tablename__ = "window"
    id: int | None = Field(default=None, primary_key=True)  # ingest order: what drift has judged up to
    device: str
    model: str
    digest: str
    baseline: str
    start: int
    end: int
    rows: int
    calls: int
    errors: int
    latency: list[int] = Field(sa_column=Column(JSON, nullable=False))
    sketch: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    parts: int = 1
    # What the application counted, by name; None for nothing.
    counters: dict[str, int] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    received_at: int = Field(index=True)

    __table_args__ = (
        Index("window_model_end", "model", "end"),
        Index("window_device_end", "device", "model", "end"),
        Index("window_baseline", "model", "baseline", "id"),
        # A number is never used again, even after the newest windows were removed: drift counts on it.
        {"sqlite_autoincrement": True},
    )


class ShadowRecord(SQLModel, table=True):
    """What a candidate answered in shadow on one device, beside one version: the sum of its windows."""

    __tablename__ = "shadow"
    device: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)  # of the version that answered
    candidate: str = Field(primary_key=True, index=True)
    model: str
    calls: int
    rows: int
    agreed: int
    errors: int
    dropped: int
    difference: float
    latency: list[int] = Field(sa_column=Column(JSON, nullable=False))
    # Of the version that answered, over the same windows.
    beside_calls: int
    beside_errors: int
    beside_latency: list[int] = Field(sa_column=Column(JSON, nullable=False))
    since: int
    until: int


class LabelRecord(SQLModel, table=True):
    """What one push said about the predictions of one device, version and window: rows are only added."""

    __tablename__ = "label"
    id: int | None = Field(default=None, primary_key=True)  # order of arrival: what was judged up to
    push: int  # id of the first row of the push
    device: str
    model: str
    digest: str
    start: int
    end: int
    correction: bool = False  # of labels that were given before: what is to be added to those counts
    counts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # of domain.labels.counts
    # Of counts that the application made: SHA-256 of whose they are, so that a repeat changes nothing.
    key: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True, index=True))
    actor: str
    received_at: int

    __table_args__ = (
        Index("label_version", "digest", "id"),
        Index("label_model_end", "model", "end"),
        Index("label_end", "end"),
        {"sqlite_autoincrement": True},
    )


class Labelled(SQLModel, table=True):
    """A prediction whose truth is known, by half the SHA-256 of its id."""

    key: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    label: str  # the class's index, or the number, as text
    at: int = Field(index=True)  # of the prediction


class LabelState(SQLModel, table=True):
    """What is watched for concept drift of one version, as the domain last left it."""

    digest: str = Field(primary_key=True)
    upto: int  # id of the newest row of ``label`` that is in the state
    active: bool  # an alarm stands
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    updated_at: int


class Refusal(SQLModel, table=True):
    """Bytes that were refused at ingest, counted per device and reason; the bytes are not kept."""

    device: str = Field(primary_key=True)
    reason: str = Field(primary_key=True)
    count: int
    last_at: int
    last_detail: str = ""


class RolloutRecord(SQLModel, table=True):
    """A rollout: its plan as it was given, its state as the domain last left it."""

    __tablename__ = "rollout"
    id: int | None = Field(default=None, primary_key=True)
    model: str = Field(index=True)
    digest: str
    previous: str | None = None
    phase: str = Field(index=True)
    plan: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    state: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    created_at: int
    created_by: str
    updated_at: int
    fence: int = 0  # grows with every step: one that was decided on an older row changes nothing
    ticking: bool = Field(default=True, index=True)  # time alone may change something


class RolloutMember(SQLModel, table=True):
    """One device of a rollout: where the draw put it, and what has become of it since."""

    __tablename__ = "rollout_member"
    rollout: int = Field(primary_key=True)
    device: str = Field(primary_key=True, index=True)
    arm: int
    given: int | None = None
    tries: int = 0
    retry_at: int | None = None
    failure: str | None = None  # a reason; None while it did not fail
    detail: str = ""
    acknowledged: bool = False
    withdrawn: str = ""


class EvidenceRecord(SQLModel, table=True):
    """What a rollout saw when it judged, and its verdict."""

    __tablename__ = "evidence"
    id: int | None = Field(default=None, primary_key=True)
    rollout: int = Field(index=True)
    at: int
    stage: int
    verdict: str
    content: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class DriftState(SQLModel, table=True):
    """The state of all drift signals of one model on one baseline, as the domain last left it."""

    model: str = Field(primary_key=True)
    baseline: str = Field(primary_key=True)
    upto: int  # id of the newest window that is in the state
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    updated_at: int


class Alarm(SQLModel, table=True):
    """A drift signal that crossed its bound."""

    id: int | None = Field(default=None, primary_key=True)
    model: str = Field(index=True)
    baseline: str
    kind: str
    level: str  # device, group, fleet
    subject: str  # device id, ``label=value``, or ``all``
    feature: str
    state: str = Field(index=True)  # pending, firing, resolved
    since: int
    fired_at: int | None = None
    resolved_at: int | None = None
    effect: float
    unit: str = ""
    evidence: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class AuditEntry(SQLModel, table=True):
    """Who did what, and why."""

    __tablename__ = "audit"
    id: int | None = Field(default=None, primary_key=True)
    at: int = Field(index=True)
    actor: str
    action: str
    subject: str
    reason: str = ""
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
