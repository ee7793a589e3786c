"""A place in memory for a device whose own disk cannot be written: what must be made before a model answers.

systemd gives the service one below ``/run``. Elsewhere it lies in the folder for temporary files, and is used
only if it belongs to the owner of the device's folder and nobody else may write there.
"""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from muster_models.errors import StorageError

_SERVICES = Path("/run/muster")


def is_writable(folder: Path) -> bool:
    """Tell whether files can be made in a folder: it is there, ours, and its disk is not read-only."""
    return os.access(folder, os.W_OK | os.X_OK)


def make_spare(root: Path) -> Path:
    """Return the place for the device in ``root``, made if need be.

    Raises:
        StorageError: It cannot be made, or is somebody else's.
    """
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    place = Path(given) if given else _temporary(root)
    try:
        place.mkdir(mode=0o750, exist_ok=True)
        if not _is_safe(place, os.geteuid()) or not is_writable(place):
            raise StorageError(f"{place} is not this user's alone")
    except OSError as error:
        raise StorageError(f"{place}: {error.strerror}") from error
    return place


def place_of(path: Path) -> Path:
    """Return where to make a socket: at ``path``, or in the spare place where that folder cannot be written.

    Raises:
        StorageError: That place cannot be had either.
    """
    return path if is_writable(path.parent) else make_spare(path.parent) / path.name


def find_spare(root: Path) -> Path | None:
    """Return the place that a running agent of ``root`` made, or None."""
    owner = root.stat().st_uid
    places = (_SERVICES / root.resolve().name, _temporary(root))
    return next((place for place in places if _is_safe(place, owner)), None)


def _temporary(root: Path) -> Path:
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"muster-{name}"


def _is_safe(place: Path, owner: int) -> bool:
    try:
        about = place.lstat()
    except OSError:
        return False
    others = stat.S_IMODE(about.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(about.st_mode) and about.st_uid == owner and not others
