"""What benchmarks take from the tests' support needs none of what only tests install."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "agent", "controller", "tests", "scripts", "benchmarks")
ABSENT = ("pytest", "psycopg", "hypothesis", "playwright")  # where benchmarks run


def test_benchmarks_need_nothing_that_only_tests_have() -> None:
    sources = [path.read_text() for path in (ROOT / "benchmarks").rglob("*.py")]
    taken = sorted(
        {
            name
            for source in sources
            for name in re.findall(r"^from (support\.\w+) import", source, re.MULTILINE)
        }
    )
    lines = [f"sys.modules[{name!r}] = None" for name in ABSENT] + [f"import {name}" for name in taken]
    paths = os.pathsep.join(str(ROOT / folder) for folder in FOLDERS)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *lines])],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(taken) > 3
    assert done.returncode == 0, done.stderr
