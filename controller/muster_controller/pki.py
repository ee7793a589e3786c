"""The internal certificate authority: one root, server and device certificates, all P-256.

Not here: who may have a certificate (``store.enrolment`` decides).
"""

import datetime as dt
import hashlib
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from muster_models import keycode
from muster_models.errors import RequestError
from muster_models.topics import check_device

CA_DAYS = 3650
SERVER_DAYS = 365
DEVICE_DAYS = 90
STAND_IN = dt.timedelta(minutes=10)
RENEW_DAYS = 30  # own certificates that end sooner are made anew at start
BACKDATE = dt.timedelta(minutes=5)  # a device's clock may be a little behind
LIST_BACKDATE = dt.timedelta(days=1)  # a list of tomorrow would shut everybody out when a clock is set back
MAX_CSR_BYTES = 8192
CONTROLLER = "muster.controller"  # the controller's own name: no device id can hold a dot


@dataclass(frozen=True)
class Issued:
    """A certificate that was just issued.

    Attributes:
        serial: Hex.
        expires: Unix seconds.
    """

    pem: str
    serial: str
    expires: int


class Authority:
    """Signs certificates with the CA key of one folder (``ca.pem`` and ``ca.key``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise RequestError(
                f"{folder / 'ca.key'}: expected an elliptic-curve key, got {type(key).__name__}"
            )
        self._key = key

    @classmethod
    def create(cls, folder: Path, now: dt.datetime) -> "Authority":
        """Make a new CA in ``folder`` and open it."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Muster CA")
        ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(name, name, key.public_key(), now, dt.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(ski, critical=False)
            .sign(key, hashes.SHA256())
        )
        write_private(folder / "ca.key", _pem(key))
        (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder)

    @property
    def pem(self) -> str:
        """The CA certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA certificate (DER), in hex: what an enrolment token pins."""
        return hashlib.sha256(self.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def issue_server(self, name: str, hosts: Sequence[str], now: dt.datetime) -> None:
        """Write ``<name>.pem`` and ``<name>.key`` for a server that is reached as ``hosts``."""
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        self._issue_own(name, ExtendedKeyUsageOID.SERVER_AUTH, now, names)

    def issue_client(self, name: str, now: dt.datetime) -> None:
        """Write ``<name>.pem`` and ``<name>.key`` for a program of the controller itself."""
        self._issue_own(name, ExtendedKeyUsageOID.CLIENT_AUTH, now, None)

    def ensure_own(self, hosts: Sequence[str], now: dt.datetime) -> None:
        """Make the certificates of the servers and of the controller's MQTT session where they are needed.

        That is where there is none, where one ends soon, and where the servers are reached by other names.
        """
        names = sorted({"localhost", "127.0.0.1", *hosts})
        if not self._lasts("server", now) or _names(self.folder / "server.pem") != names:
            self.issue_server("server", names, now)
        if not self._lasts(CONTROLLER, now):
            self.issue_client(CONTROLLER, now)

    def _lasts(self, name: str, now: dt.datetime) -> bool:
        path = self.folder / f"{name}.pem"
        if not path.exists() or not (self.folder / f"{name}.key").exists():
            return False
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        return certificate.not_valid_after_utc > now + dt.timedelta(days=RENEW_DAYS)

    def issue_device(self, device: str, csr: bytes, now: dt.datetime) -> Issued:
        """Sign the key of a request as ``device``; every name that the request holds is ignored.

        Raises:
            RequestError: Not a certificate request, its own signature is wrong, or not a P-256 key.
        """
        public = _requested_key(csr)
        certificate = (
            self._leaf(check_device(device), public, now, dt.timedelta(days=DEVICE_DAYS))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            f"{certificate.serial_number:x}",
            int(certificate.not_valid_after_utc.timestamp()),
        )

    def issue_stand_in(self, device: str, folder: Path, now: dt.datetime) -> tuple[Path, Path]:
        """Write a certificate in a device's name, and its key, that end within minutes; return both paths.

        By it the controller takes over the session of a device that was turned away.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._leaf(device, key.public_key(), now, STAND_IN)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        paths = folder / "stand-in.pem", folder / "stand-in.key"
        write_private(paths[1], _pem(key))
        write_private(paths[0], certificate.public_bytes(serialization.Encoding.PEM))
        return paths

    def list_revoked(self, serials: Iterable[str], now: dt.datetime, *, number: int = 0) -> bytes:
        """Return the revocation list (PEM) of certificates by serial (hex).

        It ends with the CA: a list that has ended shuts every device out, and the controller, which writes a
        new one whenever something changes, is no reason to take that risk.

        Args:
            serials: Of certificates that must not connect.
            now: When it is made.
            number: How many lists were made before for a broker that runs. Of two lists that were made in
                the same second, OpenSSL goes by the older one, so each is dated a second later.
        """
        made = now - LIST_BACKDATE + dt.timedelta(seconds=number)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(made)
            .next_update(self.certificate.not_valid_after_utc)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(made)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue_own(
        self,
        name: str,
        usage: x509.ObjectIdentifier,
        now: dt.datetime,
        names: x509.ExtensionType | None,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._leaf(name, key.public_key(), now, dt.timedelta(days=SERVER_DAYS)).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        write_private(self.folder / f"{name}.key", _pem(key))
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _leaf(
        self, name: str, public: ec.EllipticCurvePublicKey, now: dt.datetime, life: dt.timedelta
    ) -> x509.CertificateBuilder:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            _builder(_name(name), self.certificate.subject, public, now, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority, critical=False)
        )


def request_key(csr: bytes) -> str:
    """Return the fingerprint of the key that a certificate request proves to hold.

    Raises:
        RequestError: As ``Authority.issue_device``.
    """
    public = _requested_key(csr)
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return keycode.fingerprint(public.public_bytes(encoding, form))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _names(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(str(name.value) for name in names)


def _requested_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    public = _parse_request(csr).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise RequestError("expected a certificate request for a P-256 key")
    return public


def _parse_request(csr: bytes) -> x509.CertificateSigningRequest:
    if len(csr) > MAX_CSR_BYTES:
        raise RequestError(f"a certificate request has at most {MAX_CSR_BYTES} bytes, got {len(csr)}")
    try:
        request = x509.load_pem_x509_csr(csr)
        valid = request.is_signature_valid
    except (ValueError, InvalidSignature) as error:
        raise RequestError(f"expected a certificate request in PEM: {error}") from error
    if not valid:
        raise RequestError("the certificate request is not signed by its own key")
    return request


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
