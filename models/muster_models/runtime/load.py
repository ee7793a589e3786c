"""Choosing the engine for a model file."""

from pathlib import Path
from types import MappingProxyType

from muster_models.distribution import version_of
from muster_models.engine import CPU_ALONE, EngineOptions
from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import RuntimeKind
from muster_models.runtime.protocol import Labels, Runtime

_NO_LABELS: Labels = MappingProxyType({})


def load(
    kind: RuntimeKind, path: Path, *, engine: EngineOptions = CPU_ALONE, labels: Labels = _NO_LABELS
) -> Runtime:
    """Load a model file with its engine.

    Args:
        engine: What the device asks for beside the CPU; what cannot be had is said in ``Runtime.engine``.
        labels: The declared labels of outputs that are maps, by output: their columns stand in this order.

    Raises:
        FitError: The engine is not installed here (``wrong-runtime``), its tensors are of a type that arrays
            do not hold or has no form as an array (``wrong-runtime``), or this machine lacks something it
            asks for (``environment``).
        PredictionError: The engine refuses the file (``load-failed``), or a module of Muster itself does not
            import (``crashed``).
    """
    try:
        match kind:
            case "onnx":
                from muster_models.runtime.onnx import OnnxRuntime  # noqa: PLC0415 - a device has only what it needs

                return OnnxRuntime(path, engine=engine, labels=labels)
            case "tflite":
                from muster_models.runtime.tflite import TfliteRuntime  # noqa: PLC0415 - as above

                return TfliteRuntime(path, engine=engine)
    except ImportError as error:
        raise import_refusal(kind, error) from error


def import_refusal(kind: RuntimeKind, error: Exception) -> FitError | PredictionError:
    """Return what it means that the module of an engine does not import.

    A fault of Muster itself says nothing about the device, and must not be taken for a missing engine: that
    would be final for a version.
    """
    text = " ".join(str(error).split())
    name = error.name or "" if isinstance(error, ImportError) else ""
    if name.partition(".")[0].startswith("muster_"):
        return PredictionError(Reason.CRASHED, f"Muster itself is damaged here: {text}")
    how = "is not installed" if isinstance(error, ModuleNotFoundError) else "does not load"
    return FitError(Reason.WRONG_RUNTIME, f"the {kind} engine {how}: {text}")


def installed() -> dict[RuntimeKind, str]:
    """Return the engines of this machine with their versions, without importing them."""
    packages: dict[RuntimeKind, tuple[str, ...]] = {
        "onnx": ("onnxruntime",),
        "tflite": ("ai-edge-litert", "tflite-runtime"),
    }
    found: dict[RuntimeKind, str] = {}
    for kind, names in packages.items():
        for name in names:
            version = version_of(name)
            if version is not None:
                found.setdefault(kind, f"{name} {version}")
    return found
