"""Two loops on one database: what one of them read is no longer so when it comes to save."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner, Key, SecretsHandler, Signature, Signer
from sqlmodel import select

from muster_controller.config import Settings
from muster_controller.reconcile.telling import Telling
from muster_controller.store import assignments, untold, versions
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.tables import DesiredState
from muster_models import wire
from support.controller import NOW, Ground, lay_ground, release_of
from support.database_marks import BOTH

pytestmark = BOTH

DIRECTOR = CryptoSigner.generate_ed25519()


class Hesitating(Signer):
    """Signs, and lets something happen before its first signature."""

    def __init__(self, before: Callable[[], object]) -> None:
        self._before: Callable[[], object] | None = before

    @property
    def public_key(self) -> Key:
        return DIRECTOR.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Self:
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        before, self._before = self._before, None
        if before is not None:
            before()
        return DIRECTOR.sign(payload)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, "berlin-1")


def telling(ground: Ground, director: Signer = DIRECTOR) -> Telling:
    return Telling(ground.engine, Settings(), director=director, publish=lambda *_: True, wake=lambda: None)


def assign(ground: Ground, digest: str) -> None:
    with Unit(ground.engine) as session:
        given = {"berlin-1": digest}
        assignments.assign(session, "digits", given, rollout=0, probation_seconds=5.0, now=NOW)
        untold.note(session, ["berlin-1"])


def said(ground: Ground) -> tuple[int, str]:
    """Return the number and the version of the stored desired state."""
    with Reading(ground.engine) as session:
        row = session.exec(select(DesiredState)).one()
    envelope = msgspec.json.decode(row.envelope)
    content = wire.decode_desired(msgspec.json.decode(f'"{envelope["payload"]}"', type=bytes))
    return row.sequence, content.models[0].manifest


def test_a_desired_state_that_was_decided_on_what_is_old_is_decided_anew(ground: Ground) -> None:
    newer = release_of(ground.baseline, version="1.1.0", release=2)
    with Unit(ground.engine) as session:
        versions.add(session, newer, NOW)
    assign(ground, ground.release.digest)

    def overtake() -> None:
        assign(ground, newer.digest)
        telling(ground).sign(NOW + 1)

    late = telling(ground, Hesitating(overtake))

    assert late.sign(NOW) is True
    assert said(ground) == (1, newer.digest)
    assert late.sign(NOW + 2) is False
    assert said(ground) == (1, newer.digest)
