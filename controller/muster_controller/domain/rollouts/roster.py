"""The members of a rollout in columns, beside the members themselves.

So that a question about all of them is one look at a column, and a step that changes few costs little. What
is in the columns follows from the members alone: a roster that was changed again and again is the one that is
made of its members at once.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from muster_controller.domain.fleet import UNKNOWN, Fleet
from muster_controller.domain.rollouts.draw import place
from muster_controller.domain.rollouts.members import Member, was_touched

T = TypeVar("T")
Mask = npt.NDArray[np.bool_]
NOT_YET = float("nan")  # when a member was given the version that was not
_RECORD = np.dtype(
    [
        ("arm", "i4"),
        ("given", "f8"),
        ("retry_at", "f8"),
        ("is_withdrawn", "?"),
        ("is_acknowledged", "?"),
        ("has_past", "?"),
        ("was_touched", "?"),
    ],
    align=True,
)


class Names:
    """Who the members are, by row; the same for all steps between which nobody joined."""

    def __init__(self, names: Sequence[str]) -> None:
        self.all = names
        self.rows = {name: row for row, name in enumerate(names)}
        # What was found out: it can be found out again.
        self._fleet: Fleet | None = None
        self._within: npt.NDArray[np.intp] = np.zeros(0, np.intp)
        self._upto = 0
        self._places: tuple[str, npt.NDArray[np.uint64]] | None = None

    def within(self, fleet: Fleet) -> npt.NDArray[np.intp]:
        """Return each member's row in a fleet; ``UNKNOWN`` where it has none."""
        if self._fleet is not fleet:
            self._fleet, self._within, self._upto = fleet, fleet.rows(self.all), len(fleet.table)
        elif self._upto < len(fleet.table):
            for row, name in enumerate(fleet.names(self._upto), start=self._upto):
                if (member := self.rows.get(name)) is not None:
                    self._within[member] = row
            self._upto = len(fleet.table)
        return self._within

    def strangers(self, fleet: Fleet) -> list[str]:
        """Return the devices of a fleet that are no members."""
        is_stranger = fleet.table["is_known"].copy()
        within = self.within(fleet)
        is_stranger[within[within != UNKNOWN]] = False
        return list(compress(fleet.names(), is_stranger.tolist())) if is_stranger.any() else []

    def places(self, line: str) -> npt.NDArray[np.uint64]:
        """Return where each member stands on the line of a draw."""
        if self._places is None or self._places[0] != line:
            found = (int(place(line, name), 16) for name in self.all)
            self._places = line, np.fromiter(found, np.uint64, len(self.all))
        return self._places[1]


@dataclass(frozen=True)
class Columns:
    """Members in columns.

    Attributes:
        table: A row each. ``has_past``: something is to be forgotten when the version runs after all.
    """

    names: Names
    table: npt.NDArray[np.void]

    def after(self, changed: Mapping[str, Member]) -> "Columns":
        """Return the columns once some members are what they are now, or have joined."""
        late = [name for name in changed if name not in self.names.rows]
        names = Names([*self.names.all, *late]) if late else self.names
        table = np.concatenate([self.table, np.zeros(len(late), _RECORD)])
        table[[names.rows[name] for name in changed]] = _records(changed.values())
        return Columns(names, table)

    def is_given(self) -> Mask:
        """Tell which members were given the version."""
        is_given: Mask = ~np.isnan(self.table["given"])
        return is_given


def _records(members: Collection[Member]) -> npt.NDArray[np.void]:
    return np.array(
        [
            (
                member.arm,
                NOT_YET if member.given is None else member.given,
                NOT_YET if member.retry_at is None else member.retry_at,
                member.withdrawn != "",
                member.acknowledged,
                member.failure is not None or member.tries > 0 or member.acknowledged,
                was_touched(member),
            )
            for member in members
        ],
        _RECORD,
    )


class Roster(dict[str, Member]):
    """Members by device; never changed in place: ``|`` makes another."""

    def __or__(self, changed: Mapping[str, Member]) -> "Roster":  # type: ignore[override]
        """Return the roster once some members are what they are now, or have joined."""
        merged = Roster(self)
        dict.update(merged, changed)
        if "columns" in self.__dict__:
            merged.__dict__["columns"] = self.columns.after(changed)
        return merged

    @cached_property
    def columns(self) -> Columns:
        """The members in columns."""
        return Columns(Names(list(self)), _records(self.values()))

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a roster is never changed in place, expected | to make another")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


def roster_of(members: Mapping[str, Member]) -> Roster:
    """Return members as a roster: they themselves, where they are one."""
    return members if isinstance(members, Roster) else Roster(members)


class Crowd(AbstractSet[str]):
    """Some of the members, as a set of names that is made only where somebody asks for them."""

    __slots__ = ("_mask", "_names", "_size")

    def __init__(self, names: Names, mask: Mask) -> None:
        self._names, self._mask = names, mask
        self._size = int(np.count_nonzero(mask))

    def __contains__(self, name: object) -> bool:
        """Tell whether a member is one of them."""
        row = self._names.rows.get(name) if isinstance(name, str) else None
        return row is not None and bool(self._mask[row])

    def __iter__(self) -> Iterator[str]:
        """Yield them in the order of the members."""
        return (self._names.all[row] for row in np.flatnonzero(self._mask).tolist())

    def __len__(self) -> int:
        """Return how many they are."""
        return self._size

    def __and__(self, others: AbstractSet[object]) -> AbstractSet[str]:
        """Return those who are among others as well."""
        if isinstance(others, Crowd) and others._names is self._names:
            return Crowd(self._names, self._mask & others._mask)
        return {name for name in others if isinstance(name, str) and name in self}

    def __or__(self, others: AbstractSet[T]) -> AbstractSet[str | T]:
        """Return them and others."""
        if isinstance(others, Crowd) and others._names is self._names:
            return Crowd(self._names, self._mask | others._mask)
        return {*self, *others}

    __rand__ = __and__

    @classmethod
    def _from_iterable(cls, names: Iterable[T]) -> AbstractSet[T]:
        return set(names)
