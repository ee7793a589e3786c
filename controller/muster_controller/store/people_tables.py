"""People of a controller, and drills. Times are integer Unix milliseconds (UTC), as in ``tables``."""

from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel


class PersonRecord(SQLModel, table=True):
    """Somebody with a token of their own, of which only the hash is kept.

    The row stays after the person was revoked: a name in the audit trail never means somebody else.
    """

    __tablename__ = "person"
    name: str = Field(primary_key=True)
    roles: list[str] = Field(sa_column=Column(JSON, nullable=False))
    # Names of models that the roles are for; NULL for all.
    models: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    token: str = Field(index=True, unique=True)  # SHA-256 of the token, in hex
    created_at: int
    created_by: str
    token_at: int  # when the token was made
    revoked_at: int | None = None


class DrillRecord(SQLModel, table=True):
    """A rehearsal: some devices were sent to another version and back, and how long that took."""

    __tablename__ = "drill"
    id: int | None = Field(default=None, primary_key=True)
    kind: str  # rollback
    model: str = Field(index=True)
    rollout: int = Field(index=True)
    phase: str = Field(index=True)
    state: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    reason: str
    started_by: str
    started_at: int
    ended_at: int | None = Field(default=None, index=True)
