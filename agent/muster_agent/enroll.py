"""Enrolment and renewal: a one-time token becomes a certificate, and a certificate is replaced in time.

The private key is made here and never leaves. The token pins the controller's CA, so the first contact needs
no trust in the network. ``agent.toml`` is the last file written: a folder that has it is complete.
"""

import contextlib
import hashlib
import http.client
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Meta, Struct

from muster_agent.config import Broker, Folder, Settings, Url
from muster_agent.identity import (
    check_certificate,
    install_renewed,
    make_request,
    ready_key,
    tls_context,
    write_durably,
)
from muster_models import toml_file
from muster_models.errors import InvalidInputError, Reason, StorageError, TransferError, TrustError
from muster_models.topics import DEVICE_PATTERN

T = TypeVar("T")
ANSWER_BYTES = 256 * 1024
TIMEOUT_SECONDS = 20.0
_TOKEN = re.compile(
    rf"mst1\.(?P<device>{DEVICE_PATTERN.pattern})\.(?P<secret>[A-Za-z0-9_-]{{16,128}})\.(?P<ca>[0-9a-f]{{64}})"
)
Pem = Annotated[str, Meta(max_length=16_384)]


@dataclass(frozen=True)
class Token:
    """A one-time enrolment token.

    Attributes:
        text: The whole token, as it was given out.
        ca: SHA-256 of the controller's CA certificate (DER), in hex.
    """

    text: str
    device: str
    ca: str


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


class _Problem(Struct, frozen=True):
    message: str = ""


class _Refusal(Struct, frozen=True):
    error: _Problem = _Problem()


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
            "expected a token of the form mst1.<device>.<secret>.<fingerprint>, as 'muster device token' "
            f"prints it, got {len(text)} characters of another form",
        )
    return Token(found[0], found["device"], found["ca"])


def enrol(url: str, token: Token, folder: Folder, *, ca_file: Path | None = None) -> Settings:
    """Exchange a token for a certificate and write the folder of the device.

    Args:
        url: The controller's side for devices, such as ``https://muster.example:8421``.
        token: From the controller; it serves once.
        folder: Of the device; made when it does not exist.
        ca_file: The controller's CA certificate, where it came by other means; checked against the token.

    Raises:
        InvalidInputError: The URL has another form, or the folder belongs to an enrolled device.
        TransferError: The controller cannot be reached, or refuses the token.
        TrustError: What answers is not the controller that issued the token, or its answer is not for us.
        StorageError: The folder cannot be written.
    """
    url = _check_url(url)
    if folder.settings.exists():
        raise InvalidInputError(
            Reason.BAD_SETTING, f"{folder.root} is already enrolled; expected a new folder"
        )
    authority = _authority(url, token, ca_file)
    try:
        folder.identity.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"{folder.identity}: {error}") from error
    key = ready_key(folder.identity / "device.key")
    body = {"token": token.text, "csr": make_request(key, token.device)}
    context = ssl.create_default_context(cadata=authority)
    answer = _post(f"{url}/enrol", body, Enrolled, context=context)
    if answer.device != token.device:
        raise TrustError(
            Reason.WRONG_DEVICE, f"expected to become {token.device}, got {answer.device[:80]!r}"
        )
    check_certificate(answer.certificate, token.device, key)
    _check_root(answer.root)
    settings = Settings(token.device, url, answer.repository.rstrip("/"), answer.mqtt)
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
    answer = _post(f"{settings.controller}/renew", body, Renewed, context=context)
    check_certificate(answer.certificate, settings.device, key)
    install_renewed(folder, answer.certificate)


def _check_url(url: str) -> str:
    try:
        checked = msgspec.convert(url.rstrip("/"), Url)
    except msgspec.ValidationError:
        checked = ""
    if not checked.startswith("https://"):
        raise InvalidInputError(Reason.BAD_SETTING, f"expected a URL https://HOST[:PORT], got {url[:200]!r}")
    return checked


def _authority(url: str, token: Token, ca_file: Path | None) -> str:
    """Return the CA certificate in PEM if it is the one that the token names."""
    try:
        document = _fetch_unproven(f"{url}/ca.pem") if ca_file is None else ca_file.read_bytes()
        certificate = x509.load_pem_x509_certificate(document)
    except (OSError, ValueError) as error:
        raise TransferError(f"the controller's CA certificate: {error}") from error
    found = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    if found != token.ca:
        raise TrustError(
            Reason.WRONG_KEY,
            f"{ca_file or url} is not the controller that issued the token: "
            f"expected the CA {token.ca[:16]}…, got {found[:16]}…",
        )
    return certificate.public_bytes(Encoding.PEM).decode()


def _fetch_unproven(url: str) -> bytes:
    """Return what a server that has not proved who it is says; only a hash makes it worth anything."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _exchange("GET", url, None, context=context)


def _check_root(root: str) -> None:
    """Refuse at once what cannot be a root, so that a device is not enrolled for nothing."""
    try:
        kind = msgspec.json.decode(root.encode())["signed"]["_type"]
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError, LookupError, TypeError):
        kind = None
    if kind != "root":
        raise TrustError(Reason.UNSIGNED, "expected the root of a signed repository from the controller")


def _post(url: str, body: dict[str, str], form: type[T], *, context: ssl.SSLContext) -> T:
    answer = _exchange("POST", url, msgspec.json.encode(body), context=context)
    try:
        return msgspec.json.decode(answer, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransferError(f"{url}: unexpected answer: {error}") from error


def _exchange(method: str, url: str, body: bytes | None, *, context: ssl.SSLContext) -> bytes:
    parts = urlsplit(url)
    with (
        _as_transfer_error(url),
        contextlib.closing(
            http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS, context=context
            )
        ) as connection,
    ):
        connection.request(method, parts.path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read(ANSWER_BYTES + 1)
    if answer.status != http.client.OK:
        raise TransferError(f"{url}: {answer.status} {_said(content) or answer.reason}")
    if len(content) > ANSWER_BYTES:
        raise TransferError(f"{url}: expected at most {ANSWER_BYTES} bytes", Reason.TOO_LARGE)
    return content


def _said(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Refusal).error.message[:400]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


@contextlib.contextmanager
def _as_transfer_error(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransferError(f"{url}: {str(error) or type(error).__name__}") from error
