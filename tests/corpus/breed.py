"""The corpus: any number of files from a seed, each the same whenever and wherever it is made."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from corpus import onnx_edits, tflite_edits
from corpus.attacks import attack
from corpus.bases import Base
from muster_models.manifest import RuntimeKind
from support.mutation import mutate

Family = Literal["whole", "cut", "bytes", "structure", "attack"]
# Of a hundred files: a whole one must be accepted, or the others prove nothing.
SHARES: dict[Family, int] = {"whole": 2, "cut": 10, "bytes": 34, "structure": 40, "attack": 14}


@dataclass(frozen=True, eq=False)
class Sample:
    """A file to check.

    Attributes:
        base: The good model that it was made from, whose answer is expected of it; None for an attack.
    """

    number: int
    family: Family
    kind: RuntimeKind
    data: bytes
    base: Base | None = None
    name: str = ""


def breed(bases: Sequence[Base], *, seed: int, number: int) -> Sample:
    """Return one file of the corpus."""
    chance = random.Random(f"{seed}/{number}")
    (family,) = chance.choices(list(SHARES), weights=list(SHARES.values()))
    if family == "attack":
        name, kind, data = attack(chance)
        return Sample(number, family, kind, data, name=name)
    base = chance.choice(bases)
    return Sample(number, family, base.kind, _damaged(base, family, chance), base, name=base.name)


def _damaged(base: Base, family: Family, chance: random.Random) -> bytes:
    match family:
        case "cut":
            return base.data[: chance.randrange(len(base.data))]
        case "bytes":
            return mutate(base.data, chance)
        case "structure":
            edit = onnx_edits.edit if base.kind == "onnx" else tflite_edits.edit
            return edit(base.data, chance)
        case _:
            return base.data
