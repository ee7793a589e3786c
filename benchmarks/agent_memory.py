"""Memory of a whole agent, all its processes, with one model that answers, against MLServer with the same."""

from pathlib import Path
from tempfile import TemporaryDirectory

from figure import Figure, publish
from rig import device, model_server
from rig.http import caller
from rig.processes import memory

CALLS = 500  # beforehand, so that nothing is left to be loaded later
MEGABYTES = 80.0
RATIO = 0.5
WORDS = {"rss": "RSS added up", "pss": "PSS"}


def agent_memory(folder: Path, *options: str) -> dict[str, float]:
    """Return the megabytes of an agent that has answered some calls."""
    with device.running(folder, *options) as agent:
        call = caller(agent.port)
        for _ in range(CALLS):
            call()
        return memory(agent.process)


def peer_memory(folder: Path) -> dict[str, float]:
    """Return the megabytes of MLServer, likewise."""
    with model_server.running(folder, device.MODEL) as (process, port):
        call = caller(port)
        for _ in range(CALLS):
            call()
        return memory(process)


def main() -> None:
    """Measure both ways of running models, and print two figures for each."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        peer = peer_memory(folder / "mlserver")
        modes = {
            "model in a worker": agent_memory(folder / "worker"),
            "model inline": agent_memory(folder / "inline", "--inline"),
        }
    publish(
        *(
            Figure(
                f"agent, {mode}: {WORDS[kind]}", ours[kind], peer[kind], model_server.NAME, "MB",
                ours[kind] / peer[kind], f"<= {MEGABYTES:g} MB and {RATIO:g} x",
                met=ours[kind] <= MEGABYTES and ours[kind] / peer[kind] <= RATIO,
            )
            for mode, ours in modes.items()
            for kind in WORDS
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
