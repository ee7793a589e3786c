"""CPU of a device that predicts 50 times a second: through the agent's runner inline, over the bare engine.

Each contestant is alone for its turn. Pacing costs all of them the same. Our turn holds everything the agent
measures: one window is sketched in each, where a device by default sketches one in five minutes.
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
from rig.http import ROW
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


def measure(zygote: Zygote, verified: VerifiedManifest, folder: Path) -> list[Figure]:
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
    medians = {name: statistics.median(values) for name, values in shares.items()}
    met = medians["ours"] - medians["bare"] <= PERCENT
    goal = f"<= {PERCENT:g} % of a core over one thread"
    peers = {"bare": "onnxruntime, one thread", "default": "onnxruntime, default threads"}
    return [
        Figure(
            f"digits: {RATE:g} predictions/s inline, CPU", medians["ours"], medians[peer], words,
            "% of a core", medians["ours"] / medians[peer], goal, met,
        )
        for peer, words in peers.items()
    ]  # fmt: skip


def main() -> None:
    """Measure, and print two figures."""
    zygote = Zygote.start()  # first, while this process has one thread
    try:
        with TemporaryDirectory() as scratch:
            figures = measure(zygote, *lay_out("digits", Path(scratch)))
    finally:
        zygote.close()
    publish(*figures)


if __name__ == "__main__":
    main()
