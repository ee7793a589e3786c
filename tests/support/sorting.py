"""The application of a fleet that sorts parts by the digit on them, and counts what it sorted wrong as scrap.

A sorter asks its device's agent for digits; an inspection behind it knows what was right. A stopped model
answers with its fallback, by which nothing is sorted.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from muster_agent import Client
from muster_models.errors import MusterError
from support.digit_versions import FALLBACK, MODEL
from support.waiting import until
from zoo.digits import data

Floats = NDArray[np.float32]

COUNTER = "scrap"
PERIOD_SECONDS = 0.2
BATCH = 200  # parts of a call: a thousand a second and device
TURNS = 2  # after which every sorter has heard what it was told
TURN_SECONDS = 60.0


@dataclass
class Sorter:
    """Endless real parts of one device, and what became of them.

    Attributes:
        is_away: Nobody asks: its agent is switched off.
        is_counting: The inspection is there.
        answered: Calls.
        is_stopped: The fallback answered last.
        parts, scrap: That were sorted, and sorted wrong.
        errors: What was said instead of an answer, after the first answer.
    """

    device: str
    client: Client
    chance: np.random.Generator
    is_away: bool = False
    is_counting: bool = True
    answered: int = 0
    is_stopped: bool = False
    parts: int = 0
    scrap: int = 0
    errors: list[str] = field(default_factory=list)

    def call(self) -> None:
        """Sort one batch of parts."""
        images, digits = _parts()
        chosen = self.chance.integers(0, len(images), BATCH)
        try:
            scores = self.client.predict(MODEL, {"image": images[chosen]})["probabilities"]
            self.answered += 1
            self.is_stopped = bool((scores == np.float32(FALLBACK)).all())
            if self.is_counting and not self.is_stopped:
                self._count(int((scores.argmax(axis=1) != digits[chosen]).sum()))
        except MusterError as error:  # before its first version arrives a device has nothing to answer with
            if self.answered:
                self.errors.append(f"{self.device}: {error}")

    def _count(self, scrap: int) -> None:
        self.parts += BATCH
        self.scrap += scrap
        self.client.count(MODEL, {COUNTER: scrap})


@cache
def _parts() -> tuple[Floats, NDArray[np.int64]]:
    return data.rows("live")["image"], data.answers("live")


class Sorting:
    """The sorters of a fleet at work: one thread that lets each have its turn."""

    def __init__(self, sorters: Iterable[Sorter]) -> None:
        self.sorters = {sorter.device: sorter for sorter in sorters}
        self.turns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sorting")
        self._thread.start()

    def end_inspection(self) -> None:
        """Count no more; returns once nobody does."""
        for sorter in self.sorters.values():
            sorter.is_counting = False
        self._let_turn()

    @contextmanager
    def without(self, device: str) -> Iterator[None]:
        """Ask nothing of a device meanwhile."""
        self.sorters[device].is_away = True
        self._let_turn()
        try:
            yield
        finally:
            self.sorters[device].is_away = False

    @property
    def errors(self) -> list[str]:
        """What calls were answered with that had no answer."""
        return [error for sorter in self.sorters.values() for error in sorter.errors]

    @property
    def is_stopped(self) -> set[str]:
        """The devices whose fallback answered last."""
        return {device for device, sorter in self.sorters.items() if sorter.is_stopped}

    def stop(self) -> None:
        """Call no more."""
        self._stop.set()
        self._thread.join()
        for sorter in self.sorters.values():
            sorter.client.close()

    def _let_turn(self) -> None:
        wanted = self.turns + TURNS
        assert until(lambda: self.turns >= wanted, seconds=TURN_SECONDS)

    def _run(self) -> None:
        rest = 0.0
        while not self._stop.wait(rest):
            began = time.monotonic()
            for sorter in self.sorters.values():
                if not sorter.is_away:
                    sorter.call()
            self.turns += 1
            rest = max(0.0, PERIOD_SECONDS - (time.monotonic() - began))
