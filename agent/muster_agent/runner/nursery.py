"""The zygote's own loop: it forks children on order, and tells how they ended.

An engine is imported here when the first worker asks for it, so that all workers share what it holds. Where
models run inline there are none, and each preflight child imports it for itself: that takes it about 50 ms at
an update, and spares the device some 13 MB for good.

It runs in a process with one thread and no loaded model, because only from such a process is forking safe.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from muster_agent import sandbox
from muster_agent.runner import child, preflight, worker
from muster_agent.runner.channel import close_quietly, receive_with_handles, send
from muster_agent.runner.job import MAX_BYTES, Born, Ended, Order, Reply, Unborn, decode, encode
from muster_agent.runner.memory_kills import Kills
from muster_models.errors import Reason
from muster_models.manifest import RuntimeKind
from muster_models.runtime.load import import_refusal

_LEFT_TO_THE_SUPERVISOR = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HANDLES = 2  # that come with an order: the child's channel and its status pipe


@dataclass
class _Running:
    pid: int
    status: int
    base: int  # bytes of memory it was born with


@dataclass
class Nursery:
    """Forks children and sees to their end. Everything ends when the supervisor's channel closes."""

    _control: socket.socket
    _running: dict[int, _Running] = field(default_factory=dict)  # by process handle
    _engines: dict[RuntimeKind, Unborn | None] = field(default_factory=dict)  # why it cannot be used
    _kills: Kills = field(default_factory=Kills.here)

    def run(self) -> None:
        """Serve orders until the supervisor is gone, then end every child."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        serving = True
        while serving:
            for handle, _ in poller.poll():
                if handle == self._control.fileno():
                    serving = self._take_order(poller)
                else:
                    poller.unregister(handle)
                    self._see_off(handle)
        for handle in tuple(self._running):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            self._see_off(handle)

    def _take_order(self, poller: select.poll) -> bool:
        try:
            message, handles = receive_with_handles(self._control, MAX_BYTES, handles=_HANDLES)
        except (EOFError, OSError):
            return False
        channel, status = handles
        order = decode(message, type=Order)
        born = self._give_birth(order, channel, status)
        match born:
            case int() as handle:
                poller.register(handle, select.POLLIN)
                self._reply(Born(self._running[handle].pid), (handle,))
            case Unborn():
                close_quietly(status)
                self._reply(born)
        close_quietly(channel)
        return True

    def _reply(self, reply: Reply, handles: tuple[int, ...] = ()) -> None:
        try:
            send(self._control, encode(reply), handles)
        except OSError:
            return  # the supervisor is gone; the loop sees it next

    def _give_birth(self, order: Order, channel: int, status: int) -> int | Unborn:
        """Fork the child of an order and return a handle on its process."""
        trouble = self._engine_trouble(order.job.kind)
        if trouble is not None:
            return trouble
        if order.role == "preflight":
            with suppress(ImportError):  # the child says so
                preflight.warm(order.job)
        else:
            _share_engine(order.job.kind)
        parent = os.getpid()
        self._kills.forget()
        try:
            pid = os.fork()
        except OSError as error:
            return Unborn(Reason.OUT_OF_MEMORY, f"no process could be made: {error.strerror}")
        if pid == 0:
            _live(order, channel, parent=parent)
        handle = os.pidfd_open(pid)
        self._running[handle] = _Running(pid, status, child.peak())
        return handle

    def _engine_trouble(self, kind: RuntimeKind) -> Unborn | None:
        """Try an engine once, in a child: a wheel built for another processor dies at import."""
        if kind not in self._engines:
            self._engines[kind] = _try_engine(kind)
        return self._engines[kind]

    def _see_off(self, handle: int) -> None:
        running = self._running.pop(handle)
        _, status, usage = os.wait4(running.pid, 0)
        peak = max(0, usage.ru_maxrss * 1024 - running.base)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        for_memory = self._kills.claim() if killed else None
        try:
            os.write(running.status, encode(Ended(status, peak, for_memory)))
        except BrokenPipeError:
            pass  # nobody asks
        finally:
            close_quietly(handle, running.status)


def _share_engine(kind: RuntimeKind) -> None:
    name = f"muster_models.runtime.{kind}"
    if name not in sys.modules:
        importlib.import_module(name)
        gc.freeze()  # as in serve


def _try_engine(kind: RuntimeKind) -> Unborn | None:
    """Return why an engine cannot be imported here, or None when it can."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(f"muster_models.runtime.{kind}")
        except Exception as error:  # noqa: BLE001 - told to the supervisor
            refusal = import_refusal(kind, error)
            os.write(writer, encode(Unborn(refusal.reason, str(refusal)[:1000])))
        child.end()
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    told = os.read(reader, MAX_BYTES)
    os.close(reader)
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        return Unborn(
            Reason.WRONG_RUNTIME, f"the {kind} engine ends its process when it is imported ({code})"
        )
    return decode(told, type=Unborn) if told else None


def _live(order: Order, channel: int, *, parent: int) -> NoReturn:
    """Be the child of an order."""
    try:
        sandbox.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be depended on
            child.end()
        leave_behind(keep=channel)
        with socket.socket(fileno=channel) as sock:
            match order.role:
                case "preflight":
                    send(sock, encode(preflight.run(order.job)))
                case "worker":
                    worker.serve(order.job, sock)
        child.end()
    except MemoryError:
        child.end_for_memory()
    except BaseException:  # noqa: BLE001 - nothing of the zygote may go on in its child
        child.end(1)


def leave_behind(*, keep: int) -> None:
    """Let go of all that a new process has from its parent, except the open file ``keep``."""
    for number in _LEFT_TO_THE_SUPERVISOR:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # what an engine prints when it dies is no message of ours
        os.dup2(nowhere, standard)
    os.close(nowhere)


def serve(control: socket.socket) -> NoReturn:
    """Be the zygote on the other end of ``control``."""
    gc.freeze()  # so that a collection in a child does not copy pages that it shares
    try:
        Nursery(control).run()
    finally:
        child.end()
