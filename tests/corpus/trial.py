"""Checking a corpus as ``muster-agent check`` does, and asking for a second opinion on what was accepted."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from corpus.bases import Base
from corpus.breed import Sample, breed
from muster_agent.check import check
from muster_agent.runner import Verdict, Zygote
from muster_models.manifest import Budget

# Short, because a device would wait longer than a test should.
BUDGET = Budget(
    memory_bytes=256 * 1024 * 1024, load_seconds=3.0, latency_ms=30_000.0, output_bytes=16 * 1024 * 1024
)
AT_ONCE = 2


@dataclass
class Found:
    """What a corpus was found to be.

    Attributes:
        verdicts: How many files of each family ended how: ``accepted`` or a reason.
        others: Accepted files that answer other numbers than the model they were made from. There must be
            none.
        unlike: Accepted files to which the call of their original could not be put, which is said in a
            warning.
        lost: Whole models that were refused.
        silent: Refusals without a word of explanation.
    """

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def files(self) -> int:
        """How many were checked."""
        return self.verdicts.total()

    def table(self) -> str:
        """Return the counts, one line per outcome, for people."""
        outcomes: Counter[str] = Counter()
        for (_, outcome), count in self.verdicts.items():
            outcomes[outcome] += count
        lines = [f"{count:7d}  {outcome}" for outcome, count in outcomes.most_common()]
        compared = f"{self.compared} accepted ones compared, {len(self.unlike)} of them not comparable"
        return "\n".join((f"{self.files} files, {compared}", *lines))


def run(bases: Sequence[Base], numbers: Iterable[int], *, seed: int, zygote: Zygote, folder: Path) -> Found:
    """Check files of the corpus; those that are refused are removed at once."""
    found = Found()
    accepted: list[tuple[Sample, Path, Verdict]] = []

    def one(number: int) -> tuple[Sample, Path, Verdict]:
        sample = breed(bases, seed=seed, number=number)
        place = lay_out(sample, folder / str(number))
        verdict = check(place, zygote, budget=BUDGET)
        if not verdict.accepted or sample.base is None:
            shutil.rmtree(place)
        return sample, place, verdict

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for sample, place, verdict in pool.map(one, numbers):
            _count(found, sample, verdict)
            if verdict.accepted and sample.base is not None:
                accepted.append((sample, place, verdict))
    _ask_again(found, accepted)
    return found


def lay_out(sample: Sample, place: Path) -> Path:
    """Write a file, and beside it the call and the answer that are expected of it; return the folder."""
    place.mkdir()
    (place / f"model.{sample.kind}").write_bytes(sample.data)
    if sample.base is not None:
        arrays = {f"in__{name}": array for name, array in sample.base.inputs.items()}
        arrays |= {f"out__{name}": array for name, array in sample.base.outputs.items()}
        with (place / "case.npz").open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # names of arrays, not of its options
    return place


def _count(found: Found, sample: Sample, verdict: Verdict) -> None:
    assert verdict.accepted == (verdict.reason is None)
    found.verdicts[sample.family, str(verdict.reason or "accepted")] += 1
    name = f"{sample.number} {sample.name} {verdict.reason} {verdict.detail}"
    if sample.family == "whole" and not verdict.accepted:
        found.lost.append(name)
    if not verdict.accepted and not verdict.detail:
        found.silent.append(name)


def _ask_again(found: Found, accepted: Sequence[tuple[Sample, Path, Verdict]]) -> None:
    opinions = second_opinions([place for _, place, _ in accepted])
    for (sample, place, verdict), opinion in zip(accepted, opinions, strict=True):
        found.compared += 1
        name = f"{sample.number} {sample.family} {sample.name}"
        if opinion == "unlike" and any("is not used" in warning for warning in verdict.warnings):
            found.unlike.append(name)
        elif opinion != "same":
            found.others.append(f"{name}: {opinion}")
        shutil.rmtree(place)


def second_opinions(places: Sequence[Path]) -> list[str]:
    """Return a second opinion on each folder; a process that dies of one is replaced."""
    opinions: list[str] = []
    while len(opinions) < len(places):
        left = places[len(opinions) :]
        done = subprocess.run(
            [sys.executable, "-m", "corpus.oracle"],
            input="".join(f"{place}\n" for place in left),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            cwd=Path(__file__).parents[1],
        )
        answers = done.stdout.split()
        opinions += answers if len(answers) == len(left) else [*answers, "died"]
    return opinions
