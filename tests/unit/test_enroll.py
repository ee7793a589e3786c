"""Enrolment and renewal: what a device accepts from whom, and what is left after a cut at any point."""

import datetime as dt
import json
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from muster_agent import identity
from muster_agent.config import Broker, Folder, load_settings
from muster_agent.enroll import enrol, parse_token, renew
from muster_controller.pki import Authority
from muster_models.errors import (
    InvalidInputError,
    MusterError,
    Reason,
    StorageError,
    TransferError,
    TrustError,
)
from support import device_side

SECRET = "s3cret-s3cret-s3cret"
ROOT = json.dumps({"signed": {"_type": "root", "version": 1}, "signatures": []})


def text_of_token(authority: Authority, device: str = "press-1") -> str:
    return f"mst1.{device}.{SECRET}.{authority.fingerprint}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", dt.datetime.now(dt.UTC))


@pytest.fixture
def side(authority: Authority) -> Iterator[device_side.DeviceSide]:
    with device_side.serving(authority) as serving:
        serving.handlers["/enrol"] = lambda body, _: (200, json.dumps(answer(authority, body)).encode())
        serving.handlers["/renew"] = lambda body, peer: (
            200,
            json.dumps({"certificate": device_side.sign(authority, peer or "nobody", body["csr"])}).encode(),
        )
        yield serving


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "device")


def answer(authority: Authority, body: dict[str, Any], **changes: object) -> dict[str, object]:
    return {
        "device": "press-1",
        "certificate": device_side.sign(authority, "press-1", body["csr"]),
        "ca": authority.pem,
        "root": ROOT,
        "mqtt": {"host": "127.0.0.1", "port": 8883},
        "repository": "https://127.0.0.1:8421/repository/",
        **changes,
    }


def enrol_at(side: device_side.DeviceSide, folder: Folder) -> None:
    enrol(side.url, parse_token(text_of_token(side.authority)), folder)


def test_a_token_becomes_an_identity_that_the_authority_recognises(
    side: device_side.DeviceSide, folder: Folder
) -> None:
    settings = enrol(side.url + "/", parse_token(text_of_token(side.authority)), folder)

    assert load_settings(folder) == settings
    assert (settings.device, settings.controller, settings.mqtt) == (
        "press-1",
        side.url,
        Broker("127.0.0.1", 8883),
    )
    assert settings.repository == "https://127.0.0.1:8421/repository"
    assert folder.pinned_root.read_text() == ROOT
    assert side.requests == [("/ca.pem", None), ("/enrol", None)]
    assert identity.tls_context(folder).verify_mode is ssl.CERT_REQUIRED


def test_the_key_is_readable_by_its_owner_only(side: device_side.DeviceSide, folder: Folder) -> None:
    enrol_at(side, folder)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.identity.iterdir()}

    assert modes == {"device.key": 0o600, "device.pem": 0o600, "ca.pem": 0o600}
    assert stat.S_IMODE(folder.identity.stat().st_mode) == 0o700


def test_the_whole_token_and_a_request_for_the_own_key_are_sent(
    side: device_side.DeviceSide, folder: Folder
) -> None:
    sent: list[dict[str, Any]] = []

    def accept(body: dict[str, Any], _peer: str | None) -> device_side.Answer:
        sent.append(body)
        return 200, json.dumps(answer(side.authority, body)).encode()

    side.handlers["/enrol"] = accept

    enrol_at(side, folder)

    assert sent[0]["token"] == text_of_token(side.authority)
    request = x509.load_pem_x509_csr(sent[0]["csr"].encode())
    assert request.public_key() == identity.ready_key(folder.identity / "device.key").public_key()


def test_a_stranger_who_answers_in_the_controllers_place_gets_neither_token_nor_request(
    side: device_side.DeviceSide, folder: Folder, tmp_path: Path
) -> None:
    true = Authority.create(tmp_path / "true", dt.datetime.now(dt.UTC))

    with pytest.raises(TrustError, match="is not the controller that issued the token") as caught:
        enrol(side.url, parse_token(text_of_token(true)), folder)

    assert caught.value.reason is Reason.WRONG_KEY
    assert side.requests == [("/ca.pem", None)]


def test_a_stranger_who_repeats_the_true_ca_certificate_gets_no_token(
    side: device_side.DeviceSide, folder: Folder, tmp_path: Path
) -> None:
    true = Authority.create(tmp_path / "true", dt.datetime.now(dt.UTC))
    side.authority = true  # the server keeps the certificate that its own authority signed

    with pytest.raises(TransferError, match="it comes from another authority"):
        enrol_at(side, folder)

    assert [path for path, _ in side.requests] == ["/ca.pem"]


