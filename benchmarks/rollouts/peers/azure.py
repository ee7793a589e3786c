"""Azure Device Update: a number and a share of devices that failed to install.

Restates the automatic rollback policy of ``az iot du device deployment create`` with the values of its
documented example, ``--failed-count 10 --failed-percentage 5``: both must be reached ("percentage and minimum
number of devices failed"), counted over all devices of the deployment. It has no stages of its own; here each
stage lasts its windows and nothing else holds it.
"""

from collections.abc import Sequence

from rollouts.looks import Look, Peer, Word

FAILED_COUNT = 10
FAILED_PERCENT = 5


def judge(looks: Sequence[Look], windows: int) -> Word:
    """Go back when count and percentage are reached; else go on when the time is over."""
    now = looks[-1]
    share = now.failed_of_given / now.given if now.given else 0.0
    if now.failed_of_given >= FAILED_COUNT and share >= FAILED_PERCENT / 100:
        return Word.STOP
    return Word.GO if len(looks) >= windows else Word.WAIT


PEER = Peer(
    "Azure Device Update",
    "goes back when 10 devices and 5 % of them failed to install",
    "MicrosoftDocs/azure-docs 03968e7, iot-hub-device-update/deploy-update.md, device-update-deployments.md",
    judge,
    goes_back=True,
)
