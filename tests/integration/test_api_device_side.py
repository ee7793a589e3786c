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
from muster_controller.pki import CONTROLLER, Authority, request_key
from muster_controller.service import admission, devices, history
from muster_controller.serving import DeviceTls, bind, make_server
from muster_controller.store.views.history import AuditFilter
from muster_models.errors import NotFoundError
from muster_models.keycode import code_of
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
        url = f"https://{HOST}:{self.port}"
        return httpx.Client(verify=context, base_url=url, trust_env=False, timeout=60.0)

    def token(self, device: str = "berlin-1") -> str:
        return devices.issue_token(
            self.office.context, OPERATOR, device=device, labels={"site": "berlin"}
        ).token

    def enrol(self, device: str = "berlin-1", token: str = "") -> dict[str, Any]:
        """Enrol a device and keep its certificate and key in ``folder``."""
        key, csr = request_certificate("whoever")
        with self.client() as client:
            answer = client.post("/enrol", json={"token": token or self.token(device), "csr": csr.decode()})
        assert answer.status_code == 200, answer.text
        given: dict[str, Any] = answer.json()
        self.keep(device, given["certificate"], key)
        return given

    def keep(self, device: str, certificate: str, key: Any) -> None:
        (self.folder / f"{device}.pem").write_text(certificate)
        (self.folder / f"{device}.key").write_bytes(pem_of(key))

    def reads(self, identity: str) -> int:
        """Return what the repository answers to a certificate."""
        with self.client(identity) as client:
            return client.get("/repository/metadata/timestamp.json").status_code

    def ask(self, csr: bytes, device: str = "press-1") -> httpx.Response:
        with self.client() as client:
            return client.post("/enrol/ask", json={"device": device, "csr": csr.decode()})


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


def test_a_timestamp_that_a_device_knows_is_not_sent_again(side: Side) -> None:
    side.enrol()
    path = "/repository/metadata/timestamp.json"
    with side.client("berlin-1") as client:
        first = client.get(path)
        tag = first.headers["etag"]
        known = client.get(path, headers={"If-None-Match": tag})
        weak = client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
        side.office.release()
        changed = client.get(path, headers={"If-None-Match": tag})

    assert [one.status_code for one in (first, known, weak, changed)] == [200, 304, 304, 200]
    assert (known.content, known.headers["etag"], known.headers["cache-control"]) == (b"", tag, "no-cache")
    assert changed.content != first.content
    assert changed.headers["etag"] != tag


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


def test_a_renewal_overlaps_both_certificates_are_good(side: Side) -> None:
    side.enrol()
    key, csr = request_certificate()
    with side.client("berlin-1") as client:
        renewed = client.post("/renew", json={"csr": csr.decode()}).json()
    side.keep("renewed", renewed["certificate"], key)

    assert (side.reads("berlin-1"), side.reads("renewed")) == (200, 200)


def test_a_device_that_is_enrolled_again_is_known_by_its_new_certificate_alone(side: Side) -> None:
    side.enrol()
    for kind in ("pem", "key"):
        (side.folder / f"berlin-1.{kind}").rename(side.folder / f"lost.{kind}")

    token = devices.issue_token(side.office.context, OPERATOR, device="berlin-1", labels={}, again=True).token
    between = side.reads("lost")
    side.enrol(token=token)
    with side.client("lost") as client:
        renewal = client.post("/renew", json={"csr": request_certificate()[1].decode()})

    assert (between, side.reads("lost"), renewal.status_code, side.reads("berlin-1")) == (403, 403, 403, 200)
    assert devices.show_device(side.office.context, "berlin-1").device.labels == {"site": "berlin"}


