"""What measuring costs the application's thread: it copies a row and its answer, and no more."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from figure import Figure, interleave, publish
from rig.versions import lay_out

from muster_agent.measure.recordings import Recordings
from muster_agent.runner import Isolation, Runner, Zygote
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Reporting

BLOCK = 1024  # calls, which fill a buffer of the recorder: handing it over is counted too
ROUNDS = 60
MICROSECONDS = 1.5
SKETCHING = 0.02  # seconds


def measure(name: str, verified: VerifiedManifest, folder: Path, zygote: Zygote) -> Figure:
    """Return the time of the caller's thread for a call that is recorded, beside copies of its arrays."""
    (spec,) = verified.manifest.inputs
    row = np.random.default_rng(1).random((1, *spec.shape[1:])).astype(spec.dtype)  # type: ignore[arg-type]
    inputs = {spec.name: row}
    with ExitStack() as stack:
        runner = Runner(zygote, on_failure=lambda *_: None, isolation=Isolation.INLINE)
        stack.callback(runner.close)
        runner.activate(verified, folder)
        outputs = runner.predict(name, inputs)
        recordings = Recordings(clock=time.time, emit=lambda _: None)
        stack.callback(recordings.close)
        recordings.configure(Reporting(window_seconds=60.0))
        recordings.begin(verified, folder)
        arrays = [*inputs.values(), *outputs.values()]

        def record() -> None:
            pause.wait(SKETCHING)  # no time of this thread: the block before is sketched, so none is skipped
            for _ in range(BLOCK):
                recordings.observe(name, verified.digest, inputs, outputs, 1e-5, None)

        def copy() -> None:
            for _ in range(BLOCK):
                for array in arrays:
                    array.copy()

        pause = threading.Event()
        seconds = interleave({"ours": record, "bare": copy}, rounds=ROUNDS, clock=time.thread_time_ns)
        skipped = recordings._recorders[name, verified.digest].skipped  # noqa: SLF001 - nothing else tells
        assert skipped == 0, "a row that is skipped costs nothing"
    ours, peer = (seconds[who] / BLOCK * 1e6 for who in ("ours", "bare"))
    goal = f"<= {MICROSECONDS:g} us"
    title = f"{name}: a call recorded, the caller's thread"
    return Figure(title, ours, peer, "array copies", "us", ours / peer, goal, ours <= MICROSECONDS)


def main() -> None:
    """Measure both engines' models."""
    zygote = Zygote.start()  # first, while this process has one thread
    try:
        with TemporaryDirectory() as scratch:
            figures = [measure(name, *lay_out(name, Path(scratch)), zygote) for name in ("digits", "weather")]
    finally:
        zygote.close()
    publish(*figures)


if __name__ == "__main__":
    main()
