"""python-tuf's cache folder: read as one state, and mended from what the device remembers before each use.

python-tuf writes it without syncing. What is lost there would only be fetched again, but with it would go the
knowledge that something newer was seen; so the remembered documents are put back first.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from muster_models.durable import replace
from muster_models.errors import StorageError
from muster_models.trust import roles
from muster_models.trust.anchor import Documents

_TOP = ("timestamp", "snapshot", "targets")


def documents(folder: Path, wanted: Iterable[str]) -> Documents:
    """Return the state that python-tuf verified last, with those of the ``wanted`` model roles that it holds.

    Raises:
        OSError: A file is missing or cannot be read.
        TrustError: The current root does not parse.
    """
    timestamp, snapshot, targets = (_path(folder, role).read_bytes() for role in _TOP)
    held = {role: _path(folder, role) for role in wanted}
    return Documents(
        roots(folder),
        timestamp,
        snapshot,
        targets,
        {role: path.read_bytes() for role, path in held.items() if path.exists()},
    )


def roots(folder: Path) -> tuple[bytes, ...]:
    """Return every root document up to the one that python-tuf verified last, oldest first.

    Raises:
        OSError: A file cannot be read.
        TrustError: The last one does not parse.
    """
    last = roles.parse(Root, (folder / "root.json").read_bytes(), role="root").signed.version
    chain = (_root_path(folder, version) for version in range(1, last + 1))
    return tuple(path.read_bytes() for path in chain if path.exists())


def restore(folder: Path, remembered: Documents | None) -> None:
    """Put back every remembered document that the cache lost, damaged or holds in an older version.

    What a process that was killed left unfinished goes.

    Raises:
        StorageError: The disk refused.
    """
    _sweep(folder)
    if remembered is None:
        return
    top = dict(zip(_TOP, (remembered.timestamp, remembered.snapshot, remembered.targets), strict=True))
    for role, document in (top | dict(remembered.models)).items():
        _mend(_path(folder, role), document)
    for document in remembered.roots:
        _mend(_root_path(folder, _version(document)), document)


def _sweep(folder: Path) -> None:
    try:
        for left in folder.glob("tmp*"):  # as tempfile names what python-tuf has not renamed yet
            left.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}") from error


def _mend(path: Path, document: bytes) -> None:
    held = path.read_bytes() if path.exists() else b""
    if _version(held) < _version(document):
        replace(path, document)


def _version(document: bytes) -> int:
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(document)
    except DeserializationError:
        return 0
    return int(metadata.signed.version)


def _path(folder: Path, role: str) -> Path:
    return folder / f"{role}.json"


def _root_path(folder: Path, version: int) -> Path:
    return folder / "root_history" / f"{version}.root.json"
