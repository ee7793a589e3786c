"""What each device is like, and how far from that it is in a round.

1. A device sets its own level in its first rounds (calibration), so that being peculiar is not drift.
2. Variances come from the rows of a window times a design effect, which is how much more the calibration
   rounds varied than independent rows would have. Against peers only what a device varied apart from them
   counts: a course of the day that all share is no noise.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.drift.measures import Measures
from muster_controller.domain.drift.peers import PEERS
from muster_controller.domain.drift.state import Levels, Store

# All of these were chosen on development seeds and then frozen; held-out seeds are in the tests.
PRIOR_ROUNDS = 20.0  # a device's design effect is pulled towards that of all, as if seen for so many rounds
VARIANCE_FLOOR = 0.1  # of the baseline's variance 1: a column that stood still has no variance of its own
SHARE_TOLERANCE = 0.01  # growth of a share of missing or outside values that does not matter
FORGET = 0.2  # weight of the newest round in the moving averages


@dataclass(frozen=True)
class Round:
    """What subjects are like in one round; the first axis is the subject.

    Attributes:
        moved: Distance of the score means from the level.
        noise, doubt: Variance of ``moved`` from this round's rows, and from the level.
        apart: Variance of ``moved`` from this round's rows, as far as peers do not share it.
        rate: Upper bound of the shares that do not matter.
        effect: Design effect of each column.
    """

    names: tuple[str, ...]
    rows: Store
    moved: Store
    noise: Store
    apart: Store
    doubt: Store
    hits: Store
    rate: Store
    effect: Store

    def pick(self, chosen: NDArray[np.bool_]) -> "Round":
        """Return the part of the round that some subjects make."""
        if chosen.all():
            return self
        names = tuple(name for name, keep in zip(self.names, chosen.tolist(), strict=True) if keep)
        return Round(names, *(getattr(self, f.name)[chosen] for f in fields(self)[1:]))


def is_calibrated(levels: Levels, rounds: int) -> NDArray[np.bool_]:
    """Return which devices have a level of their own."""
    return np.asarray(levels.rounds >= rounds)


def learn(
    levels: Levels, measured: Measures, calibration: int, *, covered: frozenset[str]
) -> tuple[Levels, Round]:
    """Calibrate the devices that still need it, and return what the others are like in this round.

    A device that has changed its version starts anew: another model answers differently.

    Args:
        covered: Devices that an alarm is about, which are nobody's peers.
    """
    levels, at = _admit(levels, measured)
    ready = is_calibrated(levels, calibration)[at]
    if not ready.all():
        free = np.array([name not in covered for name in measured.names], dtype=bool)
        # Of too few there is no middle: then a device varies apart from others as much as it varies.
        middle = _middle_of_means(measured, free) if free.sum() >= PEERS else np.float32(0)
        _calibrate(levels, at[~ready], _pick(measured, ~ready), middle)
    found = _round(levels, at[ready], _pick(measured, ready))
    at = at[ready]
    levels.recent[at] += FORGET * (found.moved - levels.recent[at])
    shares = found.hits / np.maximum(found.rows, 1)[:, None, None]
    levels.recent_shares[at] += FORGET * (shares - levels.recent_shares[at])
    return levels, found


def row_variance(levels: Levels) -> Store:
    """Return the variance of one row's scores, clustered rows counted for what they are worth."""
    effects = _design_effects(levels, levels.scatter)
    return np.asarray(np.maximum(levels.variance, np.float32(VARIANCE_FLOOR)) * effects)


def _admit(levels: Levels, measured: Measures) -> tuple[Levels, NDArray[np.intp]]:
    """Return levels, a copy, with a place for every device of the round, and those places."""
    index = levels.index()
    manifests = dict(zip(measured.names, measured.manifests, strict=True))
    changed = frozenset(
        name
        for name, manifest in manifests.items()
        if name in index and levels.manifests[index[name]] != manifest
    )
    levels = levels.without(changed) if changed else levels
    new = [name for name in measured.names if name not in index or name in changed]
    levels = levels.with_devices(new, [manifests[name] for name in new])
    index = levels.index()
    return levels, np.array([index[name] for name in measured.names], dtype=np.intp)


def _pick(measured: Measures, chosen: NDArray[np.bool_]) -> Measures:
    if chosen.all():
        return measured
    kept = np.flatnonzero(chosen)
    return Measures(
        tuple(measured.names[at] for at in kept),
        tuple(measured.manifests[at] for at in kept),
        measured.rows[kept],
        measured.means[kept],
        measured.variances[kept],
        measured.hits[kept],
    )


def _middle_of_means(measured: Measures, chosen: NDArray[np.bool_]) -> Store:
    means = measured.means[chosen]
    rows = np.ascontiguousarray(means.reshape(len(means), -1).T)
    return np.median(rows, axis=1).reshape(1, *means.shape[1:]).astype(np.float32)


def _calibrate(levels: Levels, at: NDArray[np.intp], measured: Measures, middle: Store | np.float32) -> None:
    share = (measured.rows / (levels.rows[at] + measured.rows))[:, None, None]
    weight = measured.rows[:, None, None] * (1 - share)
    step = measured.means - levels.mean[at]
    apart = measured.means - middle - levels.apart[at]
    levels.rounds[at] += 1
    levels.rows[at] += measured.rows
    levels.mean[at] += step * share
    levels.scatter[at] += weight * step * step
    levels.apart[at] += apart * share
    levels.apart_scatter[at] += weight * apart * apart
    levels.variance[at] += (measured.variances - levels.variance[at]) * share
    levels.hits[at] += measured.hits


def _design_effects(levels: Levels, scatter: Store) -> Store:
    """Return by how much a round's score mean varies more than that of independent rows."""
    excess = scatter / np.maximum(levels.variance, np.float32(VARIANCE_FLOOR))
    free = np.maximum(levels.rounds - 1, 0)[:, None, None]
    pooled = np.maximum(1.0, excess.sum(axis=0, dtype=np.float64) / max(float(free.sum()), 1.0))
    prior = (PRIOR_ROUNDS * pooled).astype(np.float32)
    shrunk = (prior + excess) / (np.float32(PRIOR_ROUNDS) + free)
    return np.asarray(np.maximum(np.float32(1), shrunk), dtype=np.float32)


def _round(levels: Levels, at: NDArray[np.intp], measured: Measures) -> Round:
    rows = measured.rows.astype(np.float32)
    effects = _design_effects(levels, levels.scatter)[at]
    apart = _design_effects(levels, levels.apart_scatter)[at]
    # The larger of then and now: with skewed scores a chance excess brings its own variance along.
    now = measured.variances.astype(np.float32)
    variance = np.maximum(np.maximum(levels.variance[at], now), np.float32(VARIANCE_FLOOR))
    held = levels.rows[at][:, None, None]
    hits = levels.hits[at]
    return Round(
        names=measured.names,
        rows=rows,
        moved=(measured.means - levels.mean[at]).astype(np.float32),
        noise=variance * effects / rows[:, None, None],
        apart=variance * apart / rows[:, None, None],
        doubt=variance * effects / held,
        hits=measured.hits.astype(np.float32),
        # About two standard errors above what calibration saw, and never 0.
        rate=(hits + 2 * np.sqrt(hits + 1) + 2) / held + np.float32(SHARE_TOLERANCE),
        effect=effects.max(axis=2, initial=1.0),
    )
