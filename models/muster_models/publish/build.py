"""Building a version: the model answers its evaluation set, and what it answers is measured and written down.

1. The gate inspects the model file.
2. The runtime that devices use answers every evaluation row.
3. Metrics are held against the thresholds; a missed one needs a waiver.
4. The baseline and the golden vectors are made of the same answers. A baseline that is given instead is held
   against them.
5. Every file is written under its SHA-256, and the manifest lists them.

The same source and the same engine give the same bytes, so a version can be built again and compared.
"""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from muster_models import manifest as manifests
from muster_models.errors import ManifestError, PredictionError
from muster_models.golden import decode_golden, encode_golden
from muster_models.manifest import Dataset, FileEntry, FileRole, Manifest, TensorSpec, Threshold, Waiver
from muster_models.publish.baselines import (
    Declared,
    Distance,
    check_declared,
    distances,
    measure_baseline,
    read_baseline,
)
from muster_models.publish.evaluate import Evaluation, evaluate, make_golden, measure
from muster_models.publish.gate import inspect
from muster_models.publish.source import CARD, DatasetDeclaration, Source, digest_arrays
from muster_models.quantised import reach
from muster_models.reliability import measure_reliability
from muster_models.runtime import Runtime, fits, load
from muster_models.sketch.baseline import Baseline
from muster_models.tensors import unpack

BASELINE = "baseline.bin"
GOLDEN = "golden.bin"


@dataclass(frozen=True)
class Built:
    """A version that is ready to be signed.

    Attributes:
        document: The canonical bytes of the manifest, which is what is signed.
        files: Where each file of the version lies, by SHA-256.
        latency_ms: Median time of one call with one row on this machine; not part of the version.
        distances: Of the evaluation set from a baseline that was not made of it; not part of the version.
    """

    manifest: Manifest
    document: bytes
    files: Mapping[str, Path]
    latency_ms: float
    distances: tuple[Distance, ...] = ()

    @property
    def digest(self) -> str:
        """The SHA-256 that names the version."""
        return manifests.digest(self.document)


def build(
    source: Source,
    *,
    release: int,
    created: str,
    parent: str | None = None,
    waivers: Sequence[Waiver] = (),
    baseline: Baseline | None = None,
    output: Path,
) -> Built:
    """Build the version of a source folder into ``output/blobs``.

    Args:
        source: What to build.
        release: Grows with every release of the model.
        created: RFC 3339, UTC.
        parent: SHA-256 of the manifest that this version follows.
        waivers: Admissions of missed thresholds; one for a threshold that is not missed is refused.
        baseline: Taken instead of one that is made of the evaluation set, or that the source folder names.
        output: Made where it does not exist.

    Raises:
        ModelFileError: The gate refuses the model file.
        FitError: The engine or the gate's reader is not installed here.
        ManifestError: The model does not do what is declared, or misses a threshold without a waiver.
    """
    inspect(source.declared.runtime, source.model_path, names=source.file_names)
    runtime = _load(source)
    try:
        evaluation = evaluate(runtime, source)
        metrics = measure(source.declared.prediction, evaluation.outputs, source.answers)
        check_thresholds(source.declared.thresholds, metrics, waivers)
        _check_latency(source, evaluation)
        chosen = _baseline(source, runtime, evaluation, given=baseline)
        contents = _contents(source, runtime, chosen.baseline)
        described = _describe(source, runtime, contents=contents, metrics=metrics)
    finally:
        runtime.close()
    manifest = msgspec.structs.replace(
        described,
        release=release,
        created=created,
        parent=parent,
        waivers=tuple(waivers),
        reliability=measure_reliability(
            chosen.baseline, evaluation.outputs[source.declared.prediction.output], source.answers
        ),
    )
    document = manifests.encode(manifest)
    manifests.parse(document)  # what a device will do: nothing is signed that it would refuse
    files = {entry.sha256: _write(output / "blobs", entry, contents) for entry in manifest.files}
    return Built(manifest, document, MappingProxyType(files), evaluation.latency_ms, chosen.distances)


def check_thresholds(
    thresholds: Sequence[Threshold], metrics: Mapping[str, float], waivers: Sequence[Waiver]
) -> None:
    """Hold metrics against thresholds. A metric that was not measured, or is no number, misses its threshold.

    Raises:
        ManifestError: A threshold is missed and not waived, or a waiver waives nothing.
    """
    waived = {waiver.metric for waiver in waivers}
    missed = {threshold.metric: threshold for threshold in thresholds if not _is_met(threshold, metrics)}
    for metric, threshold in missed.items():
        if metric not in waived:
            got = f"{metrics[metric]:.4g}" if metric in metrics else f"none of {sorted(metrics)}"
            raise ManifestError(f"threshold {metric!r}: wanted {_bounds(threshold)}, got {got}")
    if idle := waived - missed.keys():
        raise ManifestError(f"waivers must name missed thresholds, got {sorted(idle)}")


def _is_met(threshold: Threshold, metrics: Mapping[str, float]) -> bool:
    value = metrics.get(threshold.metric, math.nan)
    low = -math.inf if threshold.minimum is None else threshold.minimum
    high = math.inf if threshold.maximum is None else threshold.maximum
    return low <= value <= high


def _bounds(threshold: Threshold) -> str:
    parts = {"at least": threshold.minimum, "at most": threshold.maximum}
    return " and ".join(f"{word} {bound:g}" for word, bound in parts.items() if bound is not None)


