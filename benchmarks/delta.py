"""What travels when a model changes: a patch and its name in the manifest, or the whole file if that is less.

Peers: the whole file, which travels as it is, and the best of what one would take otherwise: the file by
``zstd -19``, ``zstd --patch-from`` alone, and bsdiff4. The files are ONNX. Weights are changed by drawn
noise, and once for real: a network is trained on the zoo's handwritten digits, and then for another epoch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import bsdiff4
import msgspec
import numpy as np
import zstandard
from figure import Figure, at_most, publish
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from muster_models import delta
from muster_models.delta.packing import pack_zstd
from muster_models.manifest import Delta

Array = NDArray[np.generic]
Floats = NDArray[np.float32]

SEED = 4
SIZES = (64, 384, 512, 256, 10)  # 1.4 MB of float32
DIGITS = Path(__file__).parents[1] / "models/zoo/digits/1.1.0/evaluation.npz"
SMALL = 0.10  # of the whole file, where the change leaves most bytes as they were
NEVER_MORE = 1.0
LEVEL = 19


@dataclass(frozen=True)
class Change:
    """Two versions of a file.

    Attributes:
        most: The share of the whole file that may travel.
    """

    name: str
    base: bytes
    new: bytes
    most: float


def model(
    weights: Sequence[Array], *, prefix: str = "layer", producer: str = "exporter 1.0", note: str = ""
) -> bytes:
    """Return a model of matrix products; what it computes does not matter here."""
    tensors = [numpy_helper.from_array(one, f"{prefix}_{number}") for number, one in enumerate(weights)]
    nodes, last = [], "x"
    for tensor in tensors:
        nodes.append(helper.make_node("MatMul", [last, tensor.name], [f"{tensor.name}_out"]))
        last = f"{tensor.name}_out"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("x", TensorProto.FLOAT, [None, weights[0].shape[0]])],
        [value(last, TensorProto.FLOAT, [None, weights[-1].shape[1]])],
        initializer=tensors,
    )
    made = helper.make_model(graph, producer_name=producer, doc_string=note)
    content: bytes = made.SerializeToString()
    return content


def drawn(chance: np.random.Generator, sizes: Sequence[int]) -> list[Floats]:
    """Return the weights of a network before its training."""
    pairs = pairwise(sizes)
    return [(chance.standard_normal(pair) * np.sqrt(2 / pair[0])).astype(np.float32) for pair in pairs]


def train(
    weights: Sequence[Floats], chance: np.random.Generator, *, epochs: int, rate: float
) -> list[Floats]:
    """Return the weights after gradient steps on handwritten digits (softmax, rectified layers)."""
    with np.load(DIGITS) as data:
        rows, answers = data["image"] / np.float32(16), data["labels"]
    trained = [one.copy() for one in weights]
    for _ in range(epochs):
        for batch in np.array_split(chance.permutation(len(rows)), len(rows) // 32):
            _step(trained, rows[batch], answers[batch], rate)
    return trained


def _step(weights: list[Floats], rows: Floats, answers: NDArray[np.int64], rate: float) -> None:
    layers = [rows]
    for one in weights[:-1]:
        layers.append(np.maximum(layers[-1] @ one, 0))
    scores = layers[-1] @ weights[-1]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = odds / odds.sum(axis=1, keepdims=True)
    error[np.arange(len(answers)), answers] -= 1
    for at in reversed(range(len(weights))):
        gradient = layers[at].T @ error / len(answers)
        error = (error @ weights[at].T) * (layers[at] > 0)
        weights[at] -= (rate * gradient).astype(np.float32)


def changes() -> list[Change]:
    """Return every kind of change."""
    chance = np.random.default_rng(SEED)
    weights = train(drawn(chance, SIZES), chance, epochs=5, rate=0.05)
    base = model(weights)

    def noisy(share: float, dtype: type[np.floating] = np.float32) -> list[Array]:
        return [(one * (1 + share * chance.standard_normal(one.shape))).astype(dtype) for one in weights]

    few = [np.where(chance.random(one.shape) < 0.05, one * np.float32(1.01), one) for one in weights]
    head = [*weights[:-1], *drawn(chance, (SIZES[-2], 12))]
    int8 = [(one / np.abs(one).max() * 127).astype(np.int8) for one in weights]
    stepped = [one + _steps(chance, one.shape) for one in int8]
    half = [one.astype(np.float16) for one in weights]
    further = train(weights, chance, epochs=1, rate=0.001)
    note = "exported again"
    return [
        Change("metadata only", base, model(weights, producer="exporter 1.10", note=note), SMALL),
        Change("every node renamed", base, model(weights, prefix="dense"), SMALL),
        Change("new head", base, model(head), SMALL),
        Change("5 % of float32 weights", base, model(few), SMALL),
        Change("5 % of int8 weights by 1", model(int8), model(stepped), SMALL),
        Change("trained for another epoch", base, model(further), NEVER_MORE),
        Change("the same, exported with a note", base, model(further, note=note), NEVER_MORE),
        Change("all float32 weights by 1 %", base, model(noisy(0.01)), NEVER_MORE),
        Change("by 0.1 %", base, model(noisy(0.001)), NEVER_MORE),
        Change("by 0.01 %", base, model(noisy(0.0001)), NEVER_MORE),
        Change("all float16 weights by 0.1 %", model(half), model(noisy(0.001, np.float16)), NEVER_MORE),
        Change("trained from scratch", base, model(drawn(chance, SIZES)), NEVER_MORE),
    ]


def _steps(chance: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    steps = np.where(chance.random(shape) < 0.05, chance.choice([-1, 1], shape), 0)
    return steps.astype(np.int8)


def ours(change: Change) -> tuple[str, int, int]:
    """Return the form that the publisher ships, its bytes, and those that name it in the manifest."""
    patch = delta.encode(change.base, change.new)
    if patch is None:
        return "whole", len(change.new), 0
    made = b"".join(delta.decode(patch.form, change.base, [patch.data], length=len(change.new)))
    if made != change.new:
        raise SystemExit(f"{change.name}: the patch does not make the file")
    named = Delta("0" * 64, patch.form, "0" * 64, len(patch.data))
    return patch.form, len(patch.data), len(msgspec.json.encode(named))


PEERS: Mapping[str, Callable[[Change], int]] = {
    "zstd -19": lambda change: len(zstandard.ZstdCompressor(level=LEVEL).compress(change.new)),
    "zstd --patch-from": lambda change: len(pack_zstd(change.new, LEVEL, base=change.base)),
    "bsdiff4": lambda change: len(bsdiff4.diff(change.base, change.new)),
}


def figures(change: Change) -> list[Figure]:
    """Measure one change."""
    form, sent, naming = ours(change)
    sizes = {name: peer(change) for name, peer in PEERS.items()}
    best = min(sizes, key=lambda name: sizes[name])
    name = f"{change.name} ({form})"
    return [
        at_most(
            name, ours=sent + naming, peer=("whole file", len(change.new)), unit="bytes", ratio=change.most
        ),
        at_most("  against the best peer", ours=sent, peer=(best, sizes[best]), unit="bytes", ratio=1.1),
    ]


def main() -> None:
    """Measure every change."""
    publish(*(figure for change in changes() for figure in figures(change)))


if __name__ == "__main__":
    main()
