"""Whether a threshold of a role's keys signed some bytes, and if not, which of three things is wrong.

Pure: no files, no network, no clock.
"""

from collections.abc import Mapping

from securesystemslib.signer import Signature
from tuf.api.metadata import Root, Targets

from muster_models.errors import Reason, TrustError


def verify(
    delegator: Root | Targets, role: str, *, payload: bytes, signatures: Mapping[str, Signature]
) -> None:
    """Return if ``payload`` carries enough good signatures by keys that ``delegator`` gives ``role``.

    Raises:
        TrustError: NOT_LISTED if the role is not delegated; TAMPERED if one of its keys signed other bytes;
            WRONG_KEY if only keys of other roles signed; UNSIGNED if signatures are missing.
    """
    try:
        result = delegator.get_verification_result(role, payload, dict(signatures))
    except ValueError as error:
        raise TrustError(Reason.NOT_LISTED, f"{role}: no such role is delegated") from error
    if result.verified:
        return
    if any(keyid in signatures for keyid in result.unsigned):
        raise TrustError(Reason.TAMPERED, f"{role}: a signature by a key of this role does not fit the bytes")
    if signatures and not result.signed:
        given = ", ".join(sorted(keyid[:8] for keyid in signatures))
        raise TrustError(Reason.WRONG_KEY, f"{role}: signed by {given}, none of which holds this role")
    raise TrustError(
        Reason.UNSIGNED, f"{role}: expected {result.threshold} good signatures, got {len(result.signed)}"
    )
