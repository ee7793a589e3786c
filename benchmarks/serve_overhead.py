"""What an HTTP prediction costs beyond the model itself: the agent, MLServer and KServe, called in turn.

A call of a worker is handed from process to process and back. Where the kernel puts them on two cores each
hand-over wakes an idle core, which a virtual machine does slowly: so an agent that is kept on one core is
measured as well.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from figure import Figure, at_most, interleave, publish
from predict_overhead import bare, repeat
from rig import device, model_server
from rig.http import ROW, caller
from rig.processes import cpu_seconds, pin

from muster_agent.api import Client

BLOCK = 25
ROUNDS = 60
GOALS = {model_server.NAME: 1 / 4, model_server.KSERVE: 1 / 5}
INLINE = "HTTP, model inline"
WORKER = "HTTP, model in a worker"
PINNED = "HTTP, model in a worker, agent on one core"
CLIENT = "our client, Unix socket, model inline"
BARE = "bare"
REQUESTS = 2000  # over which the servers' CPU time is taken
Call = Callable[[], object]


def server_cpu(process: int, call: Call) -> float:
    """Return the CPU seconds that a server spends on one request."""
    before = cpu_seconds(process)
    repeat(call, REQUESTS)()
    return (cpu_seconds(process) - before) / REQUESTS


def measure(folder: Path) -> list[Figure]:
    """Start the servers and call them in turn."""
    with ExitStack() as stack:
        inline = stack.enter_context(device.running(folder / "inline", "--inline"))
        worker = stack.enter_context(device.running(folder / "worker"))
        pinned = stack.enter_context(device.running(folder / "pinned"))
        pin(pinned.process)
        mlserver = stack.enter_context(model_server.running(folder / "mlserver", device.MODEL))
        kserve = stack.enter_context(model_server.running_kserve(folder / "kserve", device.MODEL))
        client = stack.enter_context(Client(inline.folder))
        served = {
            INLINE: (inline.process, inline.port),
            WORKER: (worker.process, worker.port),
            PINNED: (pinned.process, pinned.port),
            model_server.NAME: mlserver,
            model_server.KSERVE: kserve,
        }
        over_http: dict[str, Call] = {name: caller(port) for name, (_, port) in served.items()}
        calls: dict[str, Call] = {
            **over_http,
            BARE: bare("onnx", device.MODEL, {"image": ROW}),
            CLIENT: lambda: client.predict("digits", {"image": ROW}),
        }
        blocks = {name: repeat(call, BLOCK) for name, call in calls.items()}
        seconds = interleave(blocks, rounds=ROUNDS, clock=time.perf_counter_ns)
        cpu = {name: server_cpu(served[name][0], call) for name, call in over_http.items()}
    added = {name: (value - seconds[BARE]) / BLOCK for name, value in seconds.items()}
    return [
        *(
            _figure(f"{name}: added per call", added, name, peer)
            for name in (INLINE, WORKER, PINNED, CLIENT)
            for peer in GOALS
        ),
        *(
            _figure(f"{name}: server CPU per call", cpu, name, peer)
            for name in (INLINE, WORKER, PINNED)
            for peer in GOALS
        ),
    ]


def _figure(title: str, seconds: Mapping[str, float], ours: str, peer: str) -> Figure:
    theirs = f"{peer}, one process, JSON", seconds[peer] * 1e6
    return at_most(title, ours=seconds[ours] * 1e6, peer=theirs, unit="us", ratio=GOALS[peer])


def main() -> None:
    """Measure, and print a figure against each peer."""
    with TemporaryDirectory() as scratch:
        publish(*measure(Path(scratch)))


if __name__ == "__main__":
    main()
