"""Which version of a package is installed, read from the names of folders."""

from importlib.metadata import version
from pathlib import Path

import pytest

from muster_models import __version__
from muster_models.distribution import version_of
from muster_models.runtime.load import installed


@pytest.mark.parametrize("name", ["onnxruntime", "ai-edge-litert", "AI_Edge.LiteRT", "muster-fleet", "numpy"])
def test_it_is_what_python_itself_says(name: str) -> None:
    assert version_of(name) == version(name)


def test_what_is_not_installed_has_none() -> None:
    assert version_of("no-such-package") is None


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("tflite_runtime-2.14.0.dist-info", "2.14.0"),
        ("tflite_runtime-2.14.0-py3.11.egg-info", "2.14.0"),
        ("tflite_runtime_extra-2.14.0.dist-info", None),
        ("tflite_runtime-2.14.0.data", None),
        ("tflite_runtime.dist-info", None),
    ],
)
def test_the_names_of_folders_say_it(tmp_path: Path, folder: str, expected: str | None) -> None:
    (tmp_path / folder).mkdir()

    assert version_of("tflite-runtime", [str(tmp_path / "missing"), str(tmp_path)]) == expected


def test_this_program_and_its_engines_have_their_versions() -> None:
    assert __version__ == version("muster-fleet")
    assert installed() == {
        "onnx": f"onnxruntime {version('onnxruntime')}",
        "tflite": f"ai-edge-litert {version('ai-edge-litert')}",
    }
