"""Whose an order is: the model's that it changes, or the fleet's. Every route and form names one subject."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlmodel import Session

from muster_controller.domain.people import Person, Right, must, why_not, why_not_over
from muster_controller.service.context import Context
from muster_controller.store import alarms, jobs, rollouts, samples, versions
from muster_models.errors import ForbiddenError, NotFoundError
from muster_models.trust.roles import MODEL_PREFIX

MAX_DIGITS = 9  # of a number in a path: what every database takes


class Subject(StrEnum):
    """What a route or a form is about: the first hole in its path says which one, but for the last three."""

    MODEL = "model"
    ROLLOUT = "rollout"
    ALARM = "alarm"
    SILENCE = "silence"
    JOB = "job"
    SAMPLE = "sample"  # an order for rows
    VERSION = "version"
    ROLE = "role"  # of the signed repository
    FLEET = "fleet"  # devices, tokens, people, keys, settings: all models'
    BODY = "body"  # what was sent says whose: the handler has no name for the audit trail until it asked
    NOTHING = "nothing"  # nobody's in particular: what changes nothing, and files by their hash


# Of what has a number: whose model; nobody's in particular where the fleet's.
_NUMBERED: Final[Mapping[Subject, Callable[[Session, int], str | None]]] = {
    Subject.ROLLOUT: lambda session, number: rollouts.get(session, number).model,
    Subject.ALARM: lambda session, number: alarms.get(session, number).alarm.model,
    Subject.SILENCE: lambda session, number: alarms.get_silence(session, number).matcher.model,
    Subject.JOB: lambda session, number: jobs.get(session, number).model,
    Subject.SAMPLE: lambda session, number: samples.get(session, number).model,
}


@dataclass(frozen=True)
class Takes:
    """What a route or a form takes: a right, for whatever it is about."""

    right: Right
    subject: Subject


def model_of_role(role: str) -> str | None:
    """Return whose a role of the signed repository is; None for root, targets and what is signed online."""
    return role.removeprefix(MODEL_PREFIX) if role.startswith(MODEL_PREFIX) else None


def model_of(session: Session, subject: Subject, name: str) -> str | None:
    """Return the model that something belongs to; None for the fleet.

    Raises:
        NotFoundError: There is no such thing.
    """
    match subject:
        case Subject.MODEL:
            return name
        case Subject.FLEET:
            return None
        case Subject.ROLE:
            return model_of_role(name)
        case Subject.VERSION:
            return versions.get(session, name).manifest.model
        case _:
            return _numbered(session, subject, name)


def _numbered(session: Session, subject: Subject, name: str) -> str | None:
    if not (name.isascii() and name.isdecimal() and len(name) <= MAX_DIGITS):
        raise NotFoundError(f"no {subject} {name[:80]!r}")
    return _NUMBERED[subject](session, int(name)) or None


def why_refused(context: Context, person: Person, takes: Takes, holes: Mapping[str, str]) -> str:
    """Return why a person may not do something, in words; empty when they may, as far as the path tells.

    Args:
        context: Of this controller.
        person: Who asks. For one over all models nothing is looked up.
        takes: What is asked takes.
        holes: What stands in the holes of the path, in their order.

    Raises:
        NotFoundError: There is no such thing, so that nobody can say whose it is.
    """
    lacking = why_not(person, takes.right)
    if lacking or person.models is None or takes.subject in {Subject.BODY, Subject.NOTHING}:
        return lacking
    with context.reading() as session:
        model = model_of(session, takes.subject, next(iter(holes.values()), ""))
    return why_not_over(person, takes.right, model)


@dataclass(frozen=True)
class Asking:
    """Somebody who asks for something, and whom ``why_refused`` did not refuse.

    There are two ways to their name, without which no service gives an order; so none forgets the question.
    """

    person: Person
    takes: Takes

    def actor(self) -> str:
        """Return who asks, as the audit trail names them, where the path has told whose it is.

        Raises:
            ForbiddenError: Only the body tells. Nobody may, until ``about`` was asked instead.
        """
        if self.takes.subject is Subject.BODY:
            raise ForbiddenError("nobody may do this: it was not asked which model it is about")
        return self.person.name

    def about(self, models: Iterable[str | None]) -> str:
        """Return who asks, as the audit trail names them, where the body tells whose it is.

        Args:
            models: All that it is about; None for the fleet. Looked at only for a person over some models.

        Raises:
            ForbiddenError: The person may not do this to one of them.
        """
        for model in () if self.person.models is None else models:
            must(self.person, self.takes.right, model)
        return self.person.name
