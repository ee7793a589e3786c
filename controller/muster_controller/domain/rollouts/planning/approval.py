"""Who must agree before a rollout starts, or before it is promoted against its evidence: N of M people.

An approval is bound to what the person saw: the plan, the version, and, once the rollout runs, what it is
judged by. Whatever changes one of them voids the approval, and so does time. Pure: no clock, no database.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from muster_controller.domain.rollouts.judging.evidence import Evidence

ApproverRole = Literal["operator", "approver", "admin"]


class Approval(Struct, frozen=True, forbid_unknown_fields=True):
    """How many people must agree, who may, and for how long that holds.

    Attributes:
        needed: Different people; the plan's author and whoever orders what is approved do not count.
        roles: A person with any of these may approve.
        expires_seconds: After that an approval counts no more.
    """

    needed: Annotated[int, Meta(ge=1, le=20)]
    roles: Annotated[tuple[ApproverRole, ...], Meta(min_length=1)] = ("approver",)
    expires_seconds: Annotated[float, Meta(gt=0, le=1e8)] = 86_400.0


class Given(Struct, frozen=True):
    """One person's approval.

    Attributes:
        role: In which the person gave it.
        digest: Of what was approved, see ``digest_of``.
        at: Unix seconds.
        void: What has happened since, so that it counts no more whatever comes; empty while it may count.
    """

    person: str
    role: str
    reason: str
    digest: str
    at: float
    void: str = ""


def digest_of(plan: Struct, version: str, evidence: Evidence | None) -> str:
    """Return the SHA-256, in hex, of what a person approves.

    Of the evidence it covers what one decides by: the stage, the verdict, each gate's verdict, what is
    missing and which devices failed. The instant and the decimals, which move in each round, are left out:
    otherwise nobody could agree with anybody.

    Args:
        plan: As it stands.
        version: Digest of the manifest.
        evidence: The newest; None where nothing has started.
    """
    said = [msgspec.to_builtins(plan), version, None if evidence is None else _judged_by(evidence)]
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()


def _judged_by(evidence: Evidence) -> list[object]:
    gates = sorted((gate.name, str(gate.verdict)) for gate in evidence.gates)
    return [evidence.stage, str(evidence.verdict), gates, sorted(evidence.failed)]


def counting(
    policy: Approval, given: Iterable[Given], *, digest: str, barred: Collection[str], now: float
) -> tuple[Given, ...]:
    """Return the approvals that count now, one of each person (the newest), oldest first.

    Args:
        policy: Of the plan.
        given: All that were given.
        digest: Of what is to be done, as it stands now.
        barred: People who do not count: the author, and who orders it.
        now: Unix seconds.
    """
    newest: dict[str, Given] = {}
    for one in sorted(given, key=lambda one: one.at):
        if not why_void(policy, one, digest=digest, barred=barred, now=now):
            newest[one.person] = one
    return tuple(sorted(newest.values(), key=lambda one: one.at))


def why_void(policy: Approval, one: Given, *, digest: str, barred: Collection[str], now: float) -> str:
    """Return why an approval does not count, in words; empty when it does.

    An approval that says it comes from the future counts: a clock that went back voids nothing, and its
    expiry is still a whole life after the instant it was given.
    """
    if one.void:
        return one.void
    if one.person in barred:
        return f"{one.person} may not approve what is their own"
    if one.role not in policy.roles:
        return f"{one.person} approved as {one.role}, expected {_either(policy.roles)}"
    if one.digest != digest:
        return f"{one.person} approved something else: the plan or the evidence has changed since"
    if now >= one.at + policy.expires_seconds:
        return f"the approval of {one.person} has expired after {policy.expires_seconds:g} s"
    return ""


def disowned(one: Given, roles: Collection[str], *, elsewhere: Collection[str] = ()) -> Given:
    """Return an approval as it stands once its giver holds ``roles``: void without the one it was given in.

    For good: whoever is given the role again looks again.

    Args:
        one: Given before.
        roles: Of its giver; none after they were revoked.
        elsewhere: The models that the roles are for, where the one that was approved is not among them.
    """
    if one.void or (one.role in roles and not elsewhere):
        return one
    where = f" of {' and '.join(elsewhere)}" if elsewhere else ""
    now = f"is {' and '.join(roles)}{where} since" if roles else "was revoked since"
    return replace(one, void=f"{one.person}, who approved as {one.role}, {now}")


def why_weaker(before: Approval | None, after: Approval | None) -> str:
    """Return in what a policy asks less than the one before, in words; empty when in nothing.

    Nobody who waits for approval may make it unnecessary by an edit.
    """
    if before is None:
        return ""
    if after is None:
        return f"{before.needed} people must agree, and an edit may not do without them"
    if after.needed < before.needed:
        return f"{before.needed} people must agree, and an edit may not make that {after.needed}"
    more = [role for role in after.roles if role not in before.roles]
    if more:
        return f"{_either(before.roles)} must agree, and an edit may not let {_either(tuple(more))} do it"
    if after.expires_seconds > before.expires_seconds:
        return f"an approval counts for {before.expires_seconds:g} s, and an edit may not make that longer"
    return ""


def is_enough(
    policy: Approval, given: Iterable[Given], *, digest: str, barred: Collection[str], now: float
) -> bool:
    """Tell whether as many people agree as the policy asks for."""
    return len(counting(policy, given, digest=digest, barred=barred, now=now)) >= policy.needed


def expires(
    policy: Approval, given: Iterable[Given], *, digest: str, barred: Collection[str], now: float
) -> float | None:
    """Return when approvals become too few if nobody renews theirs; None when they are too few now."""
    counted = counting(policy, given, digest=digest, barred=barred, now=now)
    if len(counted) < policy.needed:
        return None
    return counted[len(counted) - policy.needed].at + policy.expires_seconds


def shortfall(
    policy: Approval, given: Iterable[Given], *, digest: str, barred: Collection[str], now: float
) -> str:
    """Return what is missing, in words, with the reason for each approval that does not count; or nothing."""
    everything = tuple(given)
    counted = counting(policy, everything, digest=digest, barred=barred, now=now)
    if len(counted) >= policy.needed:
        return ""
    agreed = {one.person for one in counted}
    void = [
        why_void(policy, one, digest=digest, barred=barred, now=now)
        for one in everything
        if one.person not in agreed
    ]
    text = f"{policy.needed - len(counted)} of {policy.needed} approvals by {_either(policy.roles)}"
    return "; ".join([text, *dict.fromkeys(void)])


def _either(roles: tuple[ApproverRole, ...]) -> str:
    return " or ".join(roles)
