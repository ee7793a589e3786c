"""The form of a plan: what was typed, so that it is still there when something in it is refused."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Form

from muster_controller.domain.rollouts.terms import parse_share, parse_stages
from muster_controller.service.rollout_plans import RolloutRequest
from muster_models.errors import RequestError

Text = Annotated[str, Form(max_length=400)]


@dataclass(frozen=True)
class PlanForm:
    """What an operator typed."""

    version: str = ""
    where: str = "all"
    stages: str = "5%, 25%, 100%"
    control: str = "25%"
    soak: str = "600"
    minimum_rounds: str = "6"
    budget: str = "0.01"
    probation: str = "60"
    shadow: str = "0"
    shadow_cpu: str = "10"
    reason: str = ""

    def request(self) -> RolloutRequest:
        """Return what the service understands.

        Raises:
            RequestError: A field is not of the expected form; the message names it.
        """
        conditions = {
            "soak_seconds": _number("soak", self.soak),
            "minimum_rounds": int(_number("rounds of windows", self.minimum_rounds)),
        }
        plan: dict[str, Any] = {
            "selector": self.where or "all",
            "stages": [{**stage, **conditions} for stage in parse_stages(self.stages)],
            "control": parse_share(self.control),
            "error_budget": _number("error budget", self.budget),
            "probation_seconds": _number("probation", self.probation),
        }
        seconds = _number("shadow", self.shadow)
        if seconds:
            percent = _number("processor in shadow", self.shadow_cpu)
            plan["shadow"] = {"seconds": seconds, "cpu_percent": percent}
        return RolloutRequest(self.version, plan=plan)


def read_form(
    *,
    version: Text = "",
    where: Text = "",
    stages: Text = "",
    control: Text = "",
    soak: Text = "",
    minimum_rounds: Text = "",
    budget: Text = "",
    probation: Text = "",
    shadow: Text = "0",
    shadow_cpu: Text = "10",
    reason: Text = "",
) -> PlanForm:
    """Return what was typed, every field as text."""
    return PlanForm(
        version=version,
        where=where,
        stages=stages,
        control=control,
        soak=soak,
        minimum_rounds=minimum_rounds,
        budget=budget,
        probation=probation,
        shadow=shadow,
        shadow_cpu=shadow_cpu,
        reason=reason,
    )


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(f"{name}: expected a number, got {text[:40]!r}") from error
