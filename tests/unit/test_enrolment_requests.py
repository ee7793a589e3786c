"""Machines that ask without a token: bounded, decided by the code of their key, forgotten in time."""

from pathlib import Path

import pytest
from sqlmodel import Session

from muster_controller.store import requests
from muster_controller.store.engine import Unit
from muster_controller.store.requests import (
    MAX_PER_ADDRESS,
    MAX_PER_MINUTE,
    MAX_WAITING,
    WAIT_SECONDS,
    Asking,
)
from muster_models.errors import ConflictError, MessageError, NotFoundError
from muster_models.keycode import code_of, fingerprint
from support.controller import NOW, Ground, enrol, lay_ground


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path)


def asking(number: int = 1, device: str = "press-1", address: str = "10.0.0.1") -> Asking:
    return Asking(fingerprint(b"key %d" % number), device, address)


def ask(ground: Ground, one: Asking, now: float = NOW) -> str:
    with Unit(ground.engine) as session:
        return requests.add(session, one, now).state


def accept(session: Session, one: Asking, now: float = NOW) -> None:
    requests.accept(session, code_of(one.key), {"line": "3"}, now)


def test_a_machine_waits_until_somebody_decides(ground: Ground) -> None:
    first, second = asking(1), asking(2, "press-2")
    states = [ask(ground, one) for one in (first, first, second)]
    with Unit(ground.engine) as session:
        accept(session, first)
        requests.refuse(session, code_of(second.key), NOW)

    assert states == ["pending"] * 3
    assert [ask(ground, one) for one in (first, second)] == ["accepted", "refused"]


def test_a_decision_is_made_once(ground: Ground) -> None:
    ask(ground, asking())
    with Unit(ground.engine) as session:
        accept(session, asking())

    for decide in (requests.refuse, lambda session, code, now: requests.accept(session, code, {}, now)):
        with Unit(ground.engine) as session, pytest.raises(NotFoundError, match="no machine waits"):
            decide(session, code_of(asking().key), NOW)


def test_a_request_that_nobody_decided_is_forgotten(ground: Ground) -> None:
    ask(ground, asking())
    with Unit(ground.engine) as session, pytest.raises(NotFoundError):
        accept(session, asking(), NOW + WAIT_SECONDS)

    assert ask(ground, asking(device="another"), NOW + WAIT_SECONDS) == "pending"


def test_a_key_asks_for_one_id(ground: Ground) -> None:
    ask(ground, asking())

    with pytest.raises(ConflictError, match="asked to be press-1 before"):
        ask(ground, asking(device="press-2"))


def test_an_id_that_is_taken_is_not_accepted_and_who_asks_learns_nothing_of_it(ground: Ground) -> None:
    enrol(ground, "press-1")

    assert ask(ground, asking()) == "pending"
    with Unit(ground.engine) as session, pytest.raises(ConflictError, match="is taken"):
        accept(session, asking())


def test_two_machines_are_not_promised_one_id(ground: Ground) -> None:
    for number in (1, 2):
        ask(ground, asking(number))
    with Unit(ground.engine) as session:
        accept(session, asking(1))

    with Unit(ground.engine) as session, pytest.raises(ConflictError, match="is taken"):
        accept(session, asking(2))


def test_an_illegal_id_is_refused(ground: Ground) -> None:
    for illegal in ("../evil", "muster.controller", "#", ""):
        with pytest.raises(MessageError):
            ask(ground, asking(device=illegal))


def test_one_address_cannot_use_up_all_places(ground: Ground) -> None:
    for number in range(MAX_PER_ADDRESS):
        ask(ground, asking(number))

    with pytest.raises(ConflictError, match="at this address"):
        ask(ground, asking(999))
    assert ask(ground, asking(999, address="10.0.0.2")) == "pending"
    assert ask(ground, asking(0)) == "pending"


def test_new_requests_are_bounded_in_a_minute_and_in_all(ground: Ground) -> None:
    def come(number: int, now: float) -> None:
        ask(ground, asking(number, address=f"10.0.0.{number}"), now)

    for number in range(MAX_PER_MINUTE):
        come(number, NOW)
    with pytest.raises(ConflictError, match="in a minute"):
        come(998, NOW + 59)
    for number in range(MAX_PER_MINUTE, MAX_WAITING):
        come(number, NOW + 3.0 * number)
    with pytest.raises(ConflictError, match=f"{MAX_WAITING} machines wait"):
        come(999, NOW + 600)


def test_another_key_with_a_code_that_waits_is_refused(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "code_of", lambda _key: "AAAAA-AAAAA")
    ask(ground, asking(1))

    with pytest.raises(ConflictError, match="make another key"):
        ask(ground, asking(2))
