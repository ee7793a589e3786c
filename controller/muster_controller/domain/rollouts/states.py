"""The states of a rollout and the events that change them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts.draw import Cuts
from muster_controller.domain.rollouts.evidence import Evidence
from muster_controller.domain.rollouts.ledger import Ledger
from muster_controller.domain.rollouts.outcome import Failure


class RolloutPhase(StrEnum):
    """Where a rollout is."""

    DRAFT = "draft"
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


class State(Struct, frozen=True):
    """A rollout as the last decision left it; JSON by ``to_json``.

    Attributes:
        stage: Index of the stage being run, from 0.
        admitted: Number of stages whose devices have been given the version.
        since: When the phase or step began, Unix seconds.
        deadline: When the phase or step ends by itself; None where ``waiting`` says what it waits for.
        waiting: What is waited for, in words; empty in a final phase.
        reason: Why the phase was entered, in words.
        started_at: When the first stage began.
        history_since: Windows that ended earlier are of no interest.
        upto: Id of the newest window that was taken in.
        evidence: The newest; also when it was not worth a record of its own.
        unreturned: Devices that have not confirmed a rollback.
        entered: When the stage began, Unix seconds.
        soaked: The stage has run for its soak time.
        cuts: Where the draw divided the cohort.
        ledger: What was learned from windows.
        acknowledged: Devices whose failure an operator has accepted.
        failures: Why the version failed, by device; also after the device has gone back.
    """

    phase: RolloutPhase = RolloutPhase.DRAFT
    stage: int = 0
    step: Step = Step.ADMIT
    admitted: int = 0
    since: float = 0.0
    deadline: float | None = None
    waiting: str = "to be started"
    reason: str = ""
    started_at: float = 0.0
    history_since: float = 0.0
    upto: int = 0
    evidence: Evidence | None = None
    unreturned: tuple[str, ...] = ()
    entered: float = 0.0
    soaked: bool = False
    cuts: Cuts = Cuts("", ())
    ledger: Ledger = Ledger()
    acknowledged: tuple[str, ...] = ()
    failures: dict[str, Failure] = {}


@dataclass(frozen=True)
class Start:
    """An operator starts a draft; cohort and arms are drawn from the devices known at that time."""

    actor: str
    reason: str
    facts: Facts


@dataclass(frozen=True)
class Tick:
    """Time has passed, or something has been observed."""

    facts: Facts


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
    """An operator ends the rollout: devices keep what they have, or all go back."""

    actor: str
    reason: str
    mode: Literal["keep", "revert"]
    now: float


Event = Start | Tick | Pause | Resume | Promote | Abort


@dataclass(frozen=True)
class Decision:
    """What follows from an event.

    Attributes:
        evidence: To be appended to the record; None when nothing changed that is worth one.
        notes: What happened, in words, for events and the audit trail.
        refused: Why a command does not fit the state; then ``state`` is unchanged.
    """

    state: State
    evidence: Evidence | None = None
    notes: tuple[str, ...] = ()
    refused: str | None = None
