"""What is known of every device, by id and in columns.

A question about all devices is then one look at a column each, and a device of which something new is known
costs what it costs alone. Pure: whoever reads the tables puts in what is read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from muster_controller.domain.facts import DeviceFacts
from muster_models.errors import Reason
from muster_models.wire import Phase

NEVER = float("-inf")  # when a device was heard of that never was
PHASES = tuple(Phase)
REASONS: tuple[Reason | None, ...] = (None, *Reason)
UNKNOWN = -1  # the code of a word that no device has said, and the row of a device that is not known
_PHASES: Mapping[str, int] = {phase: code for code, phase in enumerate(PHASES)}
_REASONS: Mapping[str | None, int] = {reason: code for code, reason in enumerate(REASONS)}
_LEAST_WORDS = 1024
_RECORD = np.dtype(
    [
        ("is_known", "?"),
        ("seen", "f8"),
        ("current", "i4"),
        ("target", "i4"),
        ("zone", "i4"),
        ("phase", "i1"),
        ("reason", "i1"),
    ],
    align=True,
)


@dataclass(frozen=True)
class Columns:
    """What a fleet keeps in columns, of some devices in one order.

    Attributes:
        seen: Unix seconds; ``NEVER`` for never.
        current, target: Digests.
    """

    devices: Sequence[str]
    seen: Sequence[float]
    current: Sequence[str | None]
    target: Sequence[str | None]
    zone: Sequence[str]
    phase: Sequence[str]
    reason: Sequence[str | None]


class Fleet(Mapping[str, DeviceFacts]):
    """Devices by id, in the order in which they became known.

    A row once given to a device stays its own, also while it is gone.
    """

    def __init__(self, read: Callable[[Any], DeviceFacts]) -> None:
        """Begin without devices.

        Args:
            read: Makes facts of what ``take`` was given; asked when somebody looks at the device.
        """
        self._read = read
        self._unread: dict[str, Any] = {}
        self._facts: dict[str, DeviceFacts] = {}
        self._rows: dict[str, int] = {}
        self._words: dict[str | None, int] = {None: 0}
        self._most_words = _LEAST_WORDS
        self._room: npt.NDArray[np.void] = np.zeros(1, _RECORD)  # the last row is nobody's

    def __getitem__(self, device: str) -> DeviceFacts:
        """Return what is known of a device."""
        facts = self._facts.get(device)
        if facts is None:
            facts = self._facts[device] = self._read(self._unread.pop(device))
        return facts

    def __contains__(self, device: object) -> bool:
        """Tell whether a device is known."""
        return device in self._facts or device in self._unread

    def __iter__(self) -> Iterator[str]:
        """Yield the devices that are known."""
        known = self.table["is_known"].tolist()
        return (device for device, is_known in zip(self._rows, known, strict=True) if is_known)

    def __len__(self) -> int:
        """Return how many devices are known."""
        return len(self._facts) + len(self._unread)

    @property
    def table(self) -> npt.NDArray[np.void]:
        """The columns, a row for each device that ever was known; words are codes. To be read only."""
        return self._room[: len(self._rows)]

    def look(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.void]:
        """Return the columns of some rows; of ``UNKNOWN`` that nothing is known."""
        return self._room[rows]

    def take(self, columns: Columns, told: Sequence[Any]) -> None:
        """Take in what is newly known of devices.

        Args:
            told: The same and everything else, for ``read``.
        """
        rows = np.array(
            [self._rows.setdefault(device, len(self._rows)) for device in columns.devices], np.intp
        )
        self._make_room()
        table, words = self._room, self._words
        table["is_known"][rows] = True
        table["seen"][rows] = columns.seen
        table["phase"][rows] = [_PHASES[phase] for phase in columns.phase]
        table["reason"][rows] = [_REASONS[reason] for reason in columns.reason]
        for name, said in (("current", columns.current), ("target", columns.target), ("zone", columns.zone)):
            table[name][rows] = [words.setdefault(word, len(words)) for word in said]
        for device in self._facts.keys() & columns.devices:
            del self._facts[device]
        self._unread.update(zip(columns.devices, told, strict=True))
        if len(words) > self._most_words:
            self._forget_words()

    def drop(self, devices: Sequence[str]) -> None:
        """Forget devices."""
        for device in devices:
            row = self._rows.get(device)
            if row is not None:
                self._room["is_known"][row] = False
                self._unread.pop(device, None)
                self._facts.pop(device, None)

    def code(self, word: str | None) -> int:
        """Return what stands for a digest or a zone in the columns; ``UNKNOWN`` when no device has it."""
        return self._words.get(word, UNKNOWN)

    def words(self) -> list[str | None]:
        """Return what the codes stand for, by code."""
        return list(self._words)

    def zones(self) -> set[str]:
        """Return the time zones of the devices that are known."""
        words, table = self.words(), self.table
        codes = np.flatnonzero(np.bincount(table["zone"][table["is_known"]]))
        return {zone for code in codes if (zone := words[code]) is not None}

    def rows(self, devices: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the row of each device, ``UNKNOWN`` for one that never was known."""
        return np.fromiter((self._rows.get(device, UNKNOWN) for device in devices), np.intp, len(devices))

    def names(self, start: int = 0) -> list[str]:
        """Return the devices by row, from one row on."""
        return list(islice(self._rows, start, None))

    def _make_room(self) -> None:
        if len(self._rows) >= len(self._room):
            larger = np.zeros(max(len(self._rows) + 1, 2 * len(self._room)), _RECORD)
            larger[: len(self._room)] = self._room
            self._room = larger

    def _forget_words(self) -> None:
        """Forget digests and zones that no device says any more, so that many of them fill no memory."""
        table, words = self.table, self.words()
        columns = [table[name] for name in ("current", "target", "zone")]
        used = np.unique(np.concatenate([[0], *columns]))  # 0, which is of no word, stays what it is
        fresh = np.full(len(words), UNKNOWN)
        fresh[used] = np.arange(len(used))
        for column in columns:
            column[:] = fresh[column]
        self._words = {words[code]: number for number, code in enumerate(used)}
        self._most_words = max(_LEAST_WORDS, 2 * len(used))


def fleet_of(devices: Mapping[str, DeviceFacts]) -> Fleet:
    """Return devices as a fleet: they themselves, where they are one."""
    if isinstance(devices, Fleet):
        return devices
    found = list(devices.values())
    fleet = Fleet(lambda facts: facts)
    fleet.take(
        Columns(
            devices=list(devices),
            seen=[NEVER if one.seen is None else one.seen for one in found],
            current=[one.current for one in found],
            target=[one.target for one in found],
            zone=[one.zone for one in found],
            phase=[one.phase for one in found],
            reason=[one.reason for one in found],
        ),
        found,
    )
    return fleet
