"""A request to sign: what it needs, who may sign it, and that nothing in it is believed."""

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import Signer

from muster_models.errors import ConflictError, MessageError, MusterError, Reason, TrustError
from muster_models.manifest import encode
from muster_models.trust import ceremony, publisher, request
from muster_models.trust.ceremony import Present
from muster_models.trust.request import Request
from muster_models.trust.view import view
from support.manifests import make_manifest
from support.repository import NOW, make_signer

LATER = NOW + dt.timedelta(days=10)
ROOTS = [make_signer() for _ in range(3)]
TARGETS, ONLINE, ADA, BO = (make_signer() for _ in range(4))
ROOT_DOCUMENT = publisher.make_root(
    ROOTS,
    2,
    targets=TARGETS.public_key,
    snapshot=ONLINE.public_key,
    timestamp=ONLINE.public_key,
    now=NOW,
)
TARGETS_DOCUMENT = publisher.add_model(
    publisher.make_targets(TARGETS, director=ONLINE.public_key, now=NOW),
    "digits",
    keys=[ADA.public_key, BO.public_key],
    threshold=2,
    signer=TARGETS,
    now=NOW,
)
PRESENT = Present(ROOT_DOCUMENT, TARGETS_DOCUMENT, LATER)


def release_request() -> Request:
    document = encode(make_manifest())
    role = publisher.release(None, document, signers=[], now=LATER)
    made = PRESENT.request({"model-digits": role})
    return msgspec.structs.replace(made, manifest=document)


def sign(made: Request, *signers: Signer) -> Request:
    for signer in signers:
        made = request.sign(made, signer)
    return made


def missing(made: Request) -> dict[tuple[str, str], int]:
    return {(need.role, need.by): need.missing for need in request.needs(made)}


def test_a_release_waits_for_both_owners() -> None:
    made = release_request()

    assert missing(made) == {("model-digits", "targets"): 2}
    assert missing(sign(made, ADA)) == {("model-digits", "targets"): 1}
    assert missing(sign(made, ADA, ADA)) == {("model-digits", "targets"): 1}
    assert request.is_complete(sign(made, ADA, BO))


def test_a_new_root_waits_for_the_old_keys_and_for_its_own() -> None:
    new = make_signer()
    kept = ROOTS[:2]
    made = ceremony.replace_root_keys(PRESENT, [*(key.public_key for key in kept), new.public_key], 2)

    assert missing(made) == {("root", "root 1"): 2, ("root", "root 2"): 2}
    assert missing(sign(made, new)) == {("root", "root 1"): 2, ("root", "root 2"): 1}
    assert request.is_complete(sign(made, *kept))


def test_a_new_targets_key_needs_two_roots_and_signs_the_targets_itself() -> None:
    new = make_signer()
    made = sign(ceremony.replace_targets_key(PRESENT, new.public_key), *ROOTS[:2])

    assert missing(made)["targets", "root 2"] == 1
    with pytest.raises(TrustError):
        sign(made, TARGETS)
    assert request.is_complete(sign(made, new))


def test_new_online_keys_are_named_by_root_and_targets() -> None:
    snapshot, timestamp, director = (make_signer().public_key for _ in range(3))
    made = ceremony.replace_online_keys(PRESENT, snapshot=snapshot, timestamp=timestamp, director=director)
    held = {
        one.role: one.keys for role, document in made.parts.items() for one in view(role, document).holdings
    }

    assert held["snapshot"] == (snapshot.keyid,)
    assert held["timestamp"] == (timestamp.keyid,)
    assert held["director"] == (director.keyid,)
    assert set(held["model-digits"]) == {ADA.public_key.keyid, BO.public_key.keyid}


def test_a_model_given_away_is_signed_by_its_new_owner_and_keeps_what_it_lists() -> None:
    new = make_signer()
    role = publisher.release(None, encode(make_manifest()), signers=[ADA, BO], now=NOW)
    made = ceremony.give_model(PRESENT, "digits", role, keys=[new.public_key], threshold=1)

    assert request.is_complete(sign(made, TARGETS, new))
    assert view("model-digits", made.parts["model-digits"]).versions == view("model-digits", role).versions


def test_a_role_needs_no_more_signatures_than_it_has_keys() -> None:
    with pytest.raises(ConflictError, match="model-digits would have 1 keys and need 2"):
        ceremony.give_model(PRESENT, "digits", None, keys=[ADA.public_key, ADA.public_key], threshold=2)


def test_a_key_of_no_role_is_told_who_may_sign() -> None:
    with pytest.raises(TrustError, match=ADA.public_key.keyid[:8]) as refused:
        sign(release_request(), TARGETS)

    assert refused.value.reason is Reason.WRONG_KEY


def test_a_role_that_nobody_was_given_is_refused() -> None:
    role = publisher.release(None, encode(make_manifest(model="weather")), signers=[], now=LATER)

    with pytest.raises(TrustError) as refused:
        request.needs(PRESENT.request({"model-weather": role}))

    assert refused.value.reason is Reason.NOT_LISTED


def test_a_document_under_another_roles_name_is_refused() -> None:
    made = release_request()
    renamed = msgspec.structs.replace(made, parts={"targets": made.parts["model-digits"]})

    with pytest.raises(TrustError, match="signed as 'model-digits'"):
        request.decode(request.encode(renamed))


def test_a_request_survives_its_file() -> None:
    made = sign(release_request(), ADA)

    assert request.decode(request.encode(made)) == made


def test_a_request_larger_than_one_can_be_is_refused() -> None:
    with pytest.raises(MessageError, match="at most"):
        request.decode(b" " * (request.MAX_BYTES + 1))


ENCODED = request.encode(release_request())


@given(st.data())
def test_changed_bytes_are_refused_or_still_lack_their_signatures(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(ENCODED) - 1))
    content = ENCODED[:at] + data.draw(st.binary(max_size=3)) + ENCODED[at + data.draw(st.integers(0, 3)) :]
    try:
        made = request.decode(content)
        for role, document in made.parts.items():
            view(role, document)
    except MusterError:
        return

    assert not request.is_complete(made)
