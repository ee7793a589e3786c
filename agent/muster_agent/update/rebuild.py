"""Making a file of one that is here and a patch, where that is shorter than fetching it.

Whatever goes wrong, the caller fetches the whole file. The file is written from its first byte each time, so
that nothing is built upon what an interrupted run, another patch or a damaged base left.
"""

from dataclasses import dataclass

from muster_agent.arrival import BlobWriter
from muster_agent.store import Store
from muster_models import delta
from muster_models.errors import MusterError, Reason, TransferError
from muster_models.manifest import Delta, FileEntry
from muster_models.trust.verified import VerifiedManifest

MEMORY_SHARE = 0.25  # of the device's memory that decoding may take for a moment


@dataclass(frozen=True)
class NamedPatch:
    """A patch as the store takes it."""

    name: str
    sha256: str
    length: int


def patch_of(entry: FileEntry, chosen: Delta) -> NamedPatch:
    """Return a patch under the name that messages give it."""
    return NamedPatch(f"patch for {entry.name}", chosen.sha256, chosen.length)


def choose(store: Store, verified: VerifiedManifest, entry: FileEntry, *, memory_bytes: int) -> Delta | None:
    """Return the delta with the fewest bytes left to fetch, or None where the whole file is as short.

    What counts: this device knows the form, has the base, has the memory to decode, and has room for the
    patch beside everything that the version needs.

    Args:
        store: What is here.
        verified: The version.
        entry: A missing file of it.
        memory_bytes: Of the device.

    Raises:
        StorageError: The disk refused.
    """
    left = entry.length - store.arrived(entry.sha256)
    room = store.room(verified)
    best = None
    for one in entry.deltas:
        needed = max(0, one.length - store.arrived(one.sha256))
        if needed < left and needed <= room and _is_possible(store, entry, one, memory_bytes):
            best, left = one, needed
    return best


def rebuild(store: Store, entry: FileEntry, chosen: Delta, patch: BlobWriter) -> None:
    """Return once the file is in the store, made of its base and of the patch that arrived.

    Raises:
        TransferError: The base is damaged, or the patch gives no such file, or there is no memory.
        TrustError: ``tampered``: the patch, or what it gives, is not what was signed.
        FitError: ``no-space``.
        StorageError: The disk refused.
    """
    patch.check()
    store.discard(entry)
    try:
        base = store.read_genuine(chosen.base)
        with store.blob_writer(entry) as writer:
            for piece in delta.decode(chosen.form, base, patch.chunks(), length=entry.length):
                writer.append(piece)
            writer.commit()
    except MusterError:
        store.discard(entry)
        raise
    except MemoryError as error:
        store.discard(entry)
        raise TransferError(f"{entry.name}: no memory to apply a patch", Reason.OUT_OF_MEMORY) from error


def _is_possible(store: Store, entry: FileEntry, one: Delta, memory_bytes: int) -> bool:
    base = store.held(one.base)
    if base is None or one.form not in delta.known_forms():
        return False
    needed = delta.memory_needed(one.form, base=base, new=entry.length)
    return needed <= MEMORY_SHARE * memory_bytes
