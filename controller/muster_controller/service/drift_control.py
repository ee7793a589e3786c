"""What is normal for a subject by its calibration, and how far from that it is: a control chart. Pure.

For people to look at: ``domain.drift`` decides about alarms. A window is drawn as normal when it lies within
the tolerance, the doubt about the subject's own level, and three and a half standard errors of such a window.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_controller.domain.drift.attribution import LEGS, SCORE_LEGS, make_scene
from muster_controller.domain.drift.detectors import MEDIAN, column_values, leg_values
from muster_controller.domain.drift.levels import SHARE_TOLERANCE, VARIANCE_FLOOR, is_calibrated, row_variance
from muster_controller.domain.drift.measures import Measure
from muster_controller.domain.drift.state import Level, Levels, Watched
from muster_controller.service.drift_views import EvidenceView, HeatCell, HeatRow
from muster_models.sketch.baseline import COMPONENTS

Array = NDArray[np.float64]

SIGMAS = 3.5  # standard errors that are drawn as normal: of a thousand cells that are calm, three stick out
VALUES, QUALITY = slice(0, SCORE_LEGS), slice(SCORE_LEGS, None)  # of the legs
PLAIN_ENOUGH = 0.3  # of the furthest leg: a shift says more to people than odd tails
DOUBTS = 3.0  # standard errors of the level, the most that the detectors grant
MAX_GROUPS, MAX_DEVICES = 12, 30  # rows of the heat map


@dataclass(frozen=True)
class Piece:
    """What one device measured in one bucket of time."""

    bucket: int
    device: str
    measure: Measure


@dataclass(frozen=True)
class Band:
    """Distances from a subject's own level and what is normal; the axes are bucket, column and leg.

    Attributes:
        moved: NaN where nobody measured anything.
        allowed: Half the width of the band.
        normal: The level itself, by column and leg.
    """

    moved: Array
    allowed: Array
    normal: Array

    def furthest(self, column: int, legs: slice) -> "Furthest":
        """Return one column; told of is the plainest leg of those that left the band far."""
        moved, allowed = self.moved[:, column, legs], self.allowed[:, column, legs]
        ratio = np.abs(moved) / allowed
        known = ~np.isnan(ratio).any(axis=1)
        excess = np.maximum(ratio[known] - 1, 0).sum(axis=0)
        at = int((excess >= PLAIN_ENOUGH * excess.max()).argmax())
        distance = np.full(len(ratio), np.nan)
        distance[known] = ratio[known].max(axis=1)
        return Furthest(LEGS[legs][at], *(_plain(part) for part in (distance, moved[:, at], allowed[:, at])))


class Furthest(NamedTuple):
    """One column of a band, by bucket, as ``ControlView`` has it."""

    leg: str
    distance: tuple[float | None, ...]
    moved: tuple[float | None, ...]
    allowed: tuple[float | None, ...]


def count_calibrated(watched: Watched, devices: Collection[str] | None, rounds: int) -> tuple[int, int]:
    """Return how many devices have a level of their own, and how many there are; None asks for all."""
    ready = is_calibrated(watched.levels, rounds)
    wanted = [devices is None or name in devices for name in watched.levels.names]
    return int(ready[np.flatnonzero(wanted)].sum()), sum(wanted)


def make_band(
    pieces: Sequence[Piece], watched: Watched, level: Level, *, buckets: int, tolerance: float, rounds: int
) -> Band | None:
    """Return what is normal for the devices of the pieces together; None where none has a level yet.

    Args:
        level: Of the subject: the fleet is like its middle device, a group is the sum of its devices.
        rounds: That a device takes to set its level.
    """
    levels, index = watched.levels, watched.levels.index()
    ready = is_calibrated(levels, rounds)
    known = [piece for piece in pieces if piece.device in index and ready[index[piece.device]]]
    known = [piece for piece in known if piece.measure.rows]
    if not known:
        return None
    places, rows, sums = _gather(known, index, min(known[0].measure.sums.shape[0], watched.columns))
    found = _devices(levels, places[:, 1], rows, sums)
    moved = np.full((buckets, sums.shape[1], len(LEGS)), np.nan)
    allowed = np.full_like(moved, np.nan)
    for bucket in np.unique(places[:, 0]).tolist():
        here = places[:, 0] == bucket
        moved[bucket], noise, doubt = _together(found.pick(here), level)
        # Tolerance and doubt are independent of each other, so they add up as variances do.
        allowed[bucket] = np.sqrt(_granted(tolerance) ** 2 + DOUBTS**2 * doubt) + SIGMAS * np.sqrt(noise)
    weight = (rows / rows.sum())[:, None, None]
    return Band(moved, allowed, (weight * found.normal).sum(axis=0))


def _gather(
    pieces: Sequence[Piece], index: Mapping[str, int], columns: int
) -> tuple[NDArray[np.intp], Array, Array]:
    """Return each bucket with a device in it, the rows of both, and the sums over these rows."""
    keys = np.array([(piece.bucket, index[piece.device]) for piece in pieces])
    places, inverse = np.unique(keys, axis=0, return_inverse=True)
    rows = np.zeros(len(places))
    sums = np.zeros((len(places), columns, pieces[0].measure.sums.shape[1]))
    for at, piece in zip(inverse.reshape(-1).tolist(), pieces, strict=True):
        rows[at] += piece.measure.rows
        sums[at] += piece.measure.sums[:columns]
    return places, rows, sums


@dataclass(frozen=True)
class _Devices:
    """Devices in their buckets; the first axis is the pair of both."""

    rows: Array
    normal: Array
    moved: Array
    noise: Array
    doubt: Array

    def pick(self, chosen: NDArray[np.bool_]) -> "_Devices":
        return _Devices(*(getattr(self, one.name)[chosen] for one in fields(self)))


def _devices(levels: Levels, at: NDArray[np.intp], rows: Array, sums: Array) -> _Devices:
    columns, per_row, held = sums.shape[1], rows[:, None, None], levels.rows[at][:, None, None]
    of_scores = row_variance(levels)[at, :columns]
    effects = of_scores / np.maximum(levels.variance[at, :columns], np.float32(VARIANCE_FLOOR))
    shares = levels.hits[at, :columns] / held
    # One hit more, so that what never happened in the calibration has a variance all the same.
    rate = (levels.hits[at, :columns] + 1) / (held + 2)
    of_shares = effects.max(axis=2, keepdims=True) * rate * (1 - rate)
    variance = np.concatenate([of_scores, of_shares], axis=2)
    normal = np.concatenate([levels.mean[at, :columns], shares], axis=2)
    seen = np.concatenate([sums[..., :COMPONENTS], sums[..., 2 * COMPONENTS :]], axis=2) / per_row
    return _Devices(rows, normal, seen - normal, variance / per_row, variance / held)


def _together(found: _Devices, level: Level) -> tuple[Array, Array, Array]:
    """Return the distance of all together, its variance, and the variance of the level."""
    if level == "fleet":
        weight = np.full((len(found.rows), 1, 1), 1 / len(found.rows))
        factor = MEDIAN if len(found.rows) > 1 else 1.0
        moved = np.median(found.moved, axis=0)
    else:
        weight, factor = (found.rows / found.rows.sum())[:, None, None], 1.0
        moved = (weight * found.moved).sum(axis=0)
    noise, doubt = (factor * (weight**2 * part).sum(axis=0) for part in (found.noise, found.doubt))
    return moved, noise, doubt


def read_evidence(
    watched: Watched, level: Level, subject: str, *, run_length: float
) -> dict[tuple[int, bool], EvidenceView]:
    """Return what the detector of a subject says, by column and whether of its quality.

    Empty for a subject that is not watched. The bound is what a column must reach when no other column says
    anything. An open alarm keeps the evidence that raised it, because its detector starts anew.
    """
    subjects = sum(len(bank.names) for bank in watched.banks.values())
    bound = math.log10(max(1.0, run_length * subjects * watched.columns))
    bank, said = watched.banks[level], dict[tuple[int, bool], float]()
    if subject in bank.names:
        at = bank.names.index(subject)
        for column, value in enumerate(column_values(bank)[at].tolist()):
            legs = leg_values(bank, at, column)
            for is_quality, part in ((False, legs[VALUES]), (True, legs[QUALITY])):
                said[column, is_quality] = math.log10(max(1.0, min(value, float(part.max()))))
    for incident in watched.incidents:
        for moved in incident.moved if incident.name == (level, subject) else ():
            key = moved.column, moved.leg in LEGS[QUALITY]
            said[key] = max(said.get(key, 0.0), moved.evidence / math.log(10))
    return {key: EvidenceView(value, bound) for key, value in said.items()}


def make_heat(
    watched: Watched, groups: Mapping[str, Collection[str]], *, tolerance: float, rounds: int
) -> tuple[HeatRow, ...]:
    """Return groups, then devices, those that left their bands furthest first: how each was of late."""
    scene = make_scene(watched, groups, rounds)
    together = [
        (name, members) for name, members in scene.groups.items() if 1 < int(members.sum()) < len(scene.names)
    ]
    moved = [scene.moved[members].mean(axis=0) for _, members in together]
    noise = [np.sqrt(np.square(scene.noise[own]).sum(axis=0)) / own.sum() for _, own in together]
    groups_first = _rows("group", [name for name, _ in together], moved, noise, tolerance=tolerance)
    devices = _rows("device", scene.names, scene.moved, scene.noise, tolerance=tolerance)
    return (*groups_first, *devices)


def _rows(
    level: Level,
    names: Sequence[str],
    moved: ArrayLike,
    noise: ArrayLike,
    *,
    tolerance: float,
) -> list[HeatRow]:
    """Return the rows that are shown of subjects, by how far they left their bands."""
    if not len(names):
        return []
    effects = np.asarray(moved, dtype=np.float64)
    ratio = np.abs(effects) / np.sqrt(_granted(tolerance) ** 2 + (SIGMAS * np.asarray(noise)) ** 2)
    furthest = np.argsort(-ratio.max(axis=(1, 2), initial=0.0), kind="stable")
    return [
        HeatRow(
            names[at], level, tuple(_cell(*column) for column in zip(effects[at], ratio[at], strict=True))
        )
        for at in furthest[: MAX_GROUPS if level == "group" else MAX_DEVICES].tolist()
    ]


def _cell(moved: Array, ratio: Array) -> HeatCell:
    leg = int(ratio.argmax())
    unit = "sd" if leg < SCORE_LEGS else "share"
    return HeatCell(LEGS[leg], float(moved[leg]), unit, float(ratio[leg]))


def _granted(tolerance: float) -> Array:
    """Return the distance of each leg that does not matter."""
    return np.where(np.arange(len(LEGS)) < SCORE_LEGS, tolerance, SHARE_TOLERANCE)


def _plain(values: Array) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else value for value in values.tolist())
