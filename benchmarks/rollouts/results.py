"""What a method made of one rollout, and what many of them say together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import exp, inf, isinf, lgamma, log
from typing import Any, Literal

import numpy as np

Ending = Literal["stopped", "promoted", "held"]
RESAMPLES = 1000
TAIL = 0.025  # of a two-sided interval of 95 %


@dataclass(frozen=True)
class Result:
    """One rollout under one method.

    Attributes:
        ending: ``held`` when the method had decided nothing when the time was over.
        windows: That ended between the first admission and the decision; all there were when it held.
        exposed: Devices that were given the version and tried it, up to the decision.
        devices: Of the fleet.
        restored: Windows from a stop until every device that was heard of was back; None when the method
            brings nobody back by itself.
    """

    method: str
    case: str
    seed: int
    ending: Ending
    windows: int
    exposed: int
    devices: int
    restored: int | None = None


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Return what the rollouts of one method and case say together, with intervals of 95 %."""
    stopped = [result for result in results if result.ending == "stopped"]
    promoted = [result for result in results if result.ending == "promoted"]
    seeds = {result.seed for result in results}
    detect = [float(r.windows) if r.ending == "stopped" else inf for r in results]
    promote = [float(r.windows) if r.ending == "promoted" else inf for r in results]
    back = [float(r.restored) for r in stopped if r.restored is not None]
    return {
        "method": results[0].method, "case": results[0].case, "runs": len(results), "seeds": len(seeds),
        "stopped": len(stopped), "stopped_share": share(len(stopped), len(results)),
        "promoted": len(promoted), "promoted_share": share(len(promoted), len(results)),
        "windows_to_stop": middle(detect), "windows_to_promote": middle(promote),
        "exposed": middle([float(r.exposed) for r in results]),
        "exposed_most": max(r.exposed for r in results),
        "exposed_share": middle([r.exposed / r.devices for r in results]),
        "restored": len(back), "windows_to_restored": middle(back),
    }  # fmt: skip


def plain(result: Result) -> dict[str, Any]:
    """Return a result for a JSON document."""
    return asdict(result)


def share(hits: int, trials: int) -> list[float]:
    """Return a share and its exact interval (Clopper and Pearson, 1934).

    >>> [round(end, 4) for end in share(0, 500)]
    [0.0, 0.0, 0.0074]
    >>> [round(end, 4) for end in share(5, 500)]
    [0.01, 0.0033, 0.0232]
    """
    if trials == 0:
        return [0.0, 0.0, 1.0]
    low = _solve(lambda p: TAIL - (1 - _at_most(hits - 1, trials, p))) if hits else 0.0
    high = _solve(lambda p: _at_most(hits, trials, p) - TAIL) if hits < trials else 1.0
    return [hits / trials, low, high]


def _at_most(hits: int, trials: int, p: float) -> float:
    """Return the binomial probability of ``hits`` or fewer."""
    whole = lgamma(trials + 1)
    return sum(
        exp(whole - lgamma(k + 1) - lgamma(trials - k + 1) + k * log(p) + (trials - k) * log(1 - p))
        for k in range(hits + 1)
    )


def _solve(falling: Callable[[float], float]) -> float:
    low, high = 1e-12, 1 - 1e-12
    for _ in range(60):
        between = (low + high) / 2
        low, high = (between, high) if falling(between) > 0 else (low, between)
    return (low + high) / 2


def middle(values: Iterable[float]) -> list[float | None] | None:
    """Return the median and its interval by the bootstrap; None where it lies beyond what was watched.

    >>> middle([4.0, 5.0, 6.0, float("inf"), float("inf")])[0]
    6.0
    >>> middle([]) is None
    True
    """
    held = np.sort(np.array(list(values), dtype=np.float64))
    if len(held) == 0:
        return None
    picks = np.random.default_rng(0).integers(len(held), size=(RESAMPLES, len(held)))
    picks.sort(axis=1)
    at = (len(held) - 1) // 2  # the lower of two in the middle: a number that was seen
    medians = np.sort(held[picks[:, at]])
    ends = medians[int(TAIL * RESAMPLES)], medians[int((1 - TAIL) * RESAMPLES) - 1]
    return [None if isinf(value) else float(value) for value in (held[at], *ends)]
