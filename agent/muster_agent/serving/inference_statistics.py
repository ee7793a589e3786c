"""What was asked of each model over the protocol, how often it failed and how long it took.

Counted are requests, and not what an application asks of an agent in its own process.
"""

import threading
from dataclasses import dataclass

from msgspec import Struct


class Duration(Struct, frozen=True):
    """How often something happened and how long it took in all, as the protocol counts it."""

    count: int = 0
    ns: int = 0


class Durations(Struct, frozen=True):
    """Where the time of requests went.

    Attributes:
        success, fail: Whole requests.
        queue: Always empty: a request waits for nothing here but its model.
        compute_input, compute_infer, compute_output: Reading, answering and writing of those that succeeded.
    """

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(Struct, frozen=True):
    """One version since the agent started.

    Attributes:
        last_inference: Unix milliseconds; 0 for never.
        inference_count: Rows, the length of the first axis.
        execution_count: Requests that the model answered.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: Durations
    batch_stats: tuple[()] = ()


class Laps(Struct, frozen=True):
    """How long the parts of one request took; all in nanoseconds."""

    reading: int
    answering: int
    writing: int


@dataclass(slots=True)
class _Tally:
    last: int = 0
    rows: int = 0
    answered: int = 0
    failed: int = 0
    failed_ns: int = 0
    reading: int = 0
    answering: int = 0
    writing: int = 0


class Statistics:
    """Counts per version. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def succeeded(self, model: str, version: str, *, rows: int, laps: Laps, at: float) -> None:
        """Count a request that was answered.

        Args:
            at: Unix seconds.
        """
        with self._lock:
            tally = self._tally(model, version)
            tally.last = int(at * 1000)
            tally.rows += rows
            tally.answered += 1
            tally.reading += laps.reading
            tally.answering += laps.answering
            tally.writing += laps.writing

    def failed(self, model: str, version: str, *, nanoseconds: int) -> None:
        """Count a request that was refused or that the model failed at."""
        with self._lock:
            tally = self._tally(model, version)
            tally.failed += 1
            tally.failed_ns += nanoseconds

    def of(self, model: str, version: str) -> ModelStatistics:
        """Return the counts of a version."""
        with self._lock:
            tally = self._tallies.get((model, version), _Tally())
            answered = tally.answered
            return ModelStatistics(
                model,
                version,
                last_inference=tally.last,
                inference_count=tally.rows,
                execution_count=answered,
                inference_stats=Durations(
                    success=Duration(answered, tally.reading + tally.answering + tally.writing),
                    fail=Duration(tally.failed, tally.failed_ns),
                    queue=Duration(),
                    compute_input=Duration(answered, tally.reading),
                    compute_infer=Duration(answered, tally.answering),
                    compute_output=Duration(answered, tally.writing),
                ),
            )

    def _tally(self, model: str, version: str) -> _Tally:
        return self._tallies.setdefault((model, version), _Tally())
