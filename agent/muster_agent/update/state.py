"""What a device remembers of its models across power cuts. Pure: values, and questions about them."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from muster_models.errors import Reason
from muster_models.manifest import ModelName, Sha256
from muster_models.wire import (
    DesiredModel,
    Detail,
    ModelReport,
    Number,
    Phase,
    Reporting,
    SampleOrder,
    Shadow,
    SlotReport,
)

# While a phase of WORKING lasts, a candidate is on its way; ON_TRIAL are those in which it may be answering.
WORKING = frozenset(
    {
        Phase.ASSIGNED,
        Phase.DOWNLOADING,
        Phase.VERIFYING,
        Phase.STAGED,
        Phase.SHADOW,
        Phase.ACTIVATING,
        Phase.PROBATION,
    }
)
ON_TRIAL = frozenset({Phase.ACTIVATING, Phase.PROBATION})
DETAIL_LENGTH = 600


class InShadow(Struct, frozen=True):
    """How far a candidate has come in shadow.

    Attributes:
        began: It is asked; a start of the agent begins it anew.
        served: Seconds that are behind it, in whole slices; they survive a restart.
    """

    began: bool = False
    served: float = 0.0


class ModelState(Struct, frozen=True):
    """Where one model stands on this device.

    Times are seconds of the updater's clock, which says nothing after a restart; ``Restarted`` renews them.

    Attributes:
        sequence: Of the desired state that ``wanted`` came from.
        wanted: What the controller asked for last; None when it asks for nothing any more.
        current: The version that proved itself and answers, unless a candidate is in probation.
        previous: The version before, kept so that going back needs no network.
        candidate: The version on its way; it becomes current only by being committed.
        target: Digest of the version last worked towards, whose course ``phase`` and ``reason`` are.
        attempts: Failed attempts to get the candidate onto the disk.
        doubts: How often it was refused for what a damaged byte on the way would explain.
        tries: Times that a candidate on trial, or in shadow, was begun with; each of the two counts anew.
        shadow: Nothing but in the phase of that name.
        deadline: When the phase ends by itself. A working phase always has one; ``FAILED`` has one when it
            will be tried again, and so has ``REJECTED``.
        crashes, last_crash, revive_at: How often in a row, and when last, the current version died although
            its worker was started again, and when it is tried again.
    """

    model: ModelName
    sequence: Number = 0
    wanted: DesiredModel | None = None
    current: SlotReport | None = None
    previous: SlotReport | None = None
    candidate: SlotReport | None = None
    phase: Phase = Phase.IDLE
    target: Sha256 | None = None
    reason: Reason | None = None
    detail: Detail = ""
    attempts: int = 0
    doubts: int = 0
    tries: int = 0
    deadline: float | None = None
    crashes: int = 0
    last_crash: float | None = None
    revive_at: float | None = None
    shadow: InShadow = InShadow()

    @property
    def stopped(self) -> bool:
        """Tell whether the model answers with its fallback by order."""
        return self.wanted is not None and self.wanted.stop

    @property
    def settings(self) -> Mapping[str, float]:
        """Settings asked for; whether a version declares them is for its manifest to say."""
        return self.wanted.settings if self.wanted is not None else {}

    @property
    def shadow_order(self) -> Shadow | None:
        """The order that a candidate answers in shadow first; None where it cannot be followed.

        Without a version that answers there is nothing to compare with, and a fallback is no answer.
        """
        if self.wanted is None or self.current is None or self.stopped:
            return None
        return self.wanted.shadow

    @property
    def running(self) -> SlotReport | None:
        """The version that answers: the candidate in probation, else the current one."""
        return self.candidate if self.phase is Phase.PROBATION else self.current


class AgentState(Struct, frozen=True):
    """Everything a device must know after a power cut.

    Attributes:
        sequence: Of the newest desired state that was accepted; an older one is a replay.
        samples: Orders to hand out rows.
        models: By model name.
    """

    sequence: Number = 0
    reporting: Reporting = Reporting()
    samples: tuple[SampleOrder, ...] = ()
    models: dict[ModelName, ModelState] = {}
    format: Literal[1] = 1


def kept(state: AgentState) -> frozenset[str]:
    """Return the digests of the versions whose files must stay on the disk."""
    slots = (
        slot for model in state.models.values() for slot in (model.current, model.previous, model.candidate)
    )
    return frozenset(slot.manifest for slot in slots if slot is not None)


def report(state: ModelState) -> ModelReport:
    """Return what the controller is told about one model."""
    on_trial = state.phase is Phase.PROBATION and state.current is not None
    return ModelReport(
        model=state.model,
        phase=state.phase,
        current=state.running,
        previous=state.current if on_trial else state.previous,
        target=state.target,
        reason=state.reason,
        detail=state.detail,
        tries=state.tries,
        stopped=state.stopped,
    )
