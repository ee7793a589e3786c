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
        models: Names of the models that the roles are for; None for all of them, and for the fleet itself.
    """

    name: str
    roles: tuple[Role, ...]
    models: tuple[str, ...] | None = None

    @property
    def rights(self) -> frozenset[Right]:
        """Everything that the roles allow."""
        return frozenset().union(*(RIGHTS[role] for role in self.roles))

    def is_over(self, model: str | None) -> bool:
        """Tell whether the roles are for a model; None is the fleet itself, which is all models'."""
        return self.models is None or model in self.models

    def __str__(self) -> str:
        """Say who this is, as a refusal does."""
        models = "" if self.models is None else f" of {' and '.join(self.models)}"
        return f"{self.name} is {' and '.join(self.roles)}{models}"


FOUNDING: Final = Person(FOUNDER, ("admin",))


def why_not(person: Person, right: Right) -> str:
    """Return why a person may do something to no model at all, in words; empty when to any."""
    return "" if right in person.rights else f"{person}; this takes {_able(right)}"


def why_not_over(person: Person, right: Right, model: str | None) -> str:
    """Return why a person may not do something to a model, or with None to the fleet; empty when they may."""
    lacking = why_not(person, right)
    if lacking or person.is_over(model):
        return lacking
    return f"{person}; this takes {_able(right)} {'over all models' if model is None else f'for {model}'}"


def _able(right: Right) -> str:
    return " or ".join(role for role in ROLES if right in RIGHTS[role])


def must(person: Person, right: Right, model: str | None) -> None:
    """Let a person do something to a model, or with None to the fleet; or say why not.

    Raises:
        ForbiddenError: No role of the person has the right, or none for this model.
    """
    refusal = why_not_over(person, right, model)
    if refusal:
        raise ForbiddenError(refusal)


def ordered(roles: Iterable[str]) -> tuple[Role, ...]:
    """Return known roles, each once, in the order of ``ROLES``; unknown ones are left out."""
    given = set(roles)
    return tuple(role for role in ROLES if role in given)