def test_a_ca_file_that_was_handed_over_is_held_to_the_same_pin(
    side: device_side.DeviceSide, folder: Folder, tmp_path: Path
) -> None:
    other = Authority.create(tmp_path / "other", dt.datetime.now(dt.UTC))
    token = parse_token(text_of_token(side.authority))

    with pytest.raises(TrustError, match="is not the controller"):
        enrol(side.url, token, folder, ca_file=other.folder / "ca.pem")
    enrol(side.url, token, folder, ca_file=side.authority.folder / "ca.pem")

    assert side.requests == [("/enrol", None)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "press-2"}, Reason.WRONG_DEVICE),
        ({"certificate": "nothing"}, Reason.TAMPERED),
        ({"root": "{}"}, Reason.UNSIGNED),
        ({"root": "no json"}, Reason.UNSIGNED),
        ({"mqtt": {"host": "127.0.0.1", "port": 0}}, Reason.DOWNLOAD_FAILED),
        ({"repository": "file:///etc"}, Reason.DOWNLOAD_FAILED),
    ],
)
def test_an_answer_that_is_not_for_this_device_leaves_it_not_enrolled(
    side: device_side.DeviceSide, folder: Folder, changes: dict[str, object], reason: Reason
) -> None:
    side.handlers["/enrol"] = lambda body, _: (
        200,
        json.dumps(answer(side.authority, body, **changes)).encode(),
    )

    with pytest.raises(MusterError) as caught:
        enrol_at(side, folder)

    assert caught.value.reason is reason
    assert not folder.settings.exists()


def test_a_certificate_for_another_key_or_name_is_refused(
    side: device_side.DeviceSide, folder: Folder, tmp_path: Path
) -> None:
    foreign = identity.make_request(identity.ready_key(tmp_path / "foreign.key"), "press-1")

    with pytest.raises(TrustError) as caught:
        enrol_with_certificate(side, folder, "press-1", foreign)

    assert caught.value.reason is Reason.WRONG_KEY
    with pytest.raises(TrustError) as caught:
        enrol_with_certificate(side, folder, "press-2", None)
    assert caught.value.reason is Reason.WRONG_DEVICE


def enrol_with_certificate(side: device_side.DeviceSide, folder: Folder, name: str, csr: str | None) -> None:
    side.handlers["/enrol"] = lambda body, _: (
        200,
        json.dumps(
            answer(
                side.authority, body, certificate=device_side.sign(side.authority, name, csr or body["csr"])
            )
        ).encode(),
    )
    enrol_at(side, folder)


def test_a_refusal_is_one_line_with_the_controllers_words(
    side: device_side.DeviceSide, folder: Folder
) -> None:
    refusal = {"error": {"code": "forbidden", "message": "the token was used before", "reason": "ordered"}}
    side.handlers["/enrol"] = lambda *_: (403, json.dumps(refusal).encode())

    with pytest.raises(TransferError, match=r"/enrol: 403 the token was used before$"):
        enrol_at(side, folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 50_000, b"{}", b"x" * 300_000])
def test_garbage_from_the_controller_ends_in_one_error(
    side: device_side.DeviceSide, folder: Folder, content: bytes
) -> None:
    side.handlers["/enrol"] = lambda *_: (200, content)

    with pytest.raises(TransferError):
        enrol_at(side, folder)


def test_nobody_at_the_address_is_one_line(authority: Authority, folder: Folder) -> None:
    with pytest.raises(TransferError, match=r"https://127\.0\.0\.1:1/ca\.pem.*refused"):
        enrol("https://127.0.0.1:1", parse_token(text_of_token(authority)), folder)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "127.0.0.1", "https://", "https://user:pw@host", "https://h/?q"]
)
def test_a_url_of_another_form_is_refused_with_the_expected_one(
    authority: Authority, folder: Folder, url: str
) -> None:
    with pytest.raises(InvalidInputError, match=r"expected a URL https://HOST\[:PORT\]"):
        enrol(url, parse_token(text_of_token(authority)), folder)


def test_a_folder_is_enrolled_once(side: device_side.DeviceSide, folder: Folder) -> None:
    enrol_at(side, folder)

    with pytest.raises(InvalidInputError, match="already enrolled"):
        enrol_at(side, folder)


def test_an_interrupted_enrolment_is_repeated_with_the_same_key(
    side: device_side.DeviceSide, folder: Folder
) -> None:
    accepts = side.handlers["/enrol"]
    side.handlers["/enrol"] = lambda *_: (500, b"")
    with pytest.raises(TransferError):
        enrol_at(side, folder)
    key = (folder.identity / "device.key").read_bytes()
    side.handlers["/enrol"] = accepts

    enrol_at(side, folder)

    assert (folder.identity / "device.key").read_bytes() == key


