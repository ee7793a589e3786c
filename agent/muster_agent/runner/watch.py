"""Watching processes: one thread that waits until any of them ends, idle or not, and says so."""

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Watch(Generic[T]):
    """Calls ``ended`` with what was added beside a process, once, after that process has ended.

    Its thread starts with the first process, so that a zygote can be forked before.
    """

    def __init__(self, ended: Callable[[T], None]) -> None:
        self._ended = ended
        self._watched: dict[int, T] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, process: int, value: T) -> None:
        """Watch a process by its handle."""
        with self._lock:
            self._watched[process] = value
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="muster-watch", daemon=True)
                self._thread.start()
            self._rouse()

    def forget(self, process: int) -> None:
        """Stop watching a process whose end is intended; its handle may be closed afterwards."""
        with self._lock:
            self._watched.pop(process, None)
            self._rouse()

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        os.close(self._wake)

    def _rouse(self) -> None:
        if not self._closed:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not self._closed:
            for process in self._wait():
                with self._lock:
                    value = self._watched.pop(process, None)
                if value is not None and not self._closed:
                    self._tell(value)

    def _wait(self) -> list[int]:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        with self._lock:
            for process in self._watched:
                poller.register(process, select.POLLIN)
        ready = [handle for handle, _ in poller.poll()]
        if self._wake in ready:
            os.eventfd_read(self._wake)
            ready.remove(self._wake)
        return ready

    def _tell(self, value: T) -> None:
        try:
            self._ended(value)
        except Exception:  # noqa: BLE001 - the other processes must still be watched
            _log.exception("what follows the end of a worker failed")
