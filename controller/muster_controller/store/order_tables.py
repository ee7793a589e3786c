"""Tables of what operators order of devices beyond versions.

Times are integer Unix milliseconds (UTC), as in ``tables``.
"""

from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel


class ReportingRecord(SQLModel, table=True):
    """How every device reports, where an operator changed it: one row, or none."""

    __tablename__ = "reporting"
    id: int = Field(default=1, primary_key=True)
    content: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # fields of wire.Reporting
    changed_at: int


class Untold(SQLModel, table=True):
    """A note that a device may have to be told something else; a device may be noted more than once."""

    id: int | None = Field(default=None, primary_key=True)
    device: str

    __table_args__ = ({"sqlite_autoincrement": True},)
