"""The publish gate: what a model file may hold before it is signed. It reads the file and never runs it."""

from pathlib import Path

from muster_models.errors import FitError, ModelFileError, Reason
from muster_models.manifest import RuntimeKind

MAX_BYTES = 1024 * 1024 * 1024  # one file; half of what protobuf and FlatBuffers can address


def inspect(kind: RuntimeKind, path: Path, *, names: frozenset[str]) -> None:
    """Refuse a model file that no device should load.

    What only shows when a model runs (an endless loop, a division by zero) is left to the preflight child.

    Args:
        kind: The engine the file is for.
        path: The file; weights that it refers to lie beside it.
        names: The plain names of all files of the version, the only ones that it may refer to.

    Raises:
        ModelFileError: Says what was found and where.
        FitError: The readers of the gate are not installed here.
    """
    data = _read(path)
    try:
        match kind:
            case "onnx":
                from muster_models.publish import onnx_gate  # noqa: PLC0415 - only publishers have the reader

                onnx_gate.inspect_onnx(data, folder=path.parent, names=names)
            case "tflite":
                from muster_models.publish import tflite_gate  # noqa: PLC0415 - as above

                tflite_gate.inspect_tflite(data)
    except ImportError as error:
        raise FitError(
            Reason.WRONG_RUNTIME,
            f"the reader of {kind} files is not installed, expected the extra 'operator': {error}",
        ) from error


def _read(path: Path) -> bytes:
    try:
        length = path.stat().st_size
        if length > MAX_BYTES:
            raise ModelFileError(
                f"{path.name}: a model file has at most {MAX_BYTES} bytes, got {length}", Reason.TOO_LARGE
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path.name}: cannot be read: {error.strerror}") from error
    if not data:
        raise ModelFileError(f"{path.name}: the file is empty")
    return data
