"""The states of a rollout and the events that change them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts.admitting.pace import Pace
from muster_controller.domain.rollouts.draw import Cuts
from muster_controller.domain.rollouts.judging.evidence import Evidence
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.planning.approval import Given
from muster_controller.domain.rollouts.planning.plan import Plan

CLOCK_SECONDS = 5.0  # by so much the clocks of two processes may differ, or one be set, and nothing is wrong
NAMED = 500  # devices that a state names


class RolloutPhase(StrEnum):
    """Where a rollout is."""

    DRAFT = "draft"
    PENDING_APPROVAL = "pending-approval"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_INCOMPLETE = "rollback-incomplete"
    COMPLETED = "completed"
    ABORTED = "aborted"


class Step(StrEnum):
    """Where a running rollout is within its stage."""

    ADMIT = "admit"
    SOAK = "soak"
    ANALYSE = "analyse"
    HOLD = "hold"
    FINISH = "finish"  # every stage was judged healthy: the rest, control included, is given the version


class Code(StrEnum):
    """Why a rollout is where it is: one code, the same in the record, on pages and in webhooks."""

    DRAFT = "draft"
    # before it starts
    APPROVAL_WANTED = "approval-wanted"
    APPROVED = "approved"
    APPROVAL_VOID = "approval-void"  # expired, its giver is gone, or what was approved has changed
    WITHHELD = "withheld"
    SCHEDULED = "scheduled"
    STARTED = "started"
    # what leads on
    INSTALLED = "installed"
    HEALTHY = "healthy"
    PROMOTED = "promoted"  # by order
    RESUMED = "resumed"
    RETRIED = "retried"
    # what is waited for
    UNPREPARED = "unprepared"  # too little was seen before the rollout
    UNSETTLED = "unsettled"  # devices have no outcome yet
    NO_EVIDENCE = "no-evidence"
    NO_DEVICES = "no-devices"
    WINDOW_CLOSED = "window-closed"
    RATE_LIMITED = "rate-limited"
    BYTES_SPENT = "bytes-spent"
    CONTAMINATED = "contaminated"  # the experiment itself is not what was planned
    OVERLAP = "overlap"  # devices are in another rollout
    WITHDRAWN = "withdrawn"  # the version is no longer listed
    CLOCK_WENT_BACK = "clock-went-back"
    PAUSED = "paused"
    # what ends it
    UNHEALTHY = "unhealthy"
    ROLLED_BACK_BY_ORDER = "rolled-back-by-order"
    ABORTED = "aborted"
    RETURNED = "returned"  # every device has confirmed that it went back
    DEADLINE = "deadline"


class State(Struct, frozen=True):
    """A rollout as the last decision left it; JSON by ``to_json``, which leaves ``members`` out.

    Attributes:
        code: Why the rollout is where it is, or what it waits for.
        stage: Index of the stage being run, from 0.
        admitted: Number of stages whose devices may be given the version.
        since: When the phase or step began, Unix seconds.
        deadline: When the phase or step ends by itself; None where ``waiting`` says what it waits for.
        waiting: What is waited for, in words; empty in a final phase.
        reason: Why the phase was entered, in words.
        author: Who asked for the rollout, and ``editors`` who changed its plan: they do not approve it.
        approvals: Given so far; which of them count follows from the plan, what they are about, and the time.
        started_at: When the first stage began.
        history_since: Windows that ended earlier are of no interest.
        at: The latest instant at which anything was decided: a clock that shows less went back.
        upto: Id of the newest window that was taken in.
        evidence: The newest; also when it was not worth a record of its own.
        unreturned: Devices that have not confirmed a rollback; the first ``NAMED`` by name.
        returning: How many have not.
        entered: When the stage began, Unix seconds.
        soaked: The stage has run for its soak time.
        cuts: Where the draw divided the cohort.
        witnesses: The devices that comparisons look at: at most ``draw.WITNESSES`` of each arm.
        ledger: What was learned from windows.
        pace: What was given lately, as far as a rate or a budget asks for it.
        due: Members of the admitted stages that have not been given the version yet.
        members: By device.
    """

    phase: RolloutPhase = RolloutPhase.DRAFT
    code: Code = Code.DRAFT
    stage: int = 0
    step: Step = Step.ADMIT
    admitted: int = 0
    since: float = 0.0
    deadline: float | None = None
    waiting: str = "to be started"
    reason: str = ""
    author: str = ""
    editors: tuple[str, ...] = ()
    approvals: tuple[Given, ...] = ()
    started_at: float = 0.0
    history_since: float = 0.0
    at: float = 0.0
    upto: int = 0
    evidence: Evidence | None = None
    unreturned: tuple[str, ...] = ()
    returning: int = 0
    entered: float = 0.0
    soaked: bool = False
    cuts: Cuts = Cuts("", ())
    witnesses: tuple[str, ...] = ()
    ledger: Ledger = Ledger()
    pace: Pace = Pace()
    due: int = 0
    members: dict[str, Member] = {}

    @property
    def authors(self) -> frozenset[str]:
        """Everybody whose plan it is, in whole or in part."""
        return frozenset({self.author, *self.editors})


@dataclass(frozen=True)
class Start:
    """An operator starts a draft; cohort and arms are drawn from the devices known when it begins."""

    actor: str
    reason: str
    facts: Facts


@dataclass(frozen=True)
class Tick:
    """Time has passed, or something has been observed."""

    facts: Facts


@dataclass(frozen=True)
class Approve:
    """A person agrees with what ``approval.digest_of`` names, in one of the plan's roles."""

    actor: str
    role: str
    reason: str
    digest: str
    now: float


