import base64
import json

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Targets

from muster_models.errors import Reason, TrustError
from muster_models.trust.director import (
    MAX_ENVELOPE_BYTES,
    MAX_STEP,
    PAYLOAD_TYPE,
    open_envelope,
    sign_desired,
)
from muster_models.trust.publisher import add_model, make_targets
from muster_models.wire import Desired, DesiredModel, encode_desired
from support.repository import DEVICE, NOW, make_signer

ISSUED = NOW.timestamp()
DIRECTOR, RELEASE, STRANGER = make_signer(), make_signer(), make_signer()
TARGETS = add_model(
    make_targets(STRANGER, director=DIRECTOR.public_key, now=NOW),
    "digits",
    keys=[RELEASE.public_key],
    threshold=1,
    signer=STRANGER,
    now=NOW,
)


def make_desired(*, device: str = DEVICE, sequence: int = 7, expires: float = ISSUED + 3600) -> Desired:
    return Desired(device, sequence, ISSUED, expires, (DesiredModel("digits", "1.0.0", "0" * 64),))


def opened(envelope: bytes, *, after: int = 6, now: float = ISSUED) -> Desired:
    targets = Metadata[Targets].from_bytes(TARGETS).signed
    return open_envelope(envelope, targets, device=DEVICE, after=after, now=now)


def refusal(envelope: bytes, *, after: int = 6, now: float = ISSUED) -> TrustError:
    with pytest.raises(TrustError) as caught:
        opened(envelope, after=after, now=now)
    return caught.value


def signed_by(signer: Signer, payload: bytes, *, kind: str = PAYLOAD_TYPE) -> bytes:
    envelope = Envelope(payload, kind, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict()).encode()


def with_payload(envelope: bytes, payload: bytes) -> bytes:
    return json.dumps(json.loads(envelope) | {"payload": base64.b64encode(payload).decode()}).encode()


ENVELOPE = sign_desired(make_desired(), DIRECTOR)


def test_what_the_director_signed_is_obeyed() -> None:
    assert opened(ENVELOPE) == make_desired()


def test_an_envelope_is_small() -> None:
    assert len(ENVELOPE) < 1000  # with what MQTT and TLS add, one packet


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (sign_desired(make_desired(), STRANGER), Reason.WRONG_KEY),
        (sign_desired(make_desired(), RELEASE), Reason.WRONG_KEY),
        (json.dumps(json.loads(ENVELOPE) | {"signatures": []}).encode(), Reason.UNSIGNED),
        (with_payload(ENVELOPE, encode_desired(make_desired(sequence=8))), Reason.TAMPERED),
        (sign_desired(make_desired(device="porto-2"), DIRECTOR), Reason.WRONG_DEVICE),
        (sign_desired(make_desired(sequence=6), DIRECTOR), Reason.REPLAYED),
        (sign_desired(make_desired(sequence=5), DIRECTOR), Reason.REPLAYED),
        (sign_desired(make_desired(expires=ISSUED), DIRECTOR), Reason.EXPIRED),
        (signed_by(DIRECTOR, b"{}"), Reason.BAD_MESSAGE),
        (signed_by(DIRECTOR, encode_desired(make_desired()), kind="text/plain"), Reason.BAD_MESSAGE),
        (b"x" * (MAX_ENVELOPE_BYTES + 1), Reason.TOO_LARGE),
    ],
    ids=[
        "stranger's key",
        "model's release key",
        "no signature",
        "changed after signing",
        "another device's",
        "replayed",
        "older",
        "expired",
        "not desired state",
        "another type",
        "huge",
    ],
)
def test_everything_else_is_refused_with_its_reason(envelope: bytes, reason: Reason) -> None:
    assert refusal(envelope).reason is reason


def test_a_stolen_key_cannot_use_up_the_sequence_of_a_device() -> None:
    assert opened(sign_desired(make_desired(sequence=MAX_STEP + 6), DIRECTOR)).sequence == MAX_STEP + 6
    assert refusal(sign_desired(make_desired(sequence=MAX_STEP + 7), DIRECTOR)).reason is Reason.BAD_MESSAGE


def test_a_forged_key_id_does_not_help() -> None:
    forged = json.loads(sign_desired(make_desired(), STRANGER))
    forged["signatures"][0]["keyid"] = DIRECTOR.public_key.keyid

    assert refusal(json.dumps(forged).encode()).reason is Reason.TAMPERED


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"\x00\xff garbage",
        b"null",
        b"[]",
        b"{}",
        b'{"payload":1,"payloadType":2,"signatures":3}',
        b'{"payload":"e30=","payloadType":2,"signatures":[]}',
        b'{"payload":"e30=","payloadType":"x","signatures":[{}]}',
        b'{"payload":"e30=","payloadType":"x","signatures":[{"keyid":1,"sig":"AAAA"}]}',
        b'{"payload":"e30=","payloadType":"x","signatures":"abc"}',
        b'{"payload":"%","payloadType":"x","signatures":[]}',
        b"[" * 100_000,
    ],
    ids=lambda value: value[:24].decode(errors="replace"),
)
def test_garbage_is_a_bad_message(envelope: bytes) -> None:
    assert refusal(envelope).reason is Reason.BAD_MESSAGE


def test_the_refusal_says_what_was_expected_and_given() -> None:
    refused = refusal(sign_desired(make_desired(device="porto-2"), DIRECTOR))

    assert str(refused) == "desired state is for porto-2, this is berlin-1"


def test_without_a_director_nothing_is_obeyed() -> None:
    document = Metadata[Targets].from_bytes(TARGETS)
    document.signed.delegations = None

    with pytest.raises(TrustError) as caught:
        open_envelope(ENVELOPE, document.signed, device=DEVICE, after=0, now=ISSUED)

    assert caught.value.reason is Reason.NOT_LISTED
