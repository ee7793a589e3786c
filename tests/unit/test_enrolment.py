"""Enrolment: a token admits one machine once, as the device that it was made for."""

from pathlib import Path

import pytest
from sqlmodel import select

from muster_controller.pki import Issued
from muster_controller.store import certificates, devices, enrolment
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.tables import EnrolmentToken
from muster_models.errors import ConflictError, ForbiddenError, MessageError, NotFoundError, Reason
from support.controller import NOW, Ground, lay_ground

PIN = "ab" * 32
FIRST = Issued("pem", "a1", int(NOW) + 90 * 86_400)
SECOND = Issued("pem", "b2", int(NOW) + 180 * 86_400)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path)


def make_token(ground: Ground, device: str = "berlin-1", now: float = NOW, *, again: bool = False) -> str:
    with Unit(ground.engine) as session:
        return enrolment.create_token(
            session, device, labels={"site": "berlin"}, authority=PIN, now=now, again=again
        )


def consume(ground: Ground, token: str, now: float = NOW, issued: Issued = FIRST) -> enrolment.Permit:
    with Unit(ground.engine) as session:
        permit = enrolment.consume_token(session, token, now)
        enrolment.enrol(session, permit, issued, now)
        return permit


def good_serials(ground: Ground, device: str = "berlin-1") -> set[str]:
    with Reading(ground.engine) as session:
        return {serial for serial in ("a1", "b2", "c3") if enrolment.may_connect(session, device, serial)}


def test_a_token_names_its_device_and_pins_the_authority(ground: Ground) -> None:
    form, device, secret, pin = make_token(ground).split(".")

    assert (form, device, pin) == ("mst1", "berlin-1", PIN)
    assert len(secret) == 32


def test_only_the_hash_of_a_token_is_stored(ground: Ground) -> None:
    secret = make_token(ground).split(".")[2]

    with Reading(ground.engine) as session:
        row = session.exec(select(EnrolmentToken)).one()

    assert secret not in row.model_dump_json()


def test_a_token_admits_its_device_with_its_labels(ground: Ground) -> None:
    permit = consume(ground, make_token(ground))

    with Reading(ground.engine) as session:
        (member,) = devices.members(session)

    assert permit == enrolment.Permit("berlin-1", {"site": "berlin"})
    assert member == devices.Member("berlin-1", {"site": "berlin"}, None, 0)


def test_a_token_is_used_once(ground: Ground) -> None:
    token = make_token(ground)
    consume(ground, token)

    with pytest.raises(ForbiddenError, match="used before") as refused:
        consume(ground, token)

    assert refused.value.reason is Reason.REPLAYED


def test_a_token_expires(ground: Ground) -> None:
    with pytest.raises(ForbiddenError, match="has expired") as refused:
        consume(ground, make_token(ground), now=NOW + enrolment.TOKEN_SECONDS)

    assert refused.value.reason is Reason.EXPIRED


def test_a_token_stays_unused_when_enrolling_fails(ground: Ground) -> None:
    token = make_token(ground)

    def fail() -> None:
        with Unit(ground.engine) as session:
            enrolment.consume_token(session, token, NOW)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()

    assert consume(ground, token).device == "berlin-1"


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token.replace("berlin-1", "berlin-2"),
        lambda token: token.replace("mst1", "mst2"),
        lambda token: token.rpartition(".")[0],
        lambda token: token[:20] + ("A" if token[20] != "A" else "B") + token[21:],
        lambda _token: "",
        lambda _token: "....",
        lambda token: token + ".more",
    ],
    ids=["other device", "other form", "no pin", "other secret", "empty", "dots", "longer"],
)
def test_what_is_not_a_token_of_ours_admits_nobody(ground: Ground, change: object) -> None:
    assert callable(change)
    forged = change(make_token(ground))

    with pytest.raises(ForbiddenError, match="is not known"):
        consume(ground, forged)


def test_a_newer_token_replaces_an_unused_one(ground: Ground) -> None:
    old, new = make_token(ground), make_token(ground)

    with pytest.raises(ForbiddenError, match="is not known"):
        consume(ground, old)
    assert consume(ground, new).device == "berlin-1"


