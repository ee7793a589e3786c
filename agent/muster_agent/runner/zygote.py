"""The supervisor's hold on the zygote: starting it, ordering children from it, bringing it back.

The first zygote is forked, which shares the interpreter's memory with it. That is safe only while this
process has one thread, so it happens before any other part starts; otherwise, and when a zygote is lost, a
fresh process takes its place.
"""

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from muster_agent import sandbox
from muster_agent.runner import nursery
from muster_agent.runner.channel import receive, receive_with_handles, send, set_timeout
from muster_agent.runner.child import Child, end
from muster_agent.runner.job import MAX_BYTES, Job, Order, Reply, Unborn, Verdict, decode, encode, refused
from muster_models.errors import FitError, MessageError, MusterError, Reason

if TYPE_CHECKING:
    import subprocess

_log = logging.getLogger(__name__)
_ORDER_SECONDS = 30.0  # the first order of a kind imports its engine twice, from a slow card
_GRACE = 2.0  # seconds beyond the child's own timer


class Zygote:
    """The process that every child is forked from. Its methods may be called from any thread."""

    def __init__(self, control: socket.socket, wait: Callable[[], object]) -> None:
        self._control = control
        self._wait = wait
        self._lock = threading.Lock()
        self._closed = False
        set_timeout(control, _ORDER_SECONDS)

    @classmethod
    def start(cls) -> "Zygote":
        """Start a zygote: forked where this process has one thread, as a new process where it has more."""
        return cls(*(_fork() if _is_alone() else _spawn()))

    def bear(self, role: Literal["preflight", "worker"], job: Job) -> Child:
        """Return a new child that has begun its job.

        Raises:
            FitError: The engine cannot be used here, or no process could be made.
        """
        ours, theirs = socket.socketpair()
        told, tells = os.pipe()
        try:
            process = self._order(Order(role, job), (theirs.fileno(), tells))
        except BaseException:
            ours.close()
            os.close(told)
            raise
        finally:
            theirs.close()
            os.close(tells)
        return Child(job, ours, process, told)

    def preflight(self, job: Job) -> Verdict:
        """Return what a preflight child found; it always ends in a verdict."""
        began = time.monotonic()
        try:
            child = self.bear("preflight", job)
        except MusterError as error:
            return refused(error.reason, str(error))
        try:
            verdict = _verdict(child, job.budget.load_seconds + _GRACE)
        finally:
            child.close()
        return msgspec.structs.replace(verdict, seconds=time.monotonic() - began)

    def close(self) -> None:
        """End the zygote and every child."""
        with self._lock:
            self._closed = True
            self._bury()

    def _order(self, order: Order, handles: tuple[int, int]) -> int:
        with self._lock:
            if self._closed:
                raise RuntimeError("the zygote is closed")
            try:
                return self._exchange(order, handles)
            except (OSError, EOFError, MessageError) as error:
                _log.warning("the zygote is gone, starting another: %s", error)
            self._bury()
            self._control, self._wait = _spawn()
            set_timeout(self._control, _ORDER_SECONDS)
            try:
                return self._exchange(order, handles)
            except (OSError, EOFError, MessageError) as error:
                raise FitError(Reason.CRASHED, f"no child process can be made here: {error}") from error

    def _exchange(self, order: Order, handles: tuple[int, int]) -> int:
        send(self._control, encode(order), handles)
        message, received = receive_with_handles(self._control, MAX_BYTES, handles=1)
        reply = decode(message, type=Reply)
        if isinstance(reply, Unborn):
            raise FitError(reply.reason, reply.detail)
        return received[0]

    def _bury(self) -> None:
        self._control.close()
        self._wait()


def _is_alone() -> bool:
    return len(list(Path("/proc/self/task").iterdir())) == 1


def _fork() -> tuple[socket.socket, Callable[[], object]]:
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        sandbox.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be depended on
            end()
        nursery.leave_behind(keep=theirs.fileno())
        nursery.serve(theirs)
    theirs.close()
    return ours, lambda: _reap(pid)


def _reap(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        if not select.select([handle], [], [], _GRACE)[0]:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    finally:
        os.close(handle)


def _spawn() -> tuple[socket.socket, Callable[[], object]]:
    import subprocess  # noqa: PLC0415 - seldom needed, and otherwise in every child

    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "muster_agent.runner", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.DEVNULL,
        )
    return ours, lambda: _wait(process)


def _wait(process: "subprocess.Popen[bytes]") -> None:
    import subprocess  # noqa: PLC0415 - as above

    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _verdict(child: Child, seconds: float) -> Verdict:
    # Its end is waited for, not its words: only a child that ended well is believed.
    if not select.select([child.process], [], [], seconds)[0]:
        child.kill()
    ended = child.ended(_GRACE)
    if ended is None or ended.status != 0:
        return refused(*child.cause(_GRACE))
    try:
        child.channel.setblocking(False)
        return decode(receive(child.channel, MAX_BYTES), type=Verdict)
    except (OSError, EOFError, MessageError, msgspec.MsgspecError):
        return refused(Reason.CRASHED, "the preflight child ended without a verdict")
