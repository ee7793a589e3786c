"""The members of a rollout beside what is known of their devices, a row each.

What is decided of one device depends on few things, and a fleet has few kinds of devices: so each kind is
asked about once, by the very function that answers for one device.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.fleet import PHASES, REASONS, fleet_of
from muster_controller.domain.rollouts.roster import Mask, Roster

_OTHER = ""  # a digest that is not the one in question


class Sight:
    """What one look at the fleet shows of members."""

    def __init__(self, facts: Facts, roster: Roster) -> None:
        columns, fleet = roster.columns, fleet_of(facts.devices)
        rows = columns.names.within(fleet)
        self.names = columns.names
        self.members = columns.table
        self.is_given = columns.is_given()
        self._devices = fleet.look(rows)
        self._fleet = fleet
        self.is_known: Mask = self._devices["is_known"]
        self.seen: npt.NDArray[np.float64] = self._devices["seen"]
        self.is_reachable: Mask = self.is_known & (facts.now - self.seen <= facts.reachable_seconds)

    def by_kind(self, digest: str, ask: Callable[[DeviceFacts], int]) -> npt.NDArray[np.int8]:
        """Return what a function says of each device.

        Args:
            digest: Of a version.
            ask: Looks at phase and reason, and at which of current and target is the version, and at no more.
        """
        devices, code = self._devices, self._fleet.code(digest)
        kinds = (devices["current"] == code) * 2 + (devices["target"] == code)
        kinds = (kinds * len(PHASES) + devices["phase"]) * len(REASONS) + devices["reason"]

        def told(kind: int) -> int:
            versions, state = divmod(kind, len(PHASES) * len(REASONS))
            phase, reason = divmod(state, len(REASONS))
            current, target = (digest if versions & bit else _OTHER for bit in (2, 1))
            return ask(DeviceFacts("", {}, None, current, target, PHASES[phase], REASONS[reason]))

        return by_kind(kinds, told)

    def by_zone(self, ask: Callable[[str | None], bool]) -> Mask:
        """Return what a function says of each device's time zone."""
        words = self._fleet.words()
        return by_kind(self._devices["zone"], lambda code: ask(words[code])).astype(bool)

    def zones(self, rows: Mask) -> set[str | None]:
        """Return the time zones of some members' devices."""
        words = self._fleet.words()
        return {words[code] for code in np.unique(self._devices["zone"][rows])}


def by_kind(kinds: npt.NDArray[np.integer], ask: Callable[[int], int]) -> npt.NDArray[np.int8]:
    """Return what a function says of each kind, a small number; each that occurs is asked about once."""
    found = np.bincount(kinds)
    answers = np.zeros(len(found), np.int8)
    for kind in np.flatnonzero(found).tolist():
        answers[kind] = ask(kind)
    told: npt.NDArray[np.int8] = answers[kinds]
    return told
