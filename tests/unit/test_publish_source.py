"""Reading a source folder: what is wrong is named by file, key, expected and got."""

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_models.errors import ManifestError, MusterError, RequestError
from muster_models.publish.source import digest_arrays, read_source
from support.mutation import mutate
from support.sources import DECLARATION, evaluation_rows, write_source


def test_a_source_folder_is_read(tmp_path: Path) -> None:
    source = read_source(write_source(tmp_path))

    assert source.declared.model == "toy"
    assert source.file_names == {"model.onnx"}
    assert source.inputs.keys() == {"x"}
    assert source.answers.tolist() == evaluation_rows()["labels"].tolist()


@pytest.mark.parametrize("name", ["model.toml", "evaluation.npz", "model.onnx"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = write_source(tmp_path)
    (folder / name).unlink()

    with pytest.raises(RequestError, match=name.replace(".", r"\.")):
        read_source(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('version = "1.0.0"', 'version = "1.0"', r"model\.toml: .*`\$\.version`"),
        ('version = "1.0.0"', "version = 1", r"Expected `str`, got `int` - at `\$\.version`"),
        ('runtime = "onnx"', 'runtime = "keras"', r"Invalid enum value 'keras' - at `\$\.runtime`"),
        ('model = "toy"', 'model = "toy"\nrun = "me"', r"unknown field `run`"),
        ("column = 0", 'column = "0"', r"`\$\.features\[0\]\.column`"),
        ('type = "classes"', 'type = "boxes"', r"Invalid value 'boxes' - at `\$\.prediction\.type`"),
        ('file = "model.onnx"', 'file = "../model.onnx"', r"`\$\.file`"),
        (
            'file = "model.onnx"',
            'file = "model.onnx"\nweights = ["model.onnx"]',
            "file and weights must differ",
        ),
        (
            'file = "model.onnx"',
            'file = "model.onnx"\nweights = ["w.bin"]',
            "names 'w.bin': expected that file",
        ),
        ("minimum = 0.9", "", "threshold 'accuracy': expected a minimum or a maximum, got none"),
        ('role = "evaluation"', 'role = "train"', "dataset 'toy rows': expected digest and rows"),
        ("[prediction]", "[prediction", r"model\.toml: "),
    ],
)
def test_a_declaration_with_a_mistake_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    folder = write_source(tmp_path, declaration=DECLARATION.replace(old, new))

    with pytest.raises((ManifestError, RequestError), match=message):
        read_source(folder)


ROWS = evaluation_rows(3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ROWS["x"]}, r"expected the array 'labels', got \['x'\]"),
        (ROWS | {"targets": ROWS["labels"]}, r"expected the array 'labels', got \['labels', 'targets'\]"),
        (ROWS | {"labels": ROWS["labels"].astype(np.float64)}, r"one number per row, got float64\[3\]"),
        (ROWS | {"labels": ROWS["labels"].reshape(3, 1)}, r"one number per row, got int64\[3, 1\]"),
        (ROWS | {"labels": np.array([0, 1, 2])}, "expected 0 to 1, got 0 to 2"),
        (ROWS | {"labels": np.array([0, 1, -1])}, "expected 0 to 1, got -1 to 1"),
        (ROWS | {"x": ROWS["x"][:2]}, r"expected 3 rows in every input, got \{'x': 2\}"),
        (ROWS | {"x": np.float32(1)}, r"expected 3 rows in every input, got \{'x': None\}"),
        ({"labels": ROWS["labels"]}, r"expected 3 rows in every input, got \{\}"),
        ({"x": ROWS["x"][:0], "labels": ROWS["labels"][:0]}, "expected 0 rows"),
    ],
)
def test_evaluation_rows_that_do_not_fit_are_refused(
    arrays: dict[str, NDArray[np.generic]], message: str, tmp_path: Path
) -> None:
    folder = write_source(tmp_path, arrays=arrays)

    with pytest.raises(ManifestError, match=message):
        read_source(folder)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    folder = write_source(tmp_path)
    np.savez(folder / "evaluation.npz", allow_pickle=True, x=np.array([object()]), labels=np.array([0]))

    with pytest.raises(ManifestError, match="without pickle"):
        read_source(folder)


def test_rows_that_unpack_to_more_than_memory_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    folder = write_source(tmp_path)
    np.savez_compressed(
        folder / "evaluation.npz", allow_pickle=False, x=np.zeros(270 * 2**20, dtype=np.uint8)
    )

    with pytest.raises(ManifestError, match="at most 268435456 bytes of arrays"):
        read_source(folder)


@pytest.mark.parametrize("name", ["evaluation.npz", "model.toml"])
def test_a_damaged_file_ends_in_one_of_our_errors(name: str, tmp_path: Path) -> None:
    folder = write_source(tmp_path)
    genuine = (folder / name).read_bytes()
    chance = random.Random(3)
    for _ in range(400):
        (folder / name).write_bytes(mutate(genuine, chance))
        try:
            read_source(folder)
        except MusterError as error:
            message = str(error)

            assert len(message) > 0


def test_the_digest_of_arrays_knows_names_types_shapes_and_values() -> None:
    array: NDArray[np.generic] = np.arange(6, dtype=np.int32)
    same: dict[str, NDArray[np.generic]] = {"b": array.astype(">i4"), "a": array}
    others: list[dict[str, NDArray[np.generic]]] = [
        {"a": array},
        {"a": array, "c": array},
        {"a": array, "b": array.astype(np.int64)},
    ]
    others += [{"a": array, "b": array.reshape(2, 3)}, {"a": array, "b": array[::-1]}]

    assert digest_arrays(same) == digest_arrays({"a": array, "b": array})
    assert len({digest_arrays(arrays) for arrays in [same, *others]}) == 6
