"""A controller whose devices follow a rollout and send windows, a round at a time, without a broker."""

from pathlib import Path
from typing import Any

from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.store import assignments, devices
from support.office import OPERATOR, Office, open_office

FLEET = tuple(f"{site}-{number}" for site in ("berlin", "lyon", "oslo", "porto") for number in (1, 2, 3))
WINDOW = 10.0  # seconds
PLAN = {
    "stages": [{"percent": 25, "soak_seconds": 20, "minimum_rounds": 3}, {"percent": 100}],
    "control": 0.25,
    "before_rounds": 2,
    "round_seconds": WINDOW,
    "seed": "7",
}


def open_fleet(folder: Path) -> Office:
    """Found a controller with two versions; every device runs the first."""
    made = open_office(folder)
    made.install()
    first = made.release("1.0.0").version.digest
    made.release("1.1.0")
    made.enrol(*FLEET)
    with made.context.unit() as session:
        every = dict.fromkeys(FLEET, first)
        assignments.assign(session, "digits", every, rollout=0, probation_seconds=1.0, now=made.clock.now)
    for device in FLEET:
        made.report(device, current=first, target=first)
    return made


def start(office: Office, **plan: Any) -> int:
    """Start a rollout of the second version and return its number."""
    request = RolloutRequest("digits@1.1.0", "digits@1.0.0", {**PLAN, **plan})
    return rollouts.start_rollout(office.context, OPERATOR, request, "better").rollout.id


def advance(office: Office) -> None:
    """Let the rollouts take a step."""
    context = office.context
    Advancing(context.engine, office.opened.baselines, context.settings).advance("digits", office.clock.now)


def live(office: Office, rounds: int, *, shift: float = 0.0) -> None:
    """Let the fleet live: devices follow their assignments and send windows, and the rollout advances.

    Args:
        office: The controller.
        rounds: How many windows each device sends.
        shift: Of what the second version sees.
    """
    context = office.context
    second = context.repository.listed("digits")["1.1.0"]
    for _ in range(rounds):
        office.clock.now += WINDOW
        with context.reading() as session:
            wanted = assignments.of_model(session, "digits")
        for device, digest in wanted.items():
            office.report(device, current=digest, target=digest)
            moved = shift if digest == second else 0.0
            office.add_window(device, digest, end=office.clock.now, shift=moved)
        with context.unit() as session:
            devices.saw(session, FLEET, office.clock.now)
        advance(office)
