"""The patches of ``muster publish``: from which versions, what was tried, and what is shipped."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster_controller.cli.connection import Api
from muster_controller.cli.exits import UsageError
from muster_controller.cli.output import note
from muster_models.errors import MusterError, Reason, TrustError

if TYPE_CHECKING:
    from muster_models.manifest import FileEntry, Manifest
    from muster_models.publish import Built
    from muster_models.publish.deltas import Trial


def check_count(deltas: int) -> None:
    """Return if patches may be made against so many versions.

    Raises:
        UsageError: A manifest does not hold as many.
    """
    from muster_models.manifest import MAX_DELTAS  # noqa: PLC0415 - only for publishing

    if not 0 <= deltas <= MAX_DELTAS:
        raise UsageError(f"--deltas must be from 0 to {MAX_DELTAS}, got {deltas}")


def add(api: Api, built: "Built", versions: Sequence[Mapping[str, Any]], *, output: Path) -> "Built":
    """Return a version with patches against earlier ones, and say on stderr what was tried.

    What cannot be had from the controller is said and left out: a version needs no patches.

    Args:
        api: Of the controller, which holds the earlier files.
        built: The version.
        versions: What the controller says of the earlier ones.
        output: Where the patches are written.
    """
    from muster_models.publish.deltas import add_deltas  # noqa: PLC0415 - imports the engines

    def read(entry: "FileEntry") -> bytes:
        return content(api, entry.sha256)

    patched, trials = add_deltas(built, list(_manifests(api, versions)), read=read, output=output)
    for trial in trials:
        note(_told(trial))
    return patched


def content(api: Api, sha256: str) -> bytes:
    """Return a file of the controller, which is held against its hash.

    Raises:
        NotFoundError: It is not there.
        TrustError: It has another content.
    """
    found = api.get_file(f"/blobs/{sha256}")
    if hashlib.sha256(found).hexdigest() != sha256:
        raise TrustError(Reason.TAMPERED, f"the controller's file {sha256[:12]} has another content")
    return found


def _manifests(api: Api, versions: Sequence[Mapping[str, Any]]) -> "Iterator[Manifest]":
    from muster_models import manifest as manifests  # noqa: PLC0415 - only for publishing

    for version in versions:
        try:
            yield manifests.parse(content(api, version["digest"]))
        except MusterError as error:
            note(f"no patches against {version['name']}: {error}")


def _told(trial: "Trial") -> str:
    head = f"{trial.file} ({trial.length} bytes) from {trial.base}: "
    if not trial.sizes:
        return f"{head}{trial.outcome}"
    sizes = ", ".join(f"{form} {size}" for form, size in trial.sizes.items())
    return f"{head}{sizes}; {trial.outcome}"
