"""Checking model files that nobody vouches for: real ones are accepted, bad ones refused or survived."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tflite
from onnx import TensorProto, helper

from muster_agent.check import BUDGET, check, main, render
from muster_agent.runner import Verdict, Zygote
from muster_models.errors import Reason
from support import onnx_models, small_models
from support.real_models import EXAMPLES, MODELS, real_model
from support.tflite_models import File, Subgraph, Tensor

ZOO = Path(__file__).parents[3] / "shared/fixtures/zoo"
# What the engines themselves refuse; NOTICE.md of the zoo says why.
UNRUNNABLE = {"customop_negpos", "go_float16", "tflm_person_detect_int8"}
QUICK = msgspec.structs.replace(BUDGET, load_seconds=8.0)


def cases(*kinds: str) -> list[Path]:
    return [folder for kind in kinds for folder in sorted((ZOO / kind).glob("*")) if folder.is_dir()]


GOOD = [folder for folder in cases("onnx", "tflite") if folder.name not in UNRUNNABLE]
REFUSED = [folder for folder in cases("onnx", "tflite") if folder.name in UNRUNNABLE]
BAD = cases("bad/onnx", "bad/tflite")
needs_zoo = pytest.mark.skipif(not ZOO.is_dir(), reason=f"the model zoo is not at {ZOO}")


def name_of(folder: object) -> str:
    return folder.name if isinstance(folder, Path) else "none"


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


@needs_zoo
@pytest.mark.parametrize("folder", GOOD, ids=name_of)
def test_a_real_model_is_accepted_with_its_examples(zygote: Zygote, folder: Path) -> None:
    verdict = check(folder, zygote)

    assert (verdict.accepted, verdict.detail) == (True, "")
    assert verdict.latency_ms is not None


@needs_zoo
@pytest.mark.parametrize("folder", GOOD, ids=name_of)
def test_a_real_model_file_is_accepted_alone(zygote: Zygote, folder: Path) -> None:
    verdict = check(next(folder.glob("model.*")), zygote)

    assert (verdict.accepted, verdict.detail) == (True, "")


@needs_zoo
@pytest.mark.parametrize("folder", REFUSED, ids=name_of)
def test_what_no_engine_here_can_run_is_refused_with_a_reason(zygote: Zygote, folder: Path) -> None:
    verdict = check(folder, zygote)

    assert verdict.accepted is False
    assert verdict.detail != ""


@needs_zoo
@pytest.mark.parametrize("folder", BAD, ids=name_of)
def test_a_bad_file_is_refused_or_survived(zygote: Zygote, folder: Path) -> None:
    verdict = check(folder, zygote, budget=QUICK)

    assert verdict.accepted is False or verdict.latency_ms is not None
    assert verdict.accepted == (verdict.reason is None)


@needs_zoo
@pytest.mark.parametrize("folder", BAD, ids=name_of)
def test_a_bad_file_harms_nothing_where_no_reader_inspects_it(
    zygote: Zygote, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_agent.check.find_spec", lambda _: None)

    verdict = check(folder, zygote, budget=msgspec.structs.replace(QUICK, load_seconds=2.0))

    assert verdict.accepted == (verdict.reason is None)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_was_learnt_here_is_accepted_with_answers_of_others(
    zygote: Zygote, tmp_path: Path, name: str
) -> None:
    verdict = check(real_model(name).lay_out(tmp_path / "v", Path(name).suffix), zygote)

    assert (verdict.accepted, verdict.detail, verdict.warnings) == (True, "", ())
    assert verdict.examples == EXAMPLES


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_was_learnt_here_is_refused_when_it_answers_a_little_otherwise(
    zygote: Zygote, tmp_path: Path, name: str
) -> None:
    model = real_model(name)
    wrong = replace(model, answers=[answer + np.float32(0.01) for answer in model.answers])
    verdict = check(wrong.lay_out(tmp_path / "v", Path(name).suffix), zygote)

    assert (verdict.accepted, verdict.reason) == (False, Reason.WRONG_OUTPUT)


def example(folder: Path, answer: float) -> Path:
    folder.mkdir()
    (folder / "small.onnx").write_bytes(small_models.scaling(2))
    x = np.full((1, 4), 3, np.float32)
    np.savez(folder / "case.npz", in__x=x, out__y=np.full((1, 4), answer, np.float32))
    return folder


def test_an_example_decides(zygote: Zygote, tmp_path: Path) -> None:
    right = check(example(tmp_path / "right", 6.0), zygote)
    wrong = check(example(tmp_path / "wrong", 7.0), zygote)

    assert right.accepted
    assert right.examples == 1
    assert "answers of 1 example are as expected" in render(tmp_path, right, "table")
    assert (wrong.accepted, wrong.reason) == (False, Reason.WRONG_OUTPUT)
    assert "case.npz" in wrong.detail


def test_an_acceptance_without_any_example_says_so(zygote: Zygote, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(small_models.scaling(2))
    verdict = check(path, zygote)

    assert (verdict.accepted, verdict.examples) == (True, 0)
    assert "no example was there" in render(path, verdict, "table")


def test_a_damaged_example_is_no_example(zygote: Zygote, tmp_path: Path) -> None:
    folder = example(tmp_path / "v", 6.0)
    (folder / "case.npz").write_bytes(b"PK\3\4 and no more")

    assert check(folder, zygote).reason is Reason.BAD_MODEL


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"notes.txt": b""}, "found none"),
        ({"a.onnx": b"", "b.tflite": b""}, "found a.onnx, b.tflite"),
    ],
)
def test_a_folder_must_hold_exactly_one_model(
    zygote: Zygote, tmp_path: Path, files: dict[str, bytes], expected: str
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    verdict = check(tmp_path, zygote)

    assert verdict.reason is Reason.BAD_MODEL
    assert expected in verdict.detail


def test_a_link_is_not_followed(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(small_models.scaling(1))
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")

    assert check(folder, zygote).accepted is False


@pytest.mark.parametrize("name", ["model.pkl", "missing.onnx"])
def test_what_is_no_model_file_is_refused(zygote: Zygote, tmp_path: Path, name: str) -> None:
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")

    assert check(tmp_path / name, zygote).reason is Reason.BAD_MODEL


def test_a_file_that_declares_another_output_than_it_gives_is_accepted_with_a_warning(
    zygote: Zygote, tmp_path: Path
) -> None:
    path = tmp_path / "lying.onnx"
    path.write_bytes(small_models.widening())

    verdict = check(path, zygote)

    assert (verdict.accepted, verdict.reason) == (True, None)
    assert verdict.warnings == ("output 'y' is declared float32[None, 4], answered float32[1, 0]",)
    assert "warning: output 'y' is declared" in render(path, verdict, "table")


def test_a_file_whose_tensors_have_no_values_is_accepted_with_a_warning(
    zygote: Zygote, tmp_path: Path
) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(onnx_models.simple(helper.make_node("Neg", ["x"], ["y"]), shape=(0,)))

    verdict = check(path, zygote)

    assert verdict.accepted
    assert verdict.warnings == (
        "input 'x' is declared float32[0]: it has no values",
        "output 'y' has no values: float32[0]",
    )


def test_an_example_for_other_tensors_is_not_passed_over(zygote: Zygote, tmp_path: Path) -> None:
    folder = example(tmp_path / "v", 6.0)
    x = np.full((1, 4), 3, np.float32)
    np.savez(folder / "case.npz", in__x=x, out__z=x)
    other_output = check(folder, zygote)
    np.savez(folder / "case.npz", in__z=x, out__y=x)
    other_input = check(folder, zygote)

    assert (other_output.reason, other_input.reason) == (Reason.WRONG_OUTPUT, Reason.WRONG_SHAPE)
    assert "the model has no ['z']" in other_output.detail
    assert "gives inputs ['z'], the model takes ['x']" in other_input.detail


def test_inputs_and_outputs_are_shown_with_what_their_integers_stand_for(
    zygote: Zygote, tmp_path: Path
) -> None:
    path = tmp_path / "quantised.tflite"
    tensor = Tensor((1, 4), kind=tflite.TensorType.INT8, scales=(0.5,), zeros=(-3,))
    graph = Subgraph(tensors=(tensor, tensor))
    code = tflite.BuiltinOperator.RELU
    path.write_bytes(File(codes=(code,), subgraphs=(graph,)).encode())

    shown = json.loads(render(path, check(path, zygote), "json"))

    assert shown["accepted"], shown
    assert shown["inputs"] == [
        {
            "name": "tensor 0",
            "dtype": "int8",
            "shape": [1, 4],
            "quantisation": {"scale": [0.5], "zero_point": [-3], "axis": None},
        }
    ]
    assert shown["outputs"][0]["quantisation"]["zero_point"] == [-3]


def test_a_type_that_arrays_do_not_hold_is_told_apart(zygote: Zygote, tmp_path: Path) -> None:
    path = tmp_path / "brain.onnx"
    path.write_bytes(
        onnx_models.simple(helper.make_node("Identity", ["x"], ["y"]), kind=TensorProto.BFLOAT16)
    )

    verdict = check(path, zygote)

    assert verdict.reason is Reason.WRONG_RUNTIME
    assert "tensor 'x' is bfloat16" in verdict.detail


def test_a_locale_that_is_missing_is_a_fault_of_the_machine(zygote: Zygote, tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    node = helper.make_node(
        "StringNormalizer", ["x"], ["y"], case_change_action="LOWER", locale="xx_XX.UTF-8"
    )
    path.write_bytes(onnx_models.simple(node, kind=TensorProto.STRING))

    verdict = check(path, zygote)

    assert verdict.reason is Reason.ENVIRONMENT
    assert "needs the locale xx_XX.UTF-8" in verdict.detail


def test_the_command_says_what_it_found_and_exits_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = example(tmp_path / "good", 6.0), example(tmp_path / "bad", 7.0)

    assert (main(good), main(bad, "json")) == (0, 1)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"accepted  {good}"
    assert json.loads(printed[-1])["reason"] == "wrong-output"


def test_a_refusal_reads_well() -> None:
    verdict = Verdict(accepted=False, reason=Reason.CRASHED, detail="the process ended by SIGSEGV")

    assert render(Path("m.onnx"), verdict, "table") == (
        "refused   m.onnx\n  crashed: the process ended by SIGSEGV"
    )
