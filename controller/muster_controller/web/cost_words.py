"""What the cost panel says in words: who notices a shift, and after how long."""

from muster_controller.domain.drift.cost import Catch
from muster_controller.service.cost import PlanView


def catchers(plan: PlanView) -> list[tuple[str, int]]:
    """Return who notices a shift: each level with its devices, in the order of the plan."""
    return list(dict.fromkeys((one.level, one.devices) for one in plan.catches))


def catcher(level: str, devices: int) -> str:
    """Return what a level is called where its devices are counted."""
    return {"device": "of one device", "group": f"of a group of {devices}"}.get(level, f"of all {devices}")


def catches(plan: PlanView) -> list[tuple[float, list[Catch]]]:
    """Return each shift with what every level takes to notice it."""
    shifts = dict.fromkeys(one.shift for one in plan.catches)
    return [(shift, [one for one in plan.catches if one.shift == shift]) for shift in shifts]


def hours(count: float) -> str:
    """Return a number of hours in the unit that suits it."""
    for unit, name in ((24.0, "days"), (1.0, "hours")):
        if count >= 2 * unit:
            return f"{count / unit:.2g} {name}"
    seconds = count * 3600
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"  # noqa: PLR2004 - two units
