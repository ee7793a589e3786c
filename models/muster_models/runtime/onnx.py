"""ONNX by onnxruntime, with options for small machines: one thread, no spinning, bounded constant folding."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from muster_models.engine import CPU, Engine, EngineOptions
from muster_models.errors import FitError, PredictionError, Reason
from muster_models.runtime.onnx_values import describe, to_array
from muster_models.runtime.protocol import Labels, check_inputs, check_types, fitted

Array = NDArray[np.generic]
_CPU_PROVIDER = "CPUExecutionProvider"
_FOLD_LIMIT = 1024 * 1024  # bytes; a nine-kilobyte file may fold to a gigabyte without it


class OnnxRuntime:
    """One ONNX model file in one session.

    Args:
        engine: What the device asks for; a provider that cannot be had leaves the work to the next one.
        labels: The order of the keys of outputs that are maps, by output.
    """

    def __init__(self, path: Path, *, engine: EngineOptions, labels: Labels) -> None:
        session, self.engine = _open(path, engine)
        self._session: Any = session
        inputs = [describe(node.name, node.type, node.shape or ()) for node in session.get_inputs()]
        outputs = [
            describe(node.name, node.type, node.shape or (), labels=labels.get(node.name, ()))
            for node in session.get_outputs()
        ]
        for value in inputs:
            if value.form != "tensor":
                raise FitError(
                    Reason.WRONG_RUNTIME,
                    f"input {value.spec.name!r} is a sequence or a map, expected a tensor",
                )
        # Quantised ONNX files say so in operators of the graph; what goes in and out are real numbers.
        self.inputs = tuple(value.spec for value in inputs)
        self.outputs = tuple(value.spec for value in outputs)
        check_types((*self.inputs, *self.outputs))
        self._values = outputs
        self._names = [spec.name for spec in self.outputs]
        self._all_tensors = all(value.form == "tensor" for value in outputs)
        # Below the Python wrapper, which asks on every call what the engine checks again (0.6 of 6.2 µs).
        self._call = getattr(session, "_sess", session).run

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name; see ``Runtime.run``."""
        for array in inputs.values():
            if not array.dtype.isnative:  # the engine would take its bytes for other numbers
                inputs = fitted(self.inputs, inputs)
                break
        try:
            values = self._call(self._names, dict(inputs), None)
        except Exception as error:  # the engine raises some twenty types of its own
            # The engine checks names, types and lengths itself: asked here only to say what did not fit.
            check_inputs(self.inputs, inputs)
            raise PredictionError(Reason.CRASHED, f"onnxruntime: {error}") from error
        if self._all_tensors:
            return dict(zip(self._names, values, strict=True))
        return {
            name: to_array(value, held)
            for name, value, held in zip(self._names, self._values, values, strict=True)
        }

    def close(self) -> None:
        """Release the session; calls that are under way still end."""
        self._call = _closed
        self._session = None


def missing_providers(wanted: Sequence[str]) -> list[str]:
    """Return why each provider cannot be had that is not built into the engine that is installed."""
    built = onnxruntime.get_available_providers()
    return [
        f"{name} is not built into onnxruntime {onnxruntime.__version__}, which has {', '.join(built)}"
        for name in wanted
        if name not in built
    ]


def _open(path: Path, engine: EngineOptions) -> tuple[Any, Engine]:
    """Return a session with the providers that can be had, and what they are."""
    lacking = missing_providers(engine.onnx_providers)
    built = onnxruntime.get_available_providers()
    had = [name for name in engine.onnx_providers if name in built and name != _CPU_PROVIDER]
    if had:
        try:
            session = _session(path, had, engine)
        except Exception as error:  # noqa: BLE001 - as at every call of the engine
            lacking.append(f"{', '.join(had)} cannot be used: {' '.join(str(error).split())[:300]}")
        else:
            used = [name for name in session.get_providers() if name != _CPU_PROVIDER]
            # The engine itself leaves out a provider whose own libraries are missing, without a word.
            lacking += [f"{name} could not be started" for name in had if name not in used]
            return session, Engine(", ".join(used) or CPU, "; ".join(lacking))
    try:
        return _session(path, [], engine), Engine(CPU, "; ".join(lacking))
    except Exception as error:
        _blame_environment(path, error)
        raise PredictionError(Reason.LOAD_FAILED, f"onnxruntime refuses {path.name}: {error}") from error


def _session(path: Path, providers: Sequence[str], engine: EngineOptions) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = engine.threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False  # so that memory returns after a swap
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(
        "optimization.constant_folding_max_output_size_in_bytes", str(_FOLD_LIMIT)
    )
    names = [*providers, _CPU_PROVIDER]
    return onnxruntime.InferenceSession(
        str(path),
        sess_options=options,
        providers=names,
        provider_options=[engine.options.get(name, {}) for name in names],
        enable_fallback=0,  # it would print to the terminal, and tell nobody
    )


def _blame_environment(path: Path, error: Exception) -> None:
    """Raise a better error where the file is fine and this machine is not."""
    if "construct locale" in str(error):
        name = str(error).partition("name:")[2].partition(":")[0] or "of the model's language"
        raise FitError(
            Reason.ENVIRONMENT,
            f"{path.name} handles text and needs the locale {name}, which is not installed",
        ) from error


def _closed(*_: object) -> NoReturn:
    raise RuntimeError("the model was closed")
