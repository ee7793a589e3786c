"""Every decision a second time: another controller decides on a copy of what was stored, and must agree.

What two loops that share nothing but the database decide alike follows from the database: every verdict and
every alarm can be recomputed from what is stored.
"""

import functools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from securesystemslib.signer import Signer
from sqlalchemy import Engine

from muster_controller.config import Settings
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.store.baselines import Baselines
from muster_controller.store.engine import open_database

Rows = list[tuple[object, ...]]

# What is decided; what was sent when is a matter of the one that sends.
DECIDED = ("rollout", "rollout_member", "evidence", "driftstate", "labelstate", "alarm", "assignment")


class SecondOpinion:
    """Decides on copies of a database.

    Args:
        folder: For the copies.
        broke: Writes down that the two do not agree.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Settings,
        baselines: Baselines,
        director: Signer,
        broke: Callable[[str, str], None],
    ) -> None:
        self._path = folder / "copy.sqlite"
        self._settings = settings
        self._baselines = baselines
        self._director = director
        self._broke = broke

    def decide(self, database: Path, now: float) -> dict[str, Rows]:
        """Return the tables as they are after a pass of the loop on a copy of a database."""
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(self._path)) as copy:
            source.backup(copy)
        outside = Outside(publish=_publish_nothing, refuse=lambda _: None, renew=lambda _: None)
        loop = Reconcile(
            _opened(self._path),  # it stays open: another loop, and not another connection
            self._baselines,
            self._settings,
            director=self._director,
            outside=outside,
            clock=lambda: now,
        )
        loop.tick(now)
        return decided(self._path)

    def compare(self, database: Path, expected: dict[str, Rows]) -> None:
        """See that a pass of the real loop has decided the same."""
        found = decided(database)
        for table in DECIDED:
            one, other = found[table], expected[table]
            # Byte by byte first: only where that differs it is a question what a document says.
            if one != other and _told(one) != _told(other):
                self._broke("every decision can be made again from what is stored", f"{table} differs")

    def close(self) -> None:
        """Let go of the copy."""
        _opened(self._path).dispose()


def decided(database: Path) -> dict[str, Rows]:
    """Return the rows of every table that holds what was decided."""
    with closing(sqlite3.connect(database)) as connection:
        return {table: connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in DECIDED}


def _told(rows: Rows) -> Rows:
    return [tuple(map(_plain, row)) for row in sorted(rows, key=repr)]


def _plain(value: object) -> object:
    """Return what a document says: 7 and 7.0 are the same number, and one loop has it as it came."""
    return json.loads(value) if isinstance(value, str) and value[:1] in {"{", "["} else value


@functools.cache
def _opened(path: Path) -> Engine:
    return open_database(path)


def _publish_nothing(topic: str, payload: bytes, sent: Callable[[], None] | None = None) -> bool:
    return False
