"""A real PostgreSQL: a cluster of its own in a temporary folder, reached by a socket in it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from support.waiting import until

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 20.0
# A test's database need not survive a power cut, only the death of processes.
QUICK = {"fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0"}
SETTINGS = {"listen_addresses": "", "max_connections": "120", "shared_buffers": "32MB", **QUICK}
OWNERS = ("postgres", "nobody")  # root may not run a server


class Cluster:
    """One server with as many databases as are asked for.

    Attributes:
        folder: Where its files and its socket are.
        pid: Of the process that started it, and is to stop it.
    """

    def __init__(self) -> None:
        """Make and start it.

        Raises:
            RuntimeError: There is no PostgreSQL; ``scripts/postgres`` brings it.
        """
        self._binaries = _find()
        self.pid = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="muster-postgres-", dir="/tmp"))
        self._owner = _owner()
        if self._owner is not None:
            os.chown(self.folder, *self._owner)
        self.data = self.folder / "data"
        self._made = 0
        try:
            self._run(
                "initdb", "-D", self.data, "-U", "muster", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"
            )
            self._process = self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it answers."""
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self.data), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdout=log, stderr=log, **self._as_owner()
            )
        self._process = process
        if not until(self._answers):
            self.stop()
            raise RuntimeError(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-2000:]}")
        return process

    def url(self, database: str) -> str:
        """Return how a database of it is reached."""
        return f"postgresql://muster@/{database}?host={self.folder}"

    def create(self, *, template: str | None = None) -> str:
        """Make a database, and return its URL.

        Args:
            template: URL of the database that it is to be a copy of; None for an empty one.
        """
        self._made += 1
        name = f"t{self._made}"
        source = "template0" if template is None else _name(template)
        self.order(f"CREATE DATABASE {name} TEMPLATE {source}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.order(f"DROP DATABASE {_name(url)} WITH (FORCE)")

    def order(self, statement: str) -> None:
        """Carry out a statement outside of any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def kill(self) -> None:
        """End the server at once, with all that it has started; it recovers when it starts again."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End the server and remove what it kept."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, name: str, *arguments: str | Path) -> None:
        command = [str(self._binaries / name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False, **self._as_owner())
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr.decode()[-2000:]}")

    def _as_owner(self) -> dict[str, Any]:
        # A folder that the other user may enter: tests run in one that it may not.
        libraries = self._binaries.parents[3] / "lib"
        found = ":".join(str(path) for path in libraries.glob("*-linux-gnu"))
        environment = {**os.environ, "LD_LIBRARY_PATH": found} if ".cache" in libraries.parts else None
        given: dict[str, Any] = {"cwd": self.folder, "env": environment}
        if self._owner is not None:
            user, group = self._owner
            given |= {"user": user, "group": group, "extra_groups": []}
        return given


def _name(url: str) -> str:
    return url.rpartition("?")[0].rpartition("/")[2]


def _find() -> Path:
    done = subprocess.run([ROOT / "scripts/postgres"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"these tests need PostgreSQL: {done.stderr.strip()}")
    return Path(done.stdout.strip())


def _owner() -> tuple[int, int] | None:
    """Return user and group of the server; None for ours."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
    return next(known[name] for name in OWNERS if name in known)
