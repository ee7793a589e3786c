"""Laws of the outbox: whatever is sent, lost, stored and evicted in any order, the numbers have no gap."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from muster_agent.measure.outbox import MAX_UNDERWAY
from muster_models.wire import Event, Stored
from support.outboxes import Controller, open_outbox, part

MAX_BYTES = 6000  # about thirty small windows


class DeviceAndController(RuleBasedStateMachine):
    """A device that measures, and a controller that is reached now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.controller = Controller()
        self.added = self.events = 0
        self.sent = 0

    @initialize()
    def begin(self) -> None:
        self.outbox = open_outbox(Path(self.folder.name) / "outbox.sqlite", max_bytes=MAX_BYTES)
        self.epoch = self.outbox.status().epoch

    def teardown(self) -> None:
        self.outbox.close()
        self.folder.cleanup()

    @rule(count=st.integers(1, 20), size=st.integers(0, 300))
    def measure(self, count: int, size: int) -> None:
        for _ in range(count):
            self.outbox.add_window(part(self.added, size=size))
            self.added += 1

    @rule()
    def report(self) -> None:
        self.outbox.add_report(())

    @rule()
    def happen(self) -> None:
        self.outbox.add_event("crashed", detail=f"number {self.events}")
        self.events += 1

    @rule(limit=st.integers(1, 30))
    def send(self, limit: int) -> None:
        messages = self.outbox.batch(self.sent, limit)
        self.sent = max((sequence for sequence, _, _ in messages), default=self.sent)
        self.controller.receive(messages)

    @rule(limit=st.integers(1, 30))
    def send_in_vain(self, limit: int) -> None:
        messages = self.outbox.batch(self.sent, limit)
        self.sent = max((sequence for sequence, _, _ in messages), default=self.sent)

    @rule()
    def reconnect(self) -> None:
        self.sent = self.controller.watermark(self.epoch).upto

    @rule()
    def hear(self) -> None:
        self.outbox.stored(self.controller.watermark(self.epoch))

    @rule(ahead=st.integers(1, 100))
    def hear_nonsense(self, ahead: int) -> None:
        before = self.outbox.status()
        self.outbox.stored(Stored(self.epoch + 1, before.last))
        self.outbox.stored(Stored(self.epoch, before.last + ahead))

        assert self.outbox.status() == before

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.begin()
        self.sent = 0

    @rule()
    def deliver_everything(self) -> None:
        """Everything reaches the controller in the end: no number is missing, no event is lost."""
        for _ in range(1000):
            self.controller.receive(self.outbox.batch(0, 50))
            self.outbox.stored(self.controller.watermark(self.epoch))
            if not self.outbox.status().waiting:
                break
        status = self.outbox.status()

        assert status.waiting == 0
        assert self.controller.watermark(self.epoch).upto == status.last == len(self.controller.held)
        details = [message.detail for message in self.controller.messages if isinstance(message, Event)]
        assert [one for one in details if one.startswith("number")] == [
            f"number {index}" for index in range(self.events)
        ]
        if not status.dropped:
            assert self.controller.calls == self.controller.counted == self.added

    @invariant()
    @precondition(lambda self: hasattr(self, "outbox"))
    def is_bounded(self) -> None:
        status = self.outbox.status()

        # One message of slack, and the events, which are never dropped.
        assert status.bytes <= MAX_BYTES + 500 + self.events * 200
        assert status.last - self.controller.watermark(self.epoch).upto <= MAX_UNDERWAY + len(
            self.controller.held
        )


DeviceAndController.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
test_numbers_have_no_gap_and_events_are_never_lost = DeviceAndController.TestCase
