"""Stores that are wrong on purpose: the crash search must find each of them, or it proves nothing."""

from collections.abc import Collection, Iterator
from random import Random

import pytest

from muster_agent.arrival import BlobWriter, Content, blob_name
from muster_agent.store import NEW, OLD_STATE, STATE, Store, _encode
from muster_agent.update.state import AgentState, kept
from muster_models.errors import StorageError
from muster_models.manifest import Manifest
from muster_models.trust.verified import VerifiedManifest
from support.device_course import DeviceCourse
from support.disk import Fault
from support.store_crashes import (
    REFUSALS,
    Life,
    calls_of_a_life,
    cut,
    deaths,
    kill,
    live_with_fault,
    new_life,
    second_deaths,
    violation,
)

POINTS = range(1, calls_of_a_life() + 1)


class NoFileSync(Store):
    """Trusts that what was written is there."""

    def _write_new(self, name: str, data: bytes) -> None:
        self._disk.create(name + NEW).write(data)


class NoBlobSync(Store):
    """Gives a downloaded file its name before it is on the medium."""

    def blob_writer(self, entry: Content) -> BlobWriter:
        writer = super().blob_writer(entry)
        writer._sync = lambda: None  # type: ignore[method-assign]
        return writer


class NoFolderSync(Store):
    """Trusts that a renaming is there."""

    def save(self, state: AgentState) -> None:
        self._kept = (self._kept or frozenset()) | kept(state)
        self._write_new(STATE, _encode(state))
        self._disk.rename(STATE + NEW, STATE)
        self._kept = kept(state)


class NoBlobFolderSync(Store):
    """Trusts that a downloaded file has its name."""

    def put_manifest(self, verified: VerifiedManifest) -> None:
        self._make_folders()
        name = f"manifests/{verified.digest}"
        self._write_new(name, verified.document)
        self._disk.rename(name + NEW, name)
        self._disk.sync_folder("manifests")

    def blob_writer(self, entry: Content) -> BlobWriter:
        writer = super().blob_writer(entry)

        def commit() -> None:
            writer._sync()
            self._disk.rename(writer._part, blob_name(entry))

        writer.commit = commit  # type: ignore[method-assign]
        return writer


class NoManifestFolderSync(Store):
    """Trusts that a manifest has its name."""

    def put_manifest(self, verified: VerifiedManifest) -> None:
        self._make_folders()
        name = f"manifests/{verified.digest}"
        self._write_new(name, verified.document)
        self._disk.rename(name + NEW, name)
        self._disk.sync_folder("blobs")


class StateInPlace(Store):
    """Overwrites the only copy of the state."""

    def save(self, state: AgentState) -> None:
        file = self._disk.create(STATE)
        file.write(_encode(state))
        file.sync()
        self._disk.sync_folder("")
        self._kept = kept(state)


class FinalName(Store):
    """Downloads into the file's final name, and trusts the length of what it finds there."""

    def blob_writer(self, entry: Content) -> BlobWriter:
        self._disk.remove(blob_name(entry))
        writer = super().blob_writer(entry)
        writer._part = blob_name(entry)
        writer._file = self._disk.append(blob_name(entry))
        return writer

    def verify(self, verified: VerifiedManifest) -> None:
        assert not self.missing(verified)


class OneCopy(Store):
    """Moves the old state away before the new one is written."""

    def save(self, state: AgentState) -> None:
        if self._disk.size(STATE) is not None:
            self._disk.remove(STATE)
        self._write_new(STATE, _encode(state))
        self._disk.rename(STATE + NEW, STATE)
        self._disk.sync_folder("")
        self._kept = kept(state)


class CollectsPrevious(Store):
    """Keeps only what runs."""

    def collect(self, keep: Collection[str] = ()) -> None:
        models = self.load().models.values()
        self._kept = frozenset(model.current.manifest for model in models if model.current is not None)
        super().collect(keep)


class CollectsFirst(Store):
    """Removes what the new state does not need before the new state is saved."""

    def save(self, state: AgentState) -> None:
        self._kept = kept(state)
        self.collect()
        super().save(state)


class NeverCollects(Store):
    """Leaves everything behind."""

    def collect(self, keep: Collection[str] = ()) -> None:
        pass


class LoadsFromMemory(Store):
    """Believes a state that a killed process left, and that only memory may have."""

    def _settle(self, state: AgentState) -> None:
        if self._disk.size(STATE) is None:
            super()._settle(state)


class NoOldState(Store):
    """Reads no second copy, although saving moves the first away for a moment."""

    def _read_state(self, name: str) -> AgentState | None:
        return None if name == OLD_STATE else super()._read_state(name)


class SyncsTwice(Store):
    """Believes a sync that succeeds after one that failed."""

    def blob_writer(self, entry: Content) -> BlobWriter:
        self._desk.spoiled.clear()
        return super().blob_writer(entry)


class SwallowsRefusals(Store):
    """Reports a state as saved when the disk refused it."""

    def save(self, state: AgentState) -> None:
        try:
            super().save(state)
        except StorageError:
            self._kept = kept(state)


class KeepsPatches(Store):
    """Leaves the patches of the versions that it keeps behind."""

    def discard(self, content: Content) -> None:
        pass

    def _needed_by(self, manifest: Manifest) -> set[str]:
        patches = {delta.sha256 for entry in manifest.files for delta in entry.deltas}
        return super()._needed_by(manifest) | patches


def course_of(store: type[Store]) -> type[DeviceCourse]:
    return type(store.__name__, (DeviceCourse,), {"store_type": store})


def findings(course: type[DeviceCourse]) -> Iterator[str]:
    """Yield what the searches of test_store_crashes find, the cheap ones first."""
    yield from filter(None, (violation(life, course) for life in refused(course)))
    yield from filter(None, (violation(life, course) for life in dead(course)))


def refused(course: type[DeviceCourse]) -> Iterator[Life]:
    for error in REFUSALS.values():
        for point in POINTS:
            life = new_life()
            live_with_fault(life, course, Fault(point, error))
            life.disk.cut_power(Random(point))
            yield life


def dead(course: type[DeviceCourse]) -> Iterator[Life]:
    for end in (cut, kill):
        for number, first in enumerate(deaths(course, POINTS, end, outcomes=2, seed=7)):
            yield first.clone()
            yield from second_deaths(first, course, outcomes=2, seed=f"7/{number}")


MUTANTS = [
    NoFileSync,
    NoBlobSync,
    NoFolderSync,
    NoBlobFolderSync,
    NoManifestFolderSync,
    StateInPlace,
    FinalName,
    OneCopy,
    CollectsPrevious,
    CollectsFirst,
    NeverCollects,
    LoadsFromMemory,
    NoOldState,
    SyncsTwice,
    SwallowsRefusals,
    KeepsPatches,
]


@pytest.mark.parametrize("store", MUTANTS, ids=lambda store: store.__name__)
def test_a_store_that_is_wrong_on_purpose_is_found(store: type[Store]) -> None:
    assert next(findings(course_of(store)), None) is not None


def test_the_store_itself_is_not_found() -> None:
    assert next(findings(DeviceCourse), None) is None
