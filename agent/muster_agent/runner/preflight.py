"""The preflight child: loads a version and answers its golden vectors before it may replace anything.

Runs in a process of its own that is confined to the version's folder and to the declared budget; it says yes
only when every question was answered. A child that ends without a verdict is judged by how it ended.
"""

import importlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_agent.runner import bare, child
from muster_agent.runner.job import MAX_DETAIL, MAX_NAME, MAX_TENSORS, Job, TensorInfo, Verdict, refused
from muster_agent.runner.outputs import OutputCheck
from muster_models.errors import PredictionError, Reason
from muster_models.golden import Golden, compare, decode_golden
from muster_models.manifest import Quantisation, TensorSpec
from muster_models.runtime import Runtime, fits
from muster_models.tensors import unpack

Array = NDArray[np.generic]
Inputs = Mapping[str, Array]
_CALLS = 15  # of which the median is the latency
_MEASURING_SECONDS = 0.3
# Named and not imported: the readers come with the operator extra, and a device does without.
_PUBLISH = "muster_models.publish"
_GATE = f"{_PUBLISH}.gate"


def run(job: Job) -> Verdict:
    """Examine the model of a job in this process, which must be a child made for it.

    1. Confine this process; from here on its end is a verdict too.
    2. Inspect the file's structure, where no publisher has done so.
    3. Load it with its engine, and compare its inputs and outputs with what the manifest declares.
    4. Answer the golden vectors within tolerance; every answer is finite, small, and of the declared shape.
       What a file declares about itself is wrong in good models too: without a manifest that is a warning.
    5. Measure the median call and the memory, and compare both with the budget.
    """
    warm(job)  # while files can still be read; done before by the zygote, if it can
    importlib.import_module(
        f"muster_models.runtime.{job.kind}"
    )  # likewise, and it is nobody's memory but its own
    base = child.peak()
    inspect = _gate(job)
    child.arm(job.budget.load_seconds)
    level = child.enter(job, cpu_seconds=job.budget.load_seconds)
    latency: float | None = None
    examples = 0
    found = Verdict(accepted=False)
    try:
        inspect()
        runtime = child.load_model(job)
        found = _describe(runtime)
        _check_declared(job, runtime)
        tried = _answer(job, runtime)
        examples = tried.examples
        if not job.outputs:
            warnings = (*tried.warnings, *_doubts(runtime, tried.inputs))
            found = msgspec.structs.replace(found, warnings=warnings)
        latency = _latency_ms(runtime, tried.inputs)
        verdict = _within_budget(job, latency, child.peak() - base)
    except Exception as error:  # noqa: BLE001 - whatever a hostile file raises is a verdict
        verdict = refused(*child.describe(error))
    return msgspec.structs.replace(
        verdict,
        peak_bytes=child.peak() - base,
        latency_ms=latency,
        level=str(level),
        inputs=found.inputs,
        outputs=found.outputs,
        warnings=found.warnings,
        engine=found.engine,
        lacking=found.lacking,
        examples=examples,
    )


def warm(job: Job) -> None:
    """Import what a job needs beside its engine. In the zygote that spares every child of it the time."""
    if job.golden is None:
        bare.warm()
    if job.inspect is not None:
        importlib.import_module(f"{_PUBLISH}.{job.kind}_gate")


def _gate(job: Job) -> Callable[[], None]:
    """Return the structure gate for a job, which does nothing where a publisher has been asked already."""
    names = job.inspect
    if names is None:
        return lambda: None
    gate = importlib.import_module(_GATE)
    path = Path(job.folder) / job.model
    return lambda: gate.inspect(job.kind, path, names=frozenset(names))


def _describe(runtime: Runtime) -> Verdict:
    return Verdict(
        accepted=False,
        inputs=_infos(runtime.inputs),
        outputs=_infos(runtime.outputs),
        engine=runtime.engine.name[:MAX_NAME],
        lacking=runtime.engine.lacking[:MAX_DETAIL],
    )


