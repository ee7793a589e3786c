"""Threads that do one thing after another: jobs of one name wait for their turn, the rest runs beside."""

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Lanes:
    """Named queues, each with a thread that begins with its first job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, queue.SimpleQueue[Job | None]] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, lane: str, job: Job) -> None:
        """Do ``job`` after everything that was submitted to ``lane`` before; nothing when closed."""
        with self._lock:
            if self._closed:
                return
            if lane not in self._queues:
                self._queues[lane] = queue.SimpleQueue()
                thread = threading.Thread(target=_work, args=(self._queues[lane],), name=lane, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._queues[lane].put(job)

    def close(self, seconds: float) -> bool:
        """Take no more jobs and wait up to ``seconds`` for those that were taken; tell whether all ended."""
        with self._lock:
            self._closed = True
            for jobs in self._queues.values():
                jobs.put(None)
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)


def _work(jobs: "queue.SimpleQueue[Job | None]") -> None:
    while (job := jobs.get()) is not None:
        try:
            job()
        except Exception:
            # A phase that gets no answer ends by its deadline; the lane must go on.
            log.exception("a job failed")
