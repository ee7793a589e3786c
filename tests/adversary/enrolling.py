"""Enrolment theft: tokens, requests for certificates, and who answers in the controller's place."""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from adversary.scenario import NETWORK, Harmless, Kind, Limit, Play, Scenario
from adversary.world import World
from muster_agent.config import Folder
from muster_agent.enroll import enrol, parse_token
from muster_agent.identity import make_request, ready_key
from muster_controller.pki import Authority
from muster_controller.store import enrolment
from muster_controller.store.engine import Unit
from muster_models.errors import MusterError, Reason
from support import device_side
from support.controller import NOW, request_certificate

DEVICE = "press-1"
ROOT = '{"signed": {"_type": "root"}, "signatures": []}'


def told(ask: Callable[[], object]) -> Reason | None:
    """Return the reason of a refusal, or None."""
    try:
        ask()
    except MusterError as error:
        return error.reason
    return None


# The controller's side


def make_authority(world: World, name: str = "pki") -> Authority:
    return Authority.create(world.folder / name, dt.datetime.now(dt.UTC))


def make_token(world: World, *, again: bool = False) -> str:
    with Unit(world.ground.engine) as session:
        return enrolment.create_token(session, DEVICE, labels={}, authority="ab" * 32, now=NOW, again=again)


def use(world: World, token: str, csr: bytes, *, now: float = NOW) -> str:
    """Exchange a token for a certificate as the controller does; return the certificate."""
    authority = (
        make_authority(world) if not (world.folder / "pki").exists() else Authority(world.folder / "pki")
    )
    with Unit(world.ground.engine) as session:
        permit = enrolment.consume_token(session, token, now)
        issued = authority.issue_device(permit.device, csr, dt.datetime.now(dt.UTC))
        enrolment.enrol(session, permit, issued, now)
        return issued.pem


def stolen_after_use(world: World) -> Reason | None:
    token = make_token(world)
    use(world, token, request_certificate()[1])
    return told(lambda: use(world, token, request_certificate()[1]))


def stolen_before_use(world: World) -> Reason | None:
    """Whoever comes first is the device; the true one is refused and says so, and the name can be revoked."""
    token = make_token(world)
    use(world, token, request_certificate()[1])
    assert told(lambda: use(world, token, request_certificate()[1])) is Reason.REPLAYED
    with Unit(world.ground.engine) as session:
        enrolment.revoke(session, DEVICE, NOW)
        assert not enrolment.is_active(session, DEVICE)
    return None


def expired_token(world: World) -> Reason | None:
    token = make_token(world)
    return told(lambda: use(world, token, request_certificate()[1], now=NOW + enrolment.TOKEN_SECONDS))


def replaced_token(world: World) -> Reason | None:
    old = make_token(world)
    make_token(world)
    return told(lambda: use(world, old, request_certificate()[1]))


def forged_token(change: Callable[[str], str]) -> Play:
    def play(world: World) -> Reason | None:
        token = change(make_token(world))
        return told(lambda: use(world, token, request_certificate()[1]))

    return play


def token_of_revoked(world: World) -> Reason | None:
    token = make_token(world)
    use(world, token, request_certificate()[1])
    waiting = make_token(world, again=True)
    with Unit(world.ground.engine) as session:
        enrolment.revoke(session, DEVICE, NOW)
    return told(lambda: use(world, waiting, request_certificate()[1]))


def foreign_name(name: str) -> Play:
    """Ask for another name than the token's: the certificate bears the token's."""

    def play(world: World) -> Reason | None:
        pem = use(world, make_token(world), request_certificate(name)[1])
        certificate = x509.load_pem_x509_certificate(pem.encode())
        assert certificate.subject.rfc4514_string() == f"CN={DEVICE}"
        return None

    return play


def foreign_extensions(world: World) -> Reason | None:
    """Ask to be an authority, for other host names and for other uses."""
    key, _ = request_certificate()
    names = x509.SubjectAlternativeName([x509.DNSName("muster.controller"), x509.DNSName("localhost")])
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=9), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = use(world, make_token(world), csr.public_bytes(serialization.Encoding.PEM))
    extensions = x509.load_pem_x509_certificate(pem.encode()).extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not [each for each in extensions if isinstance(each.value, x509.SubjectAlternativeName)]
    return None


