"""The manifest: the small signed document that describes one version of a model.

Pure: no files, no network, no clock. Whether a manifest was *signed* is the business of ``trust``,
which alone makes a ``VerifiedManifest``; parsing here says only that it is well formed.
"""

import hashlib
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_models.errors import ManifestError

MAX_BYTES = 256 * 1024  # a manifest with 2,000 features stays below this
MODEL_PATTERN = r"^[a-z0-9][a-z0-9-]{1,62}$"
VERSION_PATTERN = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9a-z.-]{1,32})?$"
FILE_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$"
MAX_DELTAS = 8  # of one file; each takes about 190 bytes here


def _whole(pattern: str) -> str:
    return pattern.removesuffix("$") + r"\Z"  # "$" would also accept a line break behind the end


ModelName = Annotated[str, Meta(pattern=_whole(MODEL_PATTERN))]
VersionName = Annotated[str, Meta(pattern=_whole(VERSION_PATTERN))]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=1)]
Rows = Annotated[int, Meta(ge=0, lt=2**48)]
RuntimeKind = Literal["onnx", "tflite"]
FileRole = Literal["model", "weights", "baseline", "golden", "card"]
Summary = Literal[
    "brightness", "contrast", "sharpness", "ink",  # of an image
    "level", "crossings", "centroid",  # of a stretch of sound
    "norm", "projection", "residual",  # of an embedding, or of any row of numbers
]  # fmt: skip
MAX_COMPONENTS = 16  # principal axes of one input


class Delta(Struct, frozen=True, forbid_unknown_fields=True):
    """A patch that makes a file of one that a device may hold; fetched by its content, like a file.

    Attributes:
        base: SHA-256 of the whole file that it applies to.
        form: How it is decoded; a device that does not know it fetches the whole file.
        sha256, length: Of the patch.
    """

    base: Sha256
    form: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
    sha256: Sha256
    length: Count


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One file of a version, named by its content.

    Attributes:
        name: A plain file name; the same name that the model refers to (external data).
        length: Bytes.
        deltas: Shorter ways to the same bytes.
    """

    name: Annotated[str, Meta(pattern=_whole(FILE_PATTERN))]
    role: FileRole
    sha256: Sha256
    length: Annotated[int, Meta(ge=0)]
    deltas: Annotated[tuple[Delta, ...], Meta(max_length=MAX_DELTAS)] = ()


class Quantisation(Struct, frozen=True, forbid_unknown_fields=True):
    """How the integers of a tensor stand for real numbers: ``(value - zero_point) * scale``.

    Attributes:
        scale, zero_point: One for the whole tensor, or one for each index of ``axis``.
        axis: None where one is for the whole tensor.
    """

    scale: Annotated[tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1, max_length=4096)]
    zero_point: Annotated[tuple[int, ...], Meta(min_length=1, max_length=4096)]
    axis: Annotated[int, Meta(ge=0)] | None = None


class TensorSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An input or an output of the model.

    Attributes:
        dtype: A numpy name such as ``float32`` or ``uint8``; ``str`` for strings.
        shape: One entry per axis; None where any length is accepted. The first axis is the batch
            where it is None.
        quantisation: What its integers stand for; None where they stand for themselves.
    """

    name: Name
    dtype: Annotated[str, Meta(pattern=r"^[a-z0-9]{2,12}\Z")]
    shape: tuple[Annotated[int, Meta(ge=0)] | None, ...]
    quantisation: Quantisation | None = None


class FeatureSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that is sketched: a column of an input, or a declared summary of it.

    Attributes:
        input: Name of the input tensor that it is read from.
        column: Index into the flattened row, for ``summary=None``.
        summary: What is computed from the whole row instead of a column.
        unit: Shown to people; may be empty.
        kind: ``category`` for text, and for whole numbers that are names and not amounts.
        values: Of a category: how many of the baseline's most frequent values are counted apart.
        reveal: Of a category: names of values that the baseline does not hold may leave the device. Without
            it they never do, since a rare value may identify a person.
        component: Of a ``projection``: which principal axis, 0 for the one with most variance.
    """

    name: Name
    input: Name
    column: Annotated[int, Meta(ge=0)] | None = None
    summary: Summary | None = None
    unit: Annotated[str, Meta(max_length=16)] = ""
    kind: Literal["numeric", "category"] = "numeric"
    values: Annotated[int, Meta(ge=1, le=256)] = 32
    reveal: bool = False
    component: Annotated[int, Meta(ge=0, lt=MAX_COMPONENTS)] | None = None


class ClassOutput(Struct, frozen=True, forbid_unknown_fields=True, tag="classes"):
    """The prediction is a class: ``output`` holds one probability (or score) per label and row."""

    output: Name
    labels: tuple[Name, ...]


class ValueOutput(Struct, frozen=True, forbid_unknown_fields=True, tag="value"):
    """The prediction is one number per row, sketched like a feature."""

    output: Name
    unit: Annotated[str, Meta(max_length=16)] = ""


def labels_of(prediction: ClassOutput | ValueOutput) -> dict[str, tuple[str, ...]]:
    """Return the declared labels by the output that they are for: columns of a map stand in their order."""
    return {prediction.output: prediction.labels} if isinstance(prediction, ClassOutput) else {}


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """What one version may use on a device; the preflight child enforces it.

    Attributes:
        memory_bytes: Peak memory above that of the bare child.
        load_seconds: Wall time to load and answer all golden vectors.
        latency_ms: Median time of one call.
        output_bytes: All outputs of one call.
        swap: ``beside``: the version before answers until this one is warm, and both are in memory for a
            moment. ``stop-then-load``: it is stopped first, for devices where two do not fit; calls wait
            for up to ``load_seconds`` meanwhile, at the trial run and at the swap.
    """

    memory_bytes: Count = 256 * 1024 * 1024
    load_seconds: Annotated[float, Meta(gt=0)] = 20.0
    latency_ms: Annotated[float, Meta(gt=0)] = 250.0
    output_bytes: Count = 16 * 1024 * 1024
    swap: Literal["beside", "stop-then-load"] = "beside"


class Setting(Struct, frozen=True, forbid_unknown_fields=True):
    """A typed value that operators may change without a new version, within a declared range."""

    name: Name
    default: float
    minimum: float
    maximum: float


class Threshold(Struct, frozen=True, forbid_unknown_fields=True):
    """An acceptance threshold on the evaluation set; ``metric`` names an entry of ``metrics``."""

    metric: Name
    minimum: float | None = None
    maximum: float | None = None


class Dataset(Struct, frozen=True, forbid_unknown_fields=True):
    """Where data of the version's lineage came from.

    Attributes:
        digest: SHA-256 over the canonical bytes of the arrays used.
    """

    name: Name
    role: Literal["train", "evaluation"]
    source: Annotated[str, Meta(max_length=200)]
    licence: Annotated[str, Meta(max_length=64)]
    digest: Sha256
    rows: Count


class Waiver(Struct, frozen=True, forbid_unknown_fields=True):
    """A signed admission that the version misses a threshold, and why it was released all the same."""

    metric: Name
    reason: Annotated[str, Meta(min_length=8, max_length=400)]


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """One immutable version of a model.

    Attributes:
        release: Grows with every release of the model; the signed floor is compared with it.
        created: RFC 3339, UTC.
        runtime: The engine the model file is for.
        hardware: Hardware kinds (``platform.machine()`` names) that may run it; empty means any.
        min_agent: The oldest agent version that may run it.
        fallback: What a stopped model answers: one value per output element, in the real numbers that a
            quantised output stands for; None for an error.
        metrics: Measured on the evaluation set at publishing.
        reliability: Of classes: evaluation rows in each bin of the baseline's confidence, and how many of
            them were answered right. Here and not in the baseline, because versions may share that.
    """

    format: Literal[1]
    model: ModelName
    version: VersionName
    release: Count
    created: str
    runtime: RuntimeKind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    features: tuple[FeatureSpec, ...]
    prediction: ClassOutput | ValueOutput
    files: tuple[FileEntry, ...]
    hardware: tuple[Name, ...] = ()
    min_agent: Annotated[str, Meta(pattern=_whole(VERSION_PATTERN))] = "0.1.0"
    budget: Budget = Budget()
    settings: tuple[Setting, ...] = ()
    metrics: dict[Name, float] = {}
    reliability: Annotated[tuple[tuple[Rows, Rows], ...], Meta(max_length=64)] = ()
    thresholds: tuple[Threshold, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    parent: Sha256 | None = None
    fallback: float | None = None
    description: Annotated[str, Meta(max_length=2000)] = ""

    @property
    def name(self) -> str:
        """``model@version``, for people."""
        return f"{self.model}@{self.version}"

    @property
    def total_length(self) -> int:
        """Bytes of all files together, as a device holds them."""
        return sum(entry.length for entry in self.files)

    def file(self, role: FileRole) -> FileEntry:
        """Return the only file with ``role`` (``model``, ``baseline`` and ``golden`` exist exactly once)."""
        return next(entry for entry in self.files if entry.role == role)


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest: JSON, sorted keys, no spaces."""
    return msgspec.json.encode(manifest, order="sorted")


