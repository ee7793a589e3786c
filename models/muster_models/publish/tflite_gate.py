"""What a TFLite file may hold: indices in range, tensors written before they are read, no custom operators.

FlatBuffers have no checks of their own: a reader follows offsets wherever they point. So every step is
counted, and a file whose parts add up to more than its bytes (shared parts, lengths that lie) is refused.
"""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tflite

from muster_models.errors import ModelFileError, Reason

IDENTIFIER = b"TFL3"
SCHEMA = 3
MAX_TENSOR_BYTES = 1024 * 1024 * 1024
MAX_AXES = 8
MAX_NESTING = 8  # of subgraphs that call subgraphs
_HEAD = 8  # root offset and identifier
# Places in their tables of what the package reads without looking at lengths.
_BUFFER_DATA = 4
_TENSOR_NAME = 10
_SIZES = {
    "FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "UINT8": 1, "INT64": 8, "BOOL": 1, "INT16": 2, "COMPLEX64": 8,
    "INT8": 1, "FLOAT64": 8, "COMPLEX128": 16, "UINT64": 8, "UINT32": 4, "UINT16": 2, "BFLOAT16": 2,
}  # fmt: skip
_UNSIZED = frozenset({"STRING", "RESOURCE", "VARIANT", "INT4"})  # no fixed bytes per element, or two in one
_FOREIGN = frozenset({"CUSTOM", "DELEGATE", "STABLEHLO_CUSTOM_CALL", "PLACEHOLDER_FOR_GREATER_OP_CODES"})
_CALLS = {
    "IF": ("IfOptions", ("ThenSubgraphIndex", "ElseSubgraphIndex")),
    "WHILE": ("WhileOptions", ("CondSubgraphIndex", "BodySubgraphIndex")),
    "CALL": ("CallOptions", ("Subgraph",)),
    "CALL_ONCE": ("CallOnceOptions", ("InitSubgraphIndex",)),
    "STABLEHLO_COMPOSITE": ("StableHLOCompositeOptions", ("DecompositionSubgraphIndex",)),
    "STABLEHLO_REDUCE": ("StablehloReduceOptions", ("BodySubgraphIndex",)),
    "STABLEHLO_REDUCE_WINDOW": ("StablehloReduceWindowOptions", ("BodySubgraphIndex",)),
    "STABLEHLO_SCATTER": ("StablehloScatterOptions", ("UpdateComputationSubgraphIndex",)),
    "STABLEHLO_SORT": ("StablehloSortOptions", ("ComparatorSubgraphIndex",)),
    "STABLEHLO_WHILE": ("StablehloWhileOptions", ("CondSubgraphIndex", "BodySubgraphIndex")),
}
_STRIDED = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
}
_STEPS = ("StrideW", "StrideH", "DilationWFactor", "DilationHFactor", "FilterWidth", "FilterHeight")
_DAMAGED = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, AssertionError)


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_OPERATORS = _names(tflite.BuiltinOperator)
_TYPES = _names(tflite.TensorType)


@dataclass
class _File:
    """What is known of the file while it is read.

    Attributes:
        left: Steps that may still be taken.
        operators: Name of each operator code.
        buffers: Bytes that each buffer holds.
        subgraphs: How many there are.
        calls: Which subgraphs each subgraph calls.
    """

    data: bytes
    left: int
    operators: list[str] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)
    subgraphs: int = 0
    calls: dict[int, set[int]] = field(default_factory=dict)

    def step(self, count: int, where: str) -> None:
        self.left -= count
        if self.left < 0:
            raise ModelFileError(
                f"{where}: the parts of the file add up to more than the file", Reason.TOO_LARGE
            )

    def items(self, owner: Any, name: str, where: str) -> Iterator[tuple[Any, str]]:
        """Yield the tables of a vector with where each stands."""
        count = getattr(owner, f"{name}Length")()
        self.step(count, f"{where} {name}")
        for index in range(count):
            yield getattr(owner, name)(index), f"{where} {name.lower().removesuffix('s')} {index}".strip()

    def numbers(self, owner: Any, name: str, where: str) -> list[int]:
        """Return the numbers of a vector."""
        self.step(getattr(owner, f"{name}Length")(), f"{where} {name}")
        values = getattr(owner, f"{name}AsNumpy")()
        return [] if isinstance(values, int) else values.tolist()


@dataclass(frozen=True)
class _Tensor:
    """One tensor of a subgraph.

    Attributes:
        ready: It has a value before any operator ran.
        constant: No operator may write it.
    """

    ready: bool
    constant: bool


def inspect_tflite(data: bytes) -> None:
    """Refuse a TFLite file that no device should load.

    1. The head: identifier and schema version.
    2. Operator codes and buffers, which everything else refers to by number.
    3. Every subgraph: tensors, then operators in order.
    4. The calls between subgraphs, which must not form a circle.
    5. Signatures.

    Raises:
        ModelFileError: Says what was found and where.
    """
    if len(data) < _HEAD or data[4:8] != IDENTIFIER:
        raise ModelFileError(f"expected the identifier TFL3 at byte 4, got {data[4:8]!r}")
    try:
        _inspect(_File(data, left=len(data)), tflite.Model.GetRootAs(data, 0))
    except _DAMAGED as error:
        raise ModelFileError(f"an offset or a length points out of the file: {error}") from error


