"""CPU of a device that predicts 50 times a second, over the bare engine with one thread and with its default.

Each contestant is alone for its turn. The runner inline and the bare engine share this process, and pacing
costs them the same; the runner's turn holds everything the agent measures, one window in each, where a device
by default sketches one in five minutes. The whole agent is all its processes, connected to a broker and idle
but for the predictions that come over HTTP, with the model in a worker.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
from figure import Figure, publish
from predict_overhead import Inputs, bare
from rig import device
from rig.http import ROW, caller
from rig.processes import cpu_seconds
from rig.versions import lay_out

from muster_agent.measure.recordings import Recordings
from muster_agent.runner import Isolation, Runner, Zygote
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Reporting

RATE = 50.0  # predictions a second
SECONDS = 6.0
ROUNDS = 3
PERCENT = 3.0  # of one core, over the bare engine
INPUTS: Inputs = {"image": ROW}
Call = Callable[[], object]


def paced(call: Call) -> None:
    """Call ``RATE`` times a second for ``SECONDS``."""
    due = time.monotonic()
    for _ in range(int(RATE * SECONDS)):
        call()
        due += 1 / RATE
        time.sleep(max(due - time.monotonic(), 0.0))


@contextmanager
def through_runner(zygote: Zygote, verified: VerifiedManifest, folder: Path) -> Iterator[Call]:
    """Yield a prediction through the agent's runner; its window is sketched before this ends."""
    recordings = Recordings(clock=time.time, emit=lambda _: None)
    recordings.configure(Reporting(window_seconds=300.0))
    recordings.begin(verified, folder)
    runner = Runner(
        zygote, on_failure=lambda *_: None, on_call=recordings.observe, isolation=Isolation.INLINE
    )
    runner.activate(verified, folder)
    try:
        yield lambda: runner.predict("digits", INPUTS)
    finally:
        runner.close()
        recordings.close()


@contextmanager
def single_threaded(model: Path) -> Iterator[Call]:
    """Yield a prediction of the bare engine with one thread."""
    yield bare("onnx", model, INPUTS)


@contextmanager
def as_it_comes(model: Path) -> Iterator[Call]:
    """Yield a prediction of the bare engine with as many threads as it takes by default."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    yield lambda: session.run(None, INPUTS)


def percent(turn: AbstractContextManager[Call]) -> float:
    """Return the share of one core that this process takes in a turn, without loading, with closing."""
    with turn as call:
        call()
        began = time.process_time()
        paced(call)
    return (time.process_time() - began) / SECONDS * 100


def percent_of_agent(agent: device.Device) -> float:
    """Return the share of one core that all processes of an agent take in a turn."""
    call = caller(agent.port)
    call()
    began = cpu_seconds(agent.process)
    paced(call)
    return (cpu_seconds(agent.process) - began) / SECONDS * 100


def measure(zygote: Zygote, verified: VerifiedManifest, folder: Path, agent: device.Device) -> list[Figure]:
    """Let the contestants have their turns."""
    model = folder / verified.manifest.file("model").name
    turns: dict[str, Callable[[], AbstractContextManager[Call]]] = {
        "ours": lambda: through_runner(zygote, verified, folder),
        "bare": lambda: single_threaded(model),
        "default": lambda: as_it_comes(model),
    }
    shares: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(ROUNDS):
        for name, turn in turns.items():
            shares[name].append(percent(turn()))
        shares.setdefault("agent", []).append(percent_of_agent(agent))
    medians = {name: statistics.median(values) for name, values in shares.items()}
    goal = f"<= {PERCENT:g} % of a core over one thread"
    peers = {"bare": "onnxruntime, one thread", "default": "onnxruntime, default threads"}
    contestants = {"ours": "inline", "agent": "over HTTP, whole agent with a worker"}
    return [
        Figure(
            f"digits: {RATE:g} predictions/s {how}, CPU", medians[name], medians[peer], words, "% of a core",
            medians[name] / medians[peer], goal, met=medians[name] - medians["bare"] <= PERCENT,
        )
        for name, how in contestants.items()
        for peer, words in peers.items()
    ]  # fmt: skip


def main() -> None:
    """Measure, and print four figures."""
    zygote = Zygote.start()  # first, while this process has one thread
    try:
        with TemporaryDirectory() as scratch, device.running(Path(scratch) / "agent") as agent:
            figures = measure(zygote, *lay_out("digits", Path(scratch)), agent)
    finally:
        zygote.close()
    publish(*figures)


if __name__ == "__main__":
    main()
