"""What every use case needs: the database, the files, the keys, the clock; and the trail of who did what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller.config import Folder, Settings
from muster_controller.pki import Authority
from muster_controller.service.sketches import Sketches
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import AuditEntry
from muster_models.trust.repository import Repository


def _nothing() -> None:
    """Wake nobody: there is no loop to wake."""


def _no_health() -> Mapping[str, str]:
    """Say nothing: no part of the controller runs."""
    return {}


@dataclass(frozen=True)
class OnlineKeys:
    """The public keys whose private halves this controller holds, each in its JSON form as text."""

    snapshot: str
    timestamp: str
    director: str


@dataclass(frozen=True)
class Context:
    """The parts of one controller that use cases work with.

    Attributes:
        online_keys: Returns the public keys that root and targets should name.
        renew_online_keys: Makes the next ones, see ``Keyring.renew``.
        clock: Unix seconds.
        wake: Called after something was decided that the loop should act upon before its next tick.
        health: How each part that runs is, in a word or a sentence.
    """

    folder: Folder
    settings: Settings
    engine: Engine
    blobs: Blobs
    repository: Repository
    authority: Authority
    online_keys: Callable[[], OnlineKeys]
    renew_online_keys: Callable[[], OnlineKeys]
    sketches: Sketches
    clock: Callable[[], float]
    wake: Callable[[], None] = field(default=_nothing)
    health: Callable[[], Mapping[str, str]] = field(default=_no_health)

    @property
    def online(self) -> OnlineKeys:
        """The public keys that root and targets should name."""
        return self.online_keys()

    def reading(self) -> Reading:
        """Begin a transaction that only reads."""
        return Reading(self.engine)

    def unit(self) -> Unit:
        """Begin a transaction that may write."""
        return Unit(self.engine)

    @property
    def silent_before(self) -> int:
        """Devices that were last seen before this instant (milliseconds) are silent."""
        return milliseconds(self.clock() - self.settings.reachable_seconds)


@dataclass(frozen=True)
class Deed:
    """Something that a person did, as the audit trail keeps it.

    Attributes:
        action: Noun and verb: ``device.revoke``.
        subject: Id of what was acted upon.
        reason: In the person's words; may be empty.
    """

    actor: str
    action: str
    subject: str
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


def record(session: Session, deed: Deed, now: float) -> None:
    """Add a deed to the audit trail, in the transaction that does it."""
    session.add(
        AuditEntry(
            at=milliseconds(now),
            actor=deed.actor,
            action=deed.action,
            subject=deed.subject,
            reason=deed.reason,
            detail=deed.detail,
        )
    )
