"""Tokens for several devices: so many and no more, each by its own id; the same key is the same device."""

from pathlib import Path

import pytest

from muster_controller.pki import Issued
from muster_controller.store import bulk_tokens, enrolment
from muster_controller.store.engine import Unit
from muster_controller.store.views import tokens
from muster_models.errors import (
    ConflictError,
    ForbiddenError,
    MusterError,
    NotFoundError,
    Reason,
    RequestError,
)
from support.controller import NOW, Ground, enrol, lay_ground

PIN = "ab" * 32
HOUR = 3600.0


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path)


def make_token(ground: Ground, count: int = 3, prefix: str = "press-") -> str:
    with Unit(ground.engine) as session:
        return bulk_tokens.create(
            session, prefix, count=count, labels={"line": "3"}, authority=PIN, now=NOW, lifetime=HOUR
        )


def admit(ground: Ground, token: str, key: str, wanted: str | None = None, *, now: float = NOW) -> str:
    """Do what the controller does with a token, and return the id."""
    with Unit(ground.engine) as session:
        admission = bulk_tokens.admit(session, token, key=key, wanted=wanted, now=now)
        device = admission.permit.device
        if not admission.certificate:
            enrolment.enrol(session, admission.permit, Issued("pem", key, int(NOW) + 86_400), now)
            bulk_tokens.use(session, token, key=key, device=device, certificate="pem", now=now)
        return device


def test_a_token_names_the_prefix_and_pins_the_authority(ground: Ground) -> None:
    form, prefix, secret, pin = make_token(ground).split(".")

    assert (form, prefix, len(secret), pin) == ("msb1", "press-", 32, PIN)


def test_machines_are_numbered_and_the_token_ends_with_the_last(ground: Ground) -> None:
    token = make_token(ground)

    admitted = [admit(ground, token, key) for key in ("k1", "k2", "k3")]

    assert admitted == ["press-1", "press-2", "press-3"]
    with pytest.raises(ForbiddenError, match="all its 3 devices") as refused:
        admit(ground, token, "k4")
    assert refused.value.reason is Reason.REPLAYED


def test_numbers_are_as_wide_as_the_count_and_pass_over_ids_that_are_taken(ground: Ground) -> None:
    token = make_token(ground, count=50)
    enrol(ground, "press-01")
    with Unit(ground.engine) as session:
        enrolment.create_token(session, "press-02", labels={}, authority=PIN, now=NOW)

    assert admit(ground, token, "k1") == "press-03"


def test_the_same_key_is_the_same_device_however_often_it_asks(ground: Ground) -> None:
    token = make_token(ground, count=1)

    assert [admit(ground, token, "k1") for _ in range(3)] == ["press-1"] * 3


def test_a_machine_may_choose_an_id_with_the_prefix(ground: Ground) -> None:
    token = make_token(ground)
    enrol(ground, "press-taken")

    assert admit(ground, token, "k1", "press-hall-9") == "press-hall-9"
    for wanted in ("oslo-1", "press-", "press-taken", "press-hall-9", "press-UP", "press-/x"):
        with pytest.raises(MusterError):
            admit(ground, token, "k2", wanted)


def test_a_token_expires_and_is_revoked_by_its_short_id(ground: Ground) -> None:
    token, other = make_token(ground), make_token(ground, prefix="oven-")
    admit(ground, token, "k1")
    with Unit(ground.engine) as session:
        live = {found.subject: found for found in tokens.list_live(session, NOW)}
        tokens.revoke(session, live["press-*"].id, NOW)
        left = [found.subject for found in tokens.list_live(session, NOW)]
        none = tokens.list_live(session, NOW + HOUR)

    assert (live["press-*"].used, live["press-*"].count, left, none) == (1, 3, ["oven-*"], ())
    for key in ("k1", "k2"):
        with pytest.raises(ForbiddenError, match="was revoked"):
            admit(ground, token, key)
    with pytest.raises(ForbiddenError, match="has expired"):
        admit(ground, other, "k3", now=NOW + HOUR)


def test_a_one_time_token_is_revoked_in_the_same_way(ground: Ground) -> None:
    with Unit(ground.engine) as session:
        token = enrolment.create_token(session, "oslo-1", labels={}, authority=PIN, now=NOW)
    with Unit(ground.engine) as session:
        (live,) = tokens.list_live(session, NOW)
        tokens.revoke(session, live.id, NOW)

    with Unit(ground.engine) as session, pytest.raises(ForbiddenError, match="was revoked"):
        enrolment.consume_token(session, token, NOW)
    with Unit(ground.engine) as session, pytest.raises(NotFoundError):
        tokens.revoke(session, live.id, NOW)


@pytest.mark.parametrize("count", [0, -1, bulk_tokens.MAX_COUNT + 1])
def test_a_token_admits_a_sensible_number(ground: Ground, count: int) -> None:
    with pytest.raises(RequestError, match="admits 1 to"):
        make_token(ground, count)


@pytest.mark.parametrize("prefix", ["", "-", "p", "Press-", "press.", "press/", "+", "x" * 42])
def test_a_prefix_makes_legal_ids(ground: Ground, prefix: str) -> None:
    with pytest.raises(RequestError, match="a prefix must match"):
        make_token(ground, prefix=prefix)


@pytest.mark.parametrize(
    ("old", "new"), [("press-", "oven-"), ("msb1", "mst1"), ("msb1.", "msb1.x."), ("msb1.press-.", "")]
)
def test_a_changed_token_admits_nobody(ground: Ground, old: str, new: str) -> None:
    with pytest.raises(ForbiddenError, match="is not known"):
        admit(ground, make_token(ground).replace(old, new), "k1")


def test_an_id_that_one_machine_asks_for_is_not_taken_from_those_who_may_have_it(ground: Ground) -> None:
    with pytest.raises(ConflictError, match="begin with"):
        admit(ground, make_token(ground), "k1", "oven-1")
