"""ONNX by onnxruntime, with options for small machines: one thread, no spinning, bounded constant folding."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import TensorSpec
from muster_models.runtime.protocol import Quantisation, check_inputs, check_types

Array = NDArray[np.generic]
_TYPES = {"float": "float32", "double": "float64", "string": "str"}
_FOLD_LIMIT = 1024 * 1024  # bytes; a nine-kilobyte file may fold to a gigabyte without it


class OnnxRuntime:
    """One ONNX model file in one session."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False  # so that memory returns after a swap
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "optimization.constant_folding_max_output_size_in_bytes", str(_FOLD_LIMIT)
        )
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the engine raises some twenty types of its own
            _blame_environment(path, error)
            raise PredictionError(Reason.LOAD_FAILED, f"onnxruntime refuses {path.name}: {error}") from error
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        check_types((*self.inputs, *self.outputs))
        # Quantised ONNX files say so in operators of the graph; what goes in and out are real numbers.
        self.quantised_inputs: Mapping[str, Quantisation] = {}
        self.quantised_outputs: Mapping[str, Quantisation] = {}
        self._names = [spec.name for spec in self.outputs]
        self._all_tensors = all(node.type.startswith("tensor(") for node in self._session.get_outputs())
        # Below the Python wrapper, which asks on every call what the engine checks again (0.6 of 6.2 µs).
        self._call = getattr(self._session, "_sess", self._session).run

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name; see ``Runtime.run``."""
        try:
            values = self._call(self._names, dict(inputs), None)
        except Exception as error:  # as at loading
            # The engine checks names, types and lengths itself: asked here only to say what did not fit.
            check_inputs(self.inputs, inputs)
            raise PredictionError(Reason.CRASHED, f"onnxruntime: {error}") from error
        if self._all_tensors:
            return dict(zip(self._names, values, strict=True))
        return {name: _array(name, value) for name, value in zip(self._names, values, strict=True)}

    def close(self) -> None:
        """Release the session; calls that are under way still end."""
        self._call = _closed
        self._session = None


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


def _spec(node: "onnxruntime.NodeArg") -> TensorSpec:
    inner = node.type.rpartition("tensor(")[2].rstrip(")")  # of a sequence or a map: what it is made of
    held = [axis if isinstance(axis, int) and axis >= 0 else None for axis in node.shape or ()]
    shape = held if node.type.startswith("tensor(") else [None, *held, None]
    return TensorSpec(node.name, _TYPES.get(inner, inner), tuple(shape))


def _array(name: str, value: Any) -> Array:
    """Return an output as an array.

    A sequence of maps (what classifiers of scikit-learn are converted to) becomes a matrix whose columns are
    in the order of the first map's keys; a sequence of tensors of one shape is stacked.
    """
    match value:
        case np.ndarray():
            return value
        case [dict() as first, *_] if all(row.keys() == first.keys() for row in value):
            return np.array([[row[key] for key in first] for row in value], dtype=np.float32)
        case [np.ndarray() as first, *_] if all(part.shape == first.shape for part in value):
            return np.stack(value)
        case _:
            kind = type(value).__name__
            raise PredictionError(Reason.WRONG_SHAPE, f"output {name!r} is a {kind}, expected a tensor")
