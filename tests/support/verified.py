"""Versions that are verified for a test, laid out in a private folder as the store does it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muster_models.golden import Golden, Vector, encode_golden
from muster_models.manifest import Budget, FeatureSpec, FileEntry, Manifest, TensorSpec, ValueOutput, encode
from muster_models.tensors import pack
from muster_models.trust import verified
from muster_models.trust.verified import VerifiedManifest
from support.manifests import file_entry, make_manifest
from support.small_models import WIDTH

Array = NDArray[np.generic]
QUICK = Budget(memory_bytes=256 * 1024 * 1024, load_seconds=60.0, latency_ms=250.0, output_bytes=64 * 1024)


def seal(manifest: Manifest) -> VerifiedManifest:
    """Return a manifest as ``trust`` would after checking its signatures."""
    return verified._seal(encode(manifest))


def lay_out(
    folder: Path,
    model: bytes,
    *,
    golden: Golden,
    name: str = "small",
    version: str = "1.0.0",
    budget: Budget = QUICK,
    fallback: float | None = None,
) -> VerifiedManifest:
    """Write the files of a version of a small model into ``folder`` and return its manifest, sealed."""
    folder.mkdir(mode=0o700, parents=True)
    contents = {"model.onnx": model, "golden.bin": encode_golden(golden), "baseline.bin": b"-"}
    for file, data in contents.items():
        (folder / file).write_bytes(data)
    manifest = make_manifest(
        model=name,
        version=version,
        inputs=(TensorSpec("x", "float32", (None, WIDTH)),),
        outputs=(TensorSpec("y", "float32", (None, WIDTH)),),
        features=(FeatureSpec("first", "x", column=0),),
        prediction=ValueOutput("y"),
        files=tuple(_entry(file, data) for file, data in contents.items()),
        budget=budget,
        fallback=fallback,
    )
    return seal(manifest)


def rows(*values: float) -> dict[str, Array]:
    """Return inputs of one row of four for each value."""
    return {"x": np.repeat(np.array(values, np.float32)[:, None], WIDTH, axis=1)}


def golden_of(*pairs: tuple[Mapping[str, Array], Mapping[str, Array]]) -> Golden:
    """Return golden vectors of these inputs and outputs."""
    vectors = tuple(Vector(inputs=pack(inputs), outputs=pack(outputs)) for inputs, outputs in pairs)
    return Golden(vectors=vectors, absolute=1e-5, relative=1e-5)


def answers(value: float, answer: float) -> Golden:
    """Return one golden vector: a row of ``value`` is answered by a row of ``answer``."""
    return golden_of((rows(value), {"y": rows(answer)["x"]}))


def _entry(name: str, data: bytes) -> FileEntry:
    return file_entry(name, name.partition(".")[0], sha256=hashlib.sha256(data).hexdigest(), length=len(data))
