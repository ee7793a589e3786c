"""Rows of calls from devices that allow it: ordering, looking, deleting; all of it is audited."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass

from sqlmodel import Session

from muster_controller.domain import selector
from muster_controller.domain.samples import Order, check_devices, check_terms, shown
from muster_controller.service.context import Context, Deed, record
from muster_controller.store import devices, samples, versions
from muster_controller.store.samples import Batch
from muster_controller.store.views.names import VersionRef, name_versions
from muster_models.errors import ConflictError, NotFoundError
from muster_models.tensors import decode_tensors

MAX_LISTED = 500
MAX_BATCHES = 20  # of one read; a batch has at most 192 KiB


@dataclass(frozen=True)
class SampleRequest:
    """What an operator orders.

    Attributes:
        where: A selector over devices, as they are now.
        rows: The most that each device hands out.
        seconds: From now until nothing is taken any more and every row is deleted.
    """

    model: str
    where: str
    rows: int
    seconds: float
    reason: str


@dataclass(frozen=True)
class SampleDeviceView:
    """What came of one device.

    Attributes:
        reason, detail: Why no row comes, as the device says; empty while it says nothing against it.
    """

    device: str
    rows: int
    reason: str
    detail: str


@dataclass(frozen=True)
class SampleOrderView:
    """An order for rows.

    Attributes:
        rows: The most of each device.
        until: When its rows are deleted.
        ended: When they were deleted.
        open: Rows are still taken.
        received: Rows that came.
        remaining: Rows that may still come, of devices that say nothing against it.
    """

    id: int
    model: str
    where: str
    rows: int
    reason: str
    actor: str
    since: dt.datetime
    until: dt.datetime
    ended: dt.datetime | None
    open: bool
    received: int
    remaining: int
    devices: tuple[SampleDeviceView, ...]


@dataclass(frozen=True)
class SampleBatchView:
    """Rows of one device.

    Attributes:
        id: Grows in the order of arrival.
        at: By the device's clock.
        inputs, outputs: By name; one entry for each row, None for NaN and the infinities.
    """

    id: int
    device: str
    version: VersionRef
    at: dt.datetime
    rows: int
    inputs: dict[str, list[object]]
    outputs: dict[str, list[object]]


def order(context: Context, actor: str, wanted: SampleRequest) -> SampleOrderView:
    """Order rows of a model; a device follows it only where its own settings allow that.

    Raises:
        RequestError: The reason, the cap, the end or the selector is not as it must be, or it chooses no
            device or too many.
        NotFoundError: No version of the model was released.
    """
    check_terms(rows=wanted.rows, seconds=wanted.seconds, reason=wanted.reason)
    chosen, now = selector.parse(wanted.where), context.clock()
    with context.unit() as session:
        if not versions.of_model(session, wanted.model):
            raise NotFoundError(f"no version of {wanted.model[:80]!r} was released")
        members = devices.members(session)
        names = [one.id for one in members if chosen.matches(selector.known_by(one.id, one.labels))]
        check_devices(len(names))
        until = now + wanted.seconds
        given = Order(0, wanted.model, wanted.where, wanted.rows, wanted.reason, actor, now, until)
        number = samples.add(session, given, names)
        detail = {
            "model": wanted.model,
            "where": wanted.where,
            "devices": names,
            "rows": wanted.rows,
            "seconds": wanted.seconds,
        }
        record(session, Deed(actor, "sample.order", f"sample {number}", wanted.reason, detail), now)
    context.wake()
    return show(context, number)


def list_orders(
    context: Context, model: str | None = None, *, limit: int = MAX_LISTED
) -> tuple[SampleOrderView, ...]:
    """Return orders, newest first, of one model or of all; no row is read."""
    now = context.clock()
    with context.reading() as session:
        return tuple(_view(session, one, now) for one in samples.newest(session, limit, model=model))


def show(context: Context, number: int) -> SampleOrderView:
    """Return one order and what came of each device; no row is read.

    Raises:
        NotFoundError: No such order.
    """
    with context.reading() as session:
        return _view(session, samples.get(session, number), context.clock())


def read(
    context: Context, actor: str, number: int, *, after: int = 0, reason: str = ""
) -> tuple[SampleBatchView, ...]:
    """Return rows of an order behind the batch ``after``, oldest first, and note who read them.

    Raises:
        NotFoundError: No such order.
        ConflictError: It is over; its rows are deleted, or about to be.
    """
    now = context.clock()
    with context.unit() as session:
        if not samples.get(session, number).is_open(now):
            raise ConflictError(f"order {number} for rows is over; there are no rows of it")
        found = samples.batches(session, number, after=after, limit=MAX_BATCHES)
        names = name_versions(session, (one.digest for one in found))
        detail = {"rows": sum(one.rows for one in found), "devices": sorted({one.device for one in found})}
        record(session, Deed(actor, "sample.read", f"sample {number}", reason, detail), now)
    return tuple(_batch(one, names[one.digest]) for one in found)


def read_lines(context: Context, actor: str, number: int, *, reason: str) -> Iterator[str]:
    """Return every row of an order as a line of JSON, batch by batch; who read them is noted.

    The first batch is read at once, so that what is wrong is known before anything is sent.

    Raises:
        NotFoundError: No such order.
        ConflictError: It is over; its rows are deleted, or about to be.
    """
    first = read(context, actor, number, reason=reason)

    def lines() -> Iterator[str]:
        found = first
        while found:
            for batch in found:
                yield from _lines(batch)
            is_last = len(found) < MAX_BATCHES
            found = () if is_last else read(context, actor, number, after=found[-1].id, reason=reason)

    return lines()


def _lines(batch: SampleBatchView) -> Iterator[str]:
    for index in range(batch.rows):
        row = {
            "device": batch.device,
            "at": batch.at.isoformat(),
            "version": batch.version.version,
            "inputs": {name: values[index] for name, values in batch.inputs.items()},
            "outputs": {name: values[index] for name, values in batch.outputs.items()},
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"


def delete(context: Context, actor: str, number: int, reason: str = "") -> SampleOrderView:
    """End an order, and delete its rows.

    Raises:
        NotFoundError: No such order.
        ConflictError: Its rows are deleted already.
    """
    now = context.clock()
    with context.unit() as session:
        if samples.get(session, number).ended is not None:
            raise ConflictError(f"the rows of order {number} are deleted")
        gone = samples.end(session, [number], now)
        record(session, Deed(actor, "sample.delete", f"sample {number}", reason, {"rows": gone}), now)
    samples.erase(context.engine)
    context.wake()
    return show(context, number)


def _view(session: Session, one: Order, now: float) -> SampleOrderView:
    answers = samples.answers(session, one.id)
    return SampleOrderView(
        id=one.id,
        model=one.model,
        where=one.where,
        rows=one.rows,
        reason=one.reason,
        actor=one.actor,
        since=_moment(one.since),
        until=_moment(one.until),
        ended=None if one.ended is None else _moment(one.ended),
        open=one.is_open(now),
        received=sum(answer.rows for answer in answers),
        remaining=sum(one.rows - a.rows for a in answers if not a.reason) if one.is_open(now) else 0,
        devices=tuple(SampleDeviceView(a.device, a.rows, a.reason, a.detail) for a in answers),
    )


def _batch(one: Batch, version: VersionRef) -> SampleBatchView:
    return SampleBatchView(
        id=one.id,
        device=one.device,
        version=version,
        at=_moment(one.at),
        rows=one.rows,
        inputs=shown(decode_tensors(one.inputs)),
        outputs=shown(decode_tensors(one.outputs)),
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
