"""A delegate for TFLite that does what a test asks of it, and a small version to run on it."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np

from muster_models.engine import EngineOptions
from muster_models.golden import encode_golden
from muster_models.manifest import FeatureSpec, TensorSpec, ValueOutput
from muster_models.trust.verified import VerifiedManifest
from support.manifests import file_entry, make_manifest
from support.tflite_models import File
from support.verified import QUICK, golden_of, seal

SOURCE = Path(__file__).with_name("delegate.c")
TAKES, GIVES = "tensor 0", "tensor 1"
ONE = {TAKES: np.ones(1, np.float32)}
E_TO_ONE = {GIVES: np.exp(np.ones(1, np.float32))}


def build(folder: Path) -> str:
    """Compile the delegate; a machine without a C compiler cannot run these tests, and says so by failing."""
    library = folder / "libtest_delegate.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return str(library)


def asked(library: str, mode: str) -> EngineOptions:
    """Return the settings of a device that asks for the delegate, which then does what ``mode`` says."""
    return EngineOptions(tflite_delegates=(library,), options={library: {"mode": mode}})


def lay_out(folder: Path, *, wrong: bool = False) -> VerifiedManifest:
    """Write a version that answers ``exp(x)``; a wrong one has a golden vector that it does not answer."""
    folder.mkdir(mode=0o700, parents=True)
    expected = {GIVES: E_TO_ONE[GIVES] + (1 if wrong else 0)}
    contents = {
        "model.tflite": File().encode(),
        "golden.bin": encode_golden(golden_of((ONE, expected))),
        "baseline.bin": b"-",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    files = tuple(
        file_entry(name, name.partition(".")[0], sha256=hashlib.sha256(data).hexdigest(), length=len(data))
        for name, data in contents.items()
    )
    manifest = make_manifest(
        model="small",
        runtime="tflite",
        inputs=(TensorSpec(TAKES, "float32", (1,)),),
        outputs=(TensorSpec(GIVES, "float32", (1,)),),
        features=(FeatureSpec("first", TAKES, column=0),),
        prediction=ValueOutput(GIVES),
        files=files,
        budget=QUICK,
    )
    return seal(manifest)
