"""What this device has not yet been told is stored: bounded, durable, delivered at least once.

SQLite in WAL mode, every addition synced. Numbers are given late: a message gets its sequence number when it
is first handed out for sending, and from then on it is kept, unchanged, until the controller's watermark
covers it. Only messages without a number are merged or dropped, so the numbers have no hole that would hold
the watermark up. How much may be on its way is bounded, so that a broker that accepts everything while the
controller is down cannot pull the whole outbox into that state.

When the outbox is full: first the pair of neighbouring windows of one version that is cheapest to merge is
merged; then samples are dropped, reports that a newer one replaces, and the oldest windows. Events are never
dropped; that something was is an event itself.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

import msgspec

from muster_agent.measure import open_windows, outboxed, sample_counts
from muster_agent.measure.outbox_database import hold, move, open_or_begin, refusals
from muster_agent.update.state import DETAIL_LENGTH
from muster_agent.update.steps import EventKind
from muster_models import wire
from muster_models.errors import Reason
from muster_models.topics import Up
from muster_models.wire import (
    Event,
    Health,
    ModelReport,
    Outboxed,
    OutboxStatus,
    Report,
    Sample,
    Stored,
    Window,
)

Merge = Callable[[Window, Window], Window | None]

MAX_UNDERWAY = 256  # messages that have a number and are not known to be stored
ROW_BYTES = 64  # what SQLite adds to a message, about
EVICT_TO = 0.95  # of max_bytes, so that a full outbox does not evict at every addition


@dataclass(frozen=True)
class WindowPart:
    """A window as the recorder measured it; the outbox adds who sends it and its number.

    Attributes:
        start, end: Unix seconds.
        shadow, counters: What a candidate answered to the same calls; what the application counted meanwhile.
    """

    model: str
    manifest: str
    baseline: str
    start: float
    end: float
    calls: int
    errors: int
    latency: tuple[int, ...]
    sketch: bytes
    shadow: wire.ShadowCounts | None = None
    counters: dict[str, int] = field(default_factory=dict)

    def sent_by(self, device: str) -> Window:
        """Return the message, which has no number yet."""
        return Window(device, 0, 0, **vars(self))


class Place(Enum):
    """Where messages wait."""

    DISK = auto()
    MEMORY = auto()  # until ``settle``, because the disk refuses


class Outbox:
    """Messages that wait for the controller. Thread safe.

    Args:
        path: The database file; one that is damaged is put aside and a new one begun.
        max_bytes: What messages may take, events aside.
        max_age: Seconds after which windows and reports that were never sent are dropped.
        merge: Returns two windows as one, or None when that is not possible.
        clock: Unix seconds.
        draw: Returns a new epoch.
        place: Where to begin.

    Raises:
        StorageError: The disk refused; it never does where messages wait in memory.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        max_bytes: int,
        max_age: float,
        merge: Merge,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], int] = lambda: secrets.randbits(53),
        place: Place = Place.DISK,
    ) -> None:
        self._device = device
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._merge = merge
        self._clock = clock
        self._lock = threading.Lock()
        self._path = path
        self._draw = draw
        self.place = place
        with refusals(path):
            self._database, was_damaged = (
                open_or_begin(path, draw) if place is Place.DISK else (hold(draw), False)
            )
            self._bytes = self._count_bytes()
        self._drop_unreadable()
        self._recover()
        if was_damaged:
            now = self._now()
            self._add(
                Event(device, 0, 0, now, "dropped", detail="the outbox was damaged; a new one begins"), now
            )

    # What goes in

    def add_report(self, models: tuple[ModelReport, ...], health: Health | None = None) -> None:
        """Add the state of every model, and how the device is.

        Raises:
            StorageError: The disk refused; nothing was added.
            MessageError: No reader would take the message; nothing was added.
        """
        now = self._now()
        self._add(Report(self._device, 0, 0, now, models, health), now)

    def add_window(self, part: WindowPart) -> None:
        """Add a window.

        Raises:
            StorageError: The disk refused; nothing was added.
            MessageError: No reader would take the message, as when it is too large; nothing was added.
        """
        self._add(part.sent_by(self._device), self._now())

    def save_open(self, part: WindowPart) -> None:
        """Keep a copy of a window that is still measured; it is handed out if the agent is killed.

        A part without calls says only that measuring has begun.

        Raises:
            StorageError: The disk refused; the copy before is kept.
        """
        message = part.sent_by(self._device)
        payload = wire.encode(message) if part.calls else None
        with self._lock, self._transaction():
            open_windows.save(self._database, outboxed.grouping_of(message), part.end, payload)

    def close_open(self, part: WindowPart) -> None:
        """Forget the copy of a version that is measured no more.

        Raises:
            StorageError: The disk refused; the next start takes it for that of an agent that was killed.
        """
        with self._lock, self._transaction():
            open_windows.forget(self._database, outboxed.grouping_of(part.sent_by(self._device)))

    def add_event(
        self,
        kind: EventKind,
        *,
        model: str = "",
        manifest: str = "",
        reason: Reason | None = None,
        detail: str = "",
    ) -> None:
        """Add an event; it is never dropped. A detail that is too long is cut.

        Raises:
            StorageError: The disk refused; nothing was added.
        """
        now, detail = self._now(), detail[:DETAIL_LENGTH]
        self._add(Event(self._device, 0, 0, now, kind, model, manifest, reason, detail), now)

    def add_sample(self, sample: Sample, *, most: int) -> bool:
        """Add rows of an order, or why none come; False where it has had ``most``, or was told why."""
        with self._lock, self._transaction():
            is_new = sample_counts.count(self._database, sample, most=most)
            if is_new:
                self._put(sample, self._now(), str(sample.order))
            return is_new

    def keep_samples(self, orders: Sequence[int]) -> None:
        """Forget the rows that no other order than these asks for, unless they are under way."""
        with self._lock, self._transaction():
            held = ", ".join(f"'{order:d}'" for order in orders)
            self._delete(f"sequence IS NULL AND kind = 'sample' AND grouping NOT IN ({held})")
            sample_counts.forget_others(self._database, orders)

    def sampled(self, order: int) -> int:
        """Return how many rows an order has had."""
        with self._lock, refusals(self._path):
            return sample_counts.rows_of(self._database, order)

    def _now(self) -> float:
        return max(0.0, self._clock())  # a clock before 1970 has no form on the wire

    def _add(self, message: Outboxed, now: float) -> None:
        with self._lock, self._transaction():
            self._put(message, now)

    def _put(self, message: Outboxed, now: float, grouping: str = "") -> None:
        self._insert(message, now, grouping)
        dropped = self._expire(now)
        if self._bytes > self._max_bytes:
            dropped += self._evict()
        if dropped:
            self._tell_dropped(dropped, now)

    def _insert(self, message: Outboxed, now: float, grouping: str = "") -> None:
        parts = 1
        if isinstance(message, Window):
            grouping, parts = outboxed.grouping_of(message), message.parts
            open_windows.end(self._database, grouping, message.end)
        payload = wire.encode(message)
        outboxed.decode(payload)  # what the controller cannot read would hold the watermark up for ever
        self._database.execute(
            "INSERT INTO message (kind, at, grouping, parts, payload) VALUES (?, ?, ?, ?, ?)",
            (outboxed.kind_of(message), now, grouping, parts, payload),
        )
        self._bytes += len(payload) + ROW_BYTES

    # What goes out

    def batch(self, after: int, limit: int) -> list[tuple[int, Up, bytes]]:
        """Return up to ``limit`` messages behind sequence number ``after``, oldest first.

        Messages that have no number yet get one here. Fewer are returned while too many are under way.

        Raises:
            StorageError: The disk refused.
        """
        with self._lock, self._transaction():
            ready, underway, size = self._database.execute(outboxed.NUMBERED, (after,)).fetchone()
            if size <= self._max_bytes / 2:
                self._number(min(limit - ready, MAX_UNDERWAY - underway))
            rows = self._database.execute(
                "SELECT sequence, kind, payload FROM message WHERE sequence > ? ORDER BY sequence LIMIT ?",
                (after, limit),
            )
            return rows.fetchall()

    def _number(self, room: int) -> None:
        """Give the oldest messages that have no number one, up to ``room`` of them."""
        if room <= 0:
            return
        rows = self._database.execute(
            "SELECT id, payload FROM message WHERE sequence IS NULL ORDER BY id LIMIT ?", (room,)
        ).fetchall()
        if not rows:
            return
        facts = self._facts()
        for sequence, (identity, payload) in enumerate(rows, facts["last"] + 1):
            message = msgspec.structs.replace(
                outboxed.decode(payload), epoch=facts["epoch"], sequence=sequence
            )
            self._rewrite(identity, message, "sequence = ?", sequence, before=payload)
        self._count("last", len(rows))

    def stored(self, watermark: Stored) -> None:
        """Forget what the controller has stored.

        A watermark of another epoch, or beyond the last number, says nothing and is ignored.

        Raises:
            StorageError: The disk refused; the same messages will be sent again.
        """
        with self._lock, self._transaction():
            facts = self._facts()
            if watermark.epoch != facts["epoch"] or watermark.upto > facts["last"]:
                return
            self._delete("sequence <= ?", watermark.upto)

    def status(self) -> OutboxStatus:
        """Return how full the outbox is and what it lost.

        Raises:
            StorageError: The disk refused.
        """
        with self._lock, refusals(self._path):
            waiting = self._value("SELECT count(*) FROM message")
            return OutboxStatus(waiting=waiting, bytes=self._bytes, **self._facts())

    def settle(self) -> bool:
        """Move what waits in memory to the disk once that is possible; tell whether it was moved now.

        What has a number must be known to be stored first, because the outbox on the disk has numbers of its
        own: moved, it could be counted twice.

        Raises:
            StorageError: The disk still refuses; everything is in memory as before.
        """
        with self._lock, refusals(self._path):
            if self.place is Place.DISK or self._value("SELECT count(sequence) FROM message"):
                return False
            database, _ = open_or_begin(self._path, self._draw)
            try:
                move(self._database, database)
            except BaseException:
                database.close()
                raise
            self._database.close()
            self._database, self.place = database, Place.DISK
            self._bytes = self._count_bytes()
            return True

    def _count_bytes(self) -> int:
        return int(self._value("SELECT coalesce(sum(length(payload) + ?), 0) FROM message", ROW_BYTES))

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    # Making room

    def _expire(self, now: float) -> int:
        too_old = "sequence IS NULL AND kind IN ('window', 'report') AND at < ?"
        return self._delete(too_old, now - self._max_age)

    def _drop_unreadable(self) -> None:
        """Drop what an agent of another format left here, before any of it can stand in the way."""
        with self._lock, self._transaction():
            rows = self._database.execute("SELECT id, payload FROM message WHERE sequence IS NULL").fetchall()
            unreadable = [identity for identity, payload in rows if not outboxed.is_readable(payload)]
            for identity in unreadable:
                self._delete("id = ?", identity)
            if unreadable:
                self._tell_dropped(len(unreadable), self._now())

    def _recover(self) -> None:
        """Hand out what a killed agent had copied of its open windows, and say what it had not."""
        with self._lock, self._transaction():
            now = self._now()
            for left in open_windows.take_all(self._database):
                model, manifest, _ = left.grouping.split(":")
                is_sent = left.payload is not None and outboxed.is_readable(left.payload)
                if left.payload is not None and is_sent:
                    self._insert(outboxed.decode(left.payload), now)
                detail = open_windows.tell(left, is_sent=is_sent, now=now)
                self._insert(
                    Event(self._device, 0, 0, now, "dropped", model=model, manifest=manifest, detail=detail),
                    now,
                )

    def _evict(self) -> int:
        dropped = 0
        while self._bytes > self._max_bytes * EVICT_TO:
            if self._merge_cheapest():
                continue
            oldest = (outboxed.OLDEST_SAMPLE, outboxed.OLDEST_REPORT, outboxed.OLDEST_WINDOW)
            gone = next((gone for one in oldest if (gone := self._delete(f"id = ({one})"))), 0)
            if not gone:
                break
            dropped += gone
        return dropped

    def _merge_cheapest(self) -> bool:
        """Merge the neighbours with the fewest parts, so that old time gets coarser evenly; False if none."""
        pair = self._database.execute(outboxed.CHEAPEST_PAIR).fetchone()
        if pair is None:
            return False
        older, newer = (self._payload(identity) for identity in pair)
        first, second = outboxed.decode(older), outboxed.decode(newer)
        assert isinstance(first, Window)
        assert isinstance(second, Window)
        merged = self._merge(first, second)
        if merged is None or len(wire.encode(merged)) > wire.MAX_BYTES:
            self._database.execute("UPDATE message SET is_fixed = 1 WHERE id = ?", pair[:1])
            return True
        self._rewrite(pair[1], merged, "parts = ?", merged.parts, before=newer)
        self._delete("id = ?", pair[0])
        self._count("merged", 1)
        return True

    def _tell_dropped(self, dropped: int, now: float) -> None:
        facts = self._facts()
        self._count("dropped", dropped)
        detail = f"{facts['dropped'] + dropped} since epoch {facts['epoch']}"
        event = Event(self._device, 0, 0, now, "dropped", detail=detail)
        waiting = self._database.execute(
            "SELECT id, payload FROM message WHERE sequence IS NULL AND grouping = 'dropped'"
        ).fetchone()
        if waiting is not None:  # one event says it all: the count grows
            self._rewrite(waiting[0], event, "at = ?", now, before=waiting[1])
        else:
            self._insert(event, now, grouping="dropped")

    # SQL

    def _rewrite(self, identity: int, message: Outboxed, change: str, value: float, *, before: bytes) -> None:
        payload = wire.encode(message)
        statement = f"UPDATE message SET payload = ?, {change} WHERE id = ?"  # noqa: S608 - constant clauses
        self._database.execute(statement, (payload, value, identity))
        self._bytes += len(payload) - len(before)

    def _delete(self, where: str, *values: float) -> int:
        statement = f"DELETE FROM message WHERE {where} RETURNING length(payload)"  # noqa: S608 - as above
        gone = self._database.execute(statement, values).fetchall()
        self._bytes -= sum(length + ROW_BYTES for (length,) in gone)
        return len(gone)

    def _payload(self, identity: int) -> bytes:
        payload: bytes = self._value("SELECT payload FROM message WHERE id = ?", identity)
        return payload

    def _facts(self) -> dict[str, int]:
        return dict(self._database.execute(outboxed.FACTS).fetchall())

    def _count(self, name: str, more: int) -> None:
        self._database.execute("UPDATE fact SET value = value + ? WHERE name = ?", (more, name))

    def _value(self, query: str, *values: float | str) -> Any:
        return self._database.execute(query, values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        before = self._bytes
        with refusals(self._path):
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("COMMIT")
            except BaseException:
                self._bytes = before
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
