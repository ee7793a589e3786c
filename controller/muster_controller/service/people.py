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

NAME = re.compile(r"[a-z][a-z0-9._-]{0,39}")
RESERVED = frozenset({FOUNDER, "controller", "me"})


@dataclass(frozen=True)
class PersonView:
    """A person.

    Attributes:
        rights: What the roles allow, together.
        token_since: Since when the present token is good; None for the token of the controller's folder.
        revoked_at: Since when the token is refused.
        token: Only when it was just made: it is shown this once.
    """

    name: str
    roles: tuple[Role, ...]
    rights: tuple[Right, ...]
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
    return PersonView(person.name, person.roles, tuple(right for right in Right if right in person.rights))


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


def count_holders(session: Session, roles: Sequence[str], *, barred: Collection[str] = ()) -> int:
    """Return how many people hold one of some roles now, without those barred."""
    everybody = [FOUNDING, *(held.person for held in store.everybody(session) if held.revoked is None)]
    return sum(1 for one in everybody if one.name not in barred and set(one.roles) & set(roles))


def too_few(
    session: Session, roles: Sequence[str], *, needed: int, authors: Collection[str]
) -> tuple[str, ...]:
    """Return, in words, that a plan needs more approvals than there are people to give them; or nothing."""
    able = count_holders(session, roles, barred=authors)
    if able >= needed:
        return ()
    named = " and ".join(sorted(author for author in authors if author))
    who = " or ".join(roles) + (f" other than {named}" if named else "")
    return (
        f"the plan needs {needed} approvals, and there are {able} people who are {who}: muster people add",
    )


def add(context: Context, actor: str, name: str, *, roles: Sequence[str], reason: str = "") -> PersonView:
    """Let somebody in; the answer holds the token, which is shown this once.

    Raises:
        RequestError: The name or a role is not of the expected form.
        ConflictError: The name was used.
    """
    if NAME.fullmatch(name) is None or name in RESERVED:
        expected = (
            f"a small letter, then letters, digits, '.', '_', '-', and not {', '.join(sorted(RESERVED))}"
        )
        raise RequestError(f"name: expected {expected}, got {name[:40]!r}")
    checked, now = _roles(roles), context.clock()
    with context.unit() as session:
        token = store.add(session, name, checked, by=actor, now=now)
        record(session, Deed(actor, "person.add", name, reason, {"roles": list(checked)}), now)
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


def change(context: Context, actor: str, name: str, *, roles: Sequence[str], reason: str = "") -> PersonView:
    """Give somebody other roles, from their next request on.

    What they approved in a role that they lost counts no more; see ``service.disowning``.

    Raises:
        NotFoundError: No such person, or revoked.
        RequestError: A role is not known.
    """
    checked, now = _roles(roles), context.clock()
    with context.unit() as session:
        store.change(session, name, checked)
        disown(context, session, name, checked)
        record(session, Deed(actor, "person.change", name, reason, {"roles": list(checked)}), now)
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
        disown(context, session, name, ())
        record(session, Deed(actor, "person.revoke", name, reason), now)
    context.wake()
    return _show(context, name)


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
