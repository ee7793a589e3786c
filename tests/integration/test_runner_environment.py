"""What starting costs: no thread before the zygote, no engine in the supervisor, no file in a home."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, os, sys
from pathlib import Path
from muster_agent.runner import Isolation, Runner, Zygote

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

at_import, zygote = threads(), Zygote.start()
from support.small_models import scaling
from support.verified import answers, lay_out, rows

folder = Path(sys.argv[1])
verified = lay_out(folder, scaling(2), golden=answers(1, 2))
runner = Runner(zygote, on_failure=lambda *_: None, isolation=Isolation(sys.argv[2]))
verdict = runner.preflight(verified, folder)
runner.activate(verified, folder)
answer = runner.predict("small", rows(3))["y"].tolist()
found = {"threads": at_import, "accepted": verdict.accepted, "answer": answer}
print(json.dumps({**found, "engine": "onnxruntime" in sys.modules}))
runner.close()
zygote.close()
"""


def run(tmp_path: Path, isolation: str) -> dict[str, object]:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "v", isolation],
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)

    assert list(home.rglob("*")) == []
    return found


def test_the_supervisor_is_alone_until_the_zygote_is_there_and_imports_no_engine(tmp_path: Path) -> None:
    assert run(tmp_path, "process") == {
        "threads": 1,
        "accepted": True,
        "answer": [[6.0] * 4],
        "engine": False,
    }


def test_inline_the_engine_is_imported_and_nothing_is_left_in_the_home(tmp_path: Path) -> None:
    assert run(tmp_path, "inline")["engine"] is True
