"""What ONNX outputs can be beside tensors: sequences and maps, turned into arrays in one stated way.

A map has one column per key. Its columns stand in the order of the declared labels where the keys are those
labels, otherwise in the order of the sorted keys; never as some row happens to list them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import TensorSpec

Array = NDArray[np.generic]
Key = int | str
Form = Literal["tensor", "tensors", "map", "maps"]
_TYPES = {"float": "float32", "double": "float64", "string": "str"}
_FORMS: dict[str, tuple[Form, str]] = {
    "tensor": ("tensor", r"tensor\((\w+)\)"),
    "tensors": ("tensors", r"seq\(tensor\((\w+)\)\)"),
    "map": ("map", r"map\(\w+,tensor\((\w+)\)\)"),
    "maps": ("maps", r"seq\(map\(\w+,tensor\((\w+)\)\)\)"),
}


@dataclass(frozen=True)
class Value:
    """An input or output as the engine has it.

    Attributes:
        labels: The declared order of a map's keys; empty where nothing is declared.
    """

    spec: TensorSpec
    form: Form
    labels: tuple[str, ...] = ()


def describe(name: str, kind: str, shape: Sequence[object], *, labels: Sequence[str] = ()) -> Value:
    """Return what an input or an output of the engine is.

    Args:
        kind: As the engine writes types, such as ``seq(map(int64,tensor(float)))``.
        shape: Of a tensor.
        labels: The declared order of a map's keys.

    Raises:
        FitError: Nothing of this kind can be an array.
    """
    for form, pattern in _FORMS.values():
        found = re.fullmatch(pattern, kind)
        if found is not None:
            spec = TensorSpec(name, _TYPES.get(found[1], found[1]), _shape(form, shape, len(labels) or None))
            return Value(spec, form, tuple(labels) if form in ("map", "maps") else ())
    what = "may be missing" if kind.startswith("optional") else "has no form as an array"
    raise FitError(
        Reason.WRONG_RUNTIME,
        f"{name!r} is {kind}, which {what}: expected a tensor, a map, or a sequence of one of them",
    )


def _shape(form: Form, shape: Sequence[object], columns: int | None) -> tuple[int | None, ...]:
    match form:
        case "tensor":
            return tuple(axis if isinstance(axis, int) and axis >= 0 else None for axis in shape)
        case "map":
            return (columns,)
        case "maps":
            return (None, columns)
        case "tensors":
            return (None, None)  # the engine does not tell the shape of what is in a sequence


def to_array(value: Value, held: Any) -> Array:
    """Return an output as an array.

    Raises:
        PredictionError: Its parts differ in shape or in their keys, or the keys are not the declared labels.
    """
    match value.form:
        case "tensor":
            return np.asarray(held)
        case "tensors":
            return _stack(value.spec, held)
        case "map":
            row: Array = _rows(value, [held])[0]
            return row
        case "maps":
            return _rows(value, held)


def _stack(spec: TensorSpec, parts: Sequence[Array]) -> Array:
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise _wrong(
            spec, f"a sequence of tensors of different shapes {sorted(shapes)[:4]}, expected one shape"
        )
    dtype = object if spec.dtype == "str" else spec.dtype
    return np.stack(parts) if parts else np.zeros((0, 0), dtype)


def _rows(value: Value, maps: Sequence[Mapping[Key, Any]]) -> Array:
    dtype = object if value.spec.dtype == "str" else value.spec.dtype
    if not maps:
        return np.zeros((0, len(value.labels)), dtype)
    keys = maps[0].keys()
    if any(row.keys() != keys for row in maps):
        raise _wrong(value.spec, "a sequence of maps with different keys, expected the same in every row")
    order = _order(value, keys)
    return np.array([[row[key] for key in order] for row in maps], dtype).reshape(len(maps), len(order))


def _order(value: Value, keys: "Mapping[Key, Any] | Any") -> list[Key]:
    labels = value.labels
    if labels and len(keys) == len(labels) and keys == set(labels):
        return list(labels)
    # Numbers are class numbers: their order is the one that labels are given in.
    if labels and (len(keys) != len(labels) or any(isinstance(key, str) for key in keys)):
        raise _wrong(
            value.spec, f"a map with the keys {sorted(keys)[:9]}, expected the labels {list(labels)[:9]}"
        )
    return sorted(keys)


def _wrong(spec: TensorSpec, what: str) -> PredictionError:
    return PredictionError(Reason.WRONG_SHAPE, f"output {spec.name!r} is {what}")
