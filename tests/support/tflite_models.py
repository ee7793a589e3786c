"""Small TFLite files, good ones and ones with one thing wrong, written field by field."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import flatbuffers
import numpy as np
import tflite

FLOAT32 = tflite.TensorType.FLOAT32
Options = Callable[[flatbuffers.Builder], tuple[int, int]]


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...] = (1,)
    buffer: int = 0
    kind: int = FLOAT32
    scales: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    axis: int = 0


@dataclass(frozen=True)
class Operator:
    inputs: tuple[int, ...] = (0,)
    outputs: tuple[int, ...] = (1,)
    code: int = 0
    options: Options | None = None


@dataclass(frozen=True)
class Subgraph:
    tensors: tuple[Tensor, ...] = (Tensor(), Tensor())
    operators: tuple[Operator, ...] = (Operator(),)
    inputs: tuple[int, ...] = (0,)
    outputs: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class File:
    """A file; unchanged it computes ``exp(x)`` of one float.

    Attributes:
        repeat: How often each subgraph is listed, as the same bytes.
    """

    codes: tuple[int, ...] = (tflite.BuiltinOperator.EXP,)
    buffers: tuple[bytes, ...] = (b"",)
    subgraphs: tuple[Subgraph, ...] = (Subgraph(),)
    version: int = 3
    custom: str = ""
    repeat: int = 1

    def encode(self) -> bytes:
        builder = flatbuffers.Builder(0)
        subgraphs = _tables(
            builder, [_subgraph(builder, subgraph) for subgraph in self.subgraphs] * self.repeat
        )
        codes = _tables(builder, [_code(builder, code, self.custom) for code in self.codes])
        buffers = _tables(builder, [_buffer(builder, data) for data in self.buffers])
        tflite.ModelStart(builder)
        tflite.ModelAddVersion(builder, self.version)
        tflite.ModelAddOperatorCodes(builder, codes)
        tflite.ModelAddSubgraphs(builder, subgraphs)
        tflite.ModelAddBuffers(builder, buffers)
        builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def loop(condition: int, body: int) -> Options:
    """Return options of WHILE."""

    def write(builder: flatbuffers.Builder) -> tuple[int, int]:
        tflite.WhileOptionsStart(builder)
        tflite.WhileOptionsAddCondSubgraphIndex(builder, condition)
        tflite.WhileOptionsAddBodySubgraphIndex(builder, body)
        return tflite.BuiltinOptions.WhileOptions, tflite.WhileOptionsEnd(builder)

    return write


def pool(stride: int) -> Options:
    """Return options of a pooling operator."""

    def write(builder: flatbuffers.Builder) -> tuple[int, int]:
        tflite.Pool2DOptionsStart(builder)
        for add in (
            tflite.Pool2DOptionsAddStrideW,
            tflite.Pool2DOptionsAddStrideH,
            tflite.Pool2DOptionsAddFilterWidth,
            tflite.Pool2DOptionsAddFilterHeight,
        ):
            add(builder, stride)
        return tflite.BuiltinOptions.Pool2DOptions, tflite.Pool2DOptionsEnd(builder)

    return write


def with_tensor(index: int, **changes: object) -> File:
    """Return the simple file with one tensor changed."""
    subgraph = Subgraph()
    tensors = list(subgraph.tensors)
    tensors[index] = replace(tensors[index], **changes)  # type: ignore[arg-type]  # the test names real fields
    return File(subgraphs=(replace(subgraph, tensors=tuple(tensors)),))


def with_operators(*operators: Operator) -> File:
    """Return the simple file with other operators."""
    return File(subgraphs=(replace(Subgraph(), operators=operators),))


def _tables(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _ints(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, dtype=np.int32)))


def _code(builder: flatbuffers.Builder, code: int, custom: str) -> int:
    name = builder.CreateString(custom)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(code, 127))
    tflite.OperatorCodeAddBuiltinCode(builder, code)
    tflite.OperatorCodeAddCustomCode(builder, name)
    return int(tflite.OperatorCodeEnd(builder))


def _buffer(builder: flatbuffers.Builder, data: bytes) -> int:
    held = builder.CreateByteVector(data) if data else None
    tflite.BufferStart(builder)
    if held is not None:
        tflite.BufferAddData(builder, held)
    return int(tflite.BufferEnd(builder))


def _tensor(builder: flatbuffers.Builder, tensor: Tensor, name: str) -> int:
    text = builder.CreateString(name)
    shape = _ints(builder, tensor.shape)
    scales = builder.CreateNumpyVector(np.asarray(tensor.scales, dtype=np.float32))
    zeros = builder.CreateNumpyVector(np.asarray(tensor.zeros, dtype=np.int64)) if tensor.zeros else None
    tflite.QuantizationParametersStart(builder)
    tflite.QuantizationParametersAddScale(builder, scales)
    if zeros is not None:
        tflite.QuantizationParametersAddZeroPoint(builder, zeros)
    tflite.QuantizationParametersAddQuantizedDimension(builder, tensor.axis)
    quantization = tflite.QuantizationParametersEnd(builder)
    tflite.TensorStart(builder)
    tflite.TensorAddName(builder, text)
    tflite.TensorAddShape(builder, shape)
    tflite.TensorAddType(builder, tensor.kind)
    tflite.TensorAddBuffer(builder, tensor.buffer)
    if tensor.scales:
        tflite.TensorAddQuantization(builder, quantization)
    return int(tflite.TensorEnd(builder))


def _operator(builder: flatbuffers.Builder, operator: Operator) -> int:
    inputs, outputs = _ints(builder, operator.inputs), _ints(builder, operator.outputs)
    options = operator.options(builder) if operator.options else None
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, operator.code)
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    if options is not None:
        tflite.OperatorAddBuiltinOptionsType(builder, options[0])
        tflite.OperatorAddBuiltinOptions(builder, options[1])
    return int(tflite.OperatorEnd(builder))


def _subgraph(builder: flatbuffers.Builder, subgraph: Subgraph) -> int:
    tensors = _tables(
        builder,
        [_tensor(builder, tensor, f"tensor {index}") for index, tensor in enumerate(subgraph.tensors)],
    )
    operators = _tables(builder, [_operator(builder, operator) for operator in subgraph.operators])
    inputs, outputs = _ints(builder, subgraph.inputs), _ints(builder, subgraph.outputs)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensors)
    tflite.SubGraphAddOperators(builder, operators)
    tflite.SubGraphAddInputs(builder, inputs)
    tflite.SubGraphAddOutputs(builder, outputs)
    return int(tflite.SubGraphEnd(builder))
