"""The detectors of devices, groups and the fleet, and what they say after one more round.

A device is judged against the median of its peers, a group against that of the devices outside it, the fleet
by the median of all: so a cause shows at the level where it lies. Distances within δ, and within the doubt
about the level itself, do not count: that is the composite null of Vovk et al. (2021) and others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.drift.levels import Round
from muster_controller.domain.drift.peers import PEERS, Middle
from muster_controller.domain.drift.state import SIDES, Bank, Level, Store, Watched
from muster_controller.domain.sequential import RATE_FACTORS, see, see_rate

# Standard errors of the level that are granted besides the tolerance, by bet: an error of the level is the
# same in every round, and the smaller a bet, the surer it gains on that in the end.
SLACKS = np.array([3.0, 3.0, 2.5, 0.75], dtype=np.float32)
MEDIAN = 1.57  # variance of a median over that of a mean
QUIET = 4.0  # a detector of a column that says less says nothing
SCORE_WEIGHT = 0.9  # of the mixture of detectors of scores and of shares
COMPONENT_WEIGHTS = np.array([0.7, 0.1, 0.1, 0.1])  # a shift of the location is what happens most
BET_WEIGHTS = np.array([0.1, 0.1, 0.2, 0.6])  # the largest bet is for what is to be found at once
_SIDE_WEIGHTS = np.full(len(SIDES), 1 / len(SIDES))
_SCORE_MIX = (SCORE_WEIGHT * COMPONENT_WEIGHTS[:, None, None] * _SIDE_WEIGHTS[:, None] * BET_WEIGHTS).astype(
    np.float32
)
_SHARE_MIX = np.float32((1 - SCORE_WEIGHT) / (2 * len(RATE_FACTORS)))


@dataclass(frozen=True)
class Peers:
    """What subjects are judged against; the first axis is the subject, or 1 for all alike."""

    moved: Store
    noise: Store
    doubt: Store


def update(
    state: Watched, found: Round, groups: Groups, *, tolerance: float, end: float, sides: Store = SIDES
) -> Watched:
    """Return the state after every detector has seen a round.

    Devices within the scope of an alarm are no peers, and are watched only as that alarm's own subject.

    Args:
        groups: Names of the groups that each device belongs to.
        end: Of the round, Unix seconds.
        sides: Directions that matter, as ``SIDES``; 0 in the place of one that does not.
    """
    scopes = {(incident.level, incident.subject): frozenset(incident.devices) for incident in state.incidents}
    covered = frozenset().union(*scopes.values())
    free = np.array([name not in covered for name in found.names], dtype=bool)
    middle = Middle.of(found.moved, free)
    banks = dict(state.banks)
    watched = free | np.array([("device", name) in scopes for name in found.names], dtype=bool)
    banks["device"] = watch(
        banks["device"],
        found.pick(watched),
        peers=peers_of(found, free, middle),
        tolerance=tolerance,
        end=end,
        sides=sides,
    )
    members = _members(found, free, groups, scopes)
    if members:
        merged, outside = merge_groups(found, free, middle, members)
        banks["group"] = watch(
            banks["group"], merged, peers=outside, tolerance=tolerance, end=end, sides=sides
        )
    every = free | (("fleet", "all") in scopes)
    if every.sum() >= max(PEERS, len(state.levels.names) / 2):
        whole = merge_all(found.pick(every), Middle.of(found.moved, every))
        banks["fleet"] = watch(banks["fleet"], whole, peers=None, tolerance=tolerance, end=end, sides=sides)
    return replace(state, banks=banks)


def _members(
    found: Round, free: NDArray[np.bool_], groups: Groups, scopes: Mapping[tuple[Level, str], object]
) -> dict[str, NDArray[np.intp]]:
    """Return where the members of each group are that has two or more; those of an alarm only in its own."""
    members: dict[str, list[int]] = {}
    for at, (name, is_free) in enumerate(zip(found.names, free.tolist(), strict=True)):
        for group in groups.get(name, ()):
            if is_free or ("group", group) in scopes:
                members.setdefault(group, []).append(at)
    several = {group: own for group, own in members.items() if len(own) > 1}
    return {group: np.array(several[group], dtype=np.intp) for group in sorted(several)}


def peers_of(found: Round, free: NDArray[np.bool_], middle: Middle) -> Peers | None:
    """Return the middle peer; None when there are too few."""
    if middle.devices < PEERS:
        return None
    share = np.float32(MEDIAN / middle.devices**2)
    return Peers(
        middle.median(),
        share * found.apart[free].sum(axis=0, keepdims=True),
        share * found.doubt[free].sum(axis=0, keepdims=True),
    )


def merge_groups(
    found: Round, free: NDArray[np.bool_], middle: Middle, groups: dict[str, NDArray[np.intp]]
) -> tuple[Round, Peers]:
    """Return each group as one subject, weighted by rows, and the middle of those outside it.

    Args:
        groups: Of each, the places of its members in the round; two or more.
    """
    members = list(groups.values())
    ends = np.cumsum([len(own) for own in members])
    starts, order = ends - [len(own) for own in members], np.concatenate(members)

    def add(values: Store) -> Store:
        return np.add.reduceat(values, starts, axis=0)

    total = add(found.rows[order])
    share = found.rows[order] / np.repeat(total, ends - starts)
    weight = share[:, None, None].astype(np.float32)
    merged = Round(
        names=tuple(groups),
        rows=total,
        moved=add(weight * found.moved[order]),
        noise=add(weight**2 * found.noise[order]),
        apart=add(weight**2 * found.apart[order]),
        doubt=add(weight**2 * found.doubt[order]),
        hits=add(found.hits[order]),
        rate=add(weight * found.rate[order]),
        effect=np.maximum.reduceat(found.effect[order], starts, axis=0),
    )
    inside = free[order].astype(np.float32)[:, None, None]
    outside = middle.devices - add(inside[:, 0, 0])
    enough = outside >= PEERS
    factor = np.where(enough, MEDIAN / np.maximum(outside, 1) ** 2, 0).astype(np.float32)[:, None, None]

    def add_outside(values: Store) -> Store:
        return np.asarray(factor * (values[free].sum(axis=0) - add(inside * values[order])))

    peers = Peers(middle.medians_without(members), add_outside(found.apart), add_outside(found.doubt))
    return merged, peers


def merge_all(found: Round, middle: Middle) -> Round:
    """Return devices as one that is like the middle one, so that a few cannot move it."""
    rows = found.rows.sum(keepdims=True)
    shares = np.median(found.hits / found.rows[:, None, None], axis=0, keepdims=True)
    share = np.float32(MEDIAN / len(found.rows) ** 2)
    own = share * found.apart.sum(axis=0, keepdims=True)
    # What all devices share, such as the course of a day, does not average out.
    common = np.maximum((found.noise - found.apart).mean(axis=0, keepdims=True), 0)
    return Round(
        names=("all",),
        rows=rows,
        moved=middle.median(),
        noise=own + common,
        apart=own,
        doubt=share * found.doubt.sum(axis=0, keepdims=True),
        hits=shares * rows[:, None, None],
        rate=found.rate.mean(axis=0, keepdims=True),
        effect=found.effect.max(axis=0, keepdims=True),
    )


def watch(
    bank: Bank, seen: Round, *, peers: Peers | None, tolerance: float, end: float, sides: Store = SIDES
) -> Bank:
    """Return a bank whose detectors have seen as many subjects, each against its peer.

    Args:
        end: Of the round, Unix seconds.
        sides: As in ``update``.
    """
    bank = bank.with_names(seen.names)
    index = bank.index()
    at = np.array([index[name] for name in seen.names], dtype=np.intp)
    moved, noise, doubt = seen.moved, seen.noise, seen.doubt
    if peers is not None:
        moved, noise, doubt = moved - peers.moved, seen.apart + peers.noise, doubt + peers.doubt
    # Tolerance and doubt are independent of each other, so they add up as variances do.
    sd = np.sqrt(noise)[..., None]
    allowed = np.sqrt(np.float32(tolerance**2) + doubt[..., None] * np.square(SLACKS, dtype=np.float32)) / sd
    z = (moved[..., None] * sides / sd)[..., None] - allowed[..., None, :]
    effect = seen.effect[:, :, None]
    held = replace(bank, scores=bank.scores[at], shares=bank.shares[at])
    held = replace(
        held,
        scores=see(held.scores, z),
        shares=see_rate(held.shares, seen.hits, seen.rows[:, None, None], rate=seen.rate, effect=effect),
    )
    scores, shares, quiet = bank.scores.copy(), bank.shares.copy(), bank.quiet.copy()
    scores[at], shares[at] = held.scores, held.shares
    silent = at[column_values(held).max(axis=1, initial=0.0) <= QUIET]
    quiet[silent] = np.maximum(quiet[silent], end)
    return replace(bank, scores=scores, shares=shares, quiet=quiet)


def column_values(bank: Bank) -> NDArray[np.float64]:
    """Return each column's detector, by subject: a mixture of all its legs."""
    scores = bank.scores.reshape(*bank.scores.shape[:2], _SCORE_MIX.size) @ _SCORE_MIX.reshape(-1)
    shares = bank.shares.sum(axis=(2, 3)) * _SHARE_MIX
    return np.asarray(scores.astype(np.float64) + shares)


def subject_values(bank: Bank) -> NDArray[np.float64]:
    """Return each subject's detector: the mean over its columns."""
    return np.asarray(column_values(bank).mean(axis=1))


def leg_values(bank: Bank, at: int, column: int) -> NDArray[np.float64]:
    """Return the detector of each leg of one column: four scores, two shares."""
    scores = (bank.scores[at, column].astype(np.float64) @ BET_WEIGHTS).max(axis=1)
    return np.concatenate([scores, bank.shares[at, column].astype(np.float64).mean(axis=1)])
