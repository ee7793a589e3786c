"""One rollout by a method that is not ours: the same fleet, the same draw, the same stages.

Devices follow as they do for Muster: in the window after the decision, when they are heard of. A stage that
the method lets go is followed by the next one; the version is promoted when it lets the last one go.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from rollouts.drawing import CONTROL, Drawn
from rollouts.fleet import NEW, OLD, Fleet
from rollouts.looks import Arm, Look, Peer, Word
from rollouts.muster import BEFORE
from rollouts.results import Ending, Result

Mask = NDArray[np.bool_]


def run(
    peer: Peer, fleet: Fleet, drawn: Drawn, *, stage_windows: int, windows: int, case: str, seed: int
) -> Result:
    """Return what becomes of a rollout within so many windows of its start."""
    course = Course(fleet, drawn)
    ending: Ending = "held"
    for index in range(BEFORE, BEFORE + windows):
        match peer.judge(course.pass_window(index), stage_windows):
            case Word.STOP:
                ending = "stopped"
            case Word.GO if course.is_last:
                ending = "promoted"
            case Word.GO:
                course.admit()
            case Word.WAIT:
                pass
        if ending != "held":
            break
    restored = course.watch_return(index + 1) if ending == "stopped" and peer.goes_back else None
    exposed, decided = int(course.tried.sum()), index - BEFORE + 1
    return Result(peer.name, case, seed, ending, decided, exposed, fleet.setting.devices, restored)


class Course:
    """A rollout in stages, and its devices.

    Attributes:
        tried: Devices that were given the version and took it.
    """

    def __init__(self, fleet: Fleet, drawn: Drawn) -> None:
        self._fleet = fleet
        self._arms = np.array(drawn.arms)
        self._tracked = fleet.tracked
        self._stage = 0
        self._looks: list[Look] = []
        self.tried = np.zeros(len(self._arms), dtype=bool)

    @property
    def is_last(self) -> bool:
        """Tell whether the present stage is the last one."""
        return bool(self._stage >= self._arms.max())

    @property
    def running(self) -> Mask:
        """Tell which devices run the version."""
        return self.tried & ~self._fleet.crashes

    def admit(self) -> None:
        """Begin the next stage."""
        self._stage += 1
        self._looks = []

    def pass_window(self, index: int) -> list[Look]:
        """Let one window pass; return the looks of the present stage."""
        span = self._fleet.window(index)
        given = (self._arms != CONTROL) & (self._arms <= self._stage)
        self.tried |= given & span.heard
        group = self._arms == self._stage
        failed = self.tried & self._fleet.crashes
        self._looks.append(
            Look(
                canary=self._arm(index, self.running, NEW),
                control=self._arm(index, self._arms == CONTROL, OLD),
                group=int(group.sum()),
                failed=int((group & failed).sum()),
                finished=int((group & self.running).sum()),
                given=int(given.sum()),
                failed_of_given=int(failed.sum()),
            )
        )
        return self._looks

    def watch_return(self, index: int) -> int | None:
        """Return how many windows pass until all devices but the silent ones are back."""
        out = self.running
        for passed in range(1, BEFORE + 1):
            out = out & ~self._fleet.window(index + passed - 1).heard
            if not out.any():
                return passed
        return None

    def _arm(self, index: int, members: Mask, version: int) -> Arm | None:
        span = self._fleet.window(index)
        chosen = (members & span.heard)[self._tracked]
        devices = self._tracked[chosen]
        calls = int(span.rows[devices].sum())
        if calls == 0:
            return None
        return Arm(
            calls,
            int(span.errors[version, devices].sum()),
            span.values[version, chosen].sum(axis=0),
            span.latency[chosen].sum(axis=0),
            functools.partial(self._fleet.chance, index, 1 + version),
        )
