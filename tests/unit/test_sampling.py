"""Rows leave a device only on an order, only where its settings allow it, and only while the order holds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from muster_agent.config import Privacy, Settings
from muster_agent.measure.outbox import Outbox, Place
from muster_agent.measure.sampling import MAX_HELD_BYTES, Sampling
from muster_models import wire
from muster_models.errors import Reason
from muster_models.tensors import decode_tensors
from muster_models.wire import Sample, SampleOrder

NOW = 1_000.0
ORDER = SampleOrder(3, "digits", 10, NOW + 60)
ALLOWED = Privacy(samples=True)
Begin = Callable[..., tuple[Outbox, Sampling]]


class Clock:
    """Time that stands until a test moves it."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def begin(tmp_path: Path, clock: Clock) -> Iterator[Begin]:
    """Return what starts an agent's outbox and sampling; the ones before must be closed."""
    opened: list[Outbox] = []

    def start(
        privacy: Privacy = ALLOWED, *, place: Place = Place.DISK, max_bytes: int = 10_000_000
    ) -> tuple[Outbox, Sampling]:
        outbox = Outbox(
            tmp_path / "outbox.sqlite",
            device="press-1",
            max_bytes=max_bytes,
            max_age=1e9,
            merge=lambda _first, _second: None,
            clock=clock,
            place=place,
        )
        opened.append(outbox)
        sampling = Sampling(privacy, lambda: outbox, device="press-1", wake=lambda: None, clock=clock)
        return outbox, sampling

    yield start
    for outbox in opened:
        outbox.close()


def ask(sampling: Sampling, rows: int = 1, *, width: int = 1, model: str = "digits") -> None:
    values = np.ones((rows, width), dtype=np.float32)
    sampling.beside(lambda *_: None)(model, "a" * 64, {"x": values}, {"y": values}, 0.001, None)


def sent(outbox: Outbox) -> list[Sample]:
    messages = [wire.decode_uplink(payload) for _, _, payload in outbox.batch(0, 1000)]
    return [message for message in messages if isinstance(message, Sample)]


def follow(sampling: Sampling, *orders: SampleOrder) -> None:
    sampling.follow(orders)
    sampling.work()


def test_a_device_allows_nothing_unless_its_settings_say_so() -> None:
    assert Settings.__struct_fields__[-1] == "privacy"
    assert Settings.__struct_defaults__[-1] == Privacy(samples=False)


def test_without_an_order_nothing_is_copied(begin: Begin) -> None:
    outbox, sampling = begin()
    sampling.work()
    ask(sampling)
    sampling.work()

    assert sent(outbox) == []


def test_an_order_gets_inputs_and_outputs_up_to_its_cap(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    ask(sampling, 7)
    ask(sampling, 2, model="weather")
    ask(sampling, 7)
    sampling.work()
    ask(sampling, 7)
    sampling.work()

    (sample,) = sent(outbox)
    assert (sample.order, sample.rows, sample.manifest, sample.reason) == (3, 10, "a" * 64, None)
    assert decode_tensors(sample.inputs)["x"].shape == decode_tensors(sample.outputs)["y"].shape == (10, 1)


def test_a_device_that_does_not_allow_it_says_so_once_and_hands_out_nothing(begin: Begin) -> None:
    outbox, sampling = begin(Privacy())
    follow(sampling, ORDER)
    ask(sampling, 5)
    sampling.work()
    outbox.close()
    outbox, sampling = begin(Privacy())
    follow(sampling, ORDER)

    (sample,) = sent(outbox)
    assert (sample.rows, sample.inputs, sample.reason) == (0, b"", Reason.NOT_ALLOWED)
    assert "agent.toml" in sample.detail


def test_an_order_that_expired_gets_nothing_and_what_waits_of_it_is_forgotten(
    begin: Begin, clock: Clock
) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    ask(sampling, 2)
    sampling.work()
    clock.now = ORDER.expires
    ask(sampling, 2)
    sampling.work()

    assert sent(outbox) == []
    assert outbox.status().waiting == 0


def test_an_order_that_is_withdrawn_ends_at_once(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    ask(sampling, 2)
    sampling.follow(())
    ask(sampling, 2)
    sampling.work()

    assert sent(outbox) == []


def test_an_order_that_is_withdrawn_and_given_again_is_followed(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    sampling.follow(())
    follow(sampling, ORDER)
    ask(sampling, 2)
    sampling.work()

    assert [sample.rows for sample in sent(outbox)] == [2]


def test_another_order_does_not_begin_the_first_anew(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    ask(sampling, 8)
    follow(sampling, ORDER, SampleOrder(4, "digits", 3, NOW + 60))
    ask(sampling, 2)
    ask(sampling, 8)
    sampling.work()

    rows = {number: sum(s.rows for s in sent(outbox) if s.order == number) for number in (3, 4)}
    assert rows == {3: 10, 4: 3}


def test_what_was_handed_to_the_network_stays_until_it_is_stored(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    ask(sampling, 2)
    sampling.work()
    assert len(sent(outbox)) == 1
    follow(sampling)

    assert len(sent(outbox)) == 1


def test_a_row_that_fits_no_message_is_told_once(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    for _ in range(3):
        ask(sampling, 1, width=wire.MAX_SAMPLE_BYTES)
        sampling.work()

    (sample,) = sent(outbox)
    assert (sample.rows, sample.reason) == (0, Reason.TOO_LARGE)


def test_copies_that_wait_are_bounded(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, SampleOrder(3, "digits", 1000, NOW + 60))
    width = 20_000
    for _ in range(1000):
        ask(sampling, 1, width=width)
    sampling.work()

    assert sum(sample.rows for sample in sent(outbox)) <= MAX_HELD_BYTES // (2 * 4 * width) + 1


def test_calls_whose_tensors_share_no_rows_are_not_sampled(begin: Begin) -> None:
    outbox, sampling = begin()
    follow(sampling, ORDER)
    told = sampling.beside(lambda *_: None)
    told("digits", "a" * 64, {"x": np.ones((2, 1))}, {"y": np.ones(())}, 0.001, None)
    told("digits", "a" * 64, {"x": np.ones((2, 1))}, {"y": np.ones((3, 1))}, 0.001, None)
    told("digits", "a" * 64, {"x": np.ones((2, 1))}, None, 0.001, None)
    sampling.work()

    assert sent(outbox) == []


def test_nothing_is_sampled_while_no_cap_can_be_kept(begin: Begin) -> None:
    outbox, sampling = begin(place=Place.MEMORY)
    follow(sampling, ORDER)
    ask(sampling)
    sampling.work()

    assert sent(outbox) == []


def test_a_full_outbox_drops_samples_before_windows(begin: Begin) -> None:
    outbox, sampling = begin(max_bytes=200_000)
    follow(sampling, SampleOrder(3, "digits", 1000, NOW + 60))
    outbox.add_report(())
    for _ in range(6):
        ask(sampling, 1, width=10_000)
        sampling.work()

    assert outbox.status().dropped > 0
    kinds = [kind for _, kind, _ in outbox.batch(0, 1000)]
    assert "report" in kinds
