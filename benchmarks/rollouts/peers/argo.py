"""Argo Rollouts: a limit of failed measurements of the canary's own metrics.

Restates ``assessMetricStatus``: a metric fails when more of its measurements failed than ``failureLimit``, is
an error after more errors in a row than ``DefaultConsecutiveErrorLimit`` (a query without a value is one),
and succeeds when ``count`` of them were taken; a metric that failed or is an error aborts the rollout. Limit
and condition are those of its guide's ``success-rate`` example, ``successCondition: result[0] >= 0.95`` and
``failureLimit: 3``. For predictions, as for Flagger: the mean's distance from the training data's, at most
``DISTANCE`` sd.
"""

from collections.abc import Sequence

from rollouts.fleet import LEVEL
from rollouts.looks import Look, Peer, Word

FAILURE_LIMIT = 3
LEAST_SUCCESS = 0.95
DISTANCE = 0.25  # as for Flagger
ERROR_LIMIT = 4


def judge(looks: Sequence[Look], windows: int) -> Word:
    """Abort when a metric failed more often than its limit; go on when all were measured often enough."""
    newest = looks[-ERROR_LIMIT - 1 :]
    if len(newest) > ERROR_LIMIT and all(look.canary is None for look in newest):
        return Word.STOP
    measured = [look.canary for look in looks if look.canary is not None]
    calls = sum(1 - canary.failing < LEAST_SUCCESS for canary in measured)
    predictions = sum(abs(canary.mean - LEVEL) > DISTANCE for canary in measured)
    if max(calls, predictions) > FAILURE_LIMIT:
        return Word.STOP
    return Word.GO if len(measured) >= windows else Word.WAIT


PEER = Peer(
    "Argo Rollouts",
    "aborts at the fourth failed measurement of a metric of the canary",
    "argoproj/argo-rollouts 045c1cf, analysis/analysis.go; limits: docs/features/analysis.md",
    judge,
    goes_back=True,
)
