"""What has become of a version on the devices that were given it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.plan import Plan
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
_ENDED_BADLY = frozenset({Phase.FAILED, Phase.REJECTED, Phase.ROLLED_BACK})
_BY_ORDER = frozenset({Reason.ORDERED, Reason.SUPERSEDED})


def outcome_of(digest: str, device: DeviceFacts) -> Outcome:
    """Return what has become of a version on a device; a failure without a reason is held against it."""
    if device.target == digest and device.phase in _ENDED_BADLY and device.reason not in _BY_ORDER:
        blamed = device.reason is None or device.reason in FAULTS
        return Outcome.FAULT if blamed else Outcome.HINDERED
    if device.current != digest:
        return Outcome.WAITING
    done = device.phase in {Phase.COMMITTED, Phase.IDLE} or device.target != digest
    return Outcome.RUNNING if done else Outcome.TRIAL


@dataclass(frozen=True)
class Trialled:
    """The devices that were given a version, and what has become of it.

    Attributes:
        outcomes: By device; those that an operator has acknowledged are left out.
        reachable: Devices heard of lately.
        control: How many keep the previous version.
        reasons: By device, of those that failed or were hindered.
    """

    outcomes: Mapping[str, Outcome]
    reachable: frozenset[str]
    control: int
    reasons: Mapping[str, str]

    def of(self, *wanted: Outcome) -> set[str]:
        """Return the devices with one of these outcomes."""
        return {device for device, outcome in self.outcomes.items() if outcome in wanted}

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


def look(
    plan: Plan, facts: Facts, *, arms: Mapping[str, int], admitted: int, acknowledged: frozenset[str]
) -> Trialled:
    """Return what has become of a version on the devices of the first ``admitted`` stages.

    Args:
        arms: Of the whole cohort.
    """
    given = [facts.devices[name] for name, arm in arms.items() if 0 <= arm < admitted]
    counted = [device for device in given if device.device not in acknowledged]
    outcomes = {device.device: outcome_of(plan.digest, device) for device in counted}
    bad = [d for d in counted if outcomes[d.device] in {Outcome.FAULT, Outcome.HINDERED}]
    return Trialled(
        outcomes=outcomes,
        reachable=frozenset(device.device for device in counted if facts.is_reachable(device)),
        control=sum(arm == CONTROL for arm in arms.values()),
        reasons={device.device: str(device.reason or "unknown") for device in bad},
    )


class Failure(Struct, frozen=True):
    """Why a version does not run on a device, as the device told it.

    Attributes:
        reason: A ``Reason``, or ``unknown``.
    """

    reason: str
    detail: str = ""


def remember(
    plan: Plan, facts: Facts, failures: Mapping[str, Failure], *, arms: Mapping[str, int], admitted: int
) -> dict[str, Failure]:
    """Return why the version failed on each device of the first ``admitted`` stages.

    A device forgets its failure by reporting another version: so it is kept here, until the version runs on
    the device after all.
    """
    kept = dict(failures)
    for device in (facts.devices[name] for name, arm in arms.items() if 0 <= arm < admitted):
        match outcome_of(plan.digest, device):
            case Outcome.FAULT | Outcome.HINDERED:
                kept[device.device] = Failure(str(device.reason or "unknown"), device.detail)
            case Outcome.RUNNING:
                kept.pop(device.device, None)
            case Outcome.WAITING | Outcome.TRIAL:
                pass
    return kept


def has_returned(digest: str, device: DeviceFacts, *, since: float) -> bool:
    """Tell whether a device has confirmed, after ``since``, that it neither runs nor installs a version.

    One that was not heard of since then may have taken the version just before: it does not count.
    """
    is_fresh = device.seen is not None and device.seen > since
    settled = _ENDED_BADLY | {Phase.IDLE, Phase.COMMITTED, Phase.SUPERSEDED}
    installs = device.target == digest and device.phase not in settled
    return is_fresh and device.current != digest and not installs
