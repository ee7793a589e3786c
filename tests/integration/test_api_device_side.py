"""What devices reach, over real TLS: enrolment, renewal, the repository; and who is turned away."""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from muster_controller.api.device_side import make_device_app
from muster_controller.pki import CONTROLLER, Authority
from muster_controller.service import devices
from muster_controller.serving import DeviceTls, bind, make_server
from support.controller import issue_device, request_certificate
from support.office import OPERATOR, Office, open_office, serving
from support.wall import wall_clock

HOST = "127.0.0.1"


@dataclass
class Side:
    """The device side of a running controller."""

    office: Office
    port: int
    folder: Path

    def client(self, identity: str | None = None, folder: Path | None = None) -> httpx.Client:
        """Return HTTPS that trusts the controller's CA and shows the certificate ``identity``, if any."""
        context = ssl.create_default_context(cadata=self.office.context.authority.pem)
        if identity is not None:
            home = folder or self.folder
            context.load_cert_chain(home / f"{identity}.pem", home / f"{identity}.key")
        return httpx.Client(verify=context, base_url=f"https://{HOST}:{self.port}", trust_env=False)

    def token(self, device: str = "berlin-1") -> str:
        return devices.issue_token(
            self.office.context, OPERATOR, device=device, labels={"site": "berlin"}
        ).token

    def enrol(self, device: str = "berlin-1") -> dict[str, Any]:
        """Enrol a device and keep its certificate and key in ``folder``."""
        key, csr = request_certificate("whoever")
        with self.client() as client:
            answer = client.post("/enrol", json={"token": self.token(device), "csr": csr.decode()})
        assert answer.status_code == 200, answer.text
        given: dict[str, Any] = answer.json()
        (self.folder / f"{device}.pem").write_text(given["certificate"])
        (self.folder / f"{device}.key").write_bytes(pem_of(key))
        return given


def pem_of(key: Any) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    office = open_office(tmp_path / "controller", clock=wall_clock())
    office.install()
    listener = bind(HOST, 0, setting="device_port")
    server = make_server(make_device_app(office.context), DeviceTls(office.context.folder.pki))
    home = tmp_path / "devices"
    home.mkdir()
    with contextlib.closing(listener), serving(server, listener):
        yield Side(office, listener.getsockname()[1], home)
    office.opened.close()


def test_the_authority_is_served_to_anybody(side: Side) -> None:
    with side.client() as client:
        answer = client.get("/ca.pem")

    assert answer.text == side.office.context.authority.pem


def test_enrolment_gives_a_certificate_in_the_name_of_the_token(side: Side) -> None:
    given = side.enrol("berlin-1")

    certificate = x509.load_pem_x509_certificate(given["certificate"].encode())
    assert certificate.subject.rfc4514_string() == "CN=berlin-1"
    assert given["device"] == "berlin-1"
    assert given["root"].encode() == side.office.context.repository.root_v1
    assert given["mqtt"] == {"host": HOST, "port": side.office.context.settings.mqtt_port}
    assert given["repository"] == f"https://{HOST}:{side.office.context.settings.device_port}/repository"
    assert devices.show_device(side.office.context, "berlin-1").device.labels == {"site": "berlin"}


def test_a_token_works_once(side: Side) -> None:
    token = side.token()
    _, csr = request_certificate()
    with side.client() as client:
        first = client.post("/enrol", json={"token": token, "csr": csr.decode()})
        second = client.post("/enrol", json={"token": token, "csr": csr.decode()})

    assert (first.status_code, second.status_code) == (200, 403)
    assert second.json()["error"]["reason"] == "replayed"


def test_a_bad_request_for_a_certificate_does_not_use_the_token_up(side: Side) -> None:
    token = side.token()
    _, csr = request_certificate()
    with side.client() as client:
        bad = client.post("/enrol", json={"token": token, "csr": "no csr"})
        good = client.post("/enrol", json={"token": token, "csr": csr.decode()})

    assert (bad.status_code, good.status_code) == (400, 200)


@pytest.mark.parametrize(
    "token", ["", "mst1", "mst1.berlin-1.guess.pin", "mst2.berlin-1.guess.pin", "a.b.c.d"]
)
def test_a_guessed_token_is_refused(side: Side, token: str) -> None:
    with side.client() as client:
        answer = client.post("/enrol", json={"token": token, "csr": request_certificate()[1].decode()})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_nobody_enrols_before_there_is_a_signed_repository(tmp_path: Path) -> None:
    office = open_office(tmp_path / "empty", clock=wall_clock())
    listener = bind(HOST, 0, setting="device_port")
    server = make_server(make_device_app(office.context), DeviceTls(office.context.folder.pki))
    try:
        with contextlib.closing(listener), serving(server, listener):
            fresh = Side(office, listener.getsockname()[1], tmp_path)
            token = fresh.token()
            with fresh.client() as client:
                answer = client.post("/enrol", json={"token": token, "csr": "x"})

        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    finally:
        office.opened.close()


