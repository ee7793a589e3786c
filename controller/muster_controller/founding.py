"""Founding a controller: one folder with settings, certificates, online keys, database and token."""

import datetime as dt
import secrets
import shutil
from pathlib import Path
from typing import Final

from muster_controller.config import Folder, Settings, database_of
from muster_controller.pki import Authority, write_private
from muster_controller.store.engine import is_empty, migrate, open_database
from muster_models import toml_file
from muster_models.errors import ConflictError, StorageError
from muster_models.trust.keys import create_signer

ONLINE_ROLES: Final = ("snapshot", "timestamp", "director")
TOKEN_BYTES = 32


def found(root: Path, settings: Settings, now: dt.datetime) -> Folder:
    """Make a controller's folder; it appears whole or not at all.

    Raises:
        ConflictError: The folder exists and is not empty, or the database is not.
        InvalidInputError: The setting ``database`` is not a URL of PostgreSQL.
        StorageError: The disk refuses, or the database's server.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConflictError(f"{root}: exists already and is not empty")
    work = root.with_name(f".{root.name}.{secrets.token_hex(4)}")
    try:
        work.mkdir(mode=0o700, parents=True)
        _fill(Folder(work), settings, now)
        work.replace(root)
    except OSError as error:
        raise StorageError(f"{root}: {error.strerror}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Folder(root)


def _fill(folder: Folder, settings: Settings, now: dt.datetime) -> None:
    folder.settings.write_bytes(toml_file.render(settings).encode())
    Authority.create(folder.pki, now).ensure_own(settings.names, now)
    folder.keys.mkdir(mode=0o700)
    for role in ONLINE_ROLES:
        create_signer(folder.keys / f"{role}.key", None)
    write_private(folder.token, f"{secrets.token_urlsafe(TOKEN_BYTES)}\n".encode())
    engine = open_database(database_of(folder, settings))
    try:
        if not is_empty(engine):
            raise ConflictError("database: it has tables already; give each controller a database of its own")
        migrate(engine)
    finally:
        engine.dispose()