def bad_request(csr: Callable[[], bytes]) -> Play:
    """Send a bad request; the token stays good for the true device."""

    def play(world: World) -> Reason | None:
        token = make_token(world)
        came = told(lambda: use(world, token, csr()))
        assert told(lambda: use(world, token, request_certificate()[1])) is None
        return came

    return play


def rsa_request() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM)


def broken_request() -> bytes:
    csr = x509.load_pem_x509_csr(request_certificate()[1])
    der = bytearray(csr.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


# The device's side


def answering(**changes: Any) -> Play:
    """Let the controller's place be taken by someone who answers with other fields."""

    def play(world: World) -> Reason | None:
        def answer(body: Mapping[str, Any], _peer: str | None) -> device_side.Answer:
            given = {
                "device": DEVICE,
                "certificate": device_side.sign(side.authority, DEVICE, body["csr"]),
                "ca": side.authority.pem,
                "root": ROOT,
                "mqtt": {"host": "127.0.0.1", "port": 8883},
                "repository": "https://127.0.0.1:8421/repository",
            }
            made = {name: make(side.authority, world) for name, make in changes.items()}
            return 200, json.dumps(given | made).encode()

        folder = Folder(world.folder / "enrolled")
        with device_side.serving(make_authority(world)) as side:
            side.handlers["/enrol"] = answer
            token = parse_token(f"mst1.{DEVICE}.{'s' * 32}.{side.authority.fingerprint}")
            came = told(lambda: enrol(side.url, token, folder))
        assert folder.settings.exists() == (came is None)
        return came

    return play


def another_authority(world: World) -> Reason | None:
    """Answer with another authority than the token names: the token is never shown."""
    true = make_authority(world, "true")
    with device_side.serving(make_authority(world)) as side:
        token = parse_token(f"mst1.{DEVICE}.{'s' * 32}.{true.fingerprint}")
        came = told(lambda: enrol(side.url, token, Folder(world.folder / "enrolled")))
        assert [path for path, _ in side.requests] == ["/ca.pem"]
    return came


def true_authority_without_its_key(world: World) -> Reason | None:
    """Repeat the true certificate without its key: TLS fails before the token is shown."""
    with device_side.serving(make_authority(world)) as side:
        side.authority = make_authority(world, "true")
        token = parse_token(f"mst1.{DEVICE}.{'s' * 32}.{side.authority.fingerprint}")
        came = told(lambda: enrol(side.url, token, Folder(world.folder / "enrolled")))
        assert [path for path, _ in side.requests] == ["/ca.pem"]
    return came


def plain_http(world: World) -> Reason | None:
    token = parse_token(f"mst1.{DEVICE}.{'s' * 32}.{'a' * 64}")
    return told(lambda: enrol(world.url, token, Folder(world.folder / "enrolled")))


def enrolled_twice(world: World) -> Reason | None:
    """Enrol a device that is enrolled already, to take it over."""
    assert answering()(world) is None
    token = parse_token(f"mst1.{DEVICE}.{'s' * 32}.{'a' * 64}")
    return told(lambda: enrol("https://127.0.0.1:1", token, Folder(world.folder / "enrolled")))


def foreign_key(_authority: Authority, world: World) -> str:
    csr = make_request(ready_key(world.folder / "foreign.key"), DEVICE)
    return device_side.sign(_authority, DEVICE, csr)


def foreign_device(authority: Authority, _world: World) -> str:
    return device_side.sign(authority, "press-2", request_certificate()[1].decode())


_ENROLMENT = Kind.ENROLMENT
TOKEN = "a token that was not meant for him"
CSR = "a token of his own"
SCENARIOS = (
    Scenario(
        "token-used-again",
        _ENROLMENT,
        "a token that was used",
        "enrols with it",
        Reason.REPLAYED,
        stolen_after_use,
    ),
    Scenario(
        "token-used-first",
        _ENROLMENT,
        TOKEN,
        "enrols before the true device",
        Limit("he is that device until it is revoked; the true one is refused, which is seen"),
        stolen_before_use,
    ),
    Scenario(
        "token-expired", _ENROLMENT, "a token of last week", "enrols with it", Reason.EXPIRED, expired_token
    ),
    Scenario(
        "token-replaced",
        _ENROLMENT,
        "a token that a newer one replaced",
        "enrols with it",
        Reason.UNSIGNED,
        replaced_token,
    ),
    *(
        Scenario(
            f"token-{word}",
            _ENROLMENT,
            says,
            "enrols with a changed token",
            Reason.UNSIGNED,
            forged_token(change),
        )
        for word, says, change in (
            ("for-another-device", "a token of his own", lambda token: token.replace(DEVICE, "press-2")),
            ("guessed", "the form of tokens", lambda _token: f"mst1.{DEVICE}.{'x' * 32}.{'0' * 64}"),
            ("empty", "nothing", lambda _token: ""),
        )
    ),
    Scenario(
        "token-of-revoked-device",
        _ENROLMENT,
        "a waiting token of a device that was revoked",
        "enrols with it",
        Reason.UNSIGNED,
        token_of_revoked,
    ),
    *(
        Scenario(
            f"csr-name-{word}",
            _ENROLMENT,
            CSR,
            f"asks for the name {says}",
            Harmless("the name comes from the token's record"),
            foreign_name(name),
        )
        for word, says, name in (
            ("of-another", "of another device", "press-2"),
            ("of-the-controller", "of the controller", "muster.controller"),
            ("wildcard", "`#`", "#"),
            ("path", "`../evil+#`", "../evil+#"),
        )
    ),
    Scenario(
        "csr-extensions",
        _ENROLMENT,
        CSR,
        "asks to be an authority and a server",
        Harmless("nothing but the key is taken from a request"),
        foreign_extensions,
    ),
    *(
        Scenario(f"csr-{word}", _ENROLMENT, CSR, f"sends {says}", Reason.BAD_MESSAGE, bad_request(csr))
        for word, says, csr in (
            ("garbage", "something that is no request", lambda: b"nothing"),
            ("rsa", "a request for an RSA key", rsa_request),
            ("broken", "a request that its key did not sign", broken_request),
            ("huge", "a request of 1 MiB", lambda: b"x" * (1 << 20)),
        )
    ),
    Scenario(
        "foreign-authority",
        _ENROLMENT,
        NETWORK,
        "answers with an authority of his own",
        Reason.WRONG_KEY,
        another_authority,
    ),
    Scenario(
        "repeated-authority",
        _ENROLMENT,
        NETWORK,
        "repeats the true authority's certificate without its key",
        Reason.DOWNLOAD_FAILED,
        true_authority_without_its_key,
    ),
    Scenario("enrol-without-tls", _ENROLMENT, NETWORK, "offers plain HTTP", Reason.BAD_SETTING, plain_http),
    Scenario(
        "enrol-as-another",
        _ENROLMENT,
        "a false controller",
        "makes the device another one",
        Reason.WRONG_DEVICE,
        answering(device=lambda _authority, _world: "press-2"),
    ),
    Scenario(
        "certificate-of-another-device",
        _ENROLMENT,
        "a false controller",
        "hands out another device's certificate",
        Reason.WRONG_DEVICE,
        answering(certificate=foreign_device),
    ),
    Scenario(
        "certificate-of-another-key",
        _ENROLMENT,
        "a false controller",
        "hands out a certificate for his own key",
        Reason.WRONG_KEY,
        answering(certificate=foreign_key),
    ),
    Scenario(
        "certificate-garbage",
        _ENROLMENT,
        "a false controller",
        "hands out something that is no certificate",
        Reason.TAMPERED,
        answering(certificate=lambda _authority, _world: "nothing"),
    ),
    Scenario(
        "enrol-without-root",
        _ENROLMENT,
        "a false controller",
        "hands out no root",
        Reason.UNSIGNED,
        answering(root=lambda _authority, _world: "{}"),
    ),
    Scenario(
        "enrol-to-a-file",
        _ENROLMENT,
        "a false controller",
        "names a file as the repository",
        Reason.DOWNLOAD_FAILED,
        answering(repository=lambda _authority, _world: "file:///etc"),
    ),
    Scenario(
        "enrolled-device-again",
        _ENROLMENT,
        "a token, and the device's shell",
        "enrols an enrolled device elsewhere",
        Reason.BAD_SETTING,
        enrolled_twice,
    ),
)
