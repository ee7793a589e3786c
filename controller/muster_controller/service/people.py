"""People: who is asking, who there is, letting somebody in, turning somebody away."""

import datetime as dt
import hmac
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from sqlmodel import Session

from muster_controller.domain.people import FOUNDER, FOUNDING, ROLES, Person, Right, Role, ordered
from muster_controller.service.context import Context, Deed, record
from muster_controller.service.disowning import disown
from muster_controller.store import people as store
from muster_controller.store.engine import Reading
from muster_models.errors import NotFoundError, RequestError
from muster_models.manifest import MODEL_PATTERN

NAME = re.compile(r"[a-z][a-z0-9._-]{0,39}")
RESERVED = frozenset({FOUNDER, "controller", "me"})
MAX_MODELS = 1000  # that one person's roles are for


@dataclass(frozen=True)
class PersonView:
    """A person.

    Attributes:
        rights: What the roles allow, together.
        models: What they allow it to, by the models' names; None for all, and for the fleet itself.
        token_since: Since when the present token is good; None for the token of the controller's folder.
        revoked_at: Since when the token is refused.
        token: Only when it was just made: it is shown this once.
    """

    name: str
    roles: tuple[Role, ...]
    rights: tuple[Right, ...]
    models: tuple[str, ...] | None = None
    created_at: dt.datetime | None = None
    created_by: str = ""
    token_since: dt.datetime | None = None
    revoked_at: dt.datetime | None = None
    token: str | None = None


class Door:
    """Tells who is asking: the holder of the token of the controller's folder, or a person."""

    def __init__(self, token: str, reading: Callable[[], Reading]) -> None:
        self._token = token
        self._reading = reading

    def by_token(self, token: str) -> Person | None:
        """Return who holds a token; None for nobody. Takes no longer the nearer one comes to a good one."""
        if hmac.compare_digest(token.encode(), self._token.encode()):
            return FOUNDING
        with self._reading() as session:
            return store.by_token(session, token)

    def by_name(self, name: str) -> tuple[Person, bytes] | None:
        """Return a person who may still ask, and a secret that changes with their token; None for nobody.

        Nobody can make the secret who has only read the database.
        """
        if name == FOUNDER:
            return FOUNDING, self._token.encode()
        with self._reading() as session:
            held = store.find(session, name)
        if held is None or held.revoked is not None:
            return None
        return held.person, hmac.digest(self._token.encode(), held.digest.encode(), "sha256")


def open_door(context: Context, token: str) -> Door:
    """Return the door of a controller; ``token`` is that of its folder."""
    return Door(token, context.reading)


def view(person: Person) -> PersonView:
    """Return what a person is told about themselves."""
    rights = tuple(right for right in Right if right in person.rights)
    return PersonView(person.name, person.roles, rights, person.models)


def list_people(context: Context) -> tuple[PersonView, ...]:
    """Return everybody by name, the holder of the folder's token first, those revoked too."""
    with context.reading() as session:
        return (view(FOUNDING), *map(_view, store.everybody(session)))


def current(session: Session, name: str) -> Person | None:
    """Return a person as they are now; None for nobody, or somebody revoked."""
    if name == FOUNDER:
        return FOUNDING
    held = store.find(session, name)
    return None if held is None or held.revoked is not None else held.person


def count_holders(session: Session, roles: Sequence[str], *, model: str, barred: Collection[str] = ()) -> int:
    """Return how many people hold one of some roles for a model now, without those barred."""
    everybody = [FOUNDING, *(held.person for held in store.everybody(session) if held.revoked is None)]
    able = [one for one in everybody if one.is_over(model) and set(one.roles) & set(roles)]
    return sum(1 for one in able if one.name not in barred)


def too_few(
    session: Session, roles: Sequence[str], *, model: str, needed: int, authors: Collection[str]
) -> tuple[str, ...]:
    """Return, in words, that a plan needs more approvals than there are people to give them; or nothing."""
    able = count_holders(session, roles, model=model, barred=authors)
    if able >= needed:
        return ()
    named = " and ".join(sorted(author for author in authors if author))
    who = f"{' or '.join(roles)} for {model}" + (f" other than {named}" if named else "")
    return (
        f"the plan needs {needed} approvals, and there are {able} people who are {who}: muster people add",
    )


