"""Orders for rows, what devices said to them, and the rows, which are deleted for good when an order ends."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, Row, bindparam, delete, func, update
from sqlmodel import Session, col, select

from muster_controller.domain.samples import Held, Order, check_sample
from muster_controller.store import untold, versions
from muster_controller.store.engine import ask, erase_deleted, overwrite_deleted, table
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.sample_tables import SampleDevice, SampleOrderRecord, SampleRecord
from muster_models.errors import MessageError, NotFoundError, Reason
from muster_models.wire import Sample, SampleOrder

_ORDERS, _ASKED = table(SampleOrderRecord).c, table(SampleDevice).c
_OPEN = (
    sqlalchemy.select(*_ORDERS, _ASKED.device)
    .join(table(SampleDevice), _ASKED.order_id == _ORDERS.id)
    .where(_ORDERS.ended_at.is_(None), _ORDERS.expires_at > bindparam("now"))
    .where(_ASKED.device.in_(bindparam("devices", expanding=True)))
    .order_by(_ORDERS.id)
)
_DUE = sqlalchemy.select(*_ORDERS).where(_ORDERS.ended_at.is_(None), _ORDERS.expires_at <= bindparam("now"))


@dataclass(frozen=True)
class Answer:
    """What one device said to an order: how many rows came, or why they do not."""

    device: str
    rows: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Batch:
    """Rows of one device, still encoded; ``at`` is Unix seconds by the device's clock."""

    id: int
    device: str
    digest: str
    at: float
    rows: int
    inputs: bytes
    outputs: bytes


def add(session: Session, order: Order, devices: Iterable[str]) -> int:
    """Store an order for rows of some devices, and return its number."""
    row = SampleOrderRecord(
        model=order.model,
        selector=order.where,
        rows=order.rows,
        reason=order.reason,
        actor=order.actor,
        created_at=milliseconds(order.since),
        expires_at=milliseconds(order.until),
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    chosen = list(devices)
    session.add_all(SampleDevice(order_id=row.id, device=device) for device in chosen)
    untold.note(session, chosen)
    return row.id


def get(session: Session, number: int) -> Order:
    """Return an order.

    Raises:
        NotFoundError: No such order.
    """
    row = session.get(SampleOrderRecord, number)
    if row is None:
        raise NotFoundError(f"no order {number} for rows")
    return _order(row)


def newest(session: Session, limit: int, *, model: str | None = None) -> list[Order]:
    """Return orders, newest first; of one model, or of all."""
    query = select(SampleOrderRecord).order_by(col(SampleOrderRecord.id).desc()).limit(limit)
    if model is not None:
        query = query.where(SampleOrderRecord.model == model)
    return [_order(row) for row in session.exec(query)]


def answers(session: Session, number: int) -> list[Answer]:
    """Return what each device said that an order names."""
    query = select(SampleDevice).where(SampleDevice.order_id == number).order_by(SampleDevice.device)
    return [Answer(row.device, row.rows, row.reason, row.detail) for row in session.exec(query)]


def batches(session: Session, number: int, *, after: int, limit: int) -> list[Batch]:
    """Return rows of an order behind the batch numbered ``after``, in the order of their arrival."""
    query = (
        select(SampleRecord)
        .where(SampleRecord.order_id == number, col(SampleRecord.id) > after)
        .order_by(col(SampleRecord.id))
        .limit(limit)
    )
    return [_batch(row) for row in session.exec(query)]


def open_orders(session: Session, devices: Collection[str], now: float) -> dict[str, list[SampleOrder]]:
    """Return what each of some devices is told of the orders that hold."""
    found: dict[str, list[SampleOrder]] = {}
    for row in ask(session, _OPEN, now=milliseconds(now), devices=list(devices)):
        found.setdefault(row.device, []).append(_order(row).told())
    return found


def receive(session: Session, sample: Sample, now: float) -> None:
    """Store rows that a device handed out, or why it does not.

    Raises:
        MessageError: They were not ordered so.
    """
    answer = session.get(SampleDevice, (sample.order, sample.device))
    row = session.get(SampleOrderRecord, sample.order)
    if answer is None or row is None:
        raise MessageError(f"no order {sample.order} for rows of {sample.device}", Reason.NOT_LISTED)
    total = session.exec(
        select(func.coalesce(func.sum(SampleDevice.bytes), 0)).where(SampleDevice.order_id == sample.order)
    ).one()
    check_sample(sample, _order(row), Held(answer.rows, total), now=now)
    if sample.reason is not None:
        answer.reason, answer.detail = str(sample.reason), sample.detail
        session.flush()
        return
    if versions.baselines(session, [sample.manifest]).get(sample.manifest, ("",))[0] != sample.model:
        raise MessageError(f"{sample.manifest[:12]!r} is no version of {sample.model}")
    answer.rows += sample.rows
    answer.bytes += len(sample.inputs) + len(sample.outputs)
    session.add(
        SampleRecord(
            order_id=sample.order,
            device=sample.device,
            digest=sample.manifest,
            at=milliseconds(sample.at),
            rows=sample.rows,
            inputs=sample.inputs,
            outputs=sample.outputs,
        )
    )
    session.flush()


def due(session: Session, now: float) -> list[Order]:
    """Return the orders that are past their end and whose rows are still here."""
    return [_order(row) for row in ask(session, _DUE, now=milliseconds(now))]


def end(session: Session, numbers: Sequence[int], now: float) -> int:
    """Delete every row of some orders, which hold no more, and return how many rows that were."""
    overwrite_deleted(session)
    gone = session.exec(
        select(func.coalesce(func.sum(SampleRecord.rows), 0)).where(col(SampleRecord.order_id).in_(numbers))
    ).one()
    session.execute(delete(SampleRecord).where(col(SampleRecord.order_id).in_(numbers)))
    session.execute(
        update(SampleOrderRecord)
        .where(col(SampleOrderRecord.id).in_(numbers))
        .values(ended_at=milliseconds(now))
    )
    ordered = select(SampleDevice.device).where(col(SampleDevice.order_id).in_(numbers))
    untold.note(session, session.exec(ordered).all())
    return int(gone)


def erase(engine: Engine) -> None:
    """Erase from the database's files what ``end`` deleted."""
    erase_deleted(engine, SampleRecord)


def _order(row: SampleOrderRecord | Row[Any]) -> Order:
    assert row.id is not None
    return Order(
        id=row.id,
        model=row.model,
        where=row.selector,
        rows=row.rows,
        reason=row.reason,
        actor=row.actor,
        since=seconds(row.created_at),
        until=seconds(row.expires_at),
        ended=None if row.ended_at is None else seconds(row.ended_at),
    )


def _batch(row: SampleRecord) -> Batch:
    assert row.id is not None
    return Batch(row.id, row.device, row.digest, seconds(row.at), row.rows, row.inputs, row.outputs)
