"""Desired state on its way to a device: a DSSE envelope signed by the director key.

The director key is delegated in the offline-signed targets, so it is rotated and revoked like any other.
Pure: no files, no network, no clock. The broker that carries envelopes is not trusted.
"""

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SignatureFormatError
from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from muster_models.errors import MessageError, Reason, TrustError
from muster_models.trust.roles import DIRECTOR
from muster_models.trust.signatures import verify
from muster_models.wire import MAX_BYTES, Desired, decode_desired, encode_desired

PAYLOAD_TYPE = "application/vnd.muster.desired+json"
# Sequences grow by one. Whoever steals the key could else sign the highest there is, and the device would
# obey nobody any more, not even after the key was replaced.
MAX_STEP = 2**20
MAX_ENVELOPE_BYTES = MAX_BYTES * 4 // 3 + 8192  # base64, and room for signatures


def sign_desired(desired: Desired, signer: Signer) -> bytes:
    """Return the signed envelope that says what one device should run."""
    envelope = Envelope(encode_desired(desired), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return msgspec.json.encode(envelope.to_dict(), order="sorted")


def open_envelope(envelope: bytes, targets: Targets, *, device: str, after: int, now: float) -> Desired:
    """Return the desired state in an envelope if this device must obey it.

    What must hold, in this order:
        1. the bytes are an envelope of desired state, not larger than one can be;
        2. the keys that ``targets`` delegates the director role to signed it;
        3. what they signed parses;
        4. it is for this device;
        5. it is newer than what the device has seen, and not absurdly so;
        6. it has not expired.
    The caller has verified ``targets`` and checked that it has not expired.

    Args:
        after: Sequence of the newest desired state that was accepted; 0 for none.
        now: Unix seconds, not below the time floor.

    Raises:
        TrustError: One of these does not hold.
    """
    parsed = _parse(envelope)  # 1
    verify(targets, DIRECTOR, payload=parsed.pae(), signatures=parsed.signatures)  # 2
    try:
        desired = decode_desired(parsed.payload)  # 3
    except MessageError as error:
        raise TrustError(Reason.BAD_MESSAGE, f"desired state: {error}") from error
    if desired.device != device:  # 4
        raise TrustError(Reason.WRONG_DEVICE, f"desired state is for {desired.device}, this is {device}")
    if desired.sequence <= after:  # 5
        raise TrustError(
            Reason.REPLAYED, f"desired state {desired.sequence} is not newer than {after}, which was accepted"
        )
    if desired.sequence > after + MAX_STEP:
        raise TrustError(
            Reason.BAD_MESSAGE,
            f"desired state {desired.sequence} is too far from {after}: at most {MAX_STEP} in one step",
        )
    if desired.expires <= now:  # 6
        raise TrustError(
            Reason.EXPIRED, f"desired state {desired.sequence} expired {now - desired.expires:.0f} s ago"
        )
    return desired


def _parse(document: bytes) -> Envelope:
    if len(document) > MAX_ENVELOPE_BYTES:
        raise TrustError(
            Reason.TOO_LARGE, f"an envelope has at most {MAX_ENVELOPE_BYTES} bytes, got {len(document)}"
        )
    try:
        envelope = Envelope.from_dict(msgspec.json.decode(document, type=dict[str, object]))
        kind = envelope.payload_type
    except (msgspec.MsgspecError, SignatureFormatError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError(Reason.BAD_MESSAGE, f"expected an envelope: {error}") from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        # The library reads fields without checking that they are what it expects.
        raise TrustError(Reason.BAD_MESSAGE, f"expected an envelope: {error!r}") from error
    if kind != PAYLOAD_TYPE:
        raise TrustError(Reason.BAD_MESSAGE, f"expected a payload of {PAYLOAD_TYPE}, got {str(kind)[:80]!r}")
    return envelope
