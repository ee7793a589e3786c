"""A controller with a fleet on one version, and the people who may approve what comes next."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster_controller.domain.people import Person
from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import approvals, people, rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.service.rollout_views import RolloutDetail
from support.office import OPERATOR, Office, open_office

FLEET = ("berlin-1", "berlin-2", "oslo-1", "oslo-2")
ANNA = Person("anna", ("operator", "approver"))
BO, CARL = Person("bo", ("approver",)), Person("carl", ("approver",))
DINA = Person("dina", ("operator",))
HOUR = 3600.0


@dataclass(frozen=True)
class Room:
    """A fleet on ``digits@1.0.0``, and the people around it."""

    office: Office
    tokens: dict[str, str]

    def request(self, version: str = "1.1.0", **changes: Any) -> RolloutRequest:
        """Return a plan that two people must agree with."""
        plan = {
            "stages": [{"percent": 100}],
            "control": 0.0,
            "approval": {"needed": 2, "expires_seconds": HOUR},
        }
        return RolloutRequest(f"digits@{version}", "digits@1.0.0", {**plan, **changes})

    def start(self, by: Person = ANNA, **changes: Any) -> int:
        """Ask for a rollout, and return its number."""
        request = self.request(**changes)
        return rollouts.start_rollout(self.office.context, by.name, request, "spring").rollout.id

    def approve(self, who: Person, number: int, **options: Any) -> RolloutDetail:
        """Let somebody agree."""
        return approvals.approve(self.office.context, who, number, **{"reason": "read it", **options})

    def token_file(self, who: Person, folder: Path) -> Path:
        """Write somebody's token into a folder."""
        path = folder / f"{who.name}.token"
        path.write_text(self.tokens[who.name])
        return path

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, and the loop once."""
        self.office.clock.now += seconds
        self.advancing().advance("digits", self.office.clock.now)

    def advancing(self) -> Advancing:
        """Return the step of the loop that carries rollouts on."""
        office = self.office
        return Advancing(office.context.engine, office.opened.baselines, office.context.settings)

    def phase(self, number: int) -> str:
        """Return where a rollout is."""
        return rollouts.show_rollout(self.office.context, number).rollout.phase

    def waiting(self, number: int) -> str:
        """Return what a rollout waits for."""
        return rollouts.show_rollout(self.office.context, number).rollout.waiting


@contextlib.contextmanager
def open_room(folder: Path) -> Iterator[Room]:
    """Found the controller, enrol its fleet and let everybody in."""
    office = open_office(folder)
    office.install()
    first = office.release("1.0.0").version.digest
    office.release("1.1.0")
    office.enrol(*FLEET)
    for device in FLEET:
        office.report(device, current=first, target=first)
    tokens = {}
    for person in (ANNA, BO, CARL, DINA):
        token = people.add(office.context, OPERATOR, person.name, roles=person.roles).token
        assert token is not None
        tokens[person.name] = token
    yield Room(office, tokens)
    office.opened.close()
