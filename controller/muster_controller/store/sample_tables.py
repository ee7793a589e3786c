"""Tables of rows that operators ordered from devices. Orders stay for the record; their rows do not.

Times are integer Unix milliseconds (UTC), as in ``tables``.
"""

from sqlmodel import Field, SQLModel


class SampleOrderRecord(SQLModel, table=True):
    """An order for rows. It is never removed, so that no number ever names another order."""

    __tablename__ = "sample_order"
    id: int | None = Field(default=None, primary_key=True)
    model: str
    selector: str
    rows: int  # of each device, at most
    reason: str
    actor: str
    created_at: int
    expires_at: int
    ended_at: int | None = Field(default=None, index=True)  # when its rows were deleted


class SampleDevice(SQLModel, table=True):
    """A device that an order names, and what came of it."""

    __tablename__ = "sample_device"
    order_id: int = Field(primary_key=True)
    device: str = Field(primary_key=True)
    rows: int = 0
    bytes: int = 0
    reason: str = ""  # why rows do not come; empty while nothing is known against it
    detail: str = ""


class SampleRecord(SQLModel, table=True):
    """Rows of one device, as it encoded them."""

    __tablename__ = "sample"
    id: int | None = Field(default=None, primary_key=True)
    order_id: int = Field(index=True)
    device: str
    digest: str
    at: int
    rows: int
    inputs: bytes
    outputs: bytes
