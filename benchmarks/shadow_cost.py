"""What a candidate in shadow costs a call of the version that answers: one offer, beside two plain copies."""

from collections.abc import Callable, Mapping

import numpy as np
from figure import Figure, interleave, publish
from numpy.typing import NDArray

from muster_agent.runner.shadow import MAX_WAITING, Shadowing, Terms, Told
from muster_models.agreement import Comparison
from muster_models.errors import PredictionError
from muster_models.manifest import ValueOutput
from muster_models.sketch.baseline import Baseline
from muster_models.wire import Shadow
from support.manifests import make_manifest

Array = NDArray[np.generic]

BLOCK = MAX_WAITING  # of calls, each to a shadow of its own, so that every offer is copied
ROUNDS = 500
MICROSECONDS = 1.5
ROW: dict[str, Array] = {"image": np.ones((1, 64), np.float32)}
ANSWER: dict[str, Array] = {"scores": np.ones((1, 10), np.float32)}
OURS, THEIRS = "a" * 64, "b" * 64


class Unasked:
    """A candidate that is never asked: its own thread does not run here."""

    failure: PredictionError | None = None

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer nothing."""
        raise NotImplementedError(sorted(inputs))

    def close(self) -> None:
        """Nothing is held."""


def shadow_of(share: float) -> Shadowing:
    """Return a shadow that takes a share of the calls."""
    manifest = make_manifest(prediction=ValueOutput("scores"))
    comparison = Comparison(manifest, Baseline(()), manifest)
    terms = Terms(Shadow(seconds=60, share=share), comparison, OURS, THEIRS, "1.1.0")
    told = Told(compared=lambda _: None, failed=lambda _: None, ended=lambda: None)
    return Shadowing(Unasked(), terms, told)


def block_of(share: float) -> Callable[[], None]:
    """Return what offers a block of calls; made for one use more than there are rounds."""
    shadows = iter([shadow_of(share) for _ in range(ROUNDS + 1)])

    def block() -> None:
        offer = next(shadows).offer
        for _ in range(BLOCK):
            offer(OURS, ROW, ANSWER)

    return block


def copies() -> None:
    """Copy what a block offers, as arrays, and keep nothing."""
    for _ in range(BLOCK):
        ROW["image"].copy()
        ANSWER["scores"].copy()


def main() -> None:
    """Measure, and print two figures."""
    contestants = {"taken": block_of(1.0), "not drawn": block_of(0.0), "peer": copies}
    for contestant in contestants.values():
        contestant()
    microseconds = {
        name: seconds / BLOCK * 1e6 for name, seconds in interleave(contestants, rounds=ROUNDS).items()
    }
    peer = microseconds.pop("peer")
    publish(
        *(
            Figure(
                f"a call offered to a shadow, {name}", ours, peer, "two copies of arrays", "us",
                ours / peer, f"<= {MICROSECONDS:g} us", met=ours <= MICROSECONDS,
            )
            for name, ours in microseconds.items()
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
