"""Tables of what is done about alarms: who took them on, who hides them, who is told, what is trained anew.

Times are integer Unix milliseconds (UTC), as in ``tables``.
"""

from typing import Any

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field, SQLModel


class AlarmCare(SQLModel, table=True):
    """What receivers were last told of an alarm, and who took it on."""

    __tablename__ = "alarm_care"
    alarm: int = Field(primary_key=True)
    told: str | None = None
    told_at: int = 0
    acknowledged_at: int | None = None
    acknowledged_by: str = ""
    acknowledged_reason: str = ""


class SilenceRecord(SQLModel, table=True):
    """An order not to tell of some alarms until an instant."""

    __tablename__ = "silence"
    id: int | None = Field(default=None, primary_key=True)
    model: str | None = None
    kind: str | None = None
    level: str | None = None
    selector: str | None = None
    reason: str
    actor: str
    since: int
    until: int = Field(index=True)  # moved to the present when it is ended early


class Delivery(SQLModel, table=True):
    """One message to one receiver: the outbox of webhooks."""

    id: int | None = Field(default=None, primary_key=True)
    webhook: str
    message: str = Field(unique=True)  # its id for the receiver, the same at each try
    type: str
    subject: str
    cluster: str = ""  # the group of the notice
    content: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    state: str  # waiting, delivered, given-up
    created_at: int
    due_at: int  # its place in the order of the receiver
    retry_at: int
    tries: int = 0
    status: int | None = None  # of HTTP, at the last try
    detail: str = ""
    ended_at: int | None = Field(default=None, index=True)

    __table_args__ = (Index("delivery_order", "webhook", "state", "due_at", "id"),)


class ReceiverRecord(SQLModel, table=True):
    """How one receiver has done so far."""

    __tablename__ = "receiver"
    webhook: str = Field(primary_key=True)
    url: str
    delivered: int = 0
    given_up: int = 0
    gone_at: int | None = None  # it said that it wants nothing any more
    last_at: int | None = None
    status: int | None = None
    detail: str = ""


class Job(SQLModel, table=True):
    """One retraining job."""

    id: int | None = Field(default=None, primary_key=True)
    trigger: str = Field(index=True)
    alarm: int = Field(index=True)
    model: str
    cause: str
    state: str = Field(index=True)  # queued, running, done, failed, unknown
    runs: str  # command, or webhook and its name
    evidence: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    parent: str = ""
    created_at: int
    started_at: int | None = None
    deadline_at: int | None = None
    ended_at: int | None = None
    fence: str = ""  # of the one who runs it: nobody else may say how it ended
    exit_status: int | None = None
    output: str = ""
    detail: str = ""
