"""Memory of a whole agent, all its processes, with one model that answers, against MLServer with the same."""

import compileall
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from figure import Figure, publish
from rig import device, model_server
from rig.http import caller
from rig.processes import memory

import muster_agent
import muster_models

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


def memory_without_docstrings(folder: Path) -> dict[str, float]:
    """Return the megabytes of an agent that runs as docs/serving.md says for the smallest devices."""
    # Started once beforehand, because there are no compiled files of that kind yet.
    os.environ.update(PYTHONOPTIMIZE="2", PYTHONPYCACHEPREFIX=str(folder / "compiled"))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder.mkdir()
    agent_memory(folder / "first")
    return agent_memory(folder / "second")


def peer_memory(folder: Path) -> dict[str, float]:
    """Return the megabytes of MLServer, likewise."""
    with model_server.running(folder, device.MODEL) as (process, port):
        call = caller(port)
        for _ in range(CALLS):
            call()
        return memory(process)


def main() -> None:
    """Measure both ways of running models, and print two figures for each."""
    for package in (muster_agent, muster_models):
        # As pip leaves a package on a device; compiling it takes memory that a process does not give back.
        compileall.compile_dir(Path(package.__file__ or "").parent, quiet=1)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        peer = peer_memory(folder / "mlserver")
        modes = {
            "model in a worker": agent_memory(folder / "worker"),
            "model inline": agent_memory(folder / "inline", "--inline"),
            "model in a worker, no docstrings": memory_without_docstrings(folder / "small"),
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