def test_one_token_enrols_several_machines_and_each_use_is_on_record(side: Side) -> None:
    made = admission.issue_bulk_token(
        side.office.context, OPERATOR, prefix="press-", count=3, labels={"line": "3"}
    )

    numbered = [side.enrol(f"m{number}", made.token)["device"] for number in (1, 2)]
    _, csr = request_certificate()
    body = {"token": made.token, "csr": csr.decode(), "device": "press-hall"}
    with side.client() as client:
        answers = [client.post("/enrol", json=body) for _ in range(2)]
        beyond = client.post("/enrol", json={"token": made.token, "csr": request_certificate()[1].decode()})

    assert (numbered, side.reads("m1")) == (["press-1", "press-2"], 200)
    assert [answer.json()["device"] for answer in answers] == ["press-hall"] * 2
    assert answers[0].json()["certificate"] == answers[1].json()["certificate"]
    assert (beyond.status_code, beyond.json()["error"]["reason"]) == (403, "replayed")
    entries = history.list_audit(side.office.context, AuditFilter()).items
    enrolled = [entry for entry in entries if entry.action == "device.enrol"]
    assert [entry.subject for entry in enrolled] == ["press-hall", "press-2", "press-1"]
    assert len({entry.detail["by"] for entry in enrolled}) == 1
    assert devices.show_device(side.office.context, "press-1").device.labels == {"line": "3"}


def test_nobody_may_ask_unless_the_controller_is_set_to_let_them(side: Side) -> None:
    answer = side.ask(request_certificate()[1])

    assert answer.status_code == 403
    assert "enrol_on_request" in answer.json()["error"]["message"]


@pytest.fixture
def open_side(tmp_path: Path) -> Iterator[Side]:
    """A controller that lets machines ask."""
    office = open_office(tmp_path / "open", clock=wall_clock(), enrol_on_request=True)
    office.install()
    listener = bind(HOST, 0, setting="device_port")
    server = make_server(make_device_app(office.context), DeviceTls(office.context.folder.pki))
    home = tmp_path / "devices"
    home.mkdir()
    with contextlib.closing(listener), serving(server, listener):
        yield Side(office, listener.getsockname()[1], home)
    office.opened.close()


def test_a_machine_that_asks_is_let_in_by_the_code_of_its_key(open_side: Side) -> None:
    key, csr = request_certificate()
    context = open_side.office.context
    first, second = open_side.ask(csr).json(), open_side.ask(csr).json()
    (waiting,) = admission.list_waiting(context).requests

    admission.accept(context, OPERATOR, first["code"].lower(), labels={"line": "3"}, reason="new press")
    given, again = open_side.ask(csr).json(), open_side.ask(csr).json()
    open_side.keep("press-1", given["enrolment"]["certificate"], key)

    assert (first["state"], first["enrolment"], second) == ("pending", None, first)
    assert (waiting.code, waiting.device, waiting.address) == (first["code"], "press-1", HOST)
    assert first["code"] == code_of(request_key(csr))
    assert (given["state"], given["enrolment"]["device"], again) == ("enrolled", "press-1", given)
    assert open_side.reads("press-1") == 200
    assert devices.show_device(context, "press-1").device.labels == {"line": "3"}
    done = [(entry.action, entry.reason) for entry in history.list_audit(context, AuditFilter()).items]
    assert done[:2] == [("device.enrol", ""), ("device.accept", "new press")]


def test_a_machine_that_is_refused_stays_refused(open_side: Side) -> None:
    _, csr = request_certificate()
    code = open_side.ask(csr).json()["code"]
    admission.refuse(open_side.office.context, OPERATOR, code)

    assert [open_side.ask(csr).json()["state"] for _ in range(2)] == ["refused"] * 2
    with pytest.raises(NotFoundError):
        devices.show_device(open_side.office.context, "press-1")


def test_an_id_that_was_enrolled_while_a_machine_waited_is_not_given_twice(open_side: Side) -> None:
    _, csr = request_certificate()
    code = open_side.ask(csr).json()["code"]
    token = open_side.token("press-1")
    admission.accept(open_side.office.context, OPERATOR, code, labels={})
    open_side.enrol("press-1", token)

    answer = open_side.ask(csr)

    assert (answer.status_code, open_side.reads("press-1")) == (409, 200)


@pytest.mark.parametrize(
    ("change", "status"),
    [({"device": "../evil"}, 422), ({"csr": "nothing"}, 400), ({"csr": None}, 422), ({"more": 1}, 422)],
    ids=["id", "request", "no request", "more"],
)
def test_a_bad_question_is_refused_and_nobody_waits(
    open_side: Side, change: dict[str, object], status: int
) -> None:
    body = {"device": "press-1", "csr": request_certificate()[1].decode(), **change}
    with open_side.client() as client:
        answer = client.post("/enrol/ask", json=body)

    assert answer.status_code == status
    assert admission.list_waiting(open_side.office.context).requests == ()


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
