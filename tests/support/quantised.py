"""A model of one 8-bit number that stands for a real one, and versions as publisher and store make them."""

from pathlib import Path

import numpy as np
import tflite
from numpy.typing import NDArray

from muster_models.publish import Built, build, read_source
from muster_models.trust.verified import VerifiedManifest
from support.tflite_models import File, Operator, Subgraph, Tensor
from support.verified import seal

Array = NDArray[np.generic]
SCALE, ZERO = 0.25, -100
QUANTISED = """
model = "toy"
version = "1.0.0"
runtime = "tflite"
file = "model.tflite"

[prediction]
type = "value"
output = "tensor 1"

[[features]]
name = "first"
input = "tensor 0"
column = 0
"""
STEPS = (np.arange(30) + ZERO).astype(np.int8).reshape(-1, 1)
REAL = (np.arange(30) * SCALE).astype(np.float32).reshape(-1, 1)


def built(source: Path) -> Built:
    return build(read_source(source), release=1, created="2026-01-01T00:00:00Z", output=source / "out")


def laid_out(version: Built, folder: Path) -> VerifiedManifest:
    """Write the files of a version as a device's store does."""
    folder.mkdir(mode=0o700)
    for entry in version.manifest.files:
        (folder / entry.name).write_bytes(version.files[entry.sha256].read_bytes())
    return seal(version.manifest)


def quantised(folder: Path, rows: Array) -> Path:
    """Return the source of a model of one 8-bit number a call, which it answers as it is."""
    same = Tensor((1, 1), kind=tflite.TensorType.INT8, scales=(SCALE,), zeros=(ZERO,))
    shape = Tensor((2,), kind=tflite.TensorType.INT32, buffer=1)
    subgraph = Subgraph(tensors=(same, same, shape), operators=(Operator(inputs=(0, 2)),))
    told = np.array([1, 1], np.int32).tobytes()
    file = File(codes=(tflite.BuiltinOperator.RESHAPE,), buffers=(b"", told), subgraphs=(subgraph,))
    folder.mkdir()
    (folder / "model.toml").write_text(QUANTISED)
    (folder / "model.tflite").write_bytes(file.encode())
    targets = np.arange(30) * SCALE
    np.savez(folder / "evaluation.npz", allow_pickle=False, **{"tensor 0": rows, "targets": targets})
    return folder
