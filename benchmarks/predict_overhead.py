"""Predicting through the agent, with everything measured that it measures, over the bare engine."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from figure import Figure, interleave, publish
from numpy.typing import NDArray
from rig.versions import lay_out

from muster_agent.measure.recordings import Recordings
from muster_agent.runner import Isolation, Runner, Zygote
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Reporting

Call = Callable[[], object]
Inputs = dict[str, NDArray[np.generic]]

# As many one-row calls as fill a buffer of the recorder, so that each block pays for one sketch of them.
BLOCK = 1024
ROUNDS = 40
WORKER_BLOCK = 50
INLINE_RATIO, INLINE_MICROSECONDS = 1.2, 2.0
WORKER_MICROSECONDS = 30.0  # a forked worker behind a bare socketpair was measured at 28


def bare(kind: str, model: Path, inputs: Inputs) -> Call:
    """Return one call of the engine as its own documentation shows it, with one thread."""
    if kind == "onnx":
        import onnxruntime  # noqa: PLC0415 - after what it reads at import is set

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, inputs)
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - as above

    interpreter = Interpreter(model_path=str(model), num_threads=1)
    ((index, row),) = ((entry["index"], inputs[_only(inputs)]) for entry in interpreter.get_input_details())
    output = interpreter.get_output_details()[0]["index"]
    interpreter.allocate_tensors()

    def call() -> object:
        interpreter.set_tensor(index, row)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return call


def _only(inputs: Inputs) -> str:
    (name,) = inputs
    return name


def repeat(call: Call, times: int) -> Call:
    """Return a call of ``times`` calls."""

    def block() -> None:
        for _ in range(times):
            call()

    return block


def measure(name: str, verified: VerifiedManifest, folder: Path, zygote: Zygote) -> list[Figure]:
    """Return two figures: the model in this process, and in a worker."""
    manifest = verified.manifest
    (spec,) = manifest.inputs
    row = np.random.default_rng(1).random((1, *spec.shape[1:])).astype(spec.dtype)  # type: ignore[arg-type]
    inputs: Inputs = {spec.name: row}
    with ExitStack() as stack:
        recordings = Recordings(clock=time.time, emit=lambda _: None)
        stack.callback(recordings.close)
        recordings.configure(Reporting(window_seconds=60.0))
        recordings.begin(verified, folder)
        runners = {}
        for isolation in Isolation:
            runners[isolation] = Runner(
                zygote, on_failure=lambda *_: None, on_call=recordings.observe, isolation=isolation
            )
            stack.callback(runners[isolation].close)
            runners[isolation].activate(verified, folder)
        engine = bare(manifest.runtime, folder / manifest.file("model").name, inputs)
        inline = lambda: runners[Isolation.INLINE].predict(name, inputs)  # noqa: E731 - three calls alike
        worker = lambda: runners[Isolation.PROCESS].predict(name, inputs)  # noqa: E731
        cpu = interleave({"ours": repeat(inline, BLOCK), "bare": repeat(engine, BLOCK)}, rounds=ROUNDS)
        wall = interleave(
            {"ours": repeat(worker, WORKER_BLOCK), "bare": repeat(engine, WORKER_BLOCK)},
            rounds=2 * ROUNDS,
            clock=time.perf_counter_ns,
        )
    return [
        _figure(f"{name}: predict inline, CPU with sketches", cpu, BLOCK, INLINE_MICROSECONDS, INLINE_RATIO),
        _figure(f"{name}: predict in a worker, wall", wall, WORKER_BLOCK, WORKER_MICROSECONDS, None),
    ]


def _figure(name: str, seconds: dict[str, float], calls: int, added: float, ratio: float | None) -> Figure:
    ours, peer = (seconds[who] / calls * 1e6 for who in ("ours", "bare"))
    goal = f"<= {added:g} us added" + (f" and {ratio:g} x" if ratio else "")
    met = ours - peer <= added and (ratio is None or ours / peer <= ratio)
    return Figure(name, ours, peer, "bare engine", "us", ours / peer, goal, met)


def main() -> None:
    """Measure both engines."""
    zygote = Zygote.start()  # first, while this process has one thread
    try:
        with TemporaryDirectory() as scratch:
            figures = [
                figure
                for name in ("digits", "weather")
                for figure in measure(name, *lay_out(name, Path(scratch)), zygote)
            ]
    finally:
        zygote.close()
    publish(*figures)


if __name__ == "__main__":
    main()
