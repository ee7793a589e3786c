"""TFLite by ai-edge-litert; tflite-runtime where that is what the device has (32-bit ARM).

tflite-runtime does not verify the file and needs numpy 1: it is accepted, not recommended.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import TensorSpec
from muster_models.runtime.protocol import Quantisation, check_inputs, check_types

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter  # type: ignore[import-not-found,unused-ignore,no-redef]

Array = NDArray[np.generic]
Detail = dict[str, Any]  # untyped by the engine


class TfliteRuntime:
    """One TFLite model file in one interpreter, which serves one call at a time.

    Inputs and outputs have the names of the file's only signature; where there is none, or several, those of
    its tensors.
    """

    def __init__(self, path: Path) -> None:
        try:
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
            inputs, outputs = _details(interpreter)
            self.inputs = tuple(_spec(name, detail) for name, detail in inputs.items())
            self.outputs = tuple(_spec(name, detail) for name, detail in outputs.items())
        except (ValueError, RuntimeError, SystemError, TypeError) as error:
            raise PredictionError(Reason.LOAD_FAILED, f"TFLite refuses {path.name}: {error}") from error
        check_types((*self.inputs, *self.outputs))
        self.quantised_inputs: Mapping[str, Quantisation] = _quantised(inputs)
        self.quantised_outputs: Mapping[str, Quantisation] = _quantised(outputs)
        self._interpreter: Interpreter | None = interpreter
        self._lock = threading.Lock()
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = {name: detail["index"] for name, detail in outputs.items()}
        self._shapes: dict[str, tuple[int, ...]] = {}
        # What fitted last: a call that repeats it needs no closer look.
        self._fitting: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]] = {}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name; see ``Runtime.run``."""
        kinds = {name: (array.shape, array.dtype) for name, array in inputs.items()}
        if kinds != self._fitting:
            check_inputs(self.inputs, inputs)
            self._fitting = kinds
        with self._lock:
            interpreter = self._interpreter
            if interpreter is None:
                raise PredictionError(Reason.CRASHED, "TFLite: the model was closed")
            try:
                self._resize(interpreter, inputs)
                for name, array in inputs.items():
                    interpreter.set_tensor(self._inputs[name], _plain(array))
                interpreter.invoke()
                return {name: _text(interpreter.get_tensor(index)) for name, index in self._outputs.items()}
            except (ValueError, RuntimeError, SystemError, TypeError) as error:
                raise PredictionError(Reason.CRASHED, f"TFLite: {error}") from error

    def close(self) -> None:
        """Release the interpreter, after the call that is under way."""
        with self._lock:
            self._interpreter = None

    def _resize(self, interpreter: Interpreter, inputs: Mapping[str, Array]) -> None:
        shapes = {name: array.shape for name, array in inputs.items()}
        if shapes != self._shapes:
            self._shapes = {}  # until it has worked, so that a failure does not pass for the shapes before it
            for name, shape in shapes.items():
                interpreter.resize_tensor_input(self._inputs[name], shape)
            interpreter.allocate_tensors()
            self._shapes = shapes


def _details(interpreter: Interpreter) -> tuple[dict[str, Detail], dict[str, Detail]]:
    """Return the engine's details of inputs and outputs by name, in the order of the file."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        return _by_name(inputs, {}), _by_name(outputs, {})
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    return _by_name(inputs, runner.get_input_details()), _by_name(outputs, runner.get_output_details())


def _by_name(details: list[Detail], named: Mapping[str, Detail]) -> dict[str, Detail]:
    names = {detail["index"]: name for name, detail in named.items()}
    found = {names.get(detail["index"], str(detail["name"])): detail for detail in details}
    if len(found) != len(details):
        raise ValueError(f"tensors share the names {sorted(found)}")
    return found


def _spec(name: str, detail: Detail) -> TensorSpec:
    dtype = np.dtype(detail["dtype"])
    signature = np.asarray(detail["shape_signature"]).tolist()
    shape = tuple(None if axis < 0 else int(axis) for axis in signature)
    return TensorSpec(name, "str" if dtype.kind in "OUS" else str(dtype.name), shape)


def _quantised(details: Mapping[str, Detail]) -> dict[str, Quantisation]:
    return {
        name: Quantisation(
            scale=tuple(float(scale) for scale in held["scales"]),
            zero_point=tuple(int(point) for point in held["zero_points"]),
            axis=int(held["quantized_dimension"]) if len(held["scales"]) > 1 else None,
        )
        for name, detail in details.items()
        if len((held := detail["quantization_parameters"])["scales"])
    }


def _plain(array: Array) -> Array:
    """Return strings as the engine takes them; other types as they are."""
    return array.astype(object) if array.dtype.kind == "U" else array


def _text(array: Array) -> Array:
    """Return the engine's bytes as strings; other types as they are."""
    if array.dtype.kind not in "OS":
        return array
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in array.ravel()]
    return np.array(texts, dtype=object).reshape(array.shape)