@given(
    st.text(max_size=200) | st.from_regex(r"mst1\.[a-z0-9.-]{0,40}\.[A-Za-z0-9_.-]{0,40}\.[0-9a-f]{60,66}")
)
def test_any_text_is_a_token_or_one_error_that_does_not_repeat_it(text: str) -> None:
    try:
        token = parse_token(text)
    except InvalidInputError as error:
        said = str(error)
    else:
        assert token.text == text.strip()
        return

    assert "expected a token of the form mst1." in said
    assert len(text.strip()) < 30 or text not in said


def test_renewal_is_due_at_two_thirds_of_the_life(side: device_side.DeviceSide, folder: Folder) -> None:
    enrol_at(side, folder)

    due, end = identity.certificate_life(folder)

    now = dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=59) < due - now < dt.timedelta(days=61)
    assert dt.timedelta(days=89) < end - now < dt.timedelta(days=91)


def test_a_renewal_is_asked_for_with_the_present_certificate_and_replaces_key_and_certificate(
    side: device_side.DeviceSide, folder: Folder
) -> None:
    enrol_at(side, folder)
    before = {path.name: path.read_bytes() for path in folder.identity.iterdir()}

    renew(load_settings(folder), folder)

    after = {path.name: path.read_bytes() for path in folder.identity.iterdir()}
    assert side.requests[-1] == ("/renew", "press-1")
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"device.key", "device.pem"}
    identity.tls_context(folder)


def test_a_refused_renewal_leaves_the_present_identity(side: device_side.DeviceSide, folder: Folder) -> None:
    enrol_at(side, folder)
    certificate = (folder.identity / "device.pem").read_bytes()
    side.handlers["/renew"] = lambda *_: (403, b"{}")

    with pytest.raises(TransferError, match="403"):
        renew(load_settings(folder), folder)

    assert (folder.identity / "device.pem").read_bytes() == certificate
    identity.tls_context(folder)


@pytest.mark.parametrize("cut", ["after the new key", "after the new certificate"])
def test_a_renewal_cut_at_any_point_leaves_a_usable_identity(
    side: device_side.DeviceSide, folder: Folder, cut: str
) -> None:
    enrol_at(side, folder)
    key = identity.ready_key(folder.identity / "device.key.next")
    if cut == "after the new certificate":
        pem = device_side.sign(side.authority, "press-1", identity.make_request(key, "press-1"))
        identity.write_durably(folder.identity / "device.pem", pem.encode())

    identity.tls_context(folder)

    assert (folder.identity / "device.key.next").exists() == (cut == "after the new key")
    renew(load_settings(folder), folder)
    assert not (folder.identity / "device.key.next").exists()


@pytest.mark.parametrize("name", ["ca.pem", "device.pem", "device.key"])
@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", None]
)
def test_a_damaged_identity_is_one_error(
    side: device_side.DeviceSide, folder: Folder, name: str, content: bytes | None
) -> None:
    enrol_at(side, folder)
    path = folder.identity / name
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(StorageError, match="no usable identity"):
        identity.tls_context(folder)


def bulk_token(authority: Authority) -> str:
    return f"msb1.press-.{SECRET}.{authority.fingerprint}"


def test_a_token_for_several_devices_gives_the_id_that_the_controller_chose(
    side: device_side.DeviceSide, folder: Folder
) -> None:
    token = parse_token(bulk_token(side.authority))
    settings = enrol(side.url, token, folder)

    assert (token.device, token.is_bulk, settings.device) == ("press-", True, "press-1")


def test_a_machine_may_ask_for_an_id_that_the_token_admits(
    side: device_side.DeviceSide, folder: Folder
) -> None:
    token = parse_token(bulk_token(side.authority))

    with pytest.raises(InvalidInputError, match="the token is for press-"):
        enrol(side.url, token, folder, device="oven-1")
    with pytest.raises(TrustError, match="expected to become press-9, got 'press-1'"):
        enrol(side.url, token, folder, device="press-9")
    assert enrol(side.url, token, folder, device="press-1").device == "press-1"


@pytest.mark.parametrize("given", ["oven-1", "press-/../x", "press-#"])
def test_an_id_that_the_token_does_not_admit_is_not_taken_on(
    side: device_side.DeviceSide, folder: Folder, given: str
) -> None:
    side.handlers["/enrol"] = lambda body, _: (
        200,
        json.dumps(answer(side.authority, body, device=given)).encode(),
    )

    with pytest.raises(MusterError):
        enrol(side.url, parse_token(bulk_token(side.authority)), folder)
    assert folder.settings.exists() is False
