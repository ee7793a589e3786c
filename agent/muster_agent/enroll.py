"""Enrolment and renewal: a token becomes a certificate, and a certificate is replaced in time.

The private key is made here and never leaves. The token pins the controller's CA, so the first contact needs
no trust in the network. ``agent.toml`` is the last file written: a folder that has it is complete.
"""

import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Meta, Struct

from muster_agent.asking import ANSWER_BYTES, fetch_unproven, post
from muster_agent.config import Broker, Folder, Settings, Url
from muster_agent.identity import (
    check_certificate,
    install_renewed,
    make_request,
    ready_key,
    tls_context,
    write_durably,
)
from muster_models import durable, toml_file
from muster_models.errors import InvalidInputError, Reason, StorageError, TransferError, TrustError
from muster_models.network_words import in_words
from muster_models.topics import DEVICE_PATTERN, check_device

_TOKEN = re.compile(
    rf"(?:mst1\.(?P<device>{DEVICE_PATTERN.pattern})|msb1\.(?P<prefix>[a-z0-9][a-z0-9-]{{1,40}}))"
    r"\.(?P<secret>[A-Za-z0-9_-]{16,128})\.(?P<ca>[0-9a-f]{64})"
)
Pem = Annotated[str, Meta(max_length=16_384)]


@dataclass(frozen=True)
class Token:
    """An enrolment token.

    Attributes:
        text: The whole token, as it was given out.
        device: The id that it is for; of a token for several devices, how their ids begin.
        ca: SHA-256 of the controller's CA certificate (DER), in hex.
        is_bulk: It is for several devices.
    """

    text: str
    device: str
    ca: str
    is_bulk: bool = False

    def admits(self, device: str) -> bool:
        """Tell whether the token is for a device of this id."""
        return device.startswith(self.device) if self.is_bulk else device == self.device


class Enrolled(Struct, frozen=True):
    """What the controller answers to an enrolment.

    Attributes:
        root: The first root of the signed repository, exactly as it was signed.
        repository: Base URL of metadata and blobs.
    """

    device: str
    certificate: Pem
    ca: Pem
    root: Annotated[str, Meta(max_length=ANSWER_BYTES)]
    mqtt: Broker
    repository: Url


class Renewed(Struct, frozen=True):
    """What the controller answers to a renewal."""

    certificate: Pem


def parse_token(text: str) -> Token:
    """Parse an enrolment token.

    Raises:
        InvalidInputError: Not of the expected form.
    """
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        # It may be a damaged secret, so it is not repeated.
        raise InvalidInputError(
            Reason.BAD_MESSAGE,
            "expected a token of the form mst1.<device>.<secret>.<fingerprint>, or msb1 for several devices, "
            f"as 'muster device token' prints it, got {len(text)} characters of another form",
        )
    return Token(found[0], found["device"] or found["prefix"], found["ca"], is_bulk=found["device"] is None)


def enrol(
    url: str, token: Token, folder: Folder, *, device: str | None = None, ca_file: Path | None = None
) -> Settings:
    """Exchange a token for a certificate and write the folder of the device.

    Args:
        url: The controller's side for devices, such as ``https://muster.example:8421``.
        token: From the controller; a repeat with the same folder is the same device.
        folder: Of the device; made when it does not exist.
        device: The id to ask for, where the token is for several devices; None leaves it to the controller.
        ca_file: The controller's CA certificate, where it came by other means; checked against the token.

    Raises:
        InvalidInputError: The URL has another form, the token is not for the device, or the folder belongs
            to an enrolled device.
        TransferError: The controller cannot be reached, or refuses the token.
        TrustError: What answers is not the controller that issued the token, or its answer is not for us.
        StorageError: The folder cannot be written.
    """
    if device is not None and not token.admits(device):
        raise InvalidInputError(
            Reason.WRONG_DEVICE, f"the token is for {token.device}, got the id {device[:80]!r}"
        )
    url = check_url(url)
    check_new(folder)
    authority = find_authority(url, token.ca, ca_file)
    key = prepare(folder)
    body = {"token": token.text, "csr": make_request(key, device or token.device)}
    if device is not None:
        body["device"] = device
    context = ssl.create_default_context(cadata=authority)
    answer = post(f"{url}/enrol", body, Enrolled, context=context)
    if not token.admits(answer.device) or answer.device != (device or answer.device):
        raise TrustError(
            Reason.WRONG_DEVICE, f"expected to become {device or token.device}, got {answer.device[:80]!r}"
        )
    return settle(folder, url, answer, authority=authority, key=key)


