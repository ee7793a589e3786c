"""A small valid manifest, and variations of it."""

import msgspec

from muster_models.manifest import ClassOutput, FeatureSpec, FileEntry, Manifest, TensorSpec


def file_entry(name: str, role: str, *, sha256: str = "0" * 64, length: int = 1) -> FileEntry:
    return msgspec.convert({"name": name, "role": role, "sha256": sha256, "length": length}, FileEntry)


def make_manifest(**changes: object) -> Manifest:
    """Return a valid manifest of ``digits@1.0.0`` with some fields replaced."""
    manifest = Manifest(
        format=1,
        model="digits",
        version="1.0.0",
        release=1,
        created="2026-01-01T00:00:00Z",
        runtime="onnx",
        inputs=(TensorSpec("image", "float32", (None, 64)),),
        outputs=(TensorSpec("probabilities", "float32", (None, 10)),),
        features=(FeatureSpec("brightness", "image", summary="brightness"),),
        prediction=ClassOutput("probabilities", tuple("0123456789")),
        files=(
            file_entry("model.onnx", "model"),
            file_entry("baseline.bin", "baseline"),
            file_entry("golden.bin", "golden"),
        ),
    )
    return msgspec.structs.replace(manifest, **changes)
