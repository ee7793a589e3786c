"""People and what their roles let them do: four roles, five rights, one table. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, get_args

from muster_models.errors import ForbiddenError

Role = Literal["auditor", "operator", "approver", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
FOUNDER: Final = "operator"  # who holds the token of the controller's folder


class Right(StrEnum):
    """What one may do."""

    READ = "read"  # everything that changes nothing, but for rows of calls
    OPERATE = "operate"  # publish, plan, steer, let devices in, read rows of calls
    APPROVE = "approve"  # agree or disagree where a plan asks for approval, by a role that the plan names
    STOP = "stop"  # pause a rollout, stop a model: what can only make the fleet safer
    ADMINISTER = "administer"  # people, and the keys this controller holds


RIGHTS: Final[dict[Role, frozenset[Right]]] = {
    "auditor": frozenset({Right.READ}),
    "operator": frozenset({Right.READ, Right.OPERATE, Right.APPROVE, Right.STOP}),
    "approver": frozenset({Right.READ, Right.APPROVE, Right.STOP}),
    "admin": frozenset(Right),
}


@dataclass(frozen=True)
class Person:
    """Somebody who is asking.

    Attributes:
        roles: One or more; rights add up.
    """

    name: str
    roles: tuple[Role, ...]

    @property
    def rights(self) -> frozenset[Right]:
        """Everything that the roles allow."""
        return frozenset().union(*(RIGHTS[role] for role in self.roles))


FOUNDING: Final = Person(FOUNDER, ("admin",))


def why_not(person: Person, right: Right) -> str:
    """Return why a person may not do something, in words; empty when the person may."""
    if right in person.rights:
        return ""
    able = [role for role in ROLES if right in RIGHTS[role]]
    return f"{person.name} is {' and '.join(person.roles)}; this takes {' or '.join(able)}"


def check(person: Person, right: Right) -> None:
    """Let a person do something, or say why not.

    Raises:
        ForbiddenError: No role of the person has the right.
    """
    refusal = why_not(person, right)
    if refusal:
        raise ForbiddenError(refusal)


def ordered(roles: Iterable[str]) -> tuple[Role, ...]:
    """Return known roles, each once, in the order of ``ROLES``; unknown ones are left out."""
    given = set(roles)
    return tuple(role for role in ROLES if role in given)
