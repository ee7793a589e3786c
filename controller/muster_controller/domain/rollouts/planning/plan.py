"""The plan of a rollout: what an operator decides before it starts, and nothing that happens later."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from muster_controller.domain.rollouts.admitting.pace import (
    ByteBudget,
    MaintenanceWindow,
    Ramp,
    check_ramp,
    check_windows,
)
from muster_controller.domain.rollouts.admitting.retry import Retry
from muster_controller.domain.rollouts.planning.approval import Approval
from muster_controller.domain.rollouts.planning.conditions import Limits, Margins, Minimums
from muster_controller.domain.selector import parse
from muster_models.errors import RequestError
from muster_models.manifest import ModelName, Sha256
from muster_models.wire import Shadow

Positive = Annotated[float, Meta(gt=0, le=1e8)]
Seconds = Annotated[float, Meta(ge=0, le=1e8)]
MAX_WINDOWS = 50
DAY_SECONDS = 86_400.0


class Stage(Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the cohort and how long it must run.

    Attributes:
        percent: Of the cohort, all stages so far together; exactly one of ``percent`` and ``count`` is set.
        count: Devices, all stages so far together.
        soak_seconds: How long the stage runs, at least, before it can be judged healthy.
        minimum_rounds: Rounds of windows that must have been seen in stage and control.
    """

    percent: Annotated[float, Meta(gt=0, le=100)] | None = None
    count: Annotated[int, Meta(ge=1)] | None = None
    soak_seconds: Seconds = 600.0
    minimum_rounds: Annotated[int, Meta(ge=1)] = 6


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """A rollout before it starts.

    Attributes:
        digest: The version to roll out, by the digest of its manifest.
        previous: The version that the control keeps and a rollback returns to; None for a first install.
        selector: Over labels; see ``selector.parse``.
        control: Share of the cohort that keeps ``previous`` while any stage is judged.
        error_budget: Probability that a version within all margins is rolled back by the gates that compare.
        hold_budget: The same for calling a version healthy that lies outside a margin, per stage.
        before_rounds: Rounds each arm must have been seen on ``previous`` before a stage is admitted.
        before_seconds: How far back windows count as "before".
        round_seconds: Length of a round, in which stage and control are compared; that of a window.
        minimum_rows: Rows of a device in a round below which it is left out of the comparison.
        shadow: What every device asks of the version before it lets it answer; None for nothing.
        stage_deadline_seconds: After that an undecided stage holds and waits for an operator. The time in
            shadow comes on top.
        rollback_deadline_seconds: After that devices that have not gone back are named.
        seed: Of the draw; the same seed and devices give the same arms.
        dynamic: Devices that join the selector later are drawn too, also after the rollout has completed;
            otherwise the cohort is what it was at the start.
        start_at: Unix seconds, not before which the rollout starts; None for at once.
        windows: When a device may be given the version; none of them: at any time. A way back waits for none.
        ramp: How many devices a minute; None for all of a stage at once.
        byte_budget: What the fleet may download of the version; None for no limit.
        retry: When a device on which the version failed is given it again; None for never by itself.
        abort: What an abort does when the order does not say.
        approval: Who must agree before the rollout starts; None for nobody.
        rollback_window_seconds: So long after its end a rollout can be rolled back without further reason.
    """

    model: ModelName
    digest: Sha256
    previous: Sha256 | None
    selector: str = "all"
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=20)] = (
        Stage(percent=5),
        Stage(percent=25),
        Stage(percent=100),
    )
    control: Annotated[float, Meta(ge=0, le=0.5)] = 0.25
    margins: Margins = Margins()
    limits: Limits = Limits()
    minimums: Minimums = Minimums()
    error_budget: Annotated[float, Meta(gt=0, le=0.5)] = 0.01
    hold_budget: Annotated[float, Meta(gt=0, le=0.5)] = 0.05
    before_rounds: Annotated[int, Meta(ge=2)] = 6
    before_seconds: Positive = 86_400.0
    round_seconds: Positive = 300.0
    minimum_rows: Annotated[int, Meta(ge=1)] = 20
    probation_seconds: Seconds = 60.0
    shadow: Shadow | None = None
    stage_deadline_seconds: Positive = 86_400.0
    rollback_deadline_seconds: Positive = 3600.0
    seed: Annotated[str, Meta(min_length=1, max_length=64)] = "1"
    dynamic: bool = False
    start_at: Annotated[float, Meta(ge=0, le=1e11)] | None = None
    windows: Annotated[tuple[MaintenanceWindow, ...], Meta(max_length=MAX_WINDOWS)] = ()
    ramp: Ramp | None = None
    byte_budget: ByteBudget | None = None
    retry: Retry | None = None
    abort: Literal["keep", "revert"] = "revert"
    approval: Approval | None = None
    rollback_window_seconds: Seconds = 30 * DAY_SECONDS

    @property
    def stage_seconds(self) -> float:
        """How long a stage may take from its admission to its verdict."""
        return self.stage_deadline_seconds + (self.shadow.seconds if self.shadow is not None else 0.0)


def parse_plan(document: dict[str, Any]) -> Plan:
    """Parse what an operator asked for.

    Raises:
        RequestError: A field is missing, unknown, out of range or contradicts another; the message names it.
    """
    try:
        plan = msgspec.convert(document, Plan)
    except msgspec.ValidationError as error:
        raise RequestError(f"plan: {error}") from error
    parse(plan.selector)
    _check_stages(plan)
    check_windows(plan.windows)
    if plan.ramp is not None:
        check_ramp(plan.ramp)
    if plan.digest == plan.previous:
        raise RequestError("plan: previous and version must differ, got the same version twice")
    return plan


def _check_stages(plan: Plan) -> None:
    for number, stage in enumerate(plan.stages, start=1):
        if (stage.percent is None) == (stage.count is None):
            raise RequestError(f"plan: stage {number} must have either percent or count")
    if plan.stages[-1].percent != 100:  # noqa: PLR2004 - per cent
        raise RequestError(
            "plan: the last stage must be 100 percent; percent and count are of all stages so far together"
        )
    for kind in ("percent", "count"):
        sizes = [size for stage in plan.stages if (size := getattr(stage, kind)) is not None]
        if sizes != sorted(set(sizes)):
            raise RequestError(f"plan: stages must grow, got {kind} {sizes}")
