"""What every child does before it touches a model file, and how its supervisor reads its end."""

import os
import resource
import select
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import msgspec

from muster_agent.runner.channel import close_quietly
from muster_agent.runner.job import Ended, Job, decode
from muster_agent.sandbox import Level, Limits, confine
from muster_models.errors import MusterError, PredictionError, Reason
from muster_models.runtime import Runtime, load

# What the engines ask about the processor; without it XNNPACK takes slower kernels.
_PROCESSOR = (Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu"))
# Where a provider or a delegate has its libraries, and looks for what drives it. Nothing there is secret.
_LIBRARIES = tuple(
    map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/local", "/opt", "/etc/ld.so.cache", "/sys"))
)
_SLACK = 64 * 1024 * 1024  # bytes; address space is mapped in coarser pieces than memory is used
_NEAR = 0.9  # share of the memory budget from which a crash counts as lack of memory
_MEMORY_EXIT = 70  # exit status of a child whose Python ran out of memory
_MEMORY_WORDS = ("bad_alloc", "allocate memory", "failed to allocate", "not enough memory", "out of memory")


def enter(job: Job, *, cpu_seconds: float | None) -> Level:
    """Confine this child to its job; where the device asks for an accelerator, it can reach that as well."""
    limits = Limits(memory_bytes=job.budget.memory_bytes + _SLACK, cpu_seconds=cpu_seconds)
    readable = (Path(job.folder), *_PROCESSOR)
    if not job.engine.accelerates(job.kind):
        return confine(limits, readable=readable)
    libraries = [
        *_LIBRARIES,
        *_engine_folders(),
        *(Path(path).parent for path in job.engine.tflite_delegates),
    ]
    return confine(limits, readable=(*readable, *libraries), writable=tuple(map(Path, job.engine.devices)))


def _engine_folders() -> list[Path]:
    """Return where the engines that are imported lie; they load libraries of their own from there."""
    names = ("onnxruntime", "ai_edge_litert", "tflite_runtime")
    files = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    return [Path(file).parent for file in files if file]


def arm(seconds: float) -> None:
    """Have the kernel end this process ``seconds`` from now, whatever it is doing; 0 calls it off."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def peak() -> int:
    """Return the most bytes of memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load_model(job: Job) -> Runtime:
    """Load the model of a job.

    Raises:
        FitError: The engine is not installed here.
        PredictionError: The engine refuses the file, or lacks memory for it.
    """
    try:
        return load(job.kind, Path(job.folder) / job.model, engine=job.engine, labels=job.labels)
    except MemoryError as error:
        raise PredictionError(Reason.OUT_OF_MEMORY, "the model does not fit into its budget") from error


def _blamed(error: MusterError) -> Reason:
    """Return the reason of an error, ``out-of-memory`` where the engine's own text says that."""
    lacking = any(word in str(error).lower() for word in _MEMORY_WORDS)
    return Reason.OUT_OF_MEMORY if lacking and isinstance(error, PredictionError) else error.reason


def end(status: int = 0) -> NoReturn:
    """End this child without running anything else."""
    os._exit(status)


def end_for_memory() -> NoReturn:
    """End this child because Python itself ran out of memory."""
    os._exit(_MEMORY_EXIT)


@dataclass(eq=False)
class Child:
    """The supervisor's hold on a child: its channel, its process, and the pipe that tells how it ended."""

    job: Job
    channel: socket.socket
    process: int
    _status: int
    _killed: bool = False
    _ended: Ended | None = field(default=None)

    def kill(self) -> None:
        """End the child now."""
        self._killed = True
        try:
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        except ProcessLookupError:
            return

    def ended(self, seconds: float) -> Ended | None:
        """Return how the child ended, or None when it has not done so within ``seconds``."""
        if self._ended is None and select.select([self._status], [], [], seconds)[0]:
            told = os.read(self._status, 4096)
            # An empty pipe means that the zygote itself is gone, and its children with it.
            self._ended = decode(told, type=Ended) if told else Ended(signal.SIGKILL, 0)
        return self._ended

    def cause(self, seconds: float) -> tuple[Reason, str]:
        """Return why the child ended, for people and for counters; kills it when it has not ended."""
        ended = self.ended(seconds)
        if ended is None:
            self.kill()
            ended = self.ended(seconds)
        if ended is None or self._killed:
            return Reason.HUNG, "it did not answer in time and was killed"
        return explain(ended, self.job.budget.memory_bytes)

    def close(self) -> None:
        """Let go of the child; a worker ends when its channel closes."""
        self.channel.close()
        close_quietly(self.process, self._status)


def explain(ended: Ended, memory_bytes: int) -> tuple[Reason, str]:
    """Return the reason behind an end, and a sentence."""
    code = os.waitstatus_to_exitcode(ended.status)
    if code >= 0:
        reason = Reason.OUT_OF_MEMORY if code == _MEMORY_EXIT else Reason.CRASHED
        return reason, f"the process ended with exit status {code}"
    name = signal.Signals(-code).name
    if -code in {signal.SIGALRM, signal.SIGXCPU}:
        return Reason.HUNG, f"the process did not answer in time ({name})"
    if -code == signal.SIGKILL:
        return _killed(ended, memory_bytes)
    if ended.peak_bytes >= _NEAR * memory_bytes:
        return Reason.OUT_OF_MEMORY, f"the process ended by {name} with {ended.peak_bytes} bytes in use"
    return Reason.CRASHED, f"the process ended by {name}"


def _killed(ended: Ended, memory_bytes: int) -> tuple[Reason, str]:
    """Tell the kernel's kill for lack of memory from that of a person or another program."""
    if ended.for_memory:
        return Reason.OUT_OF_MEMORY, "the kernel killed the process because memory ran out"
    if ended.for_memory is None and ended.peak_bytes >= _NEAR * memory_bytes:
        return Reason.OUT_OF_MEMORY, f"the process was killed with {ended.peak_bytes} bytes in use"
    by = "by a person or another program" if ended.for_memory is False else "by whom is not known"
    return Reason.CRASHED, f"the process was killed (SIGKILL) {by}"


def describe(error: Exception) -> tuple[Reason, str]:
    """Return the reason and the text of whatever a job raised."""
    match error:
        case MusterError():
            return _blamed(error), str(error)
        case MemoryError():
            return Reason.OUT_OF_MEMORY, "Python ran out of memory"
        case _:
            return Reason.CRASHED, f"{type(error).__name__}: {error}"


def parse_failure(data: bytes) -> PredictionError:
    """Return the error that a worker sent; one that does not parse is a crash."""
    try:
        reason, text = msgspec.msgpack.decode(data, type=tuple[Reason, str])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return PredictionError(Reason.CRASHED, "the worker sent an error that does not parse")
    return PredictionError(reason, text)
