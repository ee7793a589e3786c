"""Giving a version again to a device on which it failed: for which reasons, how often, after how long."""

import hashlib
from typing import Annotated

from msgspec import Meta, Struct

from muster_models.errors import Reason

# What the device, its disk or its network may get over without anybody's help.
PASSING = (
    Reason.NO_SPACE, Reason.DOWNLOAD_FAILED, Reason.STORAGE_FAILED, Reason.TIMED_OUT, Reason.TAMPERED,
    Reason.EXPIRED,
)  # fmt: skip
MOST_SECONDS = 7 * 86_400.0  # between two tries, whatever the growth


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """When a device is given a version again by itself.

    Attributes:
        reasons: Of the failure, by code; by default those that are the device's own and may pass.
        tries: So often at most, after the first time.
        backoff_seconds: Before the first of them.
        growth: Each wait is so many times as long as the one before; a week at most.
        jitter: Share by which a wait is made longer or shorter, from the seed and the device.
    """

    reasons: Annotated[tuple[Reason, ...], Meta(min_length=1)] = PASSING
    tries: Annotated[int, Meta(ge=1, le=100)] = 3
    backoff_seconds: Annotated[float, Meta(gt=0, le=1e6)] = 60.0
    growth: Annotated[float, Meta(ge=1, le=100)] = 2.0
    jitter: Annotated[float, Meta(ge=0, lt=1)] = 0.2


def wait_seconds(policy: Retry, *, seed: str, device: str, tries: int) -> float:
    """Return how long a device waits after ``tries`` further tries; the same for the same seed.

    >>> policy = Retry(backoff_seconds=60, growth=2, jitter=0.2)
    >>> [round(wait_seconds(policy, seed="1", device="berlin-1", tries=n)) for n in range(3)]
    [56, 119, 273]
    """
    # Beyond 64 doublings the bound below has long taken over, and a float would overflow.
    plain = policy.backoff_seconds * policy.growth ** min(tries, 64)
    digest = hashlib.sha256(f"{seed}\nretry\n{device}\n{tries}".encode()).digest()
    chance = int.from_bytes(digest[:8], "big") / 2**64
    return min(plain, MOST_SECONDS) * (1 + policy.jitter * (2 * chance - 1))
