"""Cut the power of a device at a call, decide what survives, start it again, and look at what it has."""

import errno
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from muster_agent.disk import Disk
from muster_agent.store import OLD_STATE, STATE
from muster_agent.update.state import AgentState, kept
from muster_models.errors import StorageError
from muster_models.manifest import parse
from support.device_course import DeviceCourse, Ledger, World
from support.disk import Fault, PowerCut, SimulatedDisk
from support.versions import make_version, with_deltas

FIRST, SECOND, BROKEN, REFUSED = (
    make_version("1.0.0"),
    # Shares two of three files with the others, and its model is made of the first one's and a patch.
    with_deltas(make_version("1.1.0"), make_version("1.0.0"), form="subtract-bz2"),
    make_version("1.2.0", baseline=b"a baseline of its own"),
    make_version("1.3.0"),
)
WORLD = World(
    orders=(FIRST, SECOND, BROKEN, REFUSED, FIRST),  # the last is a way back by order
    refused=frozenset({REFUSED.digest}),
    crashing=frozenset({BROKEN.digest}),
    shadowed=frozenset({SECOND.digest}),
)


@dataclass(frozen=True)
class Life:
    """A device that may have died: its disk, and what the outside knows of it."""

    disk: SimulatedDisk
    ledger: Ledger

    def clone(self) -> "Life":
        return Life(self.disk.clone(), replace(self.ledger))


REFUSALS = {"disk full": errno.ENOSPC, "input/output error": errno.EIO, "read-only": errno.EROFS}

Course = type[DeviceCourse]
End = Callable[[SimulatedDisk, Random], None]  # what becomes of the disk when the process has ended


def cut(disk: SimulatedDisk, chance: Random) -> None:
    disk.cut_power(chance)


def kill(disk: SimulatedDisk, _chance: Random) -> None:
    disk.kill()


def new_life() -> Life:
    return Life(SimulatedDisk(), Ledger())


def live(life: Life, course: Course, *, dies_at: int | None = None) -> bool:
    """Run a process from its start; False when it died at its ``dies_at``-th changing call."""
    life.disk.fault = None if dies_at is None else Fault(life.disk.calls + dies_at)
    try:
        course(life.disk, WORLD, life.ledger).follow()
    except PowerCut:
        return False
    return True


def live_with_fault(life: Life, course: Course, fault: Fault) -> None:
    """Run a process whose disk refuses, and works again once the process has noticed that it cannot save."""

    def repair() -> None:
        life.disk.fault = None

    life.disk.fault = fault
    try:
        course(life.disk, WORLD, life.ledger, repair).follow()
    except StorageError:  # at the start: whoever supervises the agent starts it again
        repair()
        course(life.disk, WORLD, life.ledger, repair).follow()


def calls_of_a_life(course: Course = DeviceCourse) -> int:
    life = new_life()
    live(life, course)
    return life.disk.calls


def deaths(course: Course, points: range, end: End, *, outcomes: int, seed: int) -> Iterator[Life]:
    """Yield what is there after a death at each of ``points``, in several outcomes each."""
    for point in points:
        life = new_life()
        if live(life, course, dies_at=point):
            continue
        for outcome in range(outcomes):
            after = life.clone()
            end(after.disk, Random(f"{seed}/{point}/{outcome}"))
            yield after


def second_deaths(first: Life, course: Course, *, outcomes: int, seed: str) -> Iterator[Life]:
    """Yield what is there after the power is cut again, at calls of the recovery drawn at random."""
    for outcome in range(outcomes):
        chance = Random(f"{seed}/{outcome}")
        after = first.clone()
        if not live(after, course, dies_at=1 + int(chance.expovariate(1 / 12))):
            after.disk.cut_power(chance)
            yield after


def violation(life: Life, course: Course) -> str | None:
    """Start the device again and return what is wrong with it, or None.

    1. It starts, in the state that was saved last or the one that was being saved.
    2. Every version that the state counts on is complete.
    3. It carries out the rest of its orders, and ends as a device that never lost power does.
    4. Nothing is left over on its disk.
    """
    known = (life.ledger.saved, life.ledger.saving)
    try:
        found = course.store_type(life.disk).load()
        if found not in known:
            return f"found {found}, saved was {known}"
        if broken := incomplete(life.disk, found):
            return f"version {broken} is not complete"
        live(life, course)
        return end_violation(life, course)
    except Exception as error:  # noqa: BLE001 - whatever a broken store does is a finding
        return repr(error)


def end_violation(life: Life, course: Course) -> str | None:
    """Return what is wrong with a device that carried out all orders, or None."""
    state = life.ledger.saved
    model = state.models["digits"]
    slots = (model.current and model.current.manifest, model.previous and model.previous.manifest)
    if slots != (FIRST.digest, SECOND.digest) or model.candidate is not None:
        return f"expected the first version, and the second behind it, got {model}"
    if broken := incomplete(life.disk, state):
        return f"version {broken} is not complete"
    course.store_type(life.disk)
    if left := set(life.disk.files()) - expected_files(state, life.disk) - {OLD_STATE}:
        return f"left over: {sorted(left)}"
    return None


def incomplete(disk: Disk, state: AgentState) -> str | None:
    """Return a version that the state counts on and that is not whole, read from the disk itself."""
    for model in state.models.values():
        on_trial = model.candidate if model.tries else None
        for slot in (model.current, model.previous, on_trial):
            if slot is not None and not is_whole(disk, slot.manifest):
                return slot.version
    return None


def is_whole(disk: Disk, version: str) -> bool:
    name = f"manifests/{version}"
    if disk.size(name) is None or hashlib.sha256(disk.read(name)).hexdigest() != version:
        return False
    blobs = [(f"blobs/{entry.sha256}", entry.sha256) for entry in parse(disk.read(name)).files]
    return all(
        disk.size(blob) is not None and hashlib.sha256(disk.read(blob)).hexdigest() == sha256
        for blob, sha256 in blobs
    )


def expected_files(state: AgentState, disk: Disk) -> set[str]:
    manifests = {f"manifests/{version}" for version in kept(state)}
    blobs = {f"blobs/{entry.sha256}" for name in manifests for entry in parse(disk.read(name)).files}
    return {STATE} | manifests | blobs