def _inspect(file: _File, model: Any) -> None:
    if model.Version() != SCHEMA:
        raise ModelFileError(f"expected schema version {SCHEMA}, got {model.Version()}")
    file.operators = [_operator_name(code, where) for code, where in file.items(model, "OperatorCodes", "")]
    file.buffers = [_buffer_length(file, buffer, where) for buffer, where in file.items(model, "Buffers", "")]
    file.subgraphs = model.SubgraphsLength()
    if file.subgraphs == 0:
        raise ModelFileError("expected at least one subgraph, got none")
    tensors = []
    for index, (subgraph, where) in enumerate(file.items(model, "Subgraphs", "")):
        file.calls[index] = set()
        tensors.append(_inspect_subgraph(file, subgraph, index=index, where=where))
    heights: dict[int, int] = {}
    for index in range(file.subgraphs):
        _height(file.calls, index, heights=heights, trail=())
    for signature, where in file.items(model, "SignatureDefs", ""):
        _inspect_signature(file, signature, tensors=tensors, where=where)


def _operator_name(code: Any, where: str) -> str:
    # The older field holds codes up to 127, the newer one all; a reader takes the larger.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = _OPERATORS.get(number)
    if name is None:
        raise ModelFileError(f"{where}: unknown operator {number}")
    if name in _FOREIGN:
        custom = (code.CustomCode() or b"").decode(errors="replace")
        raise ModelFileError(f"{where}: {name} runs code that no device has, got {custom[:64]!r}")
    return name


def _buffer_length(file: _File, buffer: Any, where: str) -> int:
    inside = _length(file, buffer, _BUFFER_DATA, where)
    outside, offset = buffer.Size(), buffer.Offset()
    if offset > 1:  # 0 and 1 mean that the buffer does not lie behind the tables
        if inside or offset + outside > len(file.data):
            raise ModelFileError(
                f"{where}: {outside} bytes from {offset} do not fit into {len(file.data)} bytes"
            )
        inside = outside
    return int(inside)


def _length(file: _File, table: Any, place: int, where: str) -> int:
    """Return the bytes of a vector or a text of a table, which must lie in the file."""
    reader = table._tab  # noqa: SLF001 - the package has no way to ask where something lies
    offset = reader.Offset(place)
    if not offset:
        return 0
    start, length = reader.Vector(offset), reader.VectorLen(offset)
    if start + length > len(file.data):
        raise ModelFileError(f"{where}: {length} bytes from {start} do not fit into {len(file.data)} bytes")
    return int(length)


def _inspect_subgraph(file: _File, subgraph: Any, *, index: int, where: str) -> int:
    """Inspect one subgraph and return how many tensors it has."""
    tensors = [_inspect_tensor(file, tensor, at) for tensor, at in file.items(subgraph, "Tensors", where)]
    inputs, outputs = (file.numbers(subgraph, name, where) for name in ("Inputs", "Outputs"))
    _check_indices([*inputs, *outputs], len(tensors), f"{where}: inputs and outputs")
    if not outputs and index == 0:
        raise ModelFileError(f"{where}: expected an output, got none")
    ready = {number for number, tensor in enumerate(tensors) if tensor.ready} | set(inputs)
    fixed = {number for number, tensor in enumerate(tensors) if tensor.constant} | set(inputs)
    for operator, at in file.items(subgraph, "Operators", where):
        read, written = _inspect_operator(file, operator, caller=index, where=at)
        _check_indices([number for number in (*read, *written) if number != -1], len(tensors), at)
        if missing := [number for number in read if number != -1 and number not in ready]:
            raise ModelFileError(f"{at}: reads tensor {missing[0]} before any operator writes it")
        if twice := [number for number in written if number in fixed]:
            raise ModelFileError(f"{at}: writes tensor {twice[0]}, which already has a value")
        ready |= set(written)
        fixed |= set(written) - {-1}
    if missing := [number for number in outputs if number not in ready]:
        raise ModelFileError(f"{where}: output tensor {missing[0]} is never written")
    return len(tensors)