def test_a_token_is_made_only_for_a_legal_device_id(ground: Ground) -> None:
    for illegal in ("../evil", "muster.controller", "UPPER", "a", "+", "x/y", "x\n"):
        with pytest.raises(MessageError):
            make_token(ground, illegal)


def test_a_broken_device_is_replaced_and_keeps_its_name(ground: Ground) -> None:
    consume(ground, make_token(ground))

    token = make_token(ground, again=True)
    waiting = good_serials(ground)
    consume(ground, token, issued=SECOND)

    assert (waiting, good_serials(ground)) == (set(), {"b2"})
    with Reading(ground.engine) as session:
        assert enrolment.is_active(session, "berlin-1") is True
        assert certificates.revoked(session, NOW) == {"a1": "berlin-1"}


def test_an_enrolled_device_gets_no_token_by_accident(ground: Ground) -> None:
    consume(ground, make_token(ground))

    with pytest.raises(ConflictError, match="--again"):
        make_token(ground)
    with pytest.raises(NotFoundError, match="without --again"):
        make_token(ground, "oslo-1", again=True)
    assert good_serials(ground) == {"a1"}


def test_a_token_of_a_device_that_was_enrolled_by_other_means_admits_nobody(ground: Ground) -> None:
    token = make_token(ground)
    with Unit(ground.engine) as session:
        enrolment.enrol(session, enrolment.Permit("berlin-1", {}), SECOND, NOW)

    with pytest.raises(ForbiddenError, match="by other means"):
        consume(ground, token)
    assert good_serials(ground) == {"b2"}


def test_a_renewal_overlaps_with_the_certificate_before_it(ground: Ground) -> None:
    consume(ground, make_token(ground))

    with Unit(ground.engine) as session:
        enrolment.renew(session, "berlin-1", SECOND)

    assert good_serials(ground) == {"a1", "b2"}
    assert good_serials(ground, "oslo-1") == set()


def test_a_revoked_certificate_is_listed_until_it_ends_by_itself(ground: Ground) -> None:
    consume(ground, make_token(ground))
    with Unit(ground.engine) as session:
        enrolment.renew(session, "berlin-1", SECOND)
        enrolment.revoke(session, "berlin-1", NOW)

    with Reading(ground.engine) as session:
        listed = [
            sorted(certificates.revoked(session, when)) for when in (NOW, FIRST.expires, SECOND.expires)
        ]

    assert listed == [["a1", "b2"], ["b2"], []]


def test_the_name_of_a_revoked_device_is_not_given_again(ground: Ground) -> None:
    """Its certificate, which whoever stole it still has, would be believed again."""
    consume(ground, make_token(ground))
    with Unit(ground.engine) as session:
        enrolment.revoke(session, "berlin-1", NOW)

    with pytest.raises(ConflictError, match="choose another"):
        make_token(ground)


def test_a_revoked_device_is_refused_everywhere(ground: Ground) -> None:
    consume(ground, make_token(ground))
    token = make_token(ground, again=True)
    with Unit(ground.engine) as session:
        enrolment.revoke(session, "berlin-1", NOW)

    with Reading(ground.engine) as session:
        assert enrolment.is_active(session, "berlin-1") is False
        assert enrolment.revoked(session) == ("berlin-1",)
        assert devices.members(session) == []
        assert devices.active(session, ["berlin-1"]) == set()
    with pytest.raises(ForbiddenError), Unit(ground.engine) as session:
        enrolment.renew(session, "berlin-1", SECOND)
    with pytest.raises(ForbiddenError):
        consume(ground, token)


def test_a_certificate_is_renewed_for_an_enrolled_device_only(ground: Ground) -> None:
    consume(ground, make_token(ground))

    with Unit(ground.engine) as session:
        enrolment.renew(session, "berlin-1", SECOND)
    with pytest.raises(ForbiddenError, match="not enrolled"), Unit(ground.engine) as session:
        enrolment.renew(session, "oslo-1", SECOND)


def test_a_device_that_does_not_exist_cannot_be_revoked(ground: Ground) -> None:
    with pytest.raises(NotFoundError, match="no device 'oslo-1'"), Unit(ground.engine) as session:
        enrolment.revoke(session, "oslo-1", NOW)
