"""Moving a controller's rows from its file to a server, or back; its folder keeps everything else."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from sqlalchemy import Engine

from muster_controller.alone import alone
from muster_controller.config import Folder, Settings, database_of, load_settings
from muster_controller.store.copying import copy_rows
from muster_controller.store.engine import migrate, open_database
from muster_models import durable, toml_file
from muster_models.errors import ConflictError, InvalidInputError, Reason

_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)  # where the settings of the file itself end
_SETTING = re.compile(r"^[ \t]*database[ \t]*=.*$", re.MULTILINE)


def move(root: Path, database: str) -> int:
    """Copy all rows into another database, and let the settings name it from then on.

    The old database stays as it is. Killed at any instant, the settings name the old one, and the new one has
    all rows or none; or they name the new one.

    Args:
        root: The folder of a controller that does not run.
        database: As the setting; empty for the file of the folder.

    Returns:
        How many rows were copied.

    Raises:
        ConflictError: The controller runs; the rows are there already; the other database has rows.
        InvalidInputError: A setting is not of the expected form; ``controller.toml`` cannot be edited.
        StorageError: A database cannot be opened, or the disk refuses.
    """
    folder = Folder(root)
    settings = load_settings(folder)
    if settings.database == database:
        raise ConflictError(f"database: its rows are in {database or folder.database} already")
    named = _edit(folder.settings.read_text(), settings, database)
    with alone(folder), _opened(folder, settings) as source:
        with _opened(folder, msgspec.structs.replace(settings, database=database)) as target:
            rows = copy_rows(source, target)
        durable.replace(folder.settings, named.encode())
    return rows


@contextlib.contextmanager
def _opened(folder: Folder, settings: Settings) -> Iterator[Engine]:
    engine = open_database(database_of(folder, settings))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()


def _edit(text: str, settings: Settings, database: str) -> str:
    """Return the settings' file with one setting changed, and what people wrote beside it left alone."""
    line = f"database = {json.dumps(database, ensure_ascii=False)}"
    first = _TABLE.search(text)
    head, tables = (text, "") if first is None else (text[: first.start()], text[first.start() :])
    found = _SETTING.search(head)
    head = f"{line}\n{head}" if found is None else head[: found.start()] + line + head[found.end() :]
    wanted = msgspec.structs.replace(settings, database=database)
    with contextlib.suppress(InvalidInputError):
        if toml_file.parse((head + tables).encode(), Settings, name="controller.toml") == wanted:
            return head + tables
    raise InvalidInputError(
        Reason.BAD_SETTING, f"controller.toml: expected one plain line for the setting; make it: {line}"
    )
