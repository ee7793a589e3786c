"""Drift that is planted into a fleet: what it does to which values of which devices, and from when on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["none", "shift", "scale", "outliers", "missing", "stuck"]
Who = Literal["nobody", "one", "five", "site", "fleet"]
Course = Literal["abrupt", "incremental", "gradual", "recurring"]

FAR = 12.0  # standard deviations beyond the largest value: where outliers lie
RAMP = 20  # windows until an incremental or gradual drift is complete
PERIOD = 20  # windows of a recurring drift: on for half of them


@dataclass(frozen=True)
class Plant:
    """One planted drift.

    Attributes:
        size: A shift in sd of the normal score, a factor of its spread, or a share of the rows.
        devices, columns: Indices of what drifts.
        onset: Window, counted from the end of the calibration.
        course: *abrupt* is there at once, *incremental* grows over ``RAMP`` windows, *gradual* takes a
            growing share of the rows over them, *recurring* comes and goes.
        scales: Largest value and sd of each of ``columns``, beyond which outliers lie.
    """

    form: Form = "none"
    size: float = 0.0
    devices: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    onset: int = 0
    course: Course = "abrupt"
    scales: tuple[tuple[float, float], ...] = ()

    def share(self, since: int) -> float:
        """Return how much of the drift is there, 0 to 1, so many windows after its onset."""
        if since < 0 or self.form == "none":
            return 0.0
        match self.course:
            case "abrupt":
                return 1.0
            case "incremental" | "gradual":
                return min(1.0, (since + 1) / RAMP)
            case "recurring":
                return 1.0 if since % PERIOD < PERIOD // 2 else 0.0

    def move(self, scores: NDArray[np.float32], since: int) -> None:
        """Shift or stretch normal scores, in place; shape (devices, rows, columns)."""
        share = self.share(since)
        if share == 0.0 or self.form not in ("shift", "scale"):
            return
        rows = scores.shape[1]
        affected = slice(0, rows)
        if self.course == "gradual":
            affected, share = slice(0, round(share * rows)), 1.0
        for device in self.devices:
            for column in self.columns:
                part = scores[device, affected, column]
                if self.form == "shift":
                    part += np.float32(share * self.size)
                else:
                    part *= np.float32(1 + share * (self.size - 1))

    def spoil(self, block: NDArray[np.float32], since: int, chance: np.random.Generator) -> None:
        """Put outliers, missing values or a stuck sensor among values, in place."""
        share = self.share(since)
        if share == 0.0 or self.form not in ("outliers", "missing", "stuck"):
            return
        for device in self.devices:
            for index, column in enumerate(self.columns):
                values = block[device, :, column]
                hit = chance.random(len(values)) < share * self.size
                match self.form:
                    case "outliers":
                        highest, sd = self.scales[index]
                        values[hit] = highest + FAR * sd
                    case "missing":
                        values[hit] = np.nan
                    case _:
                        held = values[np.isfinite(values)]
                        values[:] = held[0] if len(held) else 0.0
