"""Model servers with one ONNX model, each as its own documentation shows it and in its best case.

MLServer runs without worker processes, the only way in which it starts on a current uvloop. KServe runs one
process, without gRPC and without a log line for each request.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from story.ports import free_port

NAME = "MLServer 1.7.1"
KSERVE = "KServe 0.21.0"
START_SECONDS = 60.0
Command = Sequence[Path | str]
_SETTINGS = {"parallel_workers": 0, "host": "127.0.0.1"}
# Beside the environment of the benchmarks; made by scripts/peers, as that is.
_KSERVE_PYTHON = Path(sys.executable).parents[2] / "bench-kserve/bin/python"


@contextmanager
def running(folder: Path, model: Path) -> Iterator[tuple[int, int]]:
    """Serve an ONNX file as ``digits`` by MLServer; hand out the process and its HTTP port."""
    ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
    declaration = {
        "name": "digits", "implementation": "rig.served.OnnxModel", "parameters": {"uri": str(model)},
    }  # fmt: skip
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(_SETTINGS | ports))
    (folder / "model-settings.json").write_text(json.dumps(declaration))
    command: Command = [Path(sys.executable).with_name("mlserver"), "start", folder]
    with _serving(command, folder / "log", ports["http_port"]) as process:
        yield process, ports["http_port"]


@contextmanager
def running_kserve(folder: Path, model: Path) -> Iterator[tuple[int, int]]:
    """Serve an ONNX file as ``digits`` by KServe's Python server, likewise."""
    port = free_port()
    folder.mkdir()
    options = ("--http_port", str(port), "--enable_grpc", "false", "--enable_latency_logging", "false")
    command: Command = [_KSERVE_PYTHON, "-m", "rig.served_by_kserve", model, *options]
    with _serving(command, folder / "log", port) as process:
        yield process, port


@contextmanager
def _serving(command: Command, log: Path, port: int) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"}, stdout=output, stderr=output
        )
    try:
        _wait_until_ready(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{log.parent.name} does not serve: {log.read_text()[-2000:]}")
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
