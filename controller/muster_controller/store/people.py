"""Who has a token, in which roles. The text of a token is shown once; only its hash is stored."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_controller.domain.people import Person, ordered
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.people_tables import PersonRecord
from muster_models.errors import ConflictError, NotFoundError

TOKEN_FORM = "msp1"  # noqa: S105 - the name of the form, no secret
SECRET_BYTES = 32  # so random that a plain hash keeps the secret


@dataclass(frozen=True)
class Held:
    """A person as stored.

    Attributes:
        digest: SHA-256 of the token, in hex.
        since, token_since: Of the person, and of the token, Unix seconds.
        revoked: Since when the token is refused; None while it is good.
    """

    person: Person
    digest: str
    since: float
    by: str
    token_since: float
    revoked: float | None


def add(session: Session, person: Person, *, by: str, now: float) -> str:
    """Store a person and return the text of the token.

    Raises:
        ConflictError: The name was used.
    """
    row = session.get(PersonRecord, person.name)
    if row is not None:
        gone = "is" if row.revoked_at is None else "was, until revoked,"
        raise ConflictError(f"{person.name!r} {gone} somebody else: expected a name that was never used")
    token, at = _make(), milliseconds(now)
    session.add(
        PersonRecord(
            name=person.name,
            roles=list(person.roles),
            models=_listed(person.models),
            token=digest_of(token),
            created_at=at,
            created_by=by,
            token_at=at,
        )
    )
    session.flush()
    return token


def renew(session: Session, name: str, now: float) -> str:
    """Return the text of a new token of a person; the one before is refused from now on.

    Raises:
        NotFoundError: No such person, or revoked.
    """
    row, token = _active(session, name), _make()
    row.token, row.token_at = digest_of(token), milliseconds(now)
    session.add(row)
    return token


def change(session: Session, person: Person) -> None:
    """Give a person other roles, over other models.

    Raises:
        NotFoundError: No such person, or revoked.
    """
    row = _active(session, person.name)
    row.roles, row.models = list(person.roles), _listed(person.models)
    session.add(row)


def revoke(session: Session, name: str, now: float) -> None:
    """Refuse a person's token from now on.

    Raises:
        NotFoundError: No such person, or revoked already.
    """
    row = _active(session, name)
    row.revoked_at = milliseconds(now)
    session.add(row)


def by_token(session: Session, token: str) -> Person | None:
    """Return who holds a token; None for nobody, or somebody revoked."""
    query = select(PersonRecord).where(
        PersonRecord.token == digest_of(token), col(PersonRecord.revoked_at).is_(None)
    )
    row = session.exec(query).first()
    return None if row is None else _held(row).person


def find(session: Session, name: str) -> Held | None:
    """Return a person, revoked or not; None for nobody."""
    row = session.get(PersonRecord, name)
    return None if row is None else _held(row)


def everybody(session: Session) -> list[Held]:
    """Return every person by name, those revoked too."""
    return [_held(row) for row in session.exec(select(PersonRecord).order_by(PersonRecord.name))]


def digest_of(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _make() -> str:
    return f"{TOKEN_FORM}.{secrets.token_urlsafe(SECRET_BYTES)}"


def _listed(models: Iterable[str] | None) -> list[str] | None:
    return None if models is None else list(models)


def _active(session: Session, name: str) -> PersonRecord:
    row = session.get(PersonRecord, name)
    if row is None or row.revoked_at is not None:
        raise NotFoundError(f"there is nobody called {name[:40]!r}")
    return row


def _held(row: PersonRecord) -> Held:
    return Held(
        person=Person(row.name, ordered(row.roles), None if row.models is None else tuple(row.models)),
        digest=row.token,
        since=seconds(row.created_at),
        by=row.created_by,
        token_since=seconds(row.token_at),
        revoked=None if row.revoked_at is None else seconds(row.revoked_at),
    )