@pytest.mark.parametrize("path", ["/repository/metadata/timestamp.json", f"/repository/blobs/{'0' * 64}"])
def test_the_repository_needs_a_certificate(side: Side, path: str) -> None:
    with side.client() as client:
        answer = client.get(path)

    assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "unsigned")


def test_a_device_reads_signed_metadata(side: Side) -> None:
    side.enrol()
    with side.client("berlin-1") as client:
        root = client.get("/repository/metadata/1.root.json")
        timestamp = client.get("/repository/metadata/timestamp.json")

    assert root.content == side.office.context.repository.root_v1
    assert "immutable" in root.headers["cache-control"]
    assert timestamp.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    ["nothing.json", "..%2f..%2fcontroller.toml", "%2e%2e", "..%2fdatabase.sqlite", "timestamp.json%00"],
)
def test_no_other_file_is_served(side: Side, name: str) -> None:
    side.enrol()
    with side.client("berlin-1") as client:
        answer = client.get(f"/repository/metadata/{name}")

    assert answer.status_code == 404


def test_a_manifest_is_served_by_its_digest(side: Side) -> None:
    draft = side.office.draft()
    side.office.release()
    side.enrol()
    with side.client("berlin-1") as client:
        answer = client.get(f"/repository/blobs/{draft.digest}")

    assert (answer.status_code, answer.content) == (200, draft.document)


def test_a_part_of_a_file_is_served_by_range(side: Side) -> None:
    draft = side.office.draft()
    side.office.release()
    sha256, content = next((key, value) for key, value in draft.files.items() if b"the model" in value)
    side.enrol()
    with side.client("berlin-1") as client:
        whole = client.get(f"/repository/blobs/{sha256}")
        rest = client.get(f"/repository/blobs/{sha256}", headers={"Range": "bytes=4-"})
        beyond = client.get(f"/repository/blobs/{sha256}", headers={"Range": "bytes=9999-"})

    assert (whole.status_code, whole.content) == (200, content)
    assert (rest.status_code, rest.content) == (206, content[4:])
    assert rest.headers["content-range"] == f"bytes 4-{len(content) - 1}/{len(content)}"
    assert beyond.status_code == 416


def test_a_revoked_device_is_refused_at_once_also_on_an_open_connection(side: Side) -> None:
    side.enrol()
    with side.client("berlin-1") as client:
        before = client.get("/repository/metadata/timestamp.json")
        devices.revoke(side.office.context, OPERATOR, "berlin-1")
        after = client.get("/repository/metadata/timestamp.json")
        renewal = client.post("/renew", json={"csr": request_certificate()[1].decode()})

    assert (before.status_code, after.status_code, renewal.status_code) == (200, 403, 403)
    assert after.json()["error"]["reason"] == "wrong-device"


def test_a_certificate_for_a_device_that_is_not_enrolled_is_refused(side: Side) -> None:
    issue_device(side.office.context.authority, "oslo-1", side.folder)
    with side.client("oslo-1") as client:
        answer = client.get("/repository/metadata/timestamp.json")

    assert answer.status_code == 403


def test_the_certificate_of_the_controllers_own_session_opens_nothing_here(side: Side) -> None:
    pki = side.office.context.folder.pki
    with side.client(CONTROLLER, pki) as client:
        answer = client.get("/repository/metadata/timestamp.json")

    assert answer.status_code == 403
    assert CONTROLLER in answer.json()["error"]["message"]


def test_a_certificate_of_another_authority_does_not_even_connect(side: Side, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", side.office.now)
    issue_device(other, "berlin-1", tmp_path / "stranger")

    with (
        side.client("berlin-1", tmp_path / "stranger") as client,
        pytest.raises((httpx.TransportError, ssl.SSLError)),
    ):
        client.get("/repository/metadata/timestamp.json")


def test_a_device_renews_its_certificate_and_keeps_its_name(side: Side) -> None:
    given = side.enrol()
    _, csr = request_certificate("somebody-else")
    with side.client("berlin-1") as client:
        answer = client.post("/renew", json={"csr": csr.decode()})

    renewed = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    first = x509.load_pem_x509_certificate(given["certificate"].encode())
    assert renewed.subject.rfc4514_string() == "CN=berlin-1"
    assert renewed.serial_number != first.serial_number
    detail = devices.show_device(side.office.context, "berlin-1")
    assert detail.certificate_serial == f"{renewed.serial_number:x}"


def test_renewing_needs_a_certificate(side: Side) -> None:
    with side.client() as client:
        answer = client.post("/renew", json={"csr": request_certificate()[1].decode()})

    assert answer.status_code == 403


def test_a_body_that_is_too_large_is_refused(side: Side) -> None:
    with side.client() as client:
        answer = client.post("/enrol", content=b" " * 100_000)

    assert answer.status_code == 413


def test_the_operators_side_is_not_served_here(side: Side) -> None:
    with side.client() as client:
        answers = [client.get(path).status_code for path in ("/api/v1/status", "/", "/openapi.json", "/docs")]

    assert answers == [404, 404, 404, 404]
