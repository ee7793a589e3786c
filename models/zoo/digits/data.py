"""Handwritten digits, 8 by 8 pixels of 0 to 16: the optical recognition set that scikit-learn ships.

Source: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998 (test part, 1,797 images).
Licence: CC BY 4.0.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Split = Literal["train", "evaluation", "live"]
SEED = 20_260_101
SOURCE = "scikit-learn load_digits: UCI optical recognition of handwritten digits, test part"
LICENCE = "CC-BY-4.0"
# The shares of each digit in a split; every image is in exactly one.
ENDS = {"train": (0.0, 0.45), "evaluation": (0.45, 0.75), "live": (0.75, 1.0)}


def rows(split: Split) -> dict[str, NDArray[np.float32]]:
    """Return the inputs of a split by name: ``image``, float32, rows of 64 pixels in random order."""
    images, _ = _split(split)
    return {"image": images}


def answers(split: Split) -> NDArray[np.int64]:
    """Return the digit that each row of a split shows."""
    _, digits = _split(split)
    return digits


def _split(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    data = load_digits()
    images, digits = data.data.astype(np.float32), data.target.astype(np.int64)
    chance = np.random.default_rng(SEED)
    first, last = ENDS[split]
    chosen = []
    for digit in range(10):
        shuffled = chance.permutation(np.flatnonzero(digits == digit))
        chosen.append(shuffled[round(first * len(shuffled)) : round(last * len(shuffled))])
    order = np.random.default_rng([SEED, len(split)]).permutation(np.concatenate(chosen))
    return images[order], digits[order]
