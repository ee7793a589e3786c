"""What a device installs: the built wheel and what requirements/agent.txt pins, nothing of the controller."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
    program = (
        "import importlib, pkgutil, muster_agent\n"
        "for module in pkgutil.walk_packages(muster_agent.__path__, 'muster_agent.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "print('imported')"
    )

    assert run(device / "bin/python", "-c", program, cwd=device).strip() == "imported"


def test_the_wheel_carries_templates_styles_migrations_and_the_unit(wheel: Path) -> None:
    names = run(sys.executable, "-m", "zipfile", "--list", wheel, cwd=ROOT)

    parts = ("web/templates/base.html", "web/static/", "store/migrations/", "muster_models/py.typed")
    for part in (*parts, "share/muster/muster-agent@.service"):
        assert part in names
