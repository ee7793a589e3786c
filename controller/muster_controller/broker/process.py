"""The broker that the controller brings along: a supervised child process that comes back when it dies.

Mosquitto serves; it needs no root. Where it cannot be had, ``broker_amqtt`` serves a handful of devices by
the same rules, with a warning. Devices and the controller use one listener: the controller's name holds a
dot, which no device id may hold, so nobody else can be it (see ``broker_config``).
"""

import contextlib
import datetime as dt
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from muster_controller.broker import config as broker_config
from muster_controller.broker.config import Listener, Revoked
from muster_controller.broker.eviction import evict
from muster_controller.pki import Authority
from muster_models.errors import ConflictError, RequestError, StorageError, TransferError

START_SECONDS = 10.0
STOP_SECONDS = 5.0
RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 10.0
AMQTT_WARNING = (
    "no Mosquitto was found: amqtt serves instead, for a handful of devices. It remembers nothing over a "
    "restart and costs about ten times the processor time. Install Mosquitto for more."
)
_log = logging.getLogger(__name__)


class Broker:
    """A broker process, from ``start`` to ``stop``."""

    def __init__(self, folder: Path, listener: Listener, *, kind: str = "auto") -> None:
        """Choose the broker.

        Args:
            folder: For its configuration, its log and what it remembers.
            listener: Where devices connect.
            kind: ``auto``, ``mosquitto`` or ``amqtt``.

        Raises:
            RequestError: The broker that is asked for is not installed, or not known.
        """
        self._folder = folder
        self._listener = listener
        self._mosquitto = _choose(kind)
        self._authority = Authority(listener.pki)
        self._revoked = Revoked()
        self._lists = 0  # revocation lists that were made since the start
        self._leaving: set[str] = set()  # devices whose sessions must end
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # over who the child is
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="broker", daemon=True)

    @property
    def kind(self) -> str:
        """Which broker it is: ``mosquitto`` or ``amqtt``; the latter is worth a warning on pages."""
        return "amqtt" if self._mosquitto is None else "mosquitto"

    @property
    def pid(self) -> int | None:
        """The process that serves now; None while there is none."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    def start(self, revoked: Revoked = Revoked()) -> None:  # noqa: B008 - it cannot be changed
        """Serve, and keep serving until ``stop``; returns once devices can connect.

        A broker that a killed controller left behind is ended first.

        Raises:
            ConflictError: Something else uses the port.
            StorageError: The broker does not start; the message holds what it said.
        """
        if self._mosquitto is None:
            _log.warning(AMQTT_WARNING)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._end_orphan()
        self._check_port()
        self._log_path.write_bytes(b"")
        self._revoked = revoked
        self._configure()
        self._launch()
        try:
            self._wait_until_it_serves()
        except StorageError:
            self._end()
            raise
        self._thread.start()

    def stop(self) -> None:
        """End the broker; it writes down what it remembers first."""
        self._stopping.set()
        self._end()
        if self._thread.is_alive():
            self._thread.join()

    def refuse(self, revoked: Revoked) -> None:
        """Turn these devices and certificates away from now on, and end their sessions.

        To be called regularly: a session that could not be ended is ended by the next call.
        """
        with self._lock:
            if revoked != self._revoked:
                self._leaving |= revoked.since(self._revoked)
                self._revoked = revoked
                self._configure()
                if self.pid is not None:
                    os.kill(self.pid, signal.SIGHUP)
        if self._mosquitto is not None:
            self._evict()  # the other broker does so by itself

    def _evict(self) -> None:
        for device in sorted(self._leaving):
            try:
                # Twice, for a device that came back in the instant before the broker had read the list: it
                # has read it once it answered the first time.
                evict(self._listener, self._authority, device, self._folder)
                evict(self._listener, self._authority, device, self._folder)
            except TransferError as error:
                _log.warning("the session of %s may still stand, to be ended later: %s", device, error)
                return  # nor is there another answer for the others
            self._leaving.discard(device)

    def _watch(self) -> None:
        failures = 0
        while True:
            child = self._child
            assert child is not None
            began = time.monotonic()
            status = child.wait()
            if self._stopping.is_set():
                return
            _log.error(
                "the broker ended with status %d and comes back; it said: %s", status, self._last_words()
            )
            # One that had served for a while is needed back at once.
            failures = 0 if time.monotonic() - began > MAX_RETRY_SECONDS else failures + 1
            delay = min(MAX_RETRY_SECONDS, RETRY_SECONDS * 2.0 ** min(failures, 10)) if failures else 0.0
            self._stopping.wait(delay)
            with self._lock:
                if self._stopping.is_set():
                    return
                self._launch()

    def _launch(self) -> None:
        command, environment = self._command()
        with self._log_path.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - the broker, which we found ourselves
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # A Ctrl-C at the terminal is for the controller, which ends the broker in its turn.
                process_group=0,
            )
        self._pid_path.write_text(str(self._child.pid))

    def _command(self) -> tuple[list[str], dict[str, str]]:
        if self._mosquitto is None:
            program = [sys.executable, "-m", "muster_controller.broker.amqtt"]
            return [*program, str(self._configuration)], {**os.environ}
        program = [str(self._mosquitto), "-c", str(self._configuration)]
        return program, broker_config.environment(self._mosquitto)

    def _configure(self) -> None:
        if self._mosquitto is None:
            _replace(self._configuration, broker_config.render_amqtt(self._listener, self._revoked))
        else:
            _replace(self._folder / "acl", broker_config.render_acl(self._revoked.devices))
            now = dt.datetime.now(dt.UTC)
            listed = self._authority.list_revoked(self._revoked.certificates, now, number=self._lists)
            _replace(self._folder / "revoked.pem", listed.decode())
            self._lists += 1
            _replace(self._configuration, broker_config.render_mosquitto(self._folder, self._listener))

    def _end(self) -> None:
        with self._lock:
            child = self._child
            if child is None:
                return
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            self._pid_path.unlink(missing_ok=True)

    def _wait_until_it_serves(self) -> None:
        child = self._child
        assert child is not None
        deadline = time.monotonic() + START_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.02)
        raise StorageError(f"the broker does not start; it said: {self._last_words()}")

    def _answers(self) -> bool:
        address = (self._listener.local_host, self._listener.port)
        with contextlib.suppress(OSError), socket.create_connection(address, 1.0):
            return True
        return False

    def _check_port(self) -> None:
        host, port = self._listener.host, self._listener.port
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # Without this, the port of a broker that ended a moment ago would look used.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise ConflictError(
                    f"port {port} of {host} cannot be used ({os.strerror(error.errno or 0)}): "
                    "set another mqtt_port in controller.toml, or end what uses it"
                ) from error

    def _end_orphan(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid_path.read_text())
            # The number may belong to another process by now: only one that was given our file is ours.
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(self._configuration) in command:
                _log.warning("ending the broker that a killed controller left behind (process %d)", pid)
                _end_process(pid)

    @property
    def _configuration(self) -> Path:
        return self._folder / ("amqtt.json" if self._mosquitto is None else "mosquitto.conf")

    @property
    def _log_path(self) -> Path:
        return self._folder / "broker.log"

    @property
    def _pid_path(self) -> Path:
        return self._folder / "broker.pid"

    def _last_words(self) -> str:
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"


def _choose(kind: str) -> Path | None:
    """Return Mosquitto's path, or None for amqtt."""
    if kind not in {"auto", "mosquitto", "amqtt"}:
        raise RequestError(f"expected the broker auto, mosquitto or amqtt, got {kind!r}")
    mosquitto = None if kind == "amqtt" else broker_config.find_mosquitto()
    if mosquitto is None and kind == "mosquitto":
        raise RequestError(
            "Mosquitto is neither on PATH nor beside this Python; install it, or run scripts/broker"
        )
    if mosquitto is None and importlib.util.find_spec("amqtt") is None:
        raise RequestError(
            "there is no broker: install Mosquitto, or amqtt with: pip install muster-fleet[amqtt]"
        )
    return mosquitto


def _end_process(pid: int) -> None:
    """End a process that is not our child, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        gone = threading.Event()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            gone.wait(0.02)
        os.kill(pid, signal.SIGKILL)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
