"""The device's identity on disk: its key, its certificate, its controller's CA.

A renewal replaces two files, which no file system does at once: the new key waits beside the old one until
the new certificate is there, and every reader completes what was cut in between.
"""

import contextlib
import datetime as dt
import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muster_agent.config import Folder
from muster_models import durable
from muster_models.errors import Reason, StorageError, TrustError

RENEW_AT = 2 / 3  # of a certificate's life
NAMES = ("ca.pem", "device.pem", "device.key")


def tls_context(folder: Folder) -> ssl.SSLContext:
    """Return the context of the device's connections: its own certificate, its controller's CA alone.

    Raises:
        StorageError: A file of the identity is missing or damaged.
    """
    finish_renewal(folder)
    try:
        context = ssl.create_default_context(cafile=folder.identity / "ca.pem")
        context.load_cert_chain(folder.identity / "device.pem", folder.identity / "device.key")
    except OSError as error:
        missing = [name for name in NAMES if not (folder.identity / name).exists()]
        said = f"{' and '.join(missing)} missing" if missing else str(error)
        raise StorageError(f"{folder.identity}: no usable identity: {said}") from error
    return context


def certificate_life(folder: Folder) -> tuple[dt.datetime, dt.datetime]:
    """Return when the certificate should be renewed, at two thirds of its life, and when it ends.

    Raises:
        StorageError: The certificate is missing or damaged.
    """
    certificate = _certificate_at(folder.identity / "device.pem")
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return start + (end - start) * RENEW_AT, end


def ready_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key of a file, which is made when there is none.

    A key that an interrupted attempt left is used again, so that a repeat is the same request.

    Raises:
        StorageError: The folder cannot be written, or the file is damaged.
    """
    if path.exists():
        return _load_key(path)
    key = ec.generate_private_key(ec.SECP256R1())
    write_durably(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    return key


def make_request(key: ec.EllipticCurvePrivateKey, device: str) -> str:
    """Return a certificate request in PEM; its name is a courtesy, the controller goes by its own record."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def check_certificate(pem: str, device: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Refuse a certificate that is not for this device and this key.

    Raises:
        TrustError: It is for another device or key, or is no certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(Reason.TAMPERED, f"expected a certificate in PEM: {error}") from error
    if names != [device]:
        raise TrustError(Reason.WRONG_DEVICE, f"expected a certificate for {device}, got one for {names}")
    if public != key.public_key():
        raise TrustError(Reason.WRONG_KEY, "the certificate is not for the key of this device")


def install_renewed(folder: Folder, pem: str) -> None:
    """Put a renewed certificate in place, and its key, which waits in ``device.key.next``.

    Raises:
        StorageError: The folder cannot be written.
    """
    write_durably(folder.identity / "device.pem", pem.encode())
    finish_renewal(folder)


def finish_renewal(folder: Folder) -> None:
    """Complete a renewal that was cut between the new certificate and its key.

    Raises:
        StorageError: A file of the identity is missing or damaged, or the folder cannot be written.
    """
    following = folder.identity / "device.key.next"
    if not following.exists():
        return
    public = _certificate_at(folder.identity / "device.pem").public_key()
    if _load_key(following).public_key() == public:
        with _as_storage_error(following):
            following.replace(folder.identity / "device.key")
            durable.sync_folder(folder.identity)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, even when power is lost.

    Raises:
        StorageError: The folder cannot be written.
    """
    durable.replace(path, content, mode=0o600)


def _certificate_at(path: Path) -> x509.Certificate:
    with _as_storage_error(path):
        return x509.load_pem_x509_certificate(path.read_bytes())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    with _as_storage_error(path):
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StorageError(f"{path}: expected an elliptic-curve key, got {type(key).__name__}")
    return key


@contextlib.contextmanager
def _as_storage_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StorageError(f"{path}: {error}") from error


def read_pinned_root(folder: Folder) -> bytes:
    """Return the root that enrolment pinned.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return folder.pinned_root.read_bytes()
    except OSError as error:
        raise StorageError(f"{folder.pinned_root}: {error.strerror}; enrol the device again") from error
