"""States of one model on a device, one per phase and history, for tests of the updater."""

from msgspec.structs import replace

from muster_agent.update.state import InShadow, ModelState
from muster_models.errors import Reason
from muster_models.wire import DesiredModel, Phase, Shadow, SlotReport

OLDER, CURRENT, NEXT, OTHER = (
    SlotReport(letter * 64, f"1.{number}.0") for number, letter in enumerate("abcd")
)
SEQUENCE = 5
NOW = 1000.0
SHADOW = Shadow(seconds=600.0)


def asked(slot: SlotReport, **changes: object) -> DesiredModel:
    """Return what asks for a version."""
    return replace(DesiredModel("digits", slot.version, slot.manifest), **changes)


def resting(
    phase: Phase = Phase.IDLE, *, target: SlotReport | None = CURRENT, wanted: SlotReport | None = CURRENT
) -> ModelState:
    """Return a device with two versions on which nothing is on its way."""
    return ModelState(
        "digits",
        sequence=SEQUENCE,
        wanted=asked(wanted) if wanted is not None else None,
        current=CURRENT,
        previous=OLDER,
        phase=phase,
        target=target.manifest if target is not None else None,
        reason=Reason.CRASHED if phase in {Phase.ROLLED_BACK, Phase.FAILED, Phase.REJECTED} else None,
    )


def working(phase: Phase, **changes: object) -> ModelState:
    """Return a device on which a third version is on its way; its deadline is ``NOW``."""
    on_trial = phase in {Phase.ACTIVATING, Phase.PROBATION}
    state = replace(
        resting(phase, target=NEXT, wanted=NEXT),
        candidate=NEXT,
        reason=None,
        deadline=NOW,
        tries=1 if on_trial else 0,
    )
    return replace(state, **changes)


def first_install(phase: Phase, **changes: object) -> ModelState:
    """Return a device whose first version is on its way."""
    return replace(working(phase), current=None, previous=None, **changes)


NOTHING = ModelState("digits")
IDLE = resting()
COMMITTED = resting(Phase.COMMITTED)
ROLLED_BACK = resting(Phase.ROLLED_BACK, target=NEXT, wanted=NEXT)
REJECTED = resting(Phase.REJECTED, target=NEXT, wanted=NEXT)
DOUBTED = working(Phase.REJECTED, reason=Reason.TAMPERED, doubts=3)
SUPERSEDED = resting(Phase.SUPERSEDED, target=NEXT)
FAILED = resting(Phase.FAILED, target=NEXT, wanted=NEXT)
RETRYING = working(Phase.FAILED, reason=Reason.DOWNLOAD_FAILED, attempts=5)
ASSIGNED = working(Phase.ASSIGNED)
DOWNLOADING = working(Phase.DOWNLOADING)
VERIFYING = working(Phase.VERIFYING)
STAGED = working(Phase.STAGED)
ACTIVATING = working(Phase.ACTIVATING)
PROBATION = working(Phase.PROBATION)
# The same with an order to answer in shadow first.
SHADOWED = asked(NEXT, shadow=SHADOW)
TO_BE_SHADOWED = replace(STAGED, wanted=SHADOWED)
BEGINNING = working(Phase.SHADOW, wanted=SHADOWED, tries=1)
IN_SHADOW = replace(BEGINNING, shadow=InShadow(began=True))
WORK = (ASSIGNED, DOWNLOADING, VERIFYING, STAGED, TO_BE_SHADOWED, BEGINNING, IN_SHADOW, ACTIVATING, PROBATION)
ALL = (NOTHING, IDLE, COMMITTED, ROLLED_BACK, REJECTED, DOUBTED, SUPERSEDED, FAILED, RETRYING, *WORK)
