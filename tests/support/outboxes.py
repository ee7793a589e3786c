"""An outbox with small windows, and the controller's side of the watermark."""

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from muster_agent.measure.outbox import Outbox, WindowPart
from muster_models import wire
from muster_models.counters import add_counts
from muster_models.topics import Up
from muster_models.wire import LATENCY_EDGES_MS, Outboxed, Stored, Window

DEVICE = "press-1"


def part(number: int, *, model: str = "digits", size: int = 100) -> WindowPart:
    """Return a window of which one call was number ``number``; its counts add up under merging."""
    return WindowPart(
        model=model,
        manifest="a" * 64,
        baseline="b" * 64,
        start=float(number),
        end=float(number + 1),
        calls=1,
        errors=0,
        latency=(0,) * (len(LATENCY_EDGES_MS) + 1),
        sketch=bytes(size),
        counters={"seen": 1},
    )


def add_up(first: Window, second: Window) -> Window:
    """Merge as sketches do: counts add up, the size stays."""
    return replace(
        second,
        start=first.start,
        calls=first.calls + second.calls,
        parts=first.parts + second.parts,
        counters=add_counts(first.counters, second.counters),
    )


def open_outbox(
    path: Path,
    *,
    max_bytes: int = 1 << 20,
    max_age: float = 1e9,
    merge: Callable[[Window, Window], Window | None] = add_up,
    clock: Callable[[], float] = lambda: 1000.0,
) -> Outbox:
    return Outbox(path, device=DEVICE, max_bytes=max_bytes, max_age=max_age, merge=merge, clock=clock)


def stored_upto(held: Container[tuple[int, int]], epoch: int) -> Stored:
    """Return up to where there is no gap in what is held, by epoch and sequence."""
    upto = 0
    while (epoch, upto + 1) in held:
        upto += 1
    return Stored(epoch, upto)


@dataclass
class Controller:
    """What ingest does with messages: keep each once, and say up to where there is no gap."""

    held: dict[tuple[int, int], Outboxed] = field(default_factory=dict)

    def receive(self, messages: list[tuple[int, Up, bytes]]) -> None:
        for sequence, kind, payload in messages:
            message = wire.decode_uplink(payload)
            assert not isinstance(message, wire.Hello)
            assert (message.device, message.sequence) == (DEVICE, sequence)
            assert type(message).__name__.lower() == kind
            known = self.held.setdefault((message.epoch, sequence), message)
            assert known == message, "a number names one message for ever"

    def watermark(self, epoch: int) -> Stored:
        return stored_upto(self.held, epoch)

    @property
    def messages(self) -> list[Outboxed]:
        return [self.held[key] for key in sorted(self.held)]

    @property
    def calls(self) -> int:
        return sum(message.calls for message in self.messages if isinstance(message, Window))

    @property
    def counted(self) -> int:
        """What the application counted, in all windows."""
        return sum(message.counters["seen"] for message in self.messages if isinstance(message, Window))