def add(
    context: Context,
    actor: str,
    name: str,
    *,
    roles: Sequence[str],
    models: Sequence[str] | None = None,
    reason: str = "",
) -> PersonView:
    """Let somebody in; the answer holds the token, which is shown this once.

    Args:
        context: Of this controller.
        actor: Who does it.
        name: As the audit trail will name them.
        roles: One or more.
        models: That the roles are for, also such as are not there yet; None for all.
        reason: For the audit trail.

    Raises:
        RequestError: The name, a role or a model's name is not of the expected form, or an admin would be
            over some models only.
        ConflictError: The name was used.
    """
    if NAME.fullmatch(name) is None or name in RESERVED:
        expected = (
            f"a small letter, then letters, digits, '.', '_', '-', and not {', '.join(sorted(RESERVED))}"
        )
        raise RequestError(f"name: expected {expected}, got {name[:40]!r}")
    person, now = _person(name, roles, models), context.clock()
    with context.unit() as session:
        token = store.add(session, person, by=actor, now=now)
        record(session, Deed(actor, "person.add", name, reason, _told(person)), now)
    return _show(context, name, token)


def renew(context: Context, actor: str, name: str, reason: str = "") -> PersonView:
    """Make a new token for somebody, shown this once; the one before and its sessions end.

    Raises:
        NotFoundError: No such person, or revoked.
    """
    now = context.clock()
    with context.unit() as session:
        token = store.renew(session, name, now)
        record(session, Deed(actor, "person.renew", name, reason), now)
    return _show(context, name, token)


def change(
    context: Context,
    actor: str,
    name: str,
    *,
    roles: Sequence[str],
    models: Sequence[str] | None = None,
    reason: str = "",
) -> PersonView:
    """Give somebody other roles, over ``models`` or, with None, over all; from their next request on.

    What they approved in a role that they lost, or of a model, counts no more; see ``service.disowning``.

    Raises:
        NotFoundError: No such person, or revoked.
        RequestError: A role is not known, a model's name is not of the expected form, or an admin would be
            over some models only.
    """
    person, now = _person(name, roles, models), context.clock()
    with context.unit() as session:
        store.change(session, person)
        disown(context, session, person)
        record(session, Deed(actor, "person.change", name, reason, _told(person)), now)
    context.wake()
    return _show(context, name)


def revoke(context: Context, actor: str, name: str, reason: str = "") -> PersonView:
    """Refuse somebody's token from now on; the name stays theirs in the audit trail.

    What they approved counts no more; see ``service.disowning``.

    Raises:
        NotFoundError: No such person, or revoked already.
    """
    now = context.clock()
    with context.unit() as session:
        store.revoke(session, name, now)
        disown(context, session, Person(name, ()))
        record(session, Deed(actor, "person.revoke", name, reason), now)
    context.wake()
    return _show(context, name)


def _person(name: str, roles: Sequence[str], models: Sequence[str] | None) -> Person:
    person = Person(name, _roles(roles), None if models is None else _models(models))
    if person.models is not None and "admin" in person.roles:
        got = ", ".join(person.models)[:80]
        raise RequestError(f"models: an admin is over all models, because people and keys are; got {got!r}")
    return person


def _models(models: Sequence[str]) -> tuple[str, ...]:
    wrong = [model for model in models if re.fullmatch(MODEL_PATTERN, model) is None]
    if wrong or not 0 < len(models) <= MAX_MODELS:
        got = repr(wrong[0][:80]) if wrong else str(len(models))
        expected = f"1 to {MAX_MODELS} names of models, each {MODEL_PATTERN}, or nothing: all"
        raise RequestError(f"models: expected {expected}; got {got}")
    return tuple(sorted(set(models)))


def _told(person: Person) -> dict[str, list[str]]:
    """Return what the audit trail keeps of a person: models only where the roles are for some."""
    some = {} if person.models is None else {"models": list(person.models)}
    return {"roles": list(person.roles), **some}


def _roles(roles: Sequence[str]) -> tuple[Role, ...]:
    known = ordered(roles)
    if not known or set(roles) - set(known):
        raise RequestError(f"roles: expected some of {', '.join(ROLES)}, got {', '.join(roles)[:80]!r}")
    return known


def _show(context: Context, name: str, token: str | None = None) -> PersonView:
    with context.reading() as session:
        held = store.find(session, name)
    if held is None:
        raise NotFoundError(f"there is nobody called {name[:40]!r}")
    return replace(_view(held), token=token)


def _view(held: store.Held) -> PersonView:
    return replace(
        view(held.person),
        created_at=_moment(held.since),
        created_by=held.by,
        token_since=_moment(held.token_since),
        revoked_at=None if held.revoked is None else _moment(held.revoked),
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
