"""What has become of a version on the devices that were given it."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.admitting.retry import wait_seconds
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.members import Failure, Member
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.roster import Crowd, Mask, Names, roster_of
from muster_controller.domain.rollouts.sight import Sight
from muster_models.errors import Reason
from muster_models.wire import Phase


class Outcome(StrEnum):
    """What has become of the version on one device."""

    WAITING = "waiting"  # nothing yet
    TRIAL = "trial"  # it runs, on probation
    RUNNING = "running"
    FAULT = "fault"  # it failed, and the version may be to blame
    HINDERED = "hindered"  # it could not be installed, for a reason that is the device's own


CODES: Mapping[Outcome, int] = {outcome: code for code, outcome in enumerate(Outcome)}
NOTHING = -1  # the code of a member that does not count
# Reasons for which a version may be to blame; every other one is the device's, its disk's or its network's.
FAULTS = frozenset(
    {
        Reason.LOAD_FAILED, Reason.CRASHED, Reason.HUNG, Reason.OUT_OF_MEMORY, Reason.NOT_FINITE,
        Reason.WRONG_SHAPE, Reason.WRONG_OUTPUT, Reason.TOO_SLOW, Reason.TOO_LARGE, Reason.BAD_MODEL,
        Reason.BAD_MANIFEST, Reason.BAD_SETTING, Reason.BAD_SKETCH,
    }
)  # fmt: skip
# Tuples, because a fleet asks so often that hashing would be felt.
_ENDED_BADLY = (Phase.FAILED, Phase.REJECTED, Phase.ROLLED_BACK)
_DONE = (Phase.IDLE, Phase.COMMITTED)
_SETTLED = (*_ENDED_BADLY, *_DONE, Phase.SUPERSEDED)
_BY_ORDER = (Reason.ORDERED, Reason.SUPERSEDED)


def outcome_of(digest: str, device: DeviceFacts) -> Outcome:
    """Return what has become of a version on a device; a failure without a reason is held against it."""
    if has_failed(digest, device):
        blamed = device.reason is None or device.reason in FAULTS
        return Outcome.FAULT if blamed else Outcome.HINDERED
    if device.current != digest:
        return Outcome.WAITING
    done = device.phase in _DONE or device.target != digest
    return Outcome.RUNNING if done else Outcome.TRIAL


def has_failed(digest: str, device: DeviceFacts) -> bool:
    """Tell whether a device says that it gave a version up."""
    return device.target == digest and device.phase in _ENDED_BADLY and device.reason not in _BY_ORDER


def has_returned(digest: str, device: DeviceFacts, *, since: float) -> bool:
    """Tell whether a device has confirmed, after ``since``, that it neither runs nor installs a version.

    One that was not heard of since then may have taken the version just before: it does not count.
    """
    is_fresh = device.seen is not None and device.seen > since
    installs = device.target == digest and device.phase not in _SETTLED
    return is_fresh and device.current != digest and not installs


@dataclass(frozen=True)
class Trialled:
    """The devices that were given a version, and what has become of it.

    Attributes:
        names: Of all members.
        codes: What counts for each member, see ``CODES``; ``NOTHING`` for one that was not given the version,
            or whose failure an operator has acknowledged. One that waits to be given it again is waiting.
        heard: Members heard of lately.
        control: How many keep the previous version.
        reasons: By device, of those that failed or were hindered.
        has_failed_anew: A failure was told that was not known before.
    """

    names: Names
    codes: npt.NDArray[np.int8]
    heard: Mask
    control: int
    reasons: Mapping[str, str]
    has_failed_anew: bool = False

    def of(self, *wanted: Outcome) -> AbstractSet[str]:
        """Return the devices with one of these outcomes."""
        chosen = np.zeros(len(CODES) + 1, np.bool_)  # the last is of those that do not count
        chosen[[CODES[outcome] for outcome in wanted]] = True
        return Crowd(self.names, chosen[self.codes])

    @property
    def outcomes(self) -> AbstractSet[str]:
        """Devices that count."""
        return Crowd(self.names, self.codes != NOTHING)

    @property
    def reachable(self) -> AbstractSet[str]:
        """Devices that count and were heard of lately."""
        return Crowd(self.names, self.heard & (self.codes != NOTHING))

    @property
    def executed(self) -> AbstractSet[str]:
        """Devices with an outcome."""
        return self.of(Outcome.RUNNING, Outcome.FAULT, Outcome.HINDERED)

    def why(self, *wanted: Outcome) -> dict[str, int]:
        """Return the devices with one of these outcomes counted by reason, the most frequent first."""
        counted = Counter(self.reasons[device] for device in self.of(*wanted))
        return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))

    @property
    def unsettled(self) -> AbstractSet[str]:
        """Reachable devices without an outcome: the ones that are waited for."""
        return self.of(Outcome.WAITING, Outcome.TRIAL) & self.reachable


def observe(plan: Plan, facts: Facts, members: Mapping[str, Member]) -> tuple[Trialled, dict[str, Member]]:
    """Return what has become of a version on the members that were given it, and those that changed by it.

    A device forgets its failure by reporting another version: so the member keeps it, until the version runs
    on the device after all. A failure that the plan's policy lets pass takes the version away for a while.
    """
    roster = roster_of(members)
    sight = Sight(facts, roster)
    table, is_known, is_given = sight.members, sight.is_known, sight.is_given
    told = sight.by_kind(plan.digest, lambda device: CODES[outcome_of(plan.digest, device)])
    is_running = told == CODES[Outcome.RUNNING]
    has_failed = is_known & is_given & np.isin(told, [CODES[Outcome.FAULT], CODES[Outcome.HINDERED]])
    codes = np.where(is_known & is_given & (is_running | ~table["is_acknowledged"]), told, NOTHING)
    codes[is_known & ~is_given & ~np.isnan(table["retry_at"])] = CODES[Outcome.WAITING]
    changed = {
        sight.names.all[row]: Member(int(table["arm"][row]), float(table["given"][row]))
        for row in np.flatnonzero(is_known & is_given & is_running & table["has_past"]).tolist()
    }
    reasons: dict[str, str] = {}
    for row in np.flatnonzero(has_failed).tolist():
        name = sight.names.all[row]
        member, device = roster[name], facts.devices[name]
        following = _after_failure(plan, member, device, facts.now)
        if following != member:
            changed[name] = following
        if following.given is None:
            codes[row] = CODES[Outcome.WAITING]
        elif codes[row] != NOTHING:
            reasons[name] = str(device.reason or "unknown")
    seen = Trialled(
        names=sight.names,
        codes=codes,
        heard=sight.is_reachable,
        control=int(np.count_nonzero(is_known & ~is_given & (table["arm"] == CONTROL))),
        reasons=reasons,
        has_failed_anew=any(_is_new(roster[name], member) for name, member in changed.items()),
    )
    return seen, changed


def _is_new(before: Member, after: Member) -> bool:
    return after.failure is not None and (after.failure != before.failure or after.given is None)


def _after_failure(plan: Plan, member: Member, device: DeviceFacts, now: float) -> Member:
    """Return a member on which the version failed: it is to be tried again, or the failure counts."""
    failure = Failure(str(device.reason or "unknown"), device.detail)
    policy = plan.retry
    if (
        policy is None
        or member.acknowledged
        or device.reason not in policy.reasons
        or member.tries >= policy.tries
    ):
        return member if member.failure == failure else replace(member, failure=failure)
    wait = wait_seconds(policy, seed=plan.seed, device=device.device, tries=member.tries)
    return replace(member, given=None, tries=member.tries + 1, retry_at=now + wait, failure=failure)
