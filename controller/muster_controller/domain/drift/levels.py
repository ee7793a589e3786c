"""One round of drift detection: from measures to detectors of devices, groups and the fleet.

1. A device sets its own level in its first rounds (calibration), so that being peculiar is not drift.
2. Later its distance from that level is what counts. Distances within δ, and within the doubt about the level
   itself, do not count: that is the composite null of Vovk et al. (2021) and others.
3. A device is judged against the median of its peers, a group against that of the devices outside it, the
   fleet by the median of all: so a cause shows at the level where it lies.
4. Variances come from the rows of a window times a design effect, which is how much more the calibration
   rounds varied than independent rows would have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.drift.measures import Array, Measure
from muster_controller.domain.drift.state import SIDES, Bank, DriftState, Level, Levels
from muster_controller.domain.sequential import bet, bet_rate, detect, log_mean

# All of these were chosen on development seeds and then frozen; held-out seeds are in the tests.
SLACK = 2.5  # standard errors of the level that are granted on top of the tolerance
PRIOR_ROUNDS = 20.0  # a device's design effect is pulled towards that of all, as if seen for so many rounds
VARIANCE_FLOOR = 0.1  # of the baseline's variance 1: a column that stood still has no variance of its own
SHARE_TOLERANCE = 0.01  # growth of a share of missing or outside values that does not matter
FORGET = 0.2  # weight of the newest round in the moving averages
PEERS = 3  # a median of fewer devices says nothing
MEDIAN = 1.57  # variance of a median over that of a mean
SCORE_WEIGHT = 0.8  # of the mixture of detectors of scores and of shares


@dataclass(frozen=True)
class Round:
    """What the calibrated devices of one round are like; the first axis is the device.

    Attributes:
        at: Index of each device in the levels.
        moved: Distance of the score means from the device's level.
        noise, doubt: Variance of ``moved`` from this round's rows, and from the level.
        rate: Upper bound of the shares that do not matter.
        effect: Design effect of each column.
    """

    names: tuple[str, ...]
    at: NDArray[np.intp]
    rows: Array
    moved: Array
    noise: Array
    doubt: Array
    hits: Array
    rate: Array
    effect: Array

    def pick(self, chosen: NDArray[np.bool_]) -> "Round":
        """Return the part of the round that some devices make."""
        names = tuple(name for name, keep in zip(self.names, chosen, strict=True) if keep)
        return Round(names, *(getattr(self, f.name)[chosen] for f in fields(self)[1:]))


def is_calibrated(levels: Levels, rounds: int) -> NDArray[np.bool_]:
    """Return which devices have a level of their own."""
    return np.asarray(levels.rounds >= rounds)


def learn(
    levels: Levels, measured: Mapping[str, tuple[str, Measure]], calibration: int
) -> tuple[Levels, Round]:
    """Calibrate the devices that still need it, and return what the others are like in this round.

    A device that has changed its version starts anew: another model answers differently.
    """
    changed = frozenset(
        name
        for name, manifest in zip(levels.names, levels.manifests, strict=True)
        if name in measured and measured[name][0] != manifest
    )
    levels = levels.without(changed) if changed else _copy(levels)
    for name, (manifest, _) in measured.items():
        if name not in levels.names:
            levels = levels.with_device(name, manifest)
    ready = is_calibrated(levels, calibration)
    index = {name: at for at, name in enumerate(levels.names)}
    for name, (_, measure) in measured.items():
        if not ready[index[name]]:
            _calibrate(levels, index[name], measure)
    known = [name for name in measured if ready[index[name]]]
    found = _round(
        levels, {name: measured[name][1] for name in known}, np.array([index[n] for n in known], int)
    )
    levels.recent[found.at] += FORGET * (found.moved - levels.recent[found.at])
    shares = found.hits / np.maximum(found.rows, 1)[:, None, None]
    levels.recent_shares[found.at] += FORGET * (shares - levels.recent_shares[found.at])
    return levels, found


def design_effects(levels: Levels) -> Array:
    """Return by how much a round's score mean varies more than that of independent rows."""
    excess = levels.scatter / np.maximum(levels.variance, VARIANCE_FLOOR)
    free = np.maximum(levels.rounds - 1, 0)[:, None, None]
    pooled = np.maximum(1.0, excess.sum(axis=0) / max(float(free.sum()), 1.0))
    return np.asarray(np.maximum(1.0, (PRIOR_ROUNDS * pooled + excess) / (PRIOR_ROUNDS + free)))


