"""What has become of a version on the devices that were given it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.admitting.retry import wait_seconds
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.members import Failure, Member
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_models.errors import Reason
from muster_models.wire import Phase


class Outcome(StrEnum):
    """What has become of the version on one device."""

    WAITING = "waiting"  # nothing yet
    TRIAL = "trial"  # it runs, on probation
    RUNNING = "running"
    FAULT = "fault"  # it failed, and the version may be to blame
    HINDERED = "hindered"  # it could not be installed, for a reason that is the device's own


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
        outcomes: By device; a failure that an operator has acknowledged is left out, and one that waits to
            be given the version again counts as waiting.
        reachable: Devices heard of lately.
        control: How many keep the previous version.
        reasons: By device, of those that failed or were hindered.
        has_failed_anew: A failure was told that was not known before.
    """

    outcomes: Mapping[str, Outcome]
    reachable: frozenset[str]
    control: int
    reasons: Mapping[str, str]
    has_failed_anew: bool = False

    def of(self, *wanted: Outcome) -> set[str]:
        """Return the devices with one of these outcomes."""
        return set().union(*(self._by_outcome[outcome] for outcome in wanted))

    @cached_property
    def _by_outcome(self) -> dict[Outcome, set[str]]:
        found: dict[Outcome, set[str]] = {outcome: set() for outcome in Outcome}
        for device, outcome in self.outcomes.items():
            found[outcome].add(device)
        return found

    @property
    def executed(self) -> set[str]:
        """Devices with an outcome."""
        return self.of(Outcome.RUNNING, Outcome.FAULT, Outcome.HINDERED)

    def why(self, *wanted: Outcome) -> dict[str, int]:
        """Return the devices with one of these outcomes counted by reason, the most frequent first."""
        counted = Counter(self.reasons[device] for device in self.of(*wanted))
        return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))

    @property
    def unsettled(self) -> set[str]:
        """Reachable devices without an outcome: the ones that are waited for."""
        return (self.of(Outcome.WAITING, Outcome.TRIAL)) & self.reachable


def observe(plan: Plan, facts: Facts, members: Mapping[str, Member]) -> tuple[Trialled, dict[str, Member]]:
    """Return what has become of a version on the members that were given it, and those that changed by it.

    A device forgets its failure by reporting another version: so the member keeps it, until the version runs
    on the device after all. A failure that the plan's policy lets pass takes the version away for a while.
    """
    watching = _Watching(plan, facts, {}, set(), {}, {})
    controls = 0
    for name, member in members.items():
        device = facts.devices.get(name)
        if device is None:
            continue
        if member.given is not None:
            watching.look(member, device)
        elif member.retry_at is not None:
            watching.count(device, Outcome.WAITING)
        controls += member.arm == CONTROL and member.given is None
    seen = Trialled(
        outcomes=watching.outcomes,
        reachable=frozenset(watching.reachable),
        control=controls,
        reasons=watching.reasons,
        has_failed_anew=any(_is_new(members[name], member) for name, member in watching.changed.items()),
    )
    return seen, watching.changed


def _is_new(before: Member, after: Member) -> bool:
    return after.failure is not None and (after.failure != before.failure or after.given is None)


@dataclass
class _Watching:
    """What is being gathered: local to one call of ``observe``."""

    plan: Plan
    facts: Facts
    outcomes: dict[str, Outcome]
    reachable: set[str]
    reasons: dict[str, str]
    changed: dict[str, Member]

    def look(self, member: Member, device: DeviceFacts) -> None:
        """Take in what one device that was given the version says."""
        outcome = outcome_of(self.plan.digest, device)
        if outcome is Outcome.RUNNING:
            if member.failure is not None or member.tries or member.acknowledged:
                self.changed[device.device] = Member(member.arm, member.given)
        elif outcome is Outcome.FAULT or outcome is Outcome.HINDERED:
            outcome = self._fail(member, device, outcome)
        if not member.acknowledged or outcome is Outcome.RUNNING:
            self.count(device, outcome)

    def count(self, device: DeviceFacts, outcome: Outcome) -> None:
        """Count a device."""
        name = device.device
        self.outcomes[name] = outcome
        if self.facts.is_reachable(device):
            self.reachable.add(name)
        if outcome is Outcome.FAULT or outcome is Outcome.HINDERED:
            self.reasons[name] = str(device.reason or "unknown")

    def _fail(self, member: Member, device: DeviceFacts, outcome: Outcome) -> Outcome:
        """Remember a failure; return what it counts as."""
        failure = Failure(str(device.reason or "unknown"), device.detail)
        policy = self.plan.retry
        if (
            policy is None
            or member.acknowledged
            or device.reason not in policy.reasons
            or member.tries >= policy.tries
        ):
            if member.failure != failure:
                self.changed[device.device] = replace(member, failure=failure)
            return outcome
        wait = wait_seconds(policy, seed=self.plan.seed, device=device.device, tries=member.tries)
        self.changed[device.device] = replace(
            member,
            given=None,
            tries=member.tries + 1,
            retry_at=self.facts.now + wait,
            failure=failure,
        )
        return Outcome.WAITING
