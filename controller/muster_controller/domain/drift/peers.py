"""The middle of many devices, and the middle without some of them: what a subject is judged against."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Store = NDArray[np.float32]
Places = NDArray[np.intp]

PEERS = 3  # a median of fewer devices says nothing


@dataclass(frozen=True, eq=False)
class Middle:
    """The devices that others are compared with, sorted once, so that leaving some out costs little.

    Attributes:
        ordered: Shape (values of a device, devices); each row sorted.
        ranks: Where each device stands in each row.
        places: Where each device of the round stands among these, -1 for one that is not among them.
    """

    ordered: Store
    ranks: NDArray[np.intp]
    places: Places
    shape: tuple[int, ...] = field(default=())

    @classmethod
    def of(cls, moved: Store, chosen: NDArray[np.bool_]) -> "Middle":
        """Sort the chosen devices; the first axis of ``moved`` is the device."""
        rows = np.ascontiguousarray(moved[chosen].reshape(int(chosen.sum()), math.prod(moved.shape[1:])).T)
        order, each = rows.argsort(axis=1), np.arange(len(rows))[:, None]
        ranks = np.empty_like(order)
        ranks[each, order] = np.arange(rows.shape[1])
        places = np.where(chosen, np.cumsum(chosen) - 1, -1)
        return cls(rows[each, order], ranks, places, moved.shape[1:])

    @property
    def devices(self) -> int:
        """How many there are."""
        return int(self.ordered.shape[1])

    def median(self) -> Store:
        """Return the middle of all of them, shape (1, ...)."""
        low, high = (self.devices - 1) // 2, self.devices // 2
        middle = (self.ordered[:, low] + self.ordered[:, high]) / np.float32(2)
        return np.asarray(middle.reshape(1, *self.shape), dtype=np.float32)

    def medians_without(self, groups: Sequence[Places]) -> Store:
        """Return the middle of all devices outside each group, shape (groups, ...); 0 where too few remain.

        Args:
            groups: Of each, the places of its members in the round.
        """
        found = np.zeros((len(groups), len(self.ordered)), dtype=np.float32)
        inside = [own[own >= 0] for own in (self.places[group] for group in groups)]
        sizes = np.array([len(own) for own in inside], dtype=np.intp)
        for size in np.unique(sizes[self.devices - sizes >= PEERS]):
            same = np.flatnonzero(sizes == size)
            found[same] = self._without(
                np.array([inside[at] for at in same], dtype=np.intp).reshape(len(same), size)
            )
        return found.reshape(len(groups), *self.shape)

    def _without(self, members: NDArray[np.intp]) -> Store:
        """Return the middle without each of these sets of equal size, shape (sets, values)."""
        remaining = self.devices - members.shape[1]
        # How many that remain stand before the k-th that is left out: what is left out moves places on.
        before = np.sort(self.ranks[:, members], axis=2) - np.arange(members.shape[1])
        rows = np.arange(len(self.ordered))[:, None]
        total = np.zeros((len(self.ordered), len(members)), dtype=np.float32)
        for place in ((remaining - 1) // 2, remaining // 2):
            total += self.ordered[rows, place + (before <= place).sum(axis=2)]
        return np.asarray(total.T / np.float32(2), dtype=np.float32)
