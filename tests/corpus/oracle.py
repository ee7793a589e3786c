"""A second opinion on files that were accepted: run them with nothing of ours, and compare by numpy.

A program of its own, because the files are hostile: it reads folders from its input, one a line, and answers
one word for each: ``same``, ``other``, or ``unlike`` where the call of the original does not fit.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import muster_models.environment  # noqa: F401 - what it sets must be set before an engine is imported

Array = NDArray[np.generic]
# A little wider than what is promised, for the last bit of another build of the same kernel.
ABSOLUTE, RELATIVE = 1.1e-4, 1.1e-3


def judge(folder: Path) -> str:
    """Return whether the model of a folder answers the call beside it as the original did."""
    with np.load(folder / "case.npz") as archive:
        arrays: dict[str, Array] = {name: archive[name] for name in archive.files}
    inputs = {name[4:]: array for name, array in arrays.items() if name.startswith("in__")}
    expected = {name[5:]: array for name, array in arrays.items() if name.startswith("out__")}
    (path,) = folder.glob("model.*")
    try:
        outputs = (_onnx if path.suffix == ".onnx" else _tflite)(path, inputs)
    except Exception:  # noqa: BLE001 - the engines raise what they like
        return "unlike"
    return "same" if all(_is_near(outputs.get(name), want) for name, want in expected.items()) else "other"


def _is_near(got: Array | None, want: Array) -> bool:
    if got is None or got.shape != want.shape or got.dtype != want.dtype:
        return False
    if want.dtype.kind != "f":
        return bool(np.array_equal(got, want))
    return bool(
        np.allclose(got.astype(float), want.astype(float), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    )


def _onnx(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    import onnxruntime  # noqa: PLC0415 - either engine, as asked

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _tflite(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - as above

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    ins, outs = _signature(interpreter)
    takes = {_name(detail, ins): detail for detail in interpreter.get_input_details()}
    for name, detail in takes.items():
        interpreter.resize_tensor_input(detail["index"], inputs[name].shape)
    interpreter.allocate_tensors()
    for name, detail in takes.items():
        interpreter.set_tensor(detail["index"], inputs[name])
    interpreter.invoke()
    gives = interpreter.get_output_details()
    return {_name(detail, outs): interpreter.get_tensor(detail["index"]) for detail in gives}


def _signature(interpreter: Any) -> tuple[dict[int, str], dict[int, str]]:
    if len(interpreter.get_signature_list()) != 1:
        return {}, {}
    runner = interpreter.get_signature_runner()
    ins, outs = runner.get_input_details(), runner.get_output_details()
    return {ins[name]["index"]: name for name in ins}, {outs[name]["index"]: name for name in outs}


def _name(detail: dict[str, Any], names: dict[int, str]) -> str:
    return names.get(detail["index"], str(detail["name"]))


def main() -> None:
    """Answer for every folder that is named on the input."""
    for line in sys.stdin:
        sys.stdout.write(judge(Path(line.rstrip("\n"))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
