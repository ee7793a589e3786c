"""What the gate says about whole files: the zoo's own, foreign ones, and hostile ones."""

from pathlib import Path

import pytest

from muster_models.errors import ModelFileError, Reason
from muster_models.manifest import RuntimeKind
from muster_models.publish.gate import inspect
from support.fixtures import ROOT, fixture_zoo
from support.gate import refusal

OWN = sorted(ROOT.glob("models/zoo/*/*/model.*x")) + sorted(ROOT.glob("models/zoo/*/*/model.tflite"))
# They run, and fail or misbehave when they do: what the preflight child is for.
ONLY_WHEN_RUN = {
    "onnx": {
        "declared_output_shape_lies", "infinite_loop_growing_scan", "int_div_zero", "scatter_oob",
        "slow_load_matmul_fold",
    },
    "tflite": {"floor_mod_zero", "int_div_zero", "while_infinite", "zero_shape"},
}  # fmt: skip
# Good for some engine, and refused: custom code, a format that cannot be inspected, scales that fit no axis.
FOREIGN = {"onnx": {"customop_negpos", "ort_rs_upsample_ortformat"}, "tflite": {"tflm_person_detect_int8"}}


def kind_of(path: Path) -> RuntimeKind:
    return "tflite" if path.suffix == ".tflite" else "onnx"


def verdict(path: Path) -> str:
    names = frozenset(sibling.name for sibling in path.parent.iterdir())
    try:
        inspect(kind_of(path), path, names=names)
    except ModelFileError:
        return "refused"
    return "accepted"


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_zoo_s_own_models_pass(path: Path) -> None:
    inspect(kind_of(path), path, names=frozenset({path.name}))


def test_the_zoo_has_models_of_both_kinds() -> None:
    assert {kind_of(path) for path in OWN} == {"onnx", "tflite"}


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_hostile_files_are_refused_unless_only_running_them_shows_it(kind: str) -> None:
    found = {path.parent.name: verdict(path) for path in fixture_zoo().glob(f"bad/{kind}/*/model.*")}

    assert {name for name, said in found.items() if said == "accepted"} == ONLY_WHEN_RUN[kind]
    assert len(found) > len(ONLY_WHEN_RUN[kind])


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_real_models_of_others_pass(kind: str) -> None:
    found = {path.parent.name: verdict(path) for path in fixture_zoo().glob(f"{kind}/*/**/model.*")}

    assert {name for name, said in found.items() if said == "refused"} == FOREIGN[kind]
    assert len(found) > len(FOREIGN[kind])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.onnx: cannot be read"):
        inspect("onnx", tmp_path / "none.onnx", names=frozenset())


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_an_empty_file_and_a_page_of_a_proxy_are_refused(kind: RuntimeKind, tmp_path: Path) -> None:
    assert "the file is empty" in str(refusal(kind, b"", tmp_path))
    assert "expected the identifier" in str(refusal(kind, b"<html>404</html>", tmp_path)) or kind == "onnx"


def test_the_format_of_one_engine_is_refused_with_what_is_expected_instead(tmp_path: Path) -> None:
    assert "expected the ONNX file" in str(refusal("onnx", b"\x18\0\0\0ORTM" + bytes(64), tmp_path))


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(1024**3 + 1)

    with pytest.raises(ModelFileError, match="at most 1073741824 bytes") as caught:
        inspect("onnx", path, names=frozenset())

    assert caught.value.reason is Reason.TOO_LARGE
