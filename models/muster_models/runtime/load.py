"""Choosing the engine for a model file."""

from pathlib import Path

from muster_models.errors import FitError, Reason
from muster_models.manifest import RuntimeKind
from muster_models.runtime.protocol import Runtime


def load(kind: RuntimeKind, path: Path) -> Runtime:
    """Load a model file with its engine.

    Raises:
        FitError: The engine is not installed here (``wrong-runtime``), its tensors are of a type that arrays
            do not hold (``wrong-runtime``), or this machine lacks something it asks for (``environment``).
        PredictionError: The engine refuses the file (``load-failed``).
    """
    try:
        match kind:
            case "onnx":
                from muster_models.runtime.onnx import OnnxRuntime  # noqa: PLC0415 - a device has only what it needs

                return OnnxRuntime(path)
            case "tflite":
                from muster_models.runtime.tflite import TfliteRuntime  # noqa: PLC0415 - as above

                return TfliteRuntime(path)
    except ImportError as error:
        raise FitError(Reason.WRONG_RUNTIME, f"the {kind} engine is not installed: {error}") from error


def installed() -> dict[str, str]:
    """Return the engines of this machine with their versions, without importing them."""
    from importlib import metadata  # noqa: PLC0415 - asked once, at start

    found: dict[str, str] = {}
    for kind, names in {"onnx": ("onnxruntime",), "tflite": ("ai-edge-litert", "tflite-runtime")}.items():
        for name in names:
            try:
                found.setdefault(kind, f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:
                continue
    return found
