"""Importing Muster, and the engines by way of Muster, leaves no trace: no file, no socket, no thread."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from muster_models.environment import VARIABLES

PACKAGES = ("muster_models", "muster_agent", "muster_controller")
ENGINES = ("muster_models.runtime.onnx", "muster_models.runtime.tflite")
# What the child says of itself once everything is imported.
REPORT = """
import os
links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
targets = sorted(os.readlink(link) for link in links if os.path.islink(link))
print("sockets", [target for target in targets if target.startswith("socket:")])
print("threads", len(os.listdir("/proc/self/task")))
"""
WRITES = re.compile(
    r"\b(openat?|creat)\(.*(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC)|\b(mkdir|rename|unlink|link|symlink|mknod)(at2?)?\("
)
SOCKETS = re.compile(r"\b(socket|connect|bind|sendto)\(")


def child_environment(home: Path) -> dict[str, str]:
    """Return the environment of a fresh user in an empty home, without anything that this process has set."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL"}}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


def run(modules: tuple[str, ...], home: Path, *, under: tuple[str, ...] = ()) -> str:
    """Import modules in a child of its own and return what it said."""
    code = "".join(f"import {module}\n" for module in modules) + REPORT
    done = subprocess.run(
        [*under, sys.executable, "-c", code],
        env=child_environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


@pytest.mark.parametrize("modules", [PACKAGES, (*PACKAGES, *ENGINES)], ids=["packages", "engines"])
def test_an_import_leaves_home_empty_and_no_socket_or_thread_behind(
    modules: tuple[str, ...], tmp_path: Path
) -> None:
    said = run(modules, tmp_path)

    assert said == "sockets []\nthreads 1\n"
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("modules", [PACKAGES, (*PACKAGES, *ENGINES)], ids=["packages", "engines"])
def test_an_import_asks_the_kernel_for_no_write_and_no_socket(
    modules: tuple[str, ...], tmp_path: Path
) -> None:
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed; the test above sees what is left behind")
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    probe = subprocess.run([tracer, "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("the kernel lets nobody trace here; the test above sees what is left behind")

    run(modules, home, under=(tracer, "-f", "-o", str(trace), "-e", "trace=%file,%network", "--"))
    calls = trace.read_text(errors="replace").splitlines()

    assert [call for call in calls if WRITES.search(call) and '"/dev/' not in call] == []
    assert [call for call in calls if SOCKETS.search(call)] == []
    assert len(calls) > 100


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_sets_the_environment_before_anything_else(package: str, tmp_path: Path) -> None:
    code = f"import {package}, os; print([os.environ.get(name) for name in {sorted(VARIABLES)}])"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.strip() == str([VARIABLES[name] for name in sorted(VARIABLES)])


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import muster_models, os; print(os.environ['OPENBLAS_NUM_THREADS'])"],
        env=child_environment(tmp_path) | {"OPENBLAS_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout == "3\n"


def test_what_every_child_carries_leaves_out_what_none_needs() -> None:
    before_the_fork = ("muster_agent.__main__", "muster_agent.notify", "muster_agent.runner")
    for_the_supervisor = {
        "cryptography",
        "email",
        "importlib.metadata",
        "paho",
        "sqlite3",
        "ssl",
        "tuf",
        "urllib3",
    }
    for_one_job = {"ai_edge_litert", "onnx", "onnxruntime", "subprocess", "zipfile"}
    code = "".join(f"import {module}\n" for module in before_the_fork) + "import sys; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    ).stdout

    assert not (for_the_supervisor | for_one_job).intersection(imported.split())