def _inspect_tensor(file: _File, tensor: Any, where: str) -> _Tensor:
    _length(file, tensor, _TENSOR_NAME, where)
    kind = _TYPES.get(tensor.Type())
    shape = file.numbers(tensor, "Shape", where)
    signature = file.numbers(tensor, "ShapeSignature", where)
    if kind is None:
        raise ModelFileError(f"{where}: unknown type {tensor.Type()}")
    if len(shape) > MAX_AXES or any(axis < 0 for axis in shape) or any(axis < -1 for axis in signature):
        raise ModelFileError(
            f"{where}: expected at most {MAX_AXES} axes of length 0 or more, got {shape[:9]}"
        )
    if signature and len(signature) != len(shape):
        raise ModelFileError(f"{where}: shape {shape} and signature {signature} differ in length")
    needed = math.prod(shape) * _SIZES.get(kind, 1)
    if needed > MAX_TENSOR_BYTES:
        raise ModelFileError(
            f"{where}: expected at most {MAX_TENSOR_BYTES} bytes, {kind}{shape} has {needed}",
            Reason.TOO_LARGE,
        )
    _inspect_quantization(file, tensor, shape=shape, where=where)
    _check_indices([tensor.Buffer()], max(1, len(file.buffers)), f"{where}: buffer")
    held = file.buffers[tensor.Buffer()] if file.buffers else 0
    if held and kind not in _UNSIZED and held != needed:
        raise ModelFileError(f"{where}: {kind}{shape} has {needed} bytes, its buffer holds {held}")
    return _Tensor(ready=bool(held) or tensor.IsVariable() or needed == 0, constant=bool(held))


def _inspect_quantization(file: _File, tensor: Any, *, shape: Sequence[int], where: str) -> None:
    parameters = tensor.Quantization()
    if parameters is None:
        return
    scales, zeros = parameters.ScaleLength(), parameters.ZeroPointLength()
    file.step(scales + zeros, f"{where} quantization")
    axis = parameters.QuantizedDimension()
    if scales > 1 and not (0 <= axis < len(shape) and shape[axis] == scales):
        raise ModelFileError(f"{where}: {scales} scales do not fit axis {axis} of {list(shape)}")
    if zeros not in (0, 1, scales):
        raise ModelFileError(f"{where}: expected 1 or {scales} zero points, got {zeros}")
    if scales and not all(
        math.isfinite(value) and value >= 0 for value in parameters.ScaleAsNumpy().tolist()
    ):
        raise ModelFileError(f"{where}: scales must be finite and not negative")


def _inspect_operator(file: _File, operator: Any, *, caller: int, where: str) -> tuple[list[int], list[int]]:
    """Inspect one operator and return the tensors that it reads and writes."""
    _check_indices([operator.OpcodeIndex()], len(file.operators), f"{where}: operator code")
    name = file.operators[operator.OpcodeIndex()]
    if name in _CALLS:
        kind, fields = _CALLS[name]
        called = [getattr(_options(operator, kind, where), field)() for field in fields]
        _check_indices(called, file.subgraphs, f"{where} ({name}): subgraph")
        file.calls[caller] |= set(called)
    if name in _STRIDED:
        _check_steps(_options(operator, _STRIDED[name], where), f"{where} ({name})")
    return file.numbers(operator, "Inputs", where), file.numbers(operator, "Outputs", where)


def _options(operator: Any, kind: str, where: str) -> Any:
    """Return the options of an operator as ``kind``."""
    for suffix, union in (("", tflite.BuiltinOptions), ("2", tflite.BuiltinOptions2)):
        table = getattr(operator, f"BuiltinOptions{suffix}")()
        if table is not None and getattr(operator, f"BuiltinOptions{suffix}Type")() == getattr(
            union, kind, 0
        ):
            options = getattr(tflite, kind)()
            options.Init(table.Bytes, table.Pos)
            return options
    raise ModelFileError(f"{where}: expected options of the kind {kind}, got another kind or none")


def _check_steps(options: Any, where: str) -> None:
    readers: list[tuple[str, Callable[[], int]]] = [
        (step, getattr(options, step)) for step in _STEPS if hasattr(options, step)
    ]
    for step, read in readers:
        if read() < 1:
            raise ModelFileError(f"{where}: {step} must be 1 or more, got {read()}")


def _check_indices(indices: Sequence[int], count: int, where: str) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise ModelFileError(f"{where}: expected a number below {count}, got {index}")


def _height(
    calls: dict[int, set[int]], index: int, *, heights: dict[int, int], trail: tuple[int, ...]
) -> int:
    """Return how many subgraphs lie below each other from this one on, each of them looked at once."""
    if index in trail:
        raise ModelFileError(f"subgraph {index} calls itself by way of {[*trail, index]}")
    if len(trail) + heights.get(index, 1) > MAX_NESTING:
        raise ModelFileError(f"subgraphs call each other at most {MAX_NESTING} deep, got {[*trail, index]}")
    if index not in heights:
        below = [_height(calls, called, heights=heights, trail=(*trail, index)) for called in calls[index]]
        heights[index] = 1 + max(below, default=0)
    return heights[index]


def _inspect_signature(file: _File, signature: Any, *, tensors: Sequence[int], where: str) -> None:
    _check_indices([signature.SubgraphIndex()], len(tensors), f"{where}: subgraph")
    for name in ("Inputs", "Outputs"):
        for entry, at in file.items(signature, name, where):
            _check_indices([entry.TensorIndex()], tensors[signature.SubgraphIndex()], at)
