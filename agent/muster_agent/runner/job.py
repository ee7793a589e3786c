"""What a child is told to run and what it answers: the messages of supervisor, zygote and children."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_models.engine import CPU_ALONE, EngineOptions
from muster_models.errors import Reason
from muster_models.manifest import Budget, Quantisation, RuntimeKind, TensorSpec, labels_of
from muster_models.trust.verified import VerifiedManifest

MAX_BYTES = 1024 * 1024
MAX_DETAIL = 600  # characters, as on the wire
MAX_NAME = 200
MAX_TENSORS = 64


class Job(Struct, frozen=True):
    """A model to load, and what it has declared.

    Attributes:
        folder: The private folder that holds the version's files; nothing else can be read.
        model, golden: File names in it. A bare file comes without golden vectors: it is tried with the
            examples that lie beside it, or with a made-up input.
        inputs, outputs: What the manifest says; empty where the model's own word must do.
        call_seconds: How long one call may take.
        inspect: File names that the structure gate lets the model refer to; None where the gate has no
            reader, or a publisher has inspected the file already, as for every version.
        labels: The declared labels of the predicted output, by its name: columns of a map stand in their
            order.
        engine: What the device asks for beside the CPU.
    """

    kind: RuntimeKind
    folder: str
    model: str
    golden: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    budget: Budget
    call_seconds: float
    inspect: tuple[str, ...] | None = None
    labels: dict[str, tuple[str, ...]] = {}
    engine: EngineOptions = CPU_ALONE


class Order(Struct, frozen=True):
    """What the supervisor asks of the zygote; the child's channel and the status pipe travel with it."""

    role: Literal["preflight", "worker"]
    job: Job


class Born(Struct, frozen=True, tag="born"):
    """The child runs; a handle on its process travels with this."""

    pid: int


class Unborn(Struct, frozen=True, tag="unborn"):
    """No child was made."""

    reason: Reason
    detail: str


class Ended(Struct, frozen=True):
    """How a child ended.

    Attributes:
        status: A wait status, as ``os.waitstatus_to_exitcode`` takes it.
        peak_bytes: The most memory it held above what it was born with.
        for_memory: The kernel killed it for lack of memory; None where this machine does not tell.
    """

    status: int
    peak_bytes: int
    for_memory: bool | None = None


class TensorInfo(Struct, frozen=True):
    """An input or an output as the model file declares it; for people and programs that prepare data.

    Attributes:
        name: Cut to ``MAX_NAME`` characters.
        shape: One entry per axis; None where any length is accepted.
        quantisation: What its integers stand for; None where they stand for themselves.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantisation: Quantisation | None = None


class Verdict(Struct, frozen=True):
    """What a preflight found.

    Attributes:
        accepted: Everything that was asked held; False whenever anything is in doubt.
        reason: None exactly where accepted.
        seconds: Wall time of the whole preflight.
        peak_bytes: The most memory above that of the bare child.
        latency_ms: Median time of one call; None where it never answered.
        level: How far the child was confined (``sandbox.Level``); empty where it never began.
        inputs, outputs: What the file declares, the first ``MAX_TENSORS`` of each; empty where it did not
            load.
        warnings: What is odd about a bare file and no reason to refuse it.
        engine: What answered; empty where it never did.
        lacking: Why something that the device asks for beside the CPU did not answer.
        examples: How many examples with expected answers it was tried with.
    """

    accepted: bool
    reason: Reason | None = None
    detail: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    latency_ms: float | None = None
    level: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    warnings: tuple[str, ...] = ()
    engine: str = ""
    lacking: Annotated[str, Meta(max_length=MAX_DETAIL)] = ""
    examples: int = 0


Reply = Born | Unborn


def refused(reason: Reason, detail: str) -> Verdict:
    """Return a verdict that says no."""
    return Verdict(accepted=False, reason=reason, detail=detail[:MAX_DETAIL])


def job_of(
    verified: VerifiedManifest, folder: Path, *, call_seconds: float, engine: EngineOptions = CPU_ALONE
) -> Job:
    """Return the job of running a verified version from its private folder."""
    manifest = verified.manifest
    return Job(
        kind=manifest.runtime,
        folder=str(folder),
        model=manifest.file("model").name,
        golden=manifest.file("golden").name,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        budget=manifest.budget,
        call_seconds=call_seconds,
        labels=labels_of(manifest.prediction),
        engine=engine,
    )


encode = msgspec.json.encode
decode = msgspec.json.decode
