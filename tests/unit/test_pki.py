"""The internal authority: who gets which name, and what a certificate may be used for."""

import datetime as dt
import hashlib
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from muster_controller.pki import (
    CA_DAYS,
    CONTROLLER,
    DEVICE_DAYS,
    MAX_CSR_BYTES,
    SERVER_DAYS,
    STAND_IN,
    Authority,
    request_key,
)
from muster_models.errors import MessageError, RequestError
from support.controller import request_certificate

NOW = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
MONTH = dt.timedelta(days=30)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", NOW)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def name_of(certificate: x509.Certificate) -> list[str | bytes]:
    return [attribute.value for attribute in certificate.subject]


def usage_of(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_device_gets_the_name_it_was_enrolled_as_and_not_the_one_it_asks_for(authority: Authority) -> None:
    _, csr = request_certificate("../evil+#")

    issued = authority.issue_device("berlin-1", csr, NOW)
    certificate = x509.load_pem_x509_certificate(issued.pem.encode())

    assert name_of(certificate) == ["berlin-1"]
    assert issued.serial == f"{certificate.serial_number:x}"
    assert issued.expires == int((NOW + dt.timedelta(days=DEVICE_DAYS)).timestamp())


def test_a_device_certificate_is_the_authoritys_and_good_for_clients_only(authority: Authority) -> None:
    _, csr = request_certificate()

    certificate = x509.load_pem_x509_certificate(authority.issue_device("berlin-1", csr, NOW).pem.encode())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value

    certificate.verify_directly_issued_by(authority.certificate)
    assert usage_of(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert constraints.ca is False


def test_extensions_of_a_request_are_ignored(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("controller")]), critical=False)
        .sign(key, hashes.SHA256())
    )

    pem = authority.issue_device("berlin-1", request.public_bytes(serialization.Encoding.PEM), NOW).pem
    certificate = x509.load_pem_x509_certificate(pem.encode())

    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_name_that_is_no_device_id_gets_no_certificate(authority: Authority) -> None:
    _, csr = request_certificate()

    for name in (CONTROLLER, "+", "#", "dev-b/x", "Berlin", "x" * 64, "berlin-1\n"):
        with pytest.raises(MessageError):
            authority.issue_device(name, csr, NOW)


def test_a_request_is_refused_for_what_is_wrong_with_it(authority: Authority) -> None:
    _, good = request_certificate()
    body = good.splitlines()
    forged = b"\n".join([*body[:-2], body[-2][::-1], body[-1]])

    for bad in (b"", b"hello", good[: len(good) // 2], forged, b"A" * (MAX_CSR_BYTES + 1)):
        with pytest.raises(RequestError):
            authority.issue_device("berlin-1", bad, NOW)


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(public_exponent=65537, key_size=2048)],
    ids=["P-384", "RSA"],
)
def test_only_p256_keys_are_signed(
    authority: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())

    with pytest.raises(RequestError, match="P-256"):
        authority.issue_device("berlin-1", request.public_bytes(serialization.Encoding.PEM), NOW)


def test_the_authority_is_the_same_after_it_is_opened_again(authority: Authority) -> None:
    opened = Authority(authority.folder)

    assert opened.fingerprint == authority.fingerprint
    assert opened.certificate.not_valid_after_utc == NOW + dt.timedelta(days=CA_DAYS)


def test_keys_are_readable_by_their_owner_only(authority: Authority) -> None:
    authority.ensure_own(["fleet.example"], NOW)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in authority.folder.glob("*.key")}

    assert modes == {"ca.key": 0o600, "server.key": 0o600, f"{CONTROLLER}.key": 0o600}


def test_the_controllers_own_certificates_are_made_for_its_names(authority: Authority) -> None:
    authority.ensure_own(["fleet.example", "10.0.0.7"], NOW)
    server, client = read(authority.folder / "server.pem"), read(authority.folder / f"{CONTROLLER}.pem")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert sorted(str(name.value) for name in names) == [
        "10.0.0.7",
        "127.0.0.1",
        "fleet.example",
        "localhost",
    ]
    assert usage_of(server) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert (name_of(client), usage_of(client)) == ([CONTROLLER], [ExtendedKeyUsageOID.CLIENT_AUTH])


def test_own_certificates_stay_until_they_end_soon_or_the_names_change(authority: Authority) -> None:
    def serials() -> list[int]:
        return [read(authority.folder / f"{name}.pem").serial_number for name in ("server", CONTROLLER)]

    authority.ensure_own(["a.example"], NOW)
    first = serials()
    authority.ensure_own(["a.example"], NOW + MONTH)
    kept = serials()
    authority.ensure_own(["b.example"], NOW + MONTH)
    renamed = serials()
    authority.ensure_own(["b.example"], NOW + dt.timedelta(days=SERVER_DAYS) - MONTH)
    renewed = serials()

    assert kept == first
    assert (renamed[0] == first[0], renamed[1] == first[1]) == (False, True)
    assert set(renewed).isdisjoint(first)


def test_a_list_of_revoked_certificates_is_signed_and_outlives_every_certificate(
    authority: Authority,
) -> None:
    """A list that has ended would shut every device out."""
    listed = x509.load_pem_x509_crl(authority.list_revoked(["a1", "ff00"], NOW))
    public = authority.certificate.public_key()

    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert listed.is_signature_valid(public) is True
    assert listed.issuer == authority.certificate.subject
    assert [entry.serial_number for entry in listed] == [0xA1, 0xFF00]
    assert listed.next_update_utc == authority.certificate.not_valid_after_utc


def test_of_two_lists_the_later_one_has_the_later_date(authority: Authority) -> None:
    dates = [
        x509.load_pem_x509_crl(authority.list_revoked([], NOW, number=number)).last_update_utc
        for number in range(3)
    ]

    assert dates == sorted(set(dates))
    assert dates[-1] < NOW


def test_a_stand_in_has_the_devices_name_for_some_minutes(authority: Authority, tmp_path: Path) -> None:
    path, key = authority.issue_stand_in("berlin-1", tmp_path, NOW)
    certificate = read(path)

    assert name_of(certificate) == ["berlin-1"]
    assert usage_of(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_after_utc == NOW + STAND_IN
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_request_is_known_by_its_key_and_not_by_its_name() -> None:
    key, csr = request_certificate("one")
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    assert request_key(csr) == hashlib.sha256(public).hexdigest()
    assert request_key(request_certificate("one")[1]) != request_key(csr)
    with pytest.raises(RequestError):
        request_key(b"nothing")
