"""One measured figure beside its peer's, and the way to measure two things fairly in one process."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One row of ``scripts/bench``.

    Attributes:
        ours, peer: In ``unit``.
        ratio: ``ours / peer`` of one run; the figure that counts, because machines differ.
        goal: What the ratio, or ours, has to reach, in words.
        met: Whether it did.
    """

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    goal: str
    met: bool


def at_most(name: str, *, ours: float, peer: tuple[str, float], unit: str, ratio: float) -> Figure:
    """Return a figure whose goal is a ratio of at most ``ratio``."""
    peer_name, value = peer
    measured = ours / value
    goal = f"<= {ratio:g} x" if ratio >= 1 else f"{1 / ratio:.3g} x less"
    return Figure(name, ours, value, peer_name, unit, measured, goal, measured <= ratio)


def at_least(name: str, *, ours: float, peer: tuple[str, float], unit: str, least: float) -> Figure:
    """Return a figure whose goal is a value of ours."""
    peer_name, value = peer
    return Figure(name, ours, value, peer_name, unit, ours / value, f">= {least:,g} {unit}", ours >= least)


def below(name: str, *, ours: float, peer: tuple[str, float], unit: str, most: float) -> Figure:
    """Return a figure whose goal is that ours stays below a value."""
    peer_name, value = peer
    return Figure(name, ours, value, peer_name, unit, ours / value, f"< {most:,g} {unit}", ours < most)


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    clock: Callable[[], int] = time.process_time_ns,
) -> dict[str, float]:
    """Return the median seconds of a call of each contestant, in turn, so that load hits all alike.

    Args:
        clock: Nanoseconds: CPU time of this process, or wall time for what other processes do.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            started = clock()
            call()
            seconds[name].append((clock() - started) / 1e9)
    return {name: statistics.median(values) for name, values in seconds.items()}


def publish(*figures: Figure) -> None:
    """Print figures for ``benchmarks/__main__.py``, which lays them out."""
    print(json.dumps([asdict(figure) for figure in figures]))
