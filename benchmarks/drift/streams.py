"""River's stream generators, for the classic forms of drift: one stream, dealt to ten devices row by row.

All devices drift together, so what is asked for is one incident of the fleet. *Concept only* (SEA with
another labelling function) moves no input at all: whoever watches inputs has to stay silent.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from drift.fleet import Block, Setting
from drift.judge import Truth

StreamForm = Literal["abrupt", "gradual", "incremental", "recurring", "concept only"]
FORMS: tuple[StreamForm, ...] = ("abrupt", "gradual", "incremental", "recurring", "concept only")
DEVICES, ROWS, WINDOWS, ONSET = 10, 300, 40, 5
GRADUAL = 10  # windows of the transition
RECUR = 10  # windows of a concept before the other comes back
SPEED = 2e-5  # of the centroids, per row
FEATURES, CENTROIDS = 6, 20
SETTING = Setting(
    devices=DEVICES, rows=ROWS, columns=FEATURES, offsets=0.0, windows=WINDOWS, reference_rows=5000
)


@dataclass(frozen=True)
class Dealt:
    """A stream as a fleet; it has the methods of ``Fleet``."""

    form: StreamForm
    seed: int
    setting: Setting = SETTING

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(f"x{index}" for index in range(3 if self.form == "concept only" else FEATURES))

    @property
    def truth(self) -> Truth:
        """What is to be said."""
        if self.form == "concept only":
            return Truth("none")
        return Truth("fleet", frozenset(range(DEVICES)), frozenset(range(FEATURES)), ONSET)

    def reference(self) -> Block:
        """Return rows of the first concept that the stream does not repeat."""
        rows = self.setting.reference_rows
        return np.asarray(_block(self._concept(0, sample=1), 1, rows, self.columns)[0])

    def windows(self) -> Iterator[Block]:
        """Yield the stream, round by round."""
        rows = self._stream()
        for _ in range(self.setting.calibration + self.setting.windows):
            yield _block(rows, DEVICES, ROWS, self.columns)

    def _stream(self) -> Iterator[Any]:
        from river.datasets import synth  # noqa: PLC0415 - only this needs River

        per_round = DEVICES * ROWS
        onset = (self.setting.calibration + ONSET) * per_round
        first = self._concept(0, sample=2)
        match self.form:
            case "abrupt":
                yield from itertools.chain(itertools.islice(first, onset), self._concept(1, sample=3))
            case "gradual":
                width = GRADUAL * per_round
                yield from synth.ConceptDriftStream(
                    stream=self._source(0, sample=2), drift_stream=self._source(1, sample=3),
                    seed=self.seed, position=onset + width // 2, width=width,
                )  # fmt: skip
            case "incremental":
                moving = synth.RandomRBFDrift(
                    seed_model=self.seed, seed_sample=self.seed + 3, n_features=FEATURES,
                    n_centroids=CENTROIDS, change_speed=SPEED, n_drift_centroids=CENTROIDS,
                )  # fmt: skip
                yield from itertools.chain(itertools.islice(first, onset), iter(moving))
            case "recurring":
                yield from itertools.islice(first, onset)
                for turn in itertools.count(1):
                    again = self._concept(turn % 2, sample=3 + turn)
                    yield from itertools.islice(again, RECUR * per_round)
            case "concept only":
                yield from itertools.chain(itertools.islice(first, onset), self._concept(1, sample=3))

    def _concept(self, which: int, *, sample: int) -> Iterator[Any]:
        return iter(self._source(which, sample=sample))

    def _source(self, which: int, *, sample: int) -> Any:
        from river.datasets import synth  # noqa: PLC0415

        if self.form == "concept only":
            return synth.SEA(variant=2 * which, seed=self.seed * 100 + sample)
        return synth.RandomRBF(
            seed_model=self.seed + 1000 * which, seed_sample=self.seed * 100 + sample,
            n_features=FEATURES, n_centroids=CENTROIDS,
        )  # fmt: skip


def _block(rows: Iterator[Any], devices: int, count: int, columns: tuple[str, ...]) -> Block:
    """Return the next rows, dealt to the devices in turn."""
    taken = [list(features.values()) for features, _ in itertools.islice(rows, devices * count)]
    table = np.array(taken, dtype=np.float32).reshape(count, devices, len(columns))
    return np.ascontiguousarray(table.swapaxes(0, 1))
