"""What a plan's gates can see: the smallest harm that they catch, and how long health takes to show. Pure.

The gates bet on a standardised observation z of each round, see ``sequential``. An effect e beyond margin m
moves each z by (e - m - slack) / sd, where sd is that of a round's difference between the arms and slack is
what ``rounds`` grants the error of the time before. After n rounds the wealth depends on the sum of z alone;
the sum that reaches a bound is ``sequential.reach``, the boundary of a mixture martingale at one instant
(Robbins 1970, "Statistical methods related to the law of the iterated logarithm"; Howard, Ramdas, McAuliffe
and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"). The sum has variance n
from the rounds, and n²/B from a time before of B rounds. What is asked for is the e with which it lies beyond
the boundary at the n-th round with probability ``POWER``: a little more than is needed, since the boundary
may be crossed earlier.

``tests/property/test_power_laws.py`` holds the formula against the gates' own code on simulated windows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from muster_controller.domain.rollouts.judging.ledger import Track
from muster_controller.domain.rollouts.judging.rounds import MOST_HARM, SLACK
from muster_controller.domain.sequential import CLIP, reach

POWER: Final = 0.8  # probability with which an effect is caught
MOST_ROUNDS: Final = 2000  # beyond, a stage is not waited for
_QUANTILE: Final = 0.8416212335729143  # of the normal distribution, at POWER
_STEPS: Final = 50  # of a bisection


@dataclass(frozen=True)
class Noise:
    """How much one device's gauge moves from round to round by itself.

    Attributes:
        spread: Variance of a round's mean times its rows.
        rows: Calls or rows of one device in a round.
    """

    spread: float
    rows: float


@dataclass(frozen=True)
class Arms:
    """Of how many devices, and how long before, a comparison is made.

    Attributes:
        treated, control: Devices that are looked at.
        before: Rounds of the time before.
    """

    treated: int
    control: int
    before: int

    @property
    def slack(self) -> float:
        """What is granted to the error of the time before, in standard deviations of a round."""
        return SLACK / math.sqrt(self.before)

    def sd(self, noise: Noise) -> float:
        """Return the standard deviation of a round's difference between the arms."""
        return math.sqrt(noise.spread / noise.rows * (1 / self.treated + 1 / self.control))


def noise_of(tracks: Mapping[str, Mapping[str, Track]], gauge: str, *, least: float) -> Noise | None:
    """Return the noise of a gauge as the devices showed it before; None where none did.

    Args:
        tracks: By device and gauge.
        gauge: Of which.
        least: Variance of one row that the gates assume at least.
    """
    held = [found for known in tracks.values() if (found := known.get(gauge)) is not None and found.rows > 0]
    if not held:
        return None
    free = sum(track.rounds - 1 for track in held)
    pooled = sum(track.scatter for track in held) / free if free > 0 else 0.0
    within = sum(track.variance for track in held) / len(held)
    rows = sum(track.rows / track.rounds for track in held) / len(held)
    return Noise(max(pooled, within, least), rows)


def smallest_effect(margin: float, noise: Noise, arms: Arms, *, bound: float, rounds: int) -> float | None:
    """Return the smallest effect that is caught with probability ``POWER``; None when none is.

    Args:
        margin: What the plan tolerates.
        noise: Of one device.
        arms: That are compared.
        bound: E-value at which the gate is unhealthy, times the number of bets that share it.
        rounds: After how many rounds.
    """
    if not arms.treated or not arms.control or rounds < 1:
        return None
    needed = reach(rounds, 1 / bound)
    low, high = 0.0, 40.0
    if _sum_reached(high, rounds, arms.before) < needed:
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _sum_reached(middle, rounds, arms.before) >= needed else (middle, high)
    return margin + (high + arms.slack) * arms.sd(noise)


def rounds_until_healthy(margin: float, noise: Noise, arms: Arms, *, needed: float) -> int | None:
    """Return after how many rounds a version without any effect is healthy with probability ``POWER``.

    None when so few devices, or so short a time before, may never show it.

    Args:
        margin: What the plan tolerates.
        noise: Of one device.
        arms: That are compared.
        needed: E-value at which the gate is healthy.
    """
    if not arms.treated or not arms.control:
        return None
    sd = arms.sd(noise)
    z = min(margin / sd - arms.slack, CLIP) if sd > 0 else CLIP
    low, high = 0, 1
    while not _is_shown(z, high, arms.before, needed):
        low, high = high, high * 2
        if high > MOST_ROUNDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_shown(z, middle, arms.before, needed) else (middle, high)
    return high


def _is_shown(z: float, rounds: int, before: int, needed: float) -> bool:
    reached = rounds * z - _QUANTILE * math.sqrt(rounds + rounds**2 / before)
    return reached >= reach(rounds, 1 / needed)


def _sum_reached(z: float, rounds: int, before: int) -> float:
    """Return the sum that is exceeded with probability ``POWER`` by rounds of mean ``z`` and variance 1.

    A round counts up to ``MOST_HARM``: E min(z + N, c) = z - (z - c) Φ(z - c) - φ(z - c) for a normal N.
    """
    over = z - MOST_HARM
    below = 0.5 * math.erfc(over / math.sqrt(2))  # probability that a round is not cut
    density = math.exp(-(over**2) / 2) / math.sqrt(2 * math.pi)
    mean = z - over * (1 - below) - density
    return rounds * mean - _QUANTILE * below * math.sqrt(rounds + rounds**2 / before)
