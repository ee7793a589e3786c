"""What a device holds and says: its state, its slots, and the files that belong to them."""

import hashlib

from muster_agent.store import NEW, OLD_STATE, STATE, _decode
from muster_agent.update.state import ON_TRIAL, AgentState, kept
from muster_models import wire
from muster_models.manifest import parse
from support.disk import SimulatedDisk

Belief = tuple[str | None, str | None, str | None, str]  # current, previous, target and phase


def belief(report: wire.ModelReport) -> Belief:
    """Return what a report says that one can believe of a device."""
    current = None if report.current is None else report.current.manifest
    previous = None if report.previous is None else report.previous.manifest
    return current, previous, report.target, str(report.phase)


def is_whole(disk: SimulatedDisk, digest: str) -> bool:
    """Tell whether every file of a version is on a disk as it was signed."""
    name = f"manifests/{digest}"
    if disk.size(name) is None:
        return False
    document = disk.read(name)
    return _hash(document) == digest and all(
        disk.size(f"blobs/{entry.sha256}") is not None
        and _hash(disk.read(f"blobs/{entry.sha256}")) == entry.sha256
        for entry in parse(document).files
    )


def read_state(disk: SimulatedDisk) -> AgentState:
    """Return the state that a start would find now."""
    found = (_decode(disk.read(name)) for name in (STATE, OLD_STATE) if disk.size(name) is not None)
    return next((state for state in found if state is not None), AgentState())


def versions_of(state: AgentState) -> set[str]:
    """Return the versions that may answer by a state."""
    named: set[wire.SlotReport | None] = set()
    for model in state.models.values():
        named |= {model.current, model.candidate if model.phase in ON_TRIAL else None}
    return {slot.manifest for slot in named if slot is not None}


def expected_files(disk: SimulatedDisk, state: AgentState) -> set[str]:
    """Return the files that a state asks for."""
    # What a torn save left of the next state goes with the next save: one small file, and no more.
    files = {STATE, OLD_STATE, STATE + NEW}
    for digest in kept(state):
        files.add(f"manifests/{digest}")
        files |= {f"blobs/{entry.sha256}" for entry in parse(disk.read(f"manifests/{digest}")).files}
    return files


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
