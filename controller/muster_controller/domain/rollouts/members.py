"""The devices of a rollout: where the draw put each one, and what has become of it since.

Kept apart from the rest of the state, because a fleet has many and a step changes few.
"""

from collections.abc import Mapping

from msgspec import Struct


class Failure(Struct, frozen=True, gc=False):
    """Why a version does not run on a device, as the device told it.

    Attributes:
        reason: A ``Reason``, or ``unknown``.
    """

    reason: str
    detail: str = ""


class Member(Struct, frozen=True, gc=False):
    """One device of the cohort.

    Attributes:
        arm: Index of its stage, or ``draw.CONTROL``.
        given: When it was given the version, Unix seconds; None while it was not.
        tries: How often it was given the version again by itself.
        retry_at: Before that it is not given the version again; None when it did not fail, or is not to be
            tried again.
        failure: Why the version failed on it, also after it has gone back, until the version runs after all.
        acknowledged: A person has accepted the failure: it counts no more.
        withdrawn: Why this one device was sent back, in words; empty when it was not.
    """

    arm: int
    given: float | None = None
    tries: int = 0
    retry_at: float | None = None
    failure: Failure | None = None
    acknowledged: bool = False
    withdrawn: str = ""


def changed(before: Mapping[str, Member], after: Mapping[str, Member]) -> dict[str, Member]:
    """Return the members that are new or not what they were."""
    if before is after:
        return {}
    # Most are the very same, which is told sooner than that they are equal.
    known = before.get
    return {
        device: member
        for device, member in after.items()
        if (old := known(device)) is not member and old != member
    }


def was_touched(member: Member) -> bool:
    """Tell whether a member may have the version, or a part of it."""
    return (
        member.given is not None or member.tries > 0 or member.failure is not None or member.withdrawn != ""
    )