def row_variance(levels: Levels) -> Array:
    """Return the variance of one row's scores, clustered rows counted for what they are worth."""
    return np.asarray(np.maximum(levels.variance, VARIANCE_FLOOR) * design_effects(levels))


def update(state: DriftState, found: Round, groups: Mapping[str, str], *, tolerance: float) -> DriftState:
    """Return the state after every detector has seen a round.

    Devices within the scope of an alarm are no peers, and are watched only as that alarm's own subject.
    """
    covered = {device for incident in state.incidents for device in incident.devices}
    subjects = {incident.name for incident in state.incidents}
    free = np.array([name not in covered for name in found.names], dtype=bool)
    banks: dict[Level, Bank] = {
        "device": _see_devices(
            state.banks["device"], found, free, covered=covered, subjects=subjects, tolerance=tolerance
        ),
        "group": _see_groups(
            state.banks["group"],
            found,
            free,
            groups=groups,
            covered=covered,
            subjects=subjects,
            tolerance=tolerance,
        ),
        "fleet": _see_fleet(state, found, free | (("fleet", "all") in subjects), tolerance=tolerance),
    }
    return replace(state, banks=banks)


def _see_devices(
    bank: Bank,
    found: Round,
    free: NDArray[np.bool_],
    *,
    covered: set[str],
    subjects: set[tuple[Level, str]],
    tolerance: float,
) -> Bank:
    bank = bank.with_names(found.names)
    index = bank.index()
    for name in covered & index.keys():
        if ("device", name) not in subjects:
            bank.reset(index[name])
    watched = free | np.array([("device", name) in subjects for name in found.names], dtype=bool)
    seen = found.pick(watched)
    at = np.array([index[name] for name in seen.names], dtype=np.intp)
    _see(bank, at, seen, peers=_peers(found, free), tolerance=tolerance)
    return bank


def _see_groups(
    bank: Bank,
    found: Round,
    free: NDArray[np.bool_],
    *,
    groups: Mapping[str, str],
    covered: set[str],
    subjects: set[tuple[Level, str]],
    tolerance: float,
) -> Bank:
    labels = np.array([groups.get(name, "") for name in found.names], dtype=object)
    bank = bank.with_names(sorted({str(label) for label in labels if label}))
    touched = {groups.get(device, "") for device in covered}
    for at, label in enumerate(bank.names):
        is_subject = ("group", label) in subjects
        if label in touched and not is_subject:
            bank.reset(at)
        members = (labels == label) & (free | is_subject)
        if members.sum() > 1:
            peers = _peers(found, free & (labels != label))
            _see(bank, np.array([at]), _merged(found.pick(members)), peers=peers, tolerance=tolerance)
    return bank


def _see_fleet(state: DriftState, found: Round, chosen: NDArray[np.bool_], *, tolerance: float) -> Bank:
    bank = state.banks["fleet"].with_names(("all",))
    if chosen.sum() >= max(PEERS, len(state.levels.names) / 2):
        _see(bank, np.array([0]), _median(found.pick(chosen)), peers=None, tolerance=tolerance)
    return bank


def column_values(bank: Bank) -> Array:
    """Return the logarithm of each column's detector, by subject: a mixture of all its legs."""
    scores = log_mean(bank.scores.astype(np.float64), axis=(2, 3, 4))
    shares = log_mean(bank.shares.astype(np.float64), axis=(2, 3))
    return np.asarray(np.logaddexp(np.log(SCORE_WEIGHT) + scores, np.log(1 - SCORE_WEIGHT) + shares))


def values(bank: Bank) -> Array:
    """Return the logarithm of each subject's detector: the mean over its columns."""
    return log_mean(column_values(bank), axis=1)


def _copy(levels: Levels) -> Levels:
    return replace(levels, **{f.name: getattr(levels, f.name).copy() for f in fields(levels)[2:]})


