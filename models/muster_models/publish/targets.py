"""Whether the engines of a fleet can load a model file: what the file asks for, held against their versions.

What is not known is not held against a file: an engine newer than the tables, a file that does not say what
it asks for. The preflight on each device has the last word.

Sources of the table, onnxruntime version to newest operator sets and format: up to 1.18 the table in
onnxruntime.ai/docs/reference/compatibility.html; from 1.19 on measured with the released wheels, by loading a
graph of one operator that claims ever newer sets.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from muster_models.errors import ModelFileError
from muster_models.manifest import RuntimeKind


@dataclass(frozen=True)
class Needs:
    """What a model file asks of an engine; None where it says nothing.

    Attributes:
        opset, ml_opset: Versions of the operator sets ``ai.onnx`` and ``ai.onnx.ml``.
        ir: Version of the ONNX format.
        runtime: The oldest TensorFlow Lite release that its converter says can run it.
    """

    opset: int | None = None
    ml_opset: int | None = None
    ir: int | None = None
    runtime: tuple[int, ...] | None = None


# Minor release of onnxruntime 1.x from which it holds, then the newest ai.onnx, ai.onnx.ml and IR version.
ONNXRUNTIME: Final = (
    (0, 11, 2, 6),
    (3, 12, 2, 7),
    (6, 13, 2, 7),
    (8, 14, 2, 7),
    (9, 15, 2, 8),
    (11, 16, 2, 8),
    (12, 17, 3, 8),
    (14, 18, 3, 8),
    (15, 19, 3, 8),
    (16, 19, 3, 9),
    (17, 20, 4, 9),
    (18, 21, 4, 10),
    (19, 21, 5, 10),
    (21, 22, 5, 10),
    (23, 23, 5, 11),
    (24, 25, 5, 13),
    (25, 26, 5, 13),
    (32, 28, 5, 14),
)
NEWEST_KNOWN: Final = 32  # of onnxruntime 1.x; of a newer one nothing is said
MAX_METADATA: Final = 64  # entries that are looked at
_DAMAGED = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError)
_MIN_RUNTIME: Final = b"min_runtime_version"
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def needs_of(kind: RuntimeKind, path: Path) -> Needs:
    """Return what a model file that has passed the gate asks of an engine.

    Raises:
        ModelFileError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path.name}: cannot be read: {error.strerror}") from error
    match kind:
        case "onnx":
            return _onnx_needs(data)
        case "tflite":
            return _tflite_needs(data)


def find_lack(needs: Needs, engine: str) -> str | None:
    """Return in words what an engine lacks for a model file; None when it has all that is known.

    Args:
        needs: Of the file.
        engine: Name and version as a device reports it, such as ``onnxruntime 1.17.3``.
    """
    name, _, version = engine.partition(";")[0].strip().partition(" ")
    found = _VERSION.match(version)
    if found is None:
        return None
    release = tuple(int(part) for part in found.groups(default="0"))
    match name:
        case "onnxruntime" if release[0] == 1 and release[1] <= NEWEST_KNOWN:
            return _onnx_lack(needs, release[1])
        case "tflite-runtime" if needs.runtime is not None and release < needs.runtime:
            return f"the file asks for TensorFlow Lite {'.'.join(map(str, needs.runtime))}"
        # ai-edge-litert counts anew from TensorFlow 2.17, and how its releases follow is in no list.
        case _:
            return None


def _onnx_needs(data: bytes) -> Needs:
    from onnx import ModelProto  # noqa: PLC0415 - only publishers have the reader

    model = ModelProto.FromString(data)
    imports = [*model.opset_import, *(entry for held in model.functions for entry in held.opset_import)]
    newest: dict[str, int] = {}
    for entry in imports:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        newest[domain] = max(entry.version, newest.get(domain, 0))
    return Needs(opset=newest.get(""), ml_opset=newest.get("ai.onnx.ml"), ir=model.ir_version)


def _tflite_needs(data: bytes) -> Needs:
    """Read what the converter wrote; the gate does not look at this part, so any damage is met here."""
    import tflite  # noqa: PLC0415 - only publishers have the reader

    model = tflite.Model.GetRootAs(data, 0)
    try:
        texts = [_metadata(model, index) for index in range(min(model.MetadataLength(), MAX_METADATA))]
    except _DAMAGED:
        return Needs()
    for text in filter(None, texts):
        found = _VERSION.fullmatch(text)
        if found is not None:
            return Needs(runtime=tuple(int(part) for part in found.groups(default="0")))
    return Needs()


def _metadata(model: Any, index: int) -> str:
    """Return an entry of a file's metadata if it is the one that is looked for, else nothing."""
    entry = model.Metadata(index)
    if entry.Name() != _MIN_RUNTIME or entry.Buffer() >= model.BuffersLength():
        return ""
    content = model.Buffers(entry.Buffer()).DataAsNumpy()
    # A buffer without content reads as the number 0.
    return "" if isinstance(content, int) else content.tobytes().rstrip(b"\0").decode(errors="replace")


def _onnx_lack(needs: Needs, minor: int) -> str | None:
    _, opset, ml_opset, ir = next(row for row in reversed(ONNXRUNTIME) if row[0] <= minor)
    asked = (
        ("operator set", needs.opset, opset),
        ("operator set of ai.onnx.ml", needs.ml_opset, ml_opset),
        ("IR version", needs.ir, ir),
    )
    told = [
        f"{what} {wanted}, it takes {newest} at most"
        for what, wanted, newest in asked
        if wanted is not None and wanted > newest
    ]
    return f"the file asks for {'; '.join(told)}" if told else None