def _infos(specs: Sequence[TensorSpec]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(spec.name[:MAX_NAME], spec.dtype[:MAX_NAME], spec.shape, _sane(spec.quantisation))
        for spec in specs[:MAX_TENSORS]
    )


def _sane(quantisation: Quantisation | None) -> Quantisation | None:
    """Return a quantisation that fits into a message; a hostile file has any number of values."""
    return quantisation if quantisation is None or len(quantisation.scale) <= MAX_TENSORS else None


def _doubts(runtime: Runtime, inputs: Inputs) -> tuple[str, ...]:
    """Return where a file's own word differs from what it does."""
    outputs = runtime.run(inputs)
    doubts = [
        f"input {spec.name!r} is declared {spec.dtype}{list(spec.shape)}: it has no values"
        for spec in runtime.inputs
        if 0 in spec.shape
    ]
    for spec in runtime.outputs:
        array = outputs[spec.name]
        answered = f"{'str' if array.dtype.kind in 'OUS' else array.dtype.name}{list(array.shape)}"
        if not fits(array.shape, spec):
            doubts.append(
                f"output {spec.name!r} is declared {spec.dtype}{list(spec.shape)}, answered {answered}"
            )
        elif array.size == 0:
            doubts.append(f"output {spec.name!r} has no values: {answered}")
    return tuple(doubt[:MAX_DETAIL] for doubt in doubts[:MAX_TENSORS])


def _check_declared(job: Job, runtime: Runtime) -> None:
    for kind, declared, own in (
        ("inputs", job.inputs, runtime.inputs),
        ("outputs", job.outputs, runtime.outputs),
    ):
        if declared and not _agree(declared, own):
            raise PredictionError(
                Reason.WRONG_SHAPE, f"the manifest declares {kind} {_name(declared)}, the file {_name(own)}"
            )


def _agree(declared: Sequence[TensorSpec], own: Sequence[TensorSpec]) -> bool:
    """Tell whether names and types are the same; lengths are judged by what is answered."""
    return {(spec.name, spec.dtype) for spec in declared} == {(spec.name, spec.dtype) for spec in own}


def _name(specs: Sequence[TensorSpec]) -> list[str]:
    return sorted(f"{spec.name}:{spec.dtype}" for spec in specs)


def _answer(job: Job, runtime: Runtime) -> bare.Tried:
    """Answer every golden vector, or what a bare file is tried with; return inputs that are answered well."""
    if job.golden is None:
        return bare.answer(runtime, Path(job.folder), most=job.budget.output_bytes)
    golden = decode_golden((Path(job.folder) / job.golden).read_bytes())
    check = OutputCheck(job.outputs, job.budget.output_bytes)
    for number, vector in enumerate(golden.vectors):
        outputs = runtime.run(unpack(vector.inputs))
        check(outputs)
        _compare(golden, number, outputs)
    return bare.Tried(unpack(golden.vectors[0].inputs), examples=len(golden.vectors))


def _compare(golden: Golden, number: int, outputs: Mapping[str, Array]) -> None:
    wrong = compare(
        golden.vectors[number].outputs, outputs, absolute=golden.absolute, relative=golden.relative
    )
    if wrong is not None:
        raise PredictionError(Reason.WRONG_OUTPUT, f"golden vector {number}: {wrong}")


def _latency_ms(runtime: Runtime, inputs: Inputs) -> float:
    seconds: list[float] = []
    while len(seconds) < _CALLS and sum(seconds) < _MEASURING_SECONDS:
        began = time.perf_counter()
        runtime.run(inputs)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


def _within_budget(job: Job, latency_ms: float, peak_bytes: int) -> Verdict:
    budget = job.budget
    if peak_bytes > budget.memory_bytes:
        return refused(
            Reason.OUT_OF_MEMORY, f"it may take {budget.memory_bytes} bytes of memory, took {peak_bytes}"
        )
    if latency_ms > budget.latency_ms:
        return refused(
            Reason.TOO_SLOW, f"a call may take {budget.latency_ms:g} ms, its median was {latency_ms:.3g} ms"
        )
    return Verdict(accepted=True)
