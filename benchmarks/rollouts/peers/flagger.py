"""Flagger: a counter of failed checks against fixed ranges of the canary's own metrics.

Restates ``advanceCanary``: in each interval every metric is checked against its ``thresholdRange``; a check
that fails, or has no value, adds one to ``failedChecks`` and the canary does not advance; ``failedChecks`` at
``threshold`` rolls back. The counter is that of the whole canary and is never lowered. Ranges and threshold
are those of its tutorials: success rate at least 99 %, P99 at most 500 ms, ``threshold: 5``. Predictions take
a metric of one's own: here the distance of their mean from the training data's, at most ``DISTANCE`` sd. The
counter of earlier stages is lost here, in Flagger's favour for good versions.
"""

from collections.abc import Sequence

from rollouts.fleet import LEVEL
from rollouts.looks import Arm, Look, Peer, Word

THRESHOLD = 5
LEAST_SUCCESS = 0.99
MOST_MILLISECONDS = 500.0
DISTANCE = 0.25  # a compromise: nearer, what is peculiar to five devices alone would stop good versions


def passes(canary: Arm | None) -> bool:
    """Tell whether all checks of one interval pass; without a value none does."""
    return (
        canary is not None
        and 1 - canary.failing >= LEAST_SUCCESS
        and canary.slow(0.99) <= MOST_MILLISECONDS
        and abs(canary.mean - LEVEL) <= DISTANCE
    )


def judge(looks: Sequence[Look], windows: int) -> Word:
    """Go back at so many failed checks; go on after as many passed ones as a stage has windows."""
    failed = sum(not passes(look.canary) for look in looks)
    if failed >= THRESHOLD:
        return Word.STOP
    return Word.GO if len(looks) - failed >= windows else Word.WAIT


PEER = Peer(
    "Flagger",
    "goes back at 5 failed checks of the canary against fixed ranges",
    "fluxcd/flagger 2944581, pkg/controller/scheduler.go; ranges: docs.flagger.app/usage/metrics",
    judge,
    goes_back=True,
)
