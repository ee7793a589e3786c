"""Which outboxed messages are stored, so that a repeat changes nothing; the watermark that tells the device.

Of each device's epoch the watermark says up to where everything is stored without a gap; ``Received`` holds
only what lies beyond it, so it stays small however long a device reports. Sequences of an epoch begin with 1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import BindParameter, bindparam, delete, tuple_
from sqlmodel import Session

from muster_controller.store.engine import ask, insert_new, table, upsert
from muster_controller.store.tables import Received, Watermark

# A stream cannot run further ahead of its watermark than this, so that a device cannot fill the table.
# An outbox of 64 MB holds fewer messages.
MAX_AHEAD = 100_000

Stream = tuple[str, int]  # device, epoch
Name = tuple[str, int, int]  # device, epoch, sequence

_AT_ONCE = 1_000  # SQLite takes a limited number of parameters
_STREAMS: BindParameter[Stream] = bindparam("streams", expanding=True)
_MARKED, _AHEAD = table(Watermark).c, table(Received).c
_MARKS = sqlalchemy.select(_MARKED.device, _MARKED.epoch, _MARKED.upto).where(
    tuple_(_MARKED.device, _MARKED.epoch).in_(_STREAMS)
)
_BEYOND = sqlalchemy.select(_AHEAD.device, _AHEAD.epoch, _AHEAD.sequence).where(
    tuple_(_AHEAD.device, _AHEAD.epoch).in_(_STREAMS)
)


@dataclass(frozen=True)
class Receipt:
    """What came of a batch of messages.

    Attributes:
        new: Those that were not stored before: only they may have an effect.
        marks: The watermark of every stream of the batch.
    """

    new: frozenset[Name]
    marks: Mapping[Stream, int]


def receive(session: Session, names: Iterable[Name]) -> Receipt:
    """Remember messages and move the watermarks of their streams as far as there is no gap."""
    asked = set(names)
    streams = {name[:2] for name in asked}
    marks = watermarks(session, streams)
    held = _beyond(session, streams)
    new = {name for name in asked if 0 < name[2] - marks[name[:2]] <= MAX_AHEAD} - held
    known = held | new
    moved = {stream: _contiguous(stream, mark, known) for stream, mark in marks.items()}
    insert_new(session, Received, [_row(name) for name in new if name[2] > moved[name[:2]]])
    _forget(session, [name for name in held if name[2] <= moved[name[:2]]])
    _save(session, {stream: upto for stream, upto in moved.items() if upto > marks[stream]})
    return Receipt(frozenset(new), moved)


def skip(session: Session, stream: Stream, upto: int) -> None:
    """Move the watermark of a stream over what its device no longer has, and so can never send again.

    That happens when the database was restored from an older copy: the device forgot what the lost one held.
    """
    if upto > watermarks(session, {stream})[stream]:
        _save(session, {stream: upto})
        _forget(session, [name for name in _beyond(session, {stream}) if name[2] <= upto])


def watermarks(session: Session, streams: set[Stream]) -> dict[Stream, int]:
    """Return the watermark of each stream; 0 where nothing is stored yet."""
    rows = ask(session, _MARKS, streams=list(streams))
    held = {(device, epoch): upto for device, epoch, upto in rows}
    return dict.fromkeys(sorted(streams), 0) | held


def _beyond(session: Session, streams: set[Stream]) -> set[Name]:
    rows = ask(session, _BEYOND, streams=list(streams))
    return {(device, epoch, sequence) for device, epoch, sequence in rows}


def _contiguous(stream: Stream, upto: int, known: set[Name]) -> int:
    while (*stream, upto + 1) in known:
        upto += 1
    return upto


def _forget(session: Session, names: list[Name]) -> None:
    if names:
        columns = table(Received).c
        key = tuple_(columns.device, columns.epoch, columns.sequence)
        for start in range(0, len(names), _AT_ONCE):
            session.execute(delete(table(Received)).where(key.in_(names[start : start + _AT_ONCE])))


def _save(session: Session, marks: Mapping[Stream, int]) -> None:
    rows = [{"device": device, "epoch": epoch, "upto": upto} for (device, epoch), upto in marks.items()]
    upsert(session, Watermark, rows)


def _row(name: Name) -> dict[str, object]:
    return dict(zip(("device", "epoch", "sequence"), name, strict=True))
