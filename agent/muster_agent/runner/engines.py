"""Which engine answers for each version: what the device asks for where it proves itself, otherwise the CPU.

Proof is a preflight. An accelerator that cannot be had, that fails golden vectors or that ends its process
is no fault of the version: the CPU is tried next, and why it answers is kept and said. One that proved itself
and ends worker after worker later on is left in the same way. A device that starts again asks anew, in a
child, so that a driver that crashes can never take the agent with it.
"""

import logging
from typing import Any

import msgspec

from muster_agent.runner.job import MAX_DETAIL, Job, Verdict
from muster_agent.runner.zygote import Zygote
from muster_models.engine import CPU, Engine, EngineOptions
from muster_models.manifest import RuntimeKind

_MOST = 64  # versions that are remembered; a device has a few
_log = logging.getLogger(__name__)


def preflight(zygote: Zygote, job: Job) -> Verdict:
    """Return what a preflight of a job finds, on the CPU where the engine that it asks for says no."""
    verdict = zygote.preflight(job)
    if verdict.accepted or verdict.engine == CPU or not job.engine.accelerates(job.kind):
        return verdict
    again = zygote.preflight(msgspec.structs.replace(job, engine=job.engine.on_cpu()))
    asked = ", ".join(job.engine.onnx_providers if job.kind == "onnx" else job.engine.tflite_delegates)
    why = f"with {asked}: {verdict.reason}: {verdict.detail}"
    return msgspec.structs.replace(again, lacking=why[:MAX_DETAIL])


class Engines:
    """Keeps which engine has proved itself for which version. For any thread.

    Args:
        wanted: What the device asks for.
    """

    def __init__(self, zygote: Zygote, wanted: EngineOptions) -> None:
        self._zygote = zygote
        self._wanted = wanted
        self._proven: dict[str, Engine] = {}
        self._lacking: dict[RuntimeKind, str] = {}
        self._left: dict[str, str] = {}  # why the CPU alone is asked from now on, by version

    def preflight(self, digest: str, job: Job) -> Verdict:
        """Return whether a version may be activated, and remember with which engine."""
        left = self._left.get(digest)
        wanted = self._wanted if left is None else self._wanted.on_cpu()
        verdict = preflight(self._zygote, msgspec.structs.replace(job, engine=wanted))
        verdict = verdict if left is None else msgspec.structs.replace(verdict, lacking=left)
        if verdict.accepted:
            self._remember(digest, job, Engine(verdict.engine, verdict.lacking))
        return verdict

    def leave(self, digest: str, why: str) -> bool:
        """Have the CPU answer for a version from now on; tell whether anything else did.

        Args:
            why: What the worker came to, in words.
        """
        engine = self._proven.get(digest, Engine())
        if engine.name == CPU:
            return False
        self._left[digest] = f"with {engine.name}: {why}"[:MAX_DETAIL]
        _drop_oldest(self._left)
        del self._proven[digest]
        return True

    def proven(self, digest: str, job: Job) -> Job:
        """Return a job with the engine that has answered the golden vectors of its version.

        One that nobody has asked since the start is asked first, where the device wants more than the CPU.
        """
        wanted = self._wanted
        if wanted.accelerates(job.kind):
            if digest not in self._proven:
                self.preflight(digest, job)
            engine = self._proven.get(digest)
            if engine is None or engine.name == CPU:
                wanted = wanted.on_cpu()
        return msgspec.structs.replace(job, engine=wanted)

    def of(self, digest: str) -> Engine:
        """Return what answers for a version."""
        return self._proven.get(digest, Engine())

    def lacking(self) -> dict[RuntimeKind, str]:
        """Return why what the device asks for did not answer when it was last asked, by kind of engine."""
        return dict(self._lacking)

    def _remember(self, digest: str, job: Job, engine: Engine) -> None:
        if engine.lacking and self._lacking.get(job.kind) != engine.lacking:
            _log.warning("%s answers for %s models: %s", engine.name, job.kind, engine.lacking)
        self._lacking.pop(job.kind, None)
        if engine.lacking:
            self._lacking[job.kind] = engine.lacking
        self._proven.pop(digest, None)
        self._proven[digest] = engine
        _drop_oldest(self._proven)


def _drop_oldest(kept: dict[str, Any]) -> None:
    while len(kept) > _MOST:
        kept.pop(next(iter(kept)))