def digest(document: bytes) -> str:
    """Return the SHA-256, in hex, that names a version everywhere."""
    return hashlib.sha256(document).hexdigest()


def parse(document: bytes) -> Manifest:
    """Parse and check a manifest.

    Raises:
        ManifestError: Too large, not the expected form (unknown fields included), or it contradicts itself.
    """
    if len(document) > MAX_BYTES:
        raise ManifestError(f"a manifest has at most {MAX_BYTES} bytes, got {len(document)}")
    try:
        manifest = msgspec.json.decode(document, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"manifest: {error}") from error
    _check_consistent(manifest)
    return manifest


def _check_consistent(manifest: Manifest) -> None:
    names = [entry.name for entry in manifest.files]
    if len(set(names)) != len(names):
        raise ManifestError(f"file names must differ, got {sorted(names)}")
    for role in ("model", "baseline", "golden"):
        held = sum(entry.role == role for entry in manifest.files)
        if held != 1:
            raise ManifestError(f"exactly one file must have the role {role!r}, got {held}")
    for entry in manifest.files:
        _check_deltas(entry)
    _check_features(manifest)
    outputs = {tensor.name for tensor in manifest.outputs}
    if manifest.prediction.output not in outputs:
        raise ManifestError(f"prediction reads {manifest.prediction.output!r}, outputs are {sorted(outputs)}")
    for setting in manifest.settings:
        if not setting.minimum <= setting.default <= setting.maximum:
            raise ManifestError(f"setting {setting.name!r}: default must lie in its range")


def _check_deltas(entry: FileEntry) -> None:
    for delta in entry.deltas:
        if delta.base == entry.sha256 or delta.length >= entry.length:
            raise ManifestError(
                f"file {entry.name!r}: a delta must be shorter than the file and start from another one"
            )
    if len({(delta.base, delta.form) for delta in entry.deltas}) != len(entry.deltas):
        raise ManifestError(f"file {entry.name!r}: deltas must differ in base or form")


def _check_features(manifest: Manifest) -> None:
    inputs = {tensor.name for tensor in manifest.inputs}
    for feature in manifest.features:
        if feature.input not in inputs:
            raise ManifestError(
                f"feature {feature.name!r} reads input {feature.input!r}, inputs are {sorted(inputs)}"
            )
        check_feature(feature)
    features = [feature.name for feature in manifest.features]
    if len(set(features)) != len(features):
        raise ManifestError("feature names must differ")


def check_feature(feature: FeatureSpec) -> None:
    """Hold a feature against itself.

    Raises:
        ManifestError: It contradicts itself.
    """
    if (feature.column is None) == (feature.summary is None):
        raise ManifestError(f"feature {feature.name!r} must have either a column or a summary")
    if feature.kind == "category" and feature.summary is not None:
        raise ManifestError(f"feature {feature.name!r}: a summary is a number, not a category")
    if feature.reveal and feature.kind != "category":
        raise ManifestError(f"feature {feature.name!r}: only a category has names to reveal")
    if (feature.component is None) == (feature.summary == "projection"):
        raise ManifestError(f"feature {feature.name!r}: a projection, and nothing else, has a component")


def is_valid_model_name(name: str) -> bool:
    """Tell whether ``name`` may name a model."""
    return re.fullmatch(MODEL_PATTERN, name) is not None
