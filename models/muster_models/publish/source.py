"""The source folder of a version: what its maker declares, the model file, and the rows it is judged by.

``model.toml`` declares; the model file says itself what its inputs and outputs are; ``evaluation.npz`` holds
one array per input and either ``labels`` (class numbers) or ``targets`` (numbers).
"""

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_models import toml_file
from muster_models.errors import InvalidInputError, ManifestError, Reason, RequestError
from muster_models.golden import Tolerance
from muster_models.manifest import (
    FILE_PATTERN,
    VERSION_PATTERN,
    Budget,
    ClassOutput,
    FeatureSpec,
    ModelName,
    Name,
    RuntimeKind,
    Setting,
    Threshold,
    ValueOutput,
    VersionName,
    check_feature,
)

Array = NDArray[np.generic]
DECLARATION = "model.toml"
EVALUATION = "evaluation.npz"
CARD = "card.md"
ANSWERS = ("labels", "targets")
MAX_DECLARATION = 1024 * 1024
MAX_EVALUATION = 256 * 1024 * 1024  # bytes of all arrays, unpacked
# What zipfile, zlib and numpy raise on damaged bytes; NotImplementedError is an unknown packing method.
_DAMAGED = (
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
FileName = Annotated[str, Meta(pattern=FILE_PATTERN.removesuffix("$") + r"\Z")]


class DatasetDeclaration(Struct, frozen=True, forbid_unknown_fields=True):
    """Where data came from. Of the evaluation set, digest and rows are measured and may be left out.

    Attributes:
        digest: SHA-256 by ``digest_arrays``.
    """

    name: Name
    role: Literal["train", "evaluation"]
    source: Annotated[str, Meta(max_length=200)]
    licence: Annotated[str, Meta(max_length=64)]
    digest: str | None = None
    rows: int | None = None


class Range(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the values of a column may lie, for a provisional baseline where there are no reference rows.

    Attributes:
        feature: Name of a feature, or ``prediction:value``.
        values: Of a category, instead of a minimum and a maximum.
    """

    feature: Name
    minimum: float | None = None
    maximum: float | None = None
    values: Annotated[tuple[Name, ...], Meta(max_length=256)] = ()


class Tolerances(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a device's answers may lie from the golden vectors; None takes what suits the output's type.

    Attributes:
        absolute: For 8-bit outputs a share of their range, 0..1.
        relative: Share of the expected value, 0..1.
    """

    absolute: Tolerance | None = None
    relative: Tolerance | None = None


class Declaration(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``model.toml``.

    Attributes:
        file: Plain name of the model file in the folder.
        weights: Plain names of files with external data that the model file refers to.
        pairs: Two features each whose correlation is sketched; ``true`` for every two that are numbers.
        baseline: Plain name of a file of ``muster baseline make``; None makes it of the evaluation set.
        ranges: For ``muster publish --bootstrap``: where values may lie.
    """

    model: ModelName
    version: VersionName
    runtime: RuntimeKind
    file: FileName
    prediction: ClassOutput | ValueOutput
    features: tuple[FeatureSpec, ...] = ()
    pairs: bool | tuple[tuple[Name, Name], ...] = False
    baseline: FileName | None = None
    ranges: tuple[Range, ...] = ()
    weights: tuple[FileName, ...] = ()
    description: Annotated[str, Meta(max_length=2000)] = ""
    hardware: tuple[Name, ...] = ()
    min_agent: Annotated[str, Meta(pattern=VERSION_PATTERN)] = "0.1.0"
    budget: Budget = Budget()
    settings: tuple[Setting, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    golden: Tolerances = Tolerances()
    datasets: tuple[DatasetDeclaration, ...] = ()
    fallback: float | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A source folder that was read and fits together; nothing of it was run or inspected yet.

    Attributes:
        inputs: The evaluation rows, by input name.
        answers: The right class number (``labels``) or value (``targets``) of each row.
    """

    folder: Path
    declared: Declaration
    inputs: Mapping[str, Array]
    answers: Array

    @property
    def model_path(self) -> Path:
        """The model file."""
        return self.folder / self.declared.file

    @property
    def file_names(self) -> frozenset[str]:
        """The plain names of the model file and its weights."""
        return frozenset({self.declared.file, *self.declared.weights})


def read_source(folder: Path) -> Source:
    """Read a source folder.

    Raises:
        RequestError: A file is missing or unreadable; says which.
        ManifestError: A file does not have the expected form; names file, key, expected and got.
    """
    declared = read_declaration(folder)
    for name in (declared.file, *declared.weights):
        if not (folder / name).is_file():
            raise RequestError(
                f"{folder / DECLARATION} names {name!r}: expected that file beside it, got none"
            )
    arrays = read_arrays(folder / EVALUATION)
    answers = _pop_answers(arrays, declared)
    _check_lengths(arrays, answers)
    return Source(folder, declared, arrays, answers)


def digest_arrays(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256, in hex, over names, types, shapes and values of arrays, ordered by name."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<"))
        total.update(f"{name} {array.dtype.name} {list(arrays[name].shape)}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an .npz.

    Raises:
        RequestError: It cannot be read.
        ManifestError: It is damaged, too large, or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_EVALUATION:
            raise ManifestError(
                f"{path}: expected at most {MAX_EVALUATION} bytes of arrays, got {unpacked}", Reason.TOO_LARGE
            )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise ManifestError(f"{path}: expected arrays by name without pickle: {error}") from error


def read_declaration(folder: Path) -> Declaration:
    """Return what the ``model.toml`` of a source folder declares.

    Raises:
        RequestError: It cannot be read.
        ManifestError: It does not have the expected form; names file, key, expected and got.
    """
    path = folder / DECLARATION
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_DECLARATION:
        raise ManifestError(
            f"{path}: expected at most {MAX_DECLARATION} bytes, got {len(data)}", Reason.TOO_LARGE
        )
    try:
        declared = toml_file.parse(data, Declaration, name=str(path))
    except InvalidInputError as error:
        raise ManifestError(str(error)) from error
    _check_declaration(path, declared)
    return declared


def _check_declaration(path: Path, declared: Declaration) -> None:
    names = (declared.file, *declared.weights)
    if len(set(names)) != len(names):
        raise ManifestError(f"{path}: file and weights must differ, got {sorted(names)}")
    for feature in declared.features:
        check_feature(feature)
    for threshold in declared.thresholds:
        if threshold.minimum is None and threshold.maximum is None:
            raise ManifestError(
                f"{path}: threshold {threshold.metric!r}: expected a minimum or a maximum, got none"
            )
    for dataset in declared.datasets:
        if dataset.role == "train" and (dataset.digest is None or dataset.rows is None):
            raise ManifestError(
                f"{path}: dataset {dataset.name!r}: expected digest and rows for training data"
            )


def _pop_answers(arrays: dict[str, Array], declared: Declaration) -> Array:
    wanted = "labels" if isinstance(declared.prediction, ClassOutput) else "targets"
    held = [name for name in ANSWERS if name in arrays]
    if held != [wanted]:
        raise ManifestError(f"{EVALUATION}: expected the array {wanted!r}, got {held or sorted(arrays)}")
    answers = arrays.pop(wanted)
    kinds = "iu" if wanted == "labels" else "iuf"
    if answers.ndim != 1 or answers.dtype.kind not in kinds:
        got = f"{answers.dtype.name}{list(answers.shape)}"
        raise ManifestError(f"{EVALUATION}: {wanted!r}: expected one number per row, got {got}")
    if isinstance(declared.prediction, ClassOutput) and len(answers):
        _check_classes(answers, len(declared.prediction.labels))
    return answers


def _check_classes(answers: Array, classes: int) -> None:
    low, high = int(answers.min()), int(answers.max())
    if low < 0 or high >= classes:
        raise ManifestError(f"{EVALUATION}: 'labels': expected 0 to {classes - 1}, got {low} to {high}")


def _check_lengths(arrays: Mapping[str, Array], answers: Array) -> None:
    lengths = {name: len(array) if array.ndim else None for name, array in arrays.items()}
    if not arrays or len(answers) == 0 or set(lengths.values()) != {len(answers)}:
        raise ManifestError(f"{EVALUATION}: expected {len(answers)} rows in every input, got {lengths}")
