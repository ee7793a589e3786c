"""MLServer with one model and its default settings, but for one: without worker processes.

That is its best case, and the only one in which it starts on a current uvloop.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from story.ports import free_port

NAME = "MLServer 1.7.1"
START_SECONDS = 60.0
_SETTINGS = {"parallel_workers": 0, "host": "127.0.0.1"}


@contextmanager
def running(folder: Path, model: Path) -> Iterator[tuple[int, int]]:
    """Serve an ONNX file as ``digits``; hand out the process and its HTTP port."""
    ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
    declaration = {
        "name": "digits", "implementation": "rig.served.OnnxModel", "parameters": {"uri": str(model)},
    }  # fmt: skip
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(_SETTINGS | ports))
    (folder / "model-settings.json").write_text(json.dumps(declaration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("mlserver"), "start", folder],
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process, ports["http_port"], folder / "log")
        yield process.pid, ports["http_port"]
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"MLServer does not serve: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/v2/models/digits/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
