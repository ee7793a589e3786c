"""Laws of rows for operators: never more than was ordered, whatever is started again; each row as it was."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from muster_agent.config import Privacy
from muster_agent.measure.outbox import Outbox
from muster_agent.measure.sampled_rows import Rows, encoded, rows_of, together
from muster_agent.measure.sampling import Sampling
from muster_models import wire
from muster_models.tensors import decode_tensors
from muster_models.wire import MAX_SAMPLE_BYTES, Sample, SampleOrder

NOW = 1_000.0
DIGEST = "a" * 64


@contextmanager
def device(folder: Path, *, allowed: bool = True) -> Iterator[tuple[Outbox, Sampling]]:
    """An outbox and what samples into it, as an agent that was just started has them."""
    outbox = Outbox(
        folder / "outbox.sqlite",
        device="press-1",
        max_bytes=10_000_000,
        max_age=1e9,
        merge=lambda _first, _second: None,
        clock=lambda: NOW,
    )
    try:
        yield (
            outbox,
            Sampling(
                Privacy(samples=allowed),
                lambda: outbox,
                device="press-1",
                wake=lambda: None,
                clock=lambda: NOW,
            ),
        )
    finally:
        outbox.close()


def call(sampling: Sampling, first: int, count: int) -> None:
    """Ask and answer rows that are numbered from ``first`` on."""
    rows = np.arange(first, first + count, dtype=np.float32).reshape(-1, 1)
    told = sampling.beside(lambda *_: None)
    told("digits", DIGEST, {"x": rows}, {"y": -rows}, 0.001, None)


def sent(outbox: Outbox) -> list[Sample]:
    messages = [wire.decode_uplink(payload) for _, _, payload in outbox.batch(0, 10_000)]
    return [message for message in messages if isinstance(message, Sample)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 7), st.sampled_from(["work", "restart"])), max_size=20),
    st.integers(1, 20),
)
def test_an_order_never_gets_more_rows_than_its_cap_and_each_at_most_once(
    steps: list[int | str], cap: int
) -> None:
    order = SampleOrder(3, "digits", cap, NOW + 60)
    asked = 0
    with tempfile.TemporaryDirectory() as name:
        while True:
            with device(Path(name)) as (outbox, sampling):
                sampling.follow([order])
                sampling.work()
                while steps and (step := steps.pop(0)) != "restart":
                    if isinstance(step, int):
                        call(sampling, asked, step)
                        asked += step
                    else:
                        sampling.work()
                if not steps:
                    sampling.work()
                    samples = sent(outbox)
                    break

    rows = [decode_tensors(sample.inputs)["x"][:, 0].tolist() for sample in samples]
    flat = [value for part in rows for value in part]
    assert sum(sample.rows for sample in samples) == len(flat) <= min(cap, asked)
    assert flat == sorted(set(flat))
    assert all(
        np.array_equal(np.negative(decode_tensors(sample.outputs)["y"]), decode_tensors(sample.inputs)["x"])
        for sample in samples
    )


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.integers(1, 3)), max_size=8))
def test_rows_that_are_put_together_are_the_same_rows(calls: list[tuple[str, int, int]]) -> None:
    parts = [made(digest * 64, np.full((count, width), count, np.float32)) for digest, count, width in calls]

    joined = list(together(parts))

    assert [row.tolist() for rows in joined for row in rows.inputs["x"]] == [
        row.tolist() for rows in parts for row in rows.inputs["x"]
    ]
    assert sum(rows.count for rows in joined) == sum(rows.count for rows in parts)
    assert [rows.digest for rows in joined for _ in range(rows.count)] == [
        rows.digest for rows in parts for _ in range(rows.count)
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40_000))
def test_no_message_is_larger_than_its_bound_and_rows_that_fit_are_all_sent(count: int, width: int) -> None:
    rows = made(DIGEST, np.arange(count * width, dtype=np.float32).reshape(count, width))

    parts = list(encoded(rows))

    assert all(max(len(part.inputs), len(part.outputs)) <= MAX_SAMPLE_BYTES for part in parts)
    assert sum(part.count for part in parts) == (count if 4 * width < MAX_SAMPLE_BYTES - 100 else 0) or (
        MAX_SAMPLE_BYTES - 100 <= 4 * width <= MAX_SAMPLE_BYTES
    )
    assert all((part.count == 0) is (part.reason is not None) for part in parts)


def made(digest: str, values: NDArray[np.float32]) -> Rows:
    rows = rows_of(digest, {"x": values}, {"y": values}, most=10_000)
    assert rows is not None
    return rows