def check_new(folder: Folder) -> None:
    """Refuse a folder that belongs to an enrolled device.

    Raises:
        InvalidInputError: It does.
    """
    if folder.settings.exists():
        raise InvalidInputError(
            Reason.BAD_SETTING, f"{folder.root} is already enrolled; expected a new folder"
        )


def prepare(folder: Folder) -> EllipticCurvePrivateKey:
    """Return the key of a folder that is to be enrolled; both are made when they do not exist.

    Raises:
        StorageError: The folder cannot be written.
    """
    try:
        durable.make_folder(folder.identity, mode=0o700)
    except OSError as error:
        raise StorageError(f"{folder.identity}: {error.strerror}") from error
    return ready_key(folder.identity / "device.key")


def settle(
    folder: Folder, url: str, answer: Enrolled, *, authority: str, key: EllipticCurvePrivateKey
) -> Settings:
    """Write the folder of a device that was let in; ``authority`` is the CA certificate in PEM.

    Raises:
        TrustError: What was given is not for this key or this id, or is no root.
        InvalidInputError: The id that was given is not legal.
        StorageError: The folder cannot be written.
    """
    check_certificate(answer.certificate, check_device(answer.device), key)
    _check_root(answer.root)
    settings = Settings(answer.device, url, answer.repository.rstrip("/"), answer.mqtt)
    write_durably(folder.identity / "ca.pem", authority.encode())
    write_durably(folder.identity / "device.pem", answer.certificate.encode())
    write_durably(folder.pinned_root, answer.root.encode())
    write_durably(folder.settings, toml_file.render(settings).encode())
    return settings


def renew(settings: Settings, folder: Folder) -> None:
    """Replace key and certificate, over a connection that the present ones authenticate.

    Raises:
        TransferError: The controller cannot be reached, or refuses.
        TrustError: The new certificate is not for this device and its new key.
        StorageError: The folder cannot be written, or the identity is damaged.
    """
    context = tls_context(folder)
    key = ready_key(folder.identity / "device.key.next")
    body = {"csr": make_request(key, settings.device)}
    answer = post(f"{settings.controller}/renew", body, Renewed, context=context)
    check_certificate(answer.certificate, settings.device, key)
    install_renewed(folder, answer.certificate)


def check_url(url: str) -> str:
    """Return the URL of a controller without a slash at its end.

    Raises:
        InvalidInputError: It has another form.
    """
    try:
        checked = msgspec.convert(url.rstrip("/"), Url)
    except msgspec.ValidationError:
        checked = ""
    if not checked.startswith("https://"):
        raise InvalidInputError(Reason.BAD_SETTING, f"expected a URL https://HOST[:PORT], got {url[:200]!r}")
    return checked


def find_authority(url: str, ca: str, ca_file: Path | None = None) -> str:
    """Return the controller's CA certificate in PEM if it has the fingerprint ``ca`` (SHA-256, hex).

    Raises:
        TransferError: It cannot be fetched or read.
        TrustError: It has another fingerprint.
    """
    try:
        document = fetch_unproven(f"{url}/ca.pem") if ca_file is None else ca_file.read_bytes()
        certificate = x509.load_pem_x509_certificate(document)
    except (OSError, ValueError) as error:
        said = in_words(error) if isinstance(error, OSError) else str(error)
        raise TransferError(f"the controller's CA certificate: {said}") from error
    found = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    if found != ca:
        raise TrustError(
            Reason.WRONG_KEY,
            f"{ca_file or url} is not the controller that issued the token: "
            f"expected the CA {ca[:16]}…, got {found[:16]}…",
        )
    return certificate.public_bytes(Encoding.PEM).decode()


def _check_root(root: str) -> None:
    """Refuse at once what cannot be a root, so that a device is not enrolled for nothing."""
    try:
        kind = msgspec.json.decode(root.encode())["signed"]["_type"]
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError, LookupError, TypeError):
        kind = None
    if kind != "root":
        raise TrustError(Reason.UNSIGNED, "expected the root of a signed repository from the controller")
