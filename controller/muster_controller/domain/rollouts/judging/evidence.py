"""What a verdict is, and what it rests on; pages and the API show gates and denominators as they are here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from msgspec import Struct

Became = Literal["waiting", "trial", "running", "fault", "hindered"]  # the words of ``outcome.Outcome``


class Verdict(StrEnum):
    """What the evidence says; without evidence it is inconclusive."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Denominators:
    """Of how many devices one speaks; each is a part of the one before, ``control`` stands apart.

    Attributes:
        targeted: Devices that the stages admitted so far have given the version to.
        reachable: Of those, heard of lately.
        executed: Of all targeted, those with an outcome: they run the version, or failed to.
        reporting: Of those that run it, the ones whose windows arrive.
        control: Devices that keep the previous version.
    """

    targeted: int
    reachable: int
    executed: int
    reporting: int
    control: int


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition and what was observed.

    Attributes:
        name: Such as ``failures``, ``confidence`` or ``counter scrap``.
        verdict: Of this gate alone.
        effect: Version minus control, less the difference before; or the absolute figure. None: nothing seen.
        margin: What is tolerated, in the unit of ``effect``.
        evidence: E-value against "within the margin"; unhealthy at ``bound``. None: an absolute limit.
        assurance: E-value against "outside the margin"; healthy at ``needed`` or more.
        detail: What is missing, or what failed, in words.
        value, control: Level of the version, and of the control in the same rounds; None: not seen, or an
            absolute limit, which has no control.
        low, high: Interval of ``effect``: a confidence sequence, each end of which holds at every look
            together with probability 1 - ``Plan.hold_budget``. A gate is healthy when it lies within the
            margin. None: an absolute limit, or nothing seen.
        samples: Rows or calls of the version that the gate rests on.
        share: Of the error budget that this gate holds, 0..1; 0 for an absolute limit.
        spent: Of the way from no evidence to ``bound``, on the scale of logarithms, 0..1.
        earliest: Unix seconds when the evidence would be enough for healthy, if it goes on as it did; None:
            it is enough, or it does not come nearer.
    """

    name: str
    verdict: Verdict
    effect: float | None
    margin: float
    unit: str = ""
    evidence: float | None = None
    bound: float | None = None
    assurance: float | None = None
    needed: float | None = None
    detail: str = ""
    value: float | None = None
    control: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    share: float = 0.0
    spent: float = 0.0
    earliest: float | None = None


class Look(Struct, frozen=True):
    """What a verdict rests on that is stored nowhere else, and up to where it rests on what is stored.

    Attributes:
        entries: Of the ledger's journal, by then.
        upto, labels_upto, crashes_upto: Numbers of the newest window, label and crash that were known.
        outcomes: Devices by outcome, those that count: the witnesses, and whoever failed or crashed.
        reasons: Of those of them that failed.
        quiet: Of the witnesses and those of them, who was not heard of lately.
        others: How many more there are of which kind: outcome, heard of lately, windows of the version came.
        given: When witnesses were given the version, Unix seconds; only where first crashes are compared.
        has_control: One was drawn, and is not given the version yet.
        beside: Witnesses that another rollout, of another model, has given a version.
        agreement: In shadow, by device: rows on which both versions agreed, and rows compared.
    """

    entries: int
    upto: int
    labels_upto: int
    crashes_upto: int
    outcomes: dict[Became, tuple[str, ...]]
    reasons: dict[str, str] = {}
    quiet: tuple[str, ...] = ()
    others: tuple[tuple[Became, bool, bool, int], ...] = ()
    given: dict[str, float] = {}
    has_control: bool = False
    beside: tuple[str, ...] = ()
    agreement: dict[str, tuple[int, int]] = {}


class Evidence(Struct, frozen=True):
    """Everything a verdict rests on.

    Attributes:
        stage: Index of the stage, from 0.
        rounds: Compared rounds in this stage.
        missing: What is still needed for healthy, in words; empty when nothing is.
        failures: Failed devices by reason; ``failed`` names them.
        experiment: Checks on the comparison itself; one that failed makes the verdict inconclusive.
        earliest: Unix seconds when the evidence would be enough for healthy, as far as a time can be told.
        look: From which all of this can be computed again.
    """

    at: float
    stage: int
    step: str
    verdict: Verdict
    rounds: int
    denominators: Denominators
    gates: tuple[Gate, ...]
    missing: tuple[str, ...] = ()
    failures: dict[str, int] = {}
    failed: tuple[str, ...] = ()
    experiment: tuple[Gate, ...] = ()
    earliest: float | None = None
    look: Look | None = None
