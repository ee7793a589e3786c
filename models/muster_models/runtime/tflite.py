"""TFLite by ai-edge-litert; tflite-runtime where that is what the device has (32-bit ARM).

tflite-runtime does not verify the file and needs numpy 1: it is accepted, not recommended.
"""

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_models.engine import CPU, Engine, EngineOptions
from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import Quantisation, TensorSpec
from muster_models.runtime.delegates import open_delegates
from muster_models.runtime.protocol import check_inputs, check_types, fitted

try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ModuleNotFoundError:
    from tflite_runtime.interpreter import (  # type: ignore[import-not-found,unused-ignore,no-redef]
        Interpreter,
        load_delegate,
    )

Array = NDArray[np.generic]
Detail = dict[str, Any]  # untyped by the engine
# Name, index, shape and type of an input as the interpreter is prepared for it.
_Prepared = tuple[str, int, tuple[int, ...], "np.dtype[np.generic]"]
_FAILURES = (ValueError, RuntimeError, SystemError, TypeError)
# ai-edge-litert knows such types and numpy does not; tflite-runtime does not know them either.
_UNKNOWN_TYPE = ("Invalid data-type", "Unsupported data type")
_MOST_SCALES = 4096


class TfliteRuntime:
    """One TFLite model file in one interpreter, which serves one call at a time.

    Inputs and outputs have the names of the file's only signature; where there is none, or several, those of
    its tensors.

    Args:
        engine: What the device asks for; where a delegate cannot be had, or does not take the model, the CPU
            answers.
    """

    def __init__(self, path: Path, *, engine: EngineOptions) -> None:
        self._interpreter: Any
        self._interpreter, self.engine = _open(path, engine)
        try:
            inputs, outputs = _details(self._interpreter)
            self.inputs = tuple(_spec(name, detail) for name, detail in inputs.items())
            self.outputs = tuple(_spec(name, detail) for name, detail in outputs.items())
        except _FAILURES as error:
            raise _refusal(path, error) from error
        check_types((*self.inputs, *self.outputs))
        self._indices = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = [(name, detail["index"]) for name, detail in outputs.items()]
        self._lock = threading.Lock()
        # Below the Python wrapper, which counts references on every call (0.9 of 2.3 µs). What it guards
        # against, views of the engine's memory, is never made here.
        core: Any = self._interpreter._interpreter  # noqa: SLF001 - as above; both engines have it
        self._set: Any = core.SetTensor
        self._invoke: Any = core.Invoke
        self._get: Any = core.GetTensor
        self._resize: Any = core.ResizeInputTensor
        self._allocate: Any = core.AllocateTensors
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._prepared: list[_Prepared] = []
        self._count = -1  # of inputs that are prepared; at first, after a failure and at the end none are
        self._is_plain = False  # whether outputs come as arrays of numbers, which is so almost always

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name; see ``Runtime.run``."""
        with self._lock:
            try:
                if len(inputs) != self._count:
                    self._prepare(inputs)
                else:
                    # A call that repeats shapes and types needs no closer look.
                    for name, index, shape, dtype in self._prepared:
                        array = inputs.get(name)
                        if array is None or array.dtype is not dtype or array.shape != shape:
                            self._prepare(inputs)
                            break
                        self._set(index, array)
                self._invoke()
                get = self._get
                outputs: dict[str, Array] = {}
                for name, index in self._outputs:  # a comprehension would be a call of its own in Python 3.11
                    outputs[name] = get(index, 0)
                if not self._is_plain:
                    outputs = {name: _tidied(value) for name, value in outputs.items()}
                    # Of the same shapes and types come the same again, unless there is text in them.
                    self._is_plain = all(array.ndim and array.dtype.kind != "O" for array in outputs.values())
            except _FAILURES as error:
                raise PredictionError(Reason.CRASHED, f"TFLite: {error}") from error
        return outputs

    def close(self) -> None:
        """Release the interpreter, after the call that is under way."""
        with self._lock:
            self._count = -1
            # Before the interpreter, which ends its delegates and must then be the last to hold the core.
            self._set = self._invoke = self._get = self._resize = self._allocate = None
            self._interpreter = None

    def __del__(self) -> None:
        if hasattr(self, "_count"):
            self.close()

    def _prepare(self, inputs: Mapping[str, Array]) -> None:
        """Check inputs, make room for their shapes, and set them."""
        if self._interpreter is None:
            raise PredictionError(Reason.CRASHED, "TFLite: the model was closed")
        inputs = fitted(self.inputs, inputs)
        check_inputs(self.inputs, inputs)
        self._count, self._is_plain = -1, False
        self._make_room({name: array.shape for name, array in inputs.items()})
        plain = {name: _plain(array) for name, array in inputs.items()}
        for name, array in plain.items():
            self._set(self._indices[name], array)
        self._prepared = [
            (name, self._indices[name], array.shape, array.dtype) for name, array in plain.items()
        ]
        self._count = len(self._prepared)

    def _make_room(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes != self._shapes:
            self._shapes = {}  # until it has worked, so that a failure does not pass for the shapes before it
            for name, shape in shapes.items():
                self._resize(self._indices[name], np.array(shape, dtype=np.int32), False)
            self._allocate()
            self._shapes = shapes


def missing_delegates(engine: EngineOptions) -> list[str]:
    """Return why each delegate cannot be had that is asked for."""
    return open_delegates(engine.tflite_delegates, engine.options, load_delegate)[1]


def _open(path: Path, engine: EngineOptions) -> tuple[Any, Engine]:
    """Return an interpreter with the delegates that can be had, and what they are."""
    opened, lacking = open_delegates(engine.tflite_delegates, engine.options, load_delegate)
    if opened:
        names = ", ".join(opened)
        try:
            held = _interpreter(path, engine, list(opened.values()))
        except _FAILURES as error:
            lacking.append(f"{names} does not take the model: {' '.join(str(error).split())[:300]}")
        else:
            return held, Engine(names, "; ".join(lacking))
    try:
        return _interpreter(path, engine, []), Engine(CPU, "; ".join(lacking))
    except _FAILURES as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> FitError | PredictionError:
    """Return why a file cannot be loaded, in better words where it is a type and not the file."""
    if any(words in str(error) for words in _UNKNOWN_TYPE):
        return FitError(
            Reason.WRONG_RUNTIME,
            f"{path.name}: a tensor is of a type that arrays do not hold here (such as bfloat16); "
            f"inputs and outputs may be float16 or float32: {error}",
        )
    return PredictionError(Reason.LOAD_FAILED, f"TFLite refuses {path.name}: {error}")


def _interpreter(path: Path, engine: EngineOptions, delegates: list[object]) -> Any:
    held = Interpreter(
        model_path=str(path), num_threads=engine.threads, experimental_delegates=delegates or None
    )
    held.allocate_tensors()
    return held


def _details(interpreter: Any) -> tuple[dict[str, Detail], dict[str, Detail]]:
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
    kind = "str" if dtype.kind in "OUS" else str(dtype.name)
    return TensorSpec(name, kind, shape, _quantisation(detail) if dtype.kind in "iu" else None)


def _quantisation(detail: Detail) -> Quantisation | None:
    """Return what integers stand for; None where they stand for themselves, or nothing sensible is said."""
    held = detail["quantization_parameters"]
    scales = tuple(float(scale) for scale in held["scales"])
    zeros = tuple(int(point) for point in held["zero_points"])
    if not 0 < len(scales) == len(zeros) <= _MOST_SCALES:
        return None
    if not all(scale > 0 and math.isfinite(scale) for scale in scales):
        return None
    axis = int(held["quantized_dimension"]) if len(scales) > 1 else None
    return None if axis is not None and axis < 0 else Quantisation(scales, zeros, axis)


def _plain(array: Array) -> Array:
    """Return strings as the engine takes them; other types as they are."""
    return array.astype(object) if array.dtype.kind == "U" else array


def _tidied(value: Array | np.generic) -> Array:
    """Return an answer as an array of numbers or text; without an axis the engine gives a scalar."""
    array = np.asarray(value)
    if array.dtype.kind not in "OS":
        return array
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in array.ravel()]
    return np.array(texts, dtype=object).reshape(array.shape)
