"""Enrolment without a token: ask, show the code of the own key, and wait until an operator has decided."""

import ssl
from collections.abc import Callable
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from muster_agent.asking import post
from muster_agent.config import Folder, Settings
from muster_agent.enroll import Enrolled, check_new, check_url, find_authority, prepare, settle
from muster_agent.identity import make_request
from muster_models import keycode
from muster_models.errors import Reason, TransferError, TrustError
from muster_models.topics import check_device

POLL_SECONDS = 5.0  # an operator takes longer, and asking again costs the controller one read


class Answer(Struct, frozen=True):
    """What the controller says to a machine that asks."""

    state: Literal["pending", "refused", "enrolled"]
    enrolment: Enrolled | None = None


def request(
    url: str,
    device: str,
    folder: Folder,
    *,
    ca: str,
    show: Callable[[str], None],
    wait: Callable[[float], bool],
) -> Settings:
    """Ask to be let in as ``device`` until an operator has decided, and write the folder of the device.

    A repeat with the same folder goes on where an earlier one was cut.

    Args:
        url: The controller's side for devices.
        device: The id to ask for.
        folder: Of the device; made when it does not exist.
        ca: SHA-256 of the controller's CA certificate (DER), in hex.
        show: Takes the code that the operator must see as well; called once, when the controller knows it.
        wait: Waits for so many seconds; tells whether to go on.

    Raises:
        InvalidInputError: The URL or the id has another form, or the folder belongs to an enrolled device.
        TransferError: The controller cannot be reached, takes no requests, or nobody decided in time.
        TrustError: An operator refused; or what answers is not the controller, or its answer is not for us.
        StorageError: The folder cannot be written.
    """
    check_device(device)
    url = check_url(url)
    check_new(folder)
    authority = find_authority(url, ca)
    key = prepare(folder)
    body = {"device": device, "csr": make_request(key, device)}
    context = ssl.create_default_context(cadata=authority)
    answer = post(f"{url}/enrol/ask", body, Answer, context=context)
    if answer.state == "pending":
        show(code_of(key))
    while answer.state == "pending":
        if not wait(POLL_SECONDS):
            raise TransferError(f"nobody has let {device} in so far; ask again", Reason.TIMED_OUT)
        answer = post(f"{url}/enrol/ask", body, Answer, context=context)
    if answer.state == "refused" or answer.enrolment is None:
        raise TrustError(Reason.ORDERED, f"an operator refused to let {device} in")
    if answer.enrolment.device != device:
        raise TrustError(
            Reason.WRONG_DEVICE, f"expected to become {device}, got {answer.enrolment.device[:80]!r}"
        )
    return settle(folder, url, answer.enrolment, authority=authority, key=key)


def code_of(key: EllipticCurvePrivateKey) -> str:
    """Return the code of a key, by our own reckoning: what another says would prove nothing."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return keycode.code_of(keycode.fingerprint(public))