def _load(source: Source) -> Runtime:
    try:
        labels = manifests.labels_of(source.declared.prediction)
        return load(source.declared.runtime, source.model_path, labels=labels)
    except PredictionError as error:
        raise ManifestError(f"{source.declared.file}: {error}") from error


def _check_latency(source: Source, evaluation: Evaluation) -> None:
    allowed = source.declared.budget.latency_ms
    if evaluation.latency_ms > allowed:
        raise ManifestError(f"budget latency_ms: wanted at most {allowed:g}, got {evaluation.latency_ms:.3g}")


def _contents(source: Source, runtime: Runtime, baseline: Baseline) -> dict[str, tuple[FileRole, bytes]]:
    declared = source.declared
    contents: dict[str, tuple[FileRole, bytes]] = {declared.file: ("model", source.model_path.read_bytes())}
    contents |= {name: ("weights", (source.folder / name).read_bytes()) for name in declared.weights}
    contents[BASELINE] = ("baseline", baseline.encode())
    contents[GOLDEN] = ("golden", encode_golden(make_golden(runtime, source)))
    if (source.folder / CARD).is_file():
        contents[CARD] = ("card", (source.folder / CARD).read_bytes())
    return contents


@dataclass(frozen=True)
class _Chosen:
    baseline: Baseline
    distances: tuple[Distance, ...] = ()


def _baseline(source: Source, runtime: Runtime, evaluation: Evaluation, *, given: Baseline | None) -> _Chosen:
    named = source.declared.baseline
    if given is None and named is not None:
        given = read_baseline(source.folder / named)
    declared = Declared(source.declared.features, source.declared.prediction, source.declared.pairs)
    rows = {"inputs": source.inputs, "outputs": evaluation.outputs}
    if given is None:
        return _Chosen(measure_baseline(declared, runtime.inputs, **rows))
    check_declared(given, declared)
    return _Chosen(given, distances(given, declared, runtime.inputs, **rows))


def _outputs(runtime: Runtime, golden: bytes) -> tuple[TensorSpec, ...]:
    """Return the outputs as they are answered: devices hold every answer against them.

    Good models declare wrong shapes (a well-known face detector says one box and gives 4,420).
    """
    answers = [unpack(vector.outputs) for vector in decode_golden(golden).vectors]
    return tuple(_answered(spec, [answer[spec.name].shape for answer in answers]) for spec in runtime.outputs)


def _answered(spec: TensorSpec, shapes: Sequence[tuple[int, ...]]) -> TensorSpec:
    if all(fits(shape, spec) for shape in shapes):
        return spec
    if len({len(shape) for shape in shapes}) != 1:
        raise ManifestError(f"output {spec.name!r}: expected one number of axes, got {sorted(set(shapes))}")
    axes = (set(axis) for axis in zip(*shapes, strict=True))
    shape = tuple(axis.pop() if len(axis) == 1 else None for axis in axes)
    return msgspec.structs.replace(spec, shape=shape)


def _check_fallback(fallback: float | None, outputs: Sequence[TensorSpec]) -> None:
    """Refuse what an output of integers cannot say: cut to its range it would be another answer."""
    for spec in outputs if fallback is not None else ():
        assert fallback is not None
        held = reach(spec)
        step = max(spec.quantisation.scale) if spec.quantisation is not None else 0.0
        if held is not None and not held[0] - step <= fallback <= held[1] + step:
            raise ManifestError(
                f"fallback {fallback:g}: output {spec.name!r} ({spec.dtype}) holds {held[0]:g} to {held[1]:g}"
            )


def _describe(
    source: Source,
    runtime: Runtime,
    *,
    contents: Mapping[str, tuple[FileRole, bytes]],
    metrics: Mapping[str, float],
) -> Manifest:
    declared = source.declared
    outputs = _outputs(runtime, contents[GOLDEN][1])
    _check_fallback(declared.fallback, outputs)
    return Manifest(
        format=1,
        model=declared.model,
        version=declared.version,
        release=1,
        created="",
        runtime=declared.runtime,
        inputs=runtime.inputs,
        outputs=outputs,
        features=declared.features,
        prediction=declared.prediction,
        files=tuple(
            FileEntry(name, role, hashlib.sha256(data).hexdigest(), len(data))
            for name, (role, data) in contents.items()
        ),
        hardware=declared.hardware,
        min_agent=declared.min_agent,
        budget=declared.budget,
        settings=declared.settings,
        metrics=dict(metrics),
        thresholds=declared.thresholds,
        datasets=_datasets(source),
        fallback=declared.fallback,
        description=declared.description,
    )


def _datasets(source: Source) -> tuple[Dataset, ...]:
    return tuple(_dataset(source, declared) for declared in source.declared.datasets)


def _dataset(source: Source, declared: DatasetDeclaration) -> Dataset:
    digest, rows = declared.digest, declared.rows
    if declared.role == "evaluation":
        digest, rows = digest_arrays({**source.inputs, "answers": source.answers}), len(source.answers)
    if digest is None or rows is None or (declared.digest or digest, declared.rows or rows) != (digest, rows):
        raise ManifestError(
            f"dataset {declared.name!r}: expected {declared.digest} with {declared.rows} rows, "
            f"got {digest} with {rows} rows"
        )
    return Dataset(declared.name, declared.role, declared.source, declared.licence, digest, rows)


def _write(folder: Path, entry: FileEntry, contents: Mapping[str, tuple[FileRole, bytes]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / entry.sha256
    temporary = folder / f".{entry.sha256}.{os.getpid()}"
    temporary.write_bytes(contents[entry.name][1])
    temporary.replace(path)  # a name that is a hash never shows half a file
    return path
