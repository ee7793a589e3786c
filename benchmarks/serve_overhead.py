"""What an HTTP prediction costs beyond the model itself: the agent against MLServer, called in turn."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from figure import Figure, at_most, interleave, publish
from predict_overhead import bare, repeat
from rig import device, model_server
from rig.http import ROW, caller
from rig.processes import cpu_seconds

from muster_agent.api import Client

BLOCK = 25
ROUNDS = 60
GOAL = 1 / 4
REQUESTS = 2000  # over which the servers' CPU time is taken


def server_cpu(process: int, call: Callable[[], object]) -> float:
    """Return the CPU seconds that a server spends on one request."""
    before = cpu_seconds(process)
    repeat(call, REQUESTS)()
    return (cpu_seconds(process) - before) / REQUESTS


def measure(folder: Path) -> list[Figure]:
    """Start the servers and call them in turn."""
    with ExitStack() as stack:
        agents = {
            "model inline": stack.enter_context(device.running(folder / "inline", "--inline")),
            "model in a worker": stack.enter_context(device.running(folder / "worker")),
        }
        peer, port = stack.enter_context(model_server.running(folder / "mlserver", device.MODEL))
        client = stack.enter_context(Client(agents["model inline"].folder))
        over_http = {mode: caller(agent.port) for mode, agent in agents.items()}
        calls: dict[str, Callable[[], object]] = {
            **over_http,
            "bare": bare("onnx", device.MODEL, {"image": ROW}),
            "client": lambda: client.predict("digits", {"image": ROW}),
            "peer": caller(port),
        }
        blocks = {name: repeat(call, BLOCK) for name, call in calls.items()}
        seconds = interleave(blocks, rounds=ROUNDS, clock=time.perf_counter_ns)
        cpu = {mode: server_cpu(agents[mode].process, call) for mode, call in over_http.items()}
        peer_cpu = server_cpu(peer, calls["peer"])
    added = {name: (value - seconds["bare"]) / BLOCK for name, value in seconds.items()}
    return [
        *(_figure(f"HTTP, JSON, {mode}: added per call", added[mode], added["peer"]) for mode in agents),
        _figure("our client on the Unix socket, model inline: added", added["client"], added["peer"]),
        *(_figure(f"HTTP, JSON, {mode}: server CPU per call", cpu[mode], peer_cpu) for mode in agents),
    ]


def _figure(name: str, ours: float, theirs: float) -> Figure:
    peer = f"{model_server.NAME} without workers, JSON", theirs * 1e6
    return at_most(name, ours=ours * 1e6, peer=peer, unit="us", ratio=GOAL)


def main() -> None:
    """Measure, and print five figures."""
    with TemporaryDirectory() as scratch:
        publish(*measure(Path(scratch)))


if __name__ == "__main__":
    main()
