"""What a device installs: the built wheel and what requirements/agent.txt pins, nothing of the controller."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from muster_models.publish import build, read_source

ROOT = Path(__file__).parents[2]
IMPORTING = (
    "import importlib, pkgutil, muster_agent\n"
    "for module in pkgutil.walk_packages(muster_agent.__path__, 'muster_agent.'):\n"
    "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
    "print('imported')"
)


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds what requirements/agent.txt pins, and the wheel."""
    folder = tmp_path_factory.mktemp("device") / "environment"
    venv.create(folder, with_pip=True)
    pip = (folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps")
    run(*pip, "--require-hashes", "--requirement", ROOT / "requirements/agent.txt", cwd=folder)
    run(*pip, "--no-index", wheel, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def legacy(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment of a device that only tflite-runtime has wheels for."""
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14 has wheels up to Python 3.11")
    folder = tmp_path_factory.mktemp("legacy") / "environment"
    venv.create(folder, with_pip=True)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", f"{wheel}[agent,tflite-legacy]", cwd=folder)
    return folder


ANSWERING = """
import sys
from pathlib import Path
from muster_models.golden import compare, decode_golden
from muster_models.runtime import load
from muster_models.runtime.load import installed
from muster_models.tensors import unpack
import numpy
model, golden = map(Path, sys.argv[1:])
vectors = decode_golden(golden.read_bytes())
runtime = load("tflite", model)
for _ in range(2):
    for vector in vectors.vectors:
        answer = runtime.run(unpack(vector.inputs))
        wrong = compare(
            vector.outputs, answer, absolute=vectors.absolute, relative=vectors.relative
        )
        assert wrong is None, wrong
print(installed()["tflite"], numpy.__version__.split(".")[0], len(vectors.vectors))
"""


def test_a_device_with_tflite_runtime_alone_answers_golden_vectors(legacy: Path, tmp_path: Path) -> None:
    built = build(
        read_source(ROOT / "models/zoo/weather/1.1.0"),
        release=1,
        created="2026-01-01T00:00:00Z",
        output=tmp_path,
    )
    model, golden = (built.files[built.manifest.file(role).sha256] for role in ("model", "golden"))

    said = run(legacy / "bin/python", "-c", ANSWERING, model, golden, cwd=legacy)

    assert said.split() == ["tflite-runtime", "2.14.0", "1", "10"]


def test_such_a_device_tries_a_file_in_a_confined_child_and_imports_every_module(legacy: Path) -> None:
    model = ROOT / "models/zoo/weather/1.1.0/model.tflite"

    assert "on CPU" in run(legacy / "bin/muster-agent", "check", model, cwd=legacy)
    assert run(legacy / "bin/python", "-c", IMPORTING, cwd=legacy).strip() == "imported"


def test_a_device_installs_neither_web_framework_nor_database_mapper(device: Path) -> None:
    listed = json.loads(run(device / "bin/python", "-m", "pip", "list", "--format", "json", cwd=device))
    names = {entry["name"].lower() for entry in listed}

    assert (
        names & {"fastapi", "starlette", "sqlmodel", "sqlalchemy", "pydantic", "uvicorn", "jinja2"} == set()
    )
    assert {"muster-fleet", "numpy", "msgspec", "tuf", "paho-mqtt", "onnxruntime"} <= names


def test_the_agent_starts_from_the_wheel(device: Path) -> None:
    assert "enrol" in run(device / "bin/muster-agent", "--help", cwd=device)


def test_every_module_of_the_agent_imports_from_the_wheel(device: Path) -> None:
    assert run(device / "bin/python", "-c", IMPORTING, cwd=device).strip() == "imported"


def test_the_wheel_carries_templates_styles_migrations_and_the_unit(wheel: Path) -> None:
    names = run(sys.executable, "-m", "zipfile", "--list", wheel, cwd=ROOT)

    parts = ("web/templates/base.html", "web/static/", "store/migrations/", "muster_models/py.typed")
    for part in (*parts, "share/muster/muster-agent@.service"):
        assert part in names