def _calibrate(levels: Levels, at: int, measure: Measure) -> None:
    step = measure.mean - levels.mean[at]
    share = measure.rows / (levels.rows[at] + measure.rows)
    levels.rounds[at] += 1
    levels.rows[at] += measure.rows
    levels.mean[at] += step * share
    levels.scatter[at] += measure.rows * step * step * (1 - share)
    levels.variance[at] += (measure.variance - levels.variance[at]) * share
    levels.hits[at] += measure.hits


def _round(levels: Levels, measures: Mapping[str, Measure], at: NDArray[np.intp]) -> Round:
    shape = (len(measures), *levels.mean.shape[1:])
    rows = np.array([m.rows for m in measures.values()])
    means = np.array([m.mean for m in measures.values()]).reshape(shape)
    now = np.array([m.variance for m in measures.values()]).reshape(shape)
    effects = design_effects(levels)[at]
    # The larger of then and now: with skewed scores a chance excess brings its own variance along.
    variance = np.maximum(np.maximum(levels.variance[at], now), VARIANCE_FLOOR) * effects
    held = levels.rows[at][:, None, None]
    hits = levels.hits[at].astype(np.float64)
    return Round(
        names=tuple(measures),
        at=at,
        rows=rows,
        moved=means - levels.mean[at],
        noise=variance / rows[:, None, None],
        doubt=variance / held,
        hits=np.array([m.hits for m in measures.values()]).reshape(len(rows), *hits.shape[1:]),
        # About two standard errors above what calibration saw, and never 0.
        rate=(hits + 2 * np.sqrt(hits + 1) + 2) / held + SHARE_TOLERANCE,
        effect=effects.max(axis=2),
    )


def _peers(found: Round, chosen: NDArray[np.bool_]) -> Round | None:
    """Return the middle peer; None when there are too few."""
    return _median(found.pick(chosen)) if chosen.sum() >= PEERS else None


def _merged(found: Round) -> Round:
    """Return devices as one: weighted by rows."""
    share = (found.rows / found.rows.sum())[:, None, None]
    return Round(
        names=found.names[:1],
        at=found.at[:1],
        rows=found.rows.sum(keepdims=True),
        moved=(share * found.moved).sum(axis=0, keepdims=True),
        noise=(share**2 * found.noise).sum(axis=0, keepdims=True),
        doubt=(share**2 * found.doubt).sum(axis=0, keepdims=True),
        hits=found.hits.sum(axis=0, keepdims=True),
        rate=(share * found.rate).sum(axis=0, keepdims=True),
        effect=found.effect.max(axis=0, keepdims=True),
    )


def _median(found: Round) -> Round:
    """Return devices as one that is like the middle one, so that a few cannot move it."""
    whole = _merged(found)
    shares = np.median(found.hits / found.rows[:, None, None], axis=0, keepdims=True)
    return replace(
        whole,
        moved=np.median(found.moved, axis=0, keepdims=True),
        noise=MEDIAN * found.noise.mean(axis=0, keepdims=True) / len(found.rows),
        doubt=MEDIAN * found.doubt.mean(axis=0, keepdims=True) / len(found.rows),
        hits=shares * whole.rows[:, None, None],
    )


def _see(bank: Bank, at: NDArray[np.intp], seen: Round, *, peers: Round | None, tolerance: float) -> None:
    """Let the detectors at ``at`` see as many subjects, each against the middle peer."""
    moved, noise, doubt = seen.moved, seen.noise, seen.doubt
    if peers is not None:
        moved, noise, doubt = moved - peers.moved, noise + peers.noise, doubt + peers.doubt
    allowed = tolerance + SLACK * np.sqrt(doubt)
    z = (moved[..., None] * SIDES - allowed[..., None]) / np.sqrt(noise)[..., None]
    bank.scores[at] = detect(bank.scores[at], bet(z))
    effect = np.repeat(seen.effect[:, :, None], seen.hits.shape[2], axis=2)
    gain = bet_rate(seen.hits, seen.rows[:, None, None], rate=seen.rate, effect=effect)
    bank.shares[at] = detect(bank.shares[at], gain)
