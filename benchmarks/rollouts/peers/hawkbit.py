"""hawkBit: a group's share of failed installations.

Restates ``ThresholdRolloutGroupErrorCondition.eval`` and its counterpart for success, with the defaults of
``RolloutGroupConditionBuilder.withDefaults``: 50 % of failures pause, 50 % of successes start the next group.
Both are shares of all targets of the group, offline ones too. What devices do after the installation is not
looked at, and a pause brings nobody back.
"""

from collections.abc import Sequence

from rollouts.looks import Look, Peer, Word

ERROR_PERCENT = 50
SUCCESS_PERCENT = 50


def judge(looks: Sequence[Look], _windows: int) -> Word:
    """Pause above the threshold of failures; go on at that of successes, or when the group is done."""
    now = looks[-1]
    if now.group and now.failed / now.group > ERROR_PERCENT / 100:
        return Word.STOP
    done = now.failed + now.finished == now.group
    return Word.GO if done or now.finished / now.group >= SUCCESS_PERCENT / 100 else Word.WAIT


PEER = Peer(
    "hawkBit",
    "pauses when more than 50 % of a group failed to install",
    "eclipse-hawkbit/hawkbit 67ca1c4, ThresholdRolloutGroupErrorCondition, RolloutGroupConditionBuilder",
    judge,
    goes_back=False,
)
