import json

import msgspec
import pytest

from muster_models.errors import ManifestError, Reason
from muster_models.manifest import MAX_BYTES, Delta, FeatureSpec, Setting, ValueOutput, digest, encode, parse
from support.manifests import file_entry, make_manifest


def test_a_manifest_survives_its_own_encoding() -> None:
    manifest = make_manifest(metrics={"accuracy": 0.97})

    assert parse(encode(manifest)) == manifest


def test_equal_manifests_have_equal_names() -> None:
    assert digest(encode(make_manifest(metrics={"a": 1.0, "b": 2.0}))) == digest(
        encode(make_manifest(metrics={"b": 2.0, "a": 1.0}))
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "1.0"}, r"version"),
        ({"model": "Digits"}, r"model"),
        ({"files": ()}, "exactly one file must have the role 'model', got 0"),
        ({"files": (file_entry("a", "model"), file_entry("a", "baseline"))}, "file names must differ"),
        ({"features": (FeatureSpec("x", "image"),)}, "either a column or a summary"),
        (
            {"features": (FeatureSpec("x", "sound", column=0),)},
            r"reads input 'sound', inputs are \['image'\]",
        ),
        ({"features": (FeatureSpec("x", "image", column=0),) * 2}, "feature names must differ"),
        ({"prediction": ValueOutput("score")}, r"reads 'score', outputs are \['probabilities'\]"),
        ({"settings": (Setting("threshold", 2.0, 0.0, 1.0),)}, "default must lie in its range"),
        ({"release": 0}, "release"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_manifest_that_contradicts_itself_is_refused_with_the_reason(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        parse(encode(make_manifest(**changes)))

    assert caught.value.reason is Reason.BAD_MANIFEST


@pytest.mark.parametrize(
    "name", ["../model.onnx", "/etc/passwd", "a/b", ".hidden", "", "a\\u0000b", "x" * 65]
)
def test_a_file_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    document = encode(make_manifest()).replace(b"model.onnx", name.encode())

    with pytest.raises(ManifestError, match="files"):
        parse(document)


def test_an_unknown_field_is_refused() -> None:
    document = json.dumps(json.loads(encode(make_manifest())) | {"run": "me"}).encode()

    with pytest.raises(ManifestError, match="unknown field `run`"):
        parse(document)


def test_a_manifest_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ManifestError, match=f"at most {MAX_BYTES} bytes, got {MAX_BYTES + 1}"):
        parse(b" " * (MAX_BYTES + 1))


A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.mark.parametrize(
    ("deltas", "said"),
    [
        ([Delta(A, "zstd-patch", C, 99), Delta(B, "zstd-patch", C, 99)], None),
        ([Delta(A, "zstd-patch", C, 99), Delta(A, "a-form-of-tomorrow", C, 98)], None),
        ([Delta(A, "zstd-patch", C, 100)], "shorter than the file"),
        ([Delta("0" * 64, "zstd-patch", C, 9)], "start from another one"),
        ([Delta(A, "zstd-patch", B, 9), Delta(A, "zstd-patch", C, 9)], "must differ"),
        ([Delta(f"{number:064x}", "zstd-patch", C, 9) for number in range(1, 10)], "length <= 8"),
        ([Delta(A, "../../form", C, 9)], "regex"),
    ],
)
def test_deltas_are_few_and_shorter_ways_from_elsewhere(deltas: list[Delta], said: str | None) -> None:
    model = msgspec.structs.replace(file_entry("model.onnx", "model", length=100), deltas=tuple(deltas))
    document = encode(make_manifest(files=(model, *make_manifest().files[1:])))

    if said is None:
        assert parse(document).file("model").deltas == tuple(deltas)
    else:
        with pytest.raises(ManifestError, match=said):
            parse(document)