@dataclass(frozen=True)
class Withhold:
    """A person refuses to approve: the rollout ends before it begins."""

    actor: str
    role: str
    reason: str
    now: float


@dataclass(frozen=True)
class Edit:
    """An operator gives a rollout that has not begun another plan.

    Attributes:
        plan: All of it, for the same model.
        facts: As at the start.
    """

    actor: str
    reason: str
    plan: Plan
    facts: Facts


@dataclass(frozen=True)
class Disown:
    """Somebody was revoked, or given other roles: what they approved in a role that they lost is void.

    Attributes:
        roles: That the person has from now on; none after they were revoked.
        models: That the roles are for; None for all.
    """

    person: str
    roles: tuple[str, ...]
    now: float
    models: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Pause:
    """An operator stops admission and promotion; harm still rolls back."""

    actor: str
    reason: str
    now: float


@dataclass(frozen=True)
class Resume:
    """An operator goes on after a pause or a hold, and thereby acknowledges the failures seen so far."""

    actor: str
    reason: str
    now: float


@dataclass(frozen=True)
class Promote:
    """An operator ends the stage as if it had been judged healthy."""

    actor: str
    reason: str
    now: float


@dataclass(frozen=True)
class Abort:
    """An operator ends the rollout: devices keep what they have, or all go back.

    Attributes:
        mode: None for what the plan says.
    """

    actor: str
    reason: str
    mode: Literal["keep", "revert"] | None
    now: float


@dataclass(frozen=True)
class Retry:
    """An operator gives the version again to every device on which it failed; their tries begin anew."""

    actor: str
    reason: str
    now: float


@dataclass(frozen=True)
class RollBack:
    """An operator sends devices back to the previous version.

    Attributes:
        devices: These alone, while the rollout goes on without them.
        stage: All devices of this stage, by its index; the rollout goes on. Neither: the whole cohort.
        override: Also when the plan's rollback window is over; needs a reason.
    """

    actor: str
    reason: str
    now: float
    devices: tuple[str, ...] = ()
    stage: int | None = None
    override: bool = False


Event = (
    Start | Tick | Approve | Withhold | Edit | Disown | Pause | Resume | Promote | Abort | Retry | RollBack
)


@dataclass(frozen=True)
class Decision:
    """What follows from an event.

    Attributes:
        evidence: To be appended to the record; None when nothing changed that is worth one.
        notes: What happened, in words, for events and the audit trail.
        refused: Why a command does not fit the state; then ``state`` is unchanged.
        plan: By which the rollout goes on instead of the one before; None for that one.
    """

    state: State
    evidence: Evidence | None = None
    notes: tuple[str, ...] = ()
    refused: str | None = None
    plan: Plan | None = None


def is_behind(state: State, now: float) -> bool:
    """Tell whether the clock shows less than when something was last decided."""
    return now < state.at - CLOCK_SECONDS


def count(devices: int) -> str:
    """Return a number of devices, in words."""
    return f"{devices} device" if devices == 1 else f"{devices} devices"


def order(what: str, actor: str, reason: str) -> str:
    """Return what a person did, in words."""
    return f"{what} by {actor}: {reason}" if reason else f"{what} by {actor}"


def refuse(state: State, why: str) -> Decision:
    """Return that a command does not fit the state, which stays as it is."""
    return Decision(state, refused=why)
