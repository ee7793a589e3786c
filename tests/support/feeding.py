"""The application of a fleet: real rows for every model of every device, and what goes wrong with some.

Images of one site get darker, one sensor of one device has gaps, and at one site people call digits by other
names. With the model ``control`` all stays well.
"""

import queue
import threading
import time
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from muster_agent import Client
from muster_models.errors import MusterError, Reason
from zoo.digits import data as digits
from zoo.weather import data as weather

Floats = NDArray[np.float32]

DARK, GAPS, RENAMED, CALM = "digits", "weather", "meter", "control"
MODELS = (DARK, GAPS, RENAMED, CALM)
DARK_SITE, GAPS_DEVICE, RENAMED_SITE = "berlin", "porto-1", "lyon"
WHERE = {DARK: f"{DARK_SITE}-", GAPS: GAPS_DEVICE, RENAMED: f"{RENAMED_SITE}-"}  # how names begin
GAIN = 0.85  # of the lamp
SENSOR = "humidity"
GAP_SHARE = 0.3
OTHER_NAMES = {1: 7, 7: 1, 3: 8, 8: 3, 4: 9, 9: 4}  # of digits

PERIOD_SECONDS = 0.5
BATCH = 50  # rows of a call
LABELLED = 10  # rows of a call of which the truth becomes known


@dataclass
class Stream:
    """Endless real rows of one model on one device, and what became of them.

    Attributes:
        truths: Ids of predictions, with what turned out to be true.
        errors: What was said instead of an answer, after the first answer.
        unanswered: Calls that had no answer because a sensor's value was missing: the model answers NaN.
    """

    device: str
    model: str
    client: Client
    chance: np.random.Generator
    is_ill: bool = False
    answered: int = 0
    unanswered: int = 0
    truths: "queue.SimpleQueue[tuple[str, int]]" = field(default_factory=queue.SimpleQueue)
    errors: list[str] = field(default_factory=list)

    def call(self) -> None:
        """Ask for predictions on one batch."""
        try:
            if self.model == GAPS:
                self.client.predict(self.model, {"readings": self._readings()})
            else:
                self._ask_digits()
        except MusterError as error:  # before its first version arrives a device has nothing to answer with
            if self.is_ill and self.model == GAPS and error.reason is Reason.NOT_FINITE:
                self.unanswered += 1
            elif self.answered:
                self.errors.append(f"{self.device}/{self.model}: {error}")
        else:
            self.answered += 1

    def _readings(self) -> Floats:
        readings = _weather()[self.chance.integers(0, len(_weather()), BATCH)]
        gaps = self.chance.random(BATCH) < (GAP_SHARE if self.is_ill else 0.0)
        readings[gaps, weather.READINGS.index(SENSOR)] = np.nan
        return readings

    def _ask_digits(self) -> None:
        images, truths = _images()
        chosen = self.chance.integers(0, len(images), BATCH)
        seen = images[chosen] * np.float32(GAIN if self.is_ill and self.model == DARK else 1)
        answer = self.client.answer(self.model, {"image": seen})
        shown = truths[chosen[:LABELLED]].tolist()
        names = OTHER_NAMES if self.is_ill and self.model == RENAMED else {}
        for one, digit in zip(answer.ids, shown, strict=False):  # of the first rows alone
            self.truths.put((one, names.get(digit, digit)))


@cache
def _images() -> tuple[Floats, NDArray[np.int64]]:
    return digits.rows("live")["image"], digits.answers("live")


@cache
def _weather() -> Floats:
    return weather.rows("live")["readings"]


class Feeder:
    """The application of every device: one thread that calls each model in turn."""

    def __init__(self, streams: list[Stream]) -> None:
        self.streams = streams
        self.turns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder")
        self._thread.start()

    def fall_ill(self) -> None:
        """Let everything go wrong that will."""
        for stream in self.streams:
            stream.is_ill = stream.model in WHERE and stream.device.startswith(WHERE[stream.model])

    def truths(self, model: str) -> list[tuple[str, int]]:
        """Return what turned out to be true since this was asked last."""
        found = []
        for stream in self.streams:
            while stream.model == model and not stream.truths.empty():
                found.append(stream.truths.get())
        return found

    @property
    def unanswered(self) -> int:
        """How many calls had no answer for want of the sensor's value."""
        return sum(stream.unanswered for stream in self.streams)

    @property
    def errors(self) -> list[str]:
        """What calls were answered with that had no answer."""
        return [error for stream in self.streams for error in stream.errors]

    def stop(self) -> None:
        """Call no more."""
        self._stop.set()
        self._thread.join()
        for stream in self.streams:
            stream.client.close()

    def _run(self) -> None:
        rest = 0.0
        while not self._stop.wait(rest):
            began = time.monotonic()
            for stream in self.streams:
                stream.call()
            self.turns += 1
            rest = max(0.0, PERIOD_SECONDS - (time.monotonic() - began))
