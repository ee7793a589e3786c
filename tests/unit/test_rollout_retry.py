"""A retry policy of the controller and the real update machine of a device, told of nothing but versions."""

import itertools
from dataclasses import dataclass

import msgspec

from muster_agent.update.state import ModelState
from muster_agent.update.steps import DownloadFailed, Unwanted, Wanted
from muster_agent.update.updater import step
from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.admitting.admission import admit_due
from muster_controller.domain.rollouts.admitting.pace import Pace
from muster_controller.domain.rollouts.admitting.retry import Retry
from muster_controller.domain.rollouts.assigning import assignments
from muster_controller.domain.rollouts.machine import RolloutPhase, State
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.outcome import observe
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_models.errors import Reason
from muster_models.wire import DesiredModel, Phase
from support.model_states import CURRENT, NEXT, resting
from support.rollouts import make_plan

VERSIONS = {CURRENT.manifest: CURRENT, NEXT.manifest: NEXT}
DEVICE = "berlin-1"


@dataclass
class Pair:
    """One device with its update machine, and the rollout that has it as a member.

    Attributes:
        hears: The device is told when something else is wanted, and what it says arrives.
    """

    plan: Plan
    machine: ModelState
    now: float = 10_000.0
    hears: bool = True
    sequence: int = 10
    told: str | None = None

    def __post_init__(self) -> None:
        self.known = DeviceFacts(DEVICE)
        self.members = {DEVICE: Member(0, given=self.now)}
        self.begun = 0

    def live(self, seconds: int) -> None:
        """Let time pass; every download ends as the plan's first reason says."""
        for _ in range(seconds):
            self.now += 1.0
            self._tell()
            self._install()
            if self.hears:
                self.known = DeviceFacts(
                    DEVICE,
                    seen=self.now,
                    current=self.machine.current.manifest if self.machine.current else None,
                    target=self.machine.target,
                    phase=self.machine.phase,
                    reason=self.machine.reason,
                )
            self._decide()

    def _tell(self) -> None:
        wanted = assignments(self.plan, State(phase=RolloutPhase.RUNNING, members=self.members)).get(DEVICE)
        if wanted == self.told:
            return
        self.sequence, self.told = self.sequence + 1, wanted
        if self.hears:
            self._hear(wanted)

    def _hear(self, wanted: str | None) -> None:
        if wanted is None:
            self.machine, _ = step(self.machine, Unwanted(sequence=self.sequence, now=self.now))
            return
        slot = VERSIONS[wanted]
        model = DesiredModel("digits", slot.version, slot.manifest)
        self.machine, _ = step(self.machine, Wanted(model=model, sequence=self.sequence, now=self.now))

    def wake(self) -> None:
        """Hear what is wanted now, and nothing of what was wanted meanwhile."""
        self.hears = True
        self._hear(self.told)

    def _install(self) -> None:
        if self.machine.phase is Phase.DOWNLOADING:
            self.begun += 1
            failed = DownloadFailed(
                digest=NEXT.manifest, reason=Reason.NO_SPACE, detail="", retryable=False, now=self.now
            )
            self.machine, _ = step(self.machine, failed)

    def _decide(self) -> None:
        facts = Facts(self.now, {DEVICE: self.known}, reachable_seconds=1e9)
        self.members |= observe(self.plan, facts, self.members)[1]
        self.members |= admit_due(
            self.plan, facts, self.members, admitted=1, with_control=False, pace=Pace(), running=0
        ).changed


def pair(**retry: object) -> Pair:
    policy = msgspec.convert({"backoff_seconds": 10, "growth": 1, "jitter": 0, "tries": 3, **retry}, Retry)
    plan = msgspec.structs.replace(make_plan(), digest=NEXT.manifest, previous=CURRENT.manifest, retry=policy)
    return Pair(plan, resting())


def test_a_device_begins_as_often_as_the_policy_says_and_no_more() -> None:
    both = pair()
    both.live(200)

    assert both.begun == 1 + 3
    assert both.members[DEVICE].failure is not None
    assert (both.members[DEVICE].tries, both.members[DEVICE].retry_at) == (3, None)


def test_between_two_tries_lies_the_backoff() -> None:
    both, begun = pair(growth=2), list[float]()
    for _ in range(200):
        before = both.begun
        both.live(1)
        begun += [both.now] * (both.begun - before)

    # Ten, twenty, forty seconds, and a second for the device to be told and one for it to answer.
    assert [later - earlier for earlier, later in itertools.pairwise(begun)] == [11.0, 21.0, 41.0]


def test_without_a_policy_a_device_begins_once() -> None:
    both = pair()
    both.plan = msgspec.structs.replace(both.plan, retry=None)
    both.live(200)

    assert both.begun == 1
    assert both.members[DEVICE].given is not None


def test_a_device_that_sleeps_through_its_backoff_is_tried_when_it_wakes_and_counted_once() -> None:
    """It never heard that the version was taken away, and still says that it failed."""
    both = pair(tries=1)
    both.live(1)
    both.hears = False
    both.live(100)
    asleep = both.begun, both.members[DEVICE].tries, both.members[DEVICE].given
    both.wake()
    both.live(30)

    assert asleep == (1, 1, None)
    assert both.begun == 2
    assert both.members[DEVICE].tries == 1


def test_a_first_installation_is_tried_again_too() -> None:
    both = pair(tries=1)
    both.plan = msgspec.structs.replace(both.plan, previous=None)
    both.machine = ModelState("digits")
    both.live(60)

    assert both.begun == 2
