"""Trying a model file that comes without a manifest: with the examples beside it, or with a made-up input.

Examples are ``*.npz`` with arrays ``in__NAME`` and ``out__NAME``, or ``in_0`` and ``out_0`` by position, and
folders ``test_data_set_*`` with ``input_0.pb`` and ``output_0.pb`` as the ONNX project lays them out. Runs in
a confined child, because examples are as foreign as the file itself.
"""

import codecs
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_agent.runner.outputs import OutputCheck
from muster_models.errors import FitError, ModelFileError, PredictionError, Reason
from muster_models.golden import compare
from muster_models.manifest import TensorSpec
from muster_models.runtime import Runtime
from muster_models.tensors import pack

Array = NDArray[np.generic]
Arrays = dict[str, Array]
Specs = Sequence[TensorSpec]
_ABSOLUTE, _RELATIVE = 1e-4, 1e-3  # between machines and engine versions
_LENGTHS = (1, 2, 8, 64, 512)  # tried one after the other for an axis that accepts any
_READER = "onnx"  # reads examples in protobuf; comes with the operator extra


@dataclass(frozen=True)
class Tried:
    """What a model was tried with.

    Attributes:
        inputs: The last ones, which were answered well.
        warnings: Which examples could not be used, and why.
        examples: How many were answered as they expect.
    """

    inputs: Arrays
    warnings: tuple[str, ...] = ()
    examples: int = 0


def warm() -> None:
    """Import what ``answer`` may need, while this process can still read everything."""
    codecs.lookup("cp437")  # what zip files name their members in
    importlib.import_module("zipfile")
    importlib.import_module("numpy.random")  # which numpy itself imports at first use
    with suppress(ImportError):
        importlib.import_module(_READER)


def answer(runtime: Runtime, folder: Path, *, most: int) -> Tried:
    """Have a model answer its examples, or a made-up input where it has none.

    Args:
        runtime: The loaded model.
        folder: Where examples lie.
        most: Bytes that the outputs of a call may have.

    Raises:
        ModelFileError: An example cannot be read.
        PredictionError: The model fails, or answers something else.
    """
    used: Arrays | None = None
    answered = 0
    warnings: list[str] = []
    names = {spec.name for spec in runtime.inputs}
    for name, inputs, expected in _examples(runtime, folder):
        if absent := names - inputs.keys():
            warnings.append(f"example {name} is not used: it gives no input {sorted(absent)}")
            continue
        if missing := expected.keys() - {spec.name for spec in runtime.outputs}:
            # Otherwise a renamed output would never be compared with anything.
            raise PredictionError(Reason.WRONG_OUTPUT, f"example {name}: the model has no {sorted(missing)}")
        outputs = runtime.run(inputs)
        OutputCheck((), most)(outputs)
        wrong = compare(pack(expected), outputs, absolute=_ABSOLUTE, relative=_RELATIVE)
        if wrong is not None:
            raise PredictionError(Reason.WRONG_OUTPUT, f"example {name}: {wrong}")
        used = inputs
        answered += bool(expected)
    return Tried(used if used is not None else _answer_made_up(runtime, most), tuple(warnings), answered)


def _answer_made_up(runtime: Runtime, most: int) -> Arrays:
    check = OutputCheck((), most)
    failure: PredictionError | None = None
    for length in _LENGTHS:
        inputs = made_up(runtime.inputs, length=length)
        try:
            check(runtime.run(inputs))
        except PredictionError as error:
            failure = failure or error
        else:
            return inputs
    assert failure is not None
    raise PredictionError(failure.reason, f"with a made-up input: {failure}") from failure


def made_up(specs: Specs, *, length: int) -> Arrays:
    """Return harmless inputs of the declared types: small numbers, zero for integers.

    Args:
        specs: What the model takes.
        length: Of every axis that accepts any.

    Raises:
        FitError: An input has a type that arrays do not have.
    """
    random = np.random.default_rng(7)
    return {spec.name: _made_up(spec, length, random) for spec in specs}


def _made_up(spec: TensorSpec, length: int, random: "np.random.Generator") -> Array:
    shape = tuple(length if axis is None else axis for axis in spec.shape)
    if spec.dtype == "str":
        return np.full(shape, "a", dtype=object)
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise FitError(Reason.WRONG_RUNTIME, f"input {spec.name!r} has type {spec.dtype}: {error}") from error
    return random.random(shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)


def _examples(runtime: Runtime, folder: Path) -> Iterator[tuple[str, Arrays, Arrays]]:
    """Yield the name, inputs and expected outputs of every example."""
    names = {spec.name for spec in runtime.inputs}
    for source in sorted((*folder.glob("*.npz"), *folder.glob("test_data_set_*"))):
        try:
            arrays = _read_folder(source) if source.is_dir() else _read_npz(source)
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise ModelFileError(f"example {source.name} cannot be read: {error}") from error
        inputs = _named(arrays, "in", runtime.inputs)
        if not inputs:
            continue  # no example, but an archive of something else
        if not inputs.keys() <= names:
            raise PredictionError(
                Reason.WRONG_SHAPE,
                f"example {source.name} gives inputs {sorted(inputs)}, the model takes {sorted(names)}",
            )
        yield source.name, inputs, _named(arrays, "out", runtime.outputs)


def _named(arrays: Mapping[str, Array], side: str, specs: Specs) -> Arrays:
    """Return the arrays of one side by name; those that no tensor of the model has keep their own."""
    by_position = {f"{side}_{number}": spec.name for number, spec in enumerate(specs)}
    mark = f"{side}_"
    return {
        by_position.get(key, key.removeprefix(f"{mark}_")): array
        for key, array in arrays.items()
        if key.startswith(mark)
    }


def _read_npz(path: Path) -> Arrays:
    # Imported here, because a worker never reads one: half a megabyte in every child.
    import zipfile  # noqa: PLC0415

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def _read_folder(folder: Path) -> Arrays:
    try:
        onnx = importlib.import_module(_READER)
    except ImportError:
        return {}
    arrays: Arrays = {}
    for path in sorted(folder.glob("*.pb")):
        side, _, number = path.stem.partition("_")
        arrays[f"{side.removesuffix('put')}_{number}"] = _read_pb(onnx, path.read_bytes())
    return arrays


def _read_pb(onnx: Any, data: bytes) -> Array:
    """Return a tensor, or a sequence of tensors of one shape stacked, as the runtime answers it."""
    for message, convert in (
        (onnx.TensorProto(), onnx.numpy_helper.to_array),
        (onnx.SequenceProto(), lambda sequence: np.stack(onnx.numpy_helper.to_list(sequence))),
    ):
        with suppress(Exception):  # protobuf's and the reader's own types: it is the other form, or neither
            message.ParseFromString(data)
            return np.asarray(convert(message))
    raise ValueError("expected a tensor or a sequence of tensors")
