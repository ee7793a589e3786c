"""One POST: what it believes of an answer, whom it trusts over TLS, and that no bytes bring it down."""

import email.utils
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muster_controller.delivery.http_post import MAX_BODY_BYTES, Answer, Place, post
from muster_models.errors import TransferError
from support.controller import make_authority
from support.http_server import running
from support.receiver import Receiver, receiving, says

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def babbler() -> Iterator[Receiver]:
    """A receiver that answers whatever it is told to."""
    with receiving() as receiver:
        yield receiver


def send(receiver: Receiver, head: bytes, *, timeout: float = 60.0) -> Answer:
    def answer(handler: Any) -> None:
        handler.wfile.write(head)
        handler.close_connection = True

    receiver.behaviour = answer
    receiver.got.clear()
    return post(Place(receiver.url, timeout), b"{}", {}, now=NOW)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Answer(200)),
        (b"HTTP/1.0 204 \r\n\r\nand a body that nobody reads", Answer(204)),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\n\r\n", Answer(503, 120.0)),
        (b"HTTP/1.1 503 Busy\r\nretry-after: -5\r\n\r\n", Answer(503, 0.0)),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: soon\r\n\r\n", Answer(503, 0.0)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Answer(200)),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 90 + b"\r\n", Answer(200)),
    ],
)
def test_what_is_read_of_an_answer(babbler: Receiver, head: bytes, expected: Answer) -> None:
    assert send(babbler, head) == expected


def test_a_date_after_which_to_come_back_is_understood(babbler: Receiver) -> None:
    date = email.utils.formatdate(NOW + 90, usegmt=True).encode()

    assert send(babbler, b"HTTP/1.1 503 Busy\r\nRetry-After: " + date + b"\r\n\r\n").retry_after == 90.0


HEADS = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=200).map(lambda noise: b"HTTP/1.1 200 OK\r\n" + noise + b"\r\n\r\n"),
    st.binary(max_size=60).map(lambda noise: b"HTTP/1.1 503 \r\nRetry-After: " + noise + b"\r\n\r\n"),
    st.text(max_size=40).map(lambda text: f"HTTP/1.1 503 \r\nRetry-After: {text}\r\n\r\n".encode()),
)


@settings(deadline=None, max_examples=150)
@given(HEADS)
@example(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n")
@example(b"HTTP/1.1 503 \r\nRetry-After: Thu, 99 Zzz 99999 99:99:99 +9999\r\n\r\n")
@example(b"HTTP/1.1 503 \r\nRetry-After: 99999999999999999999\r\n\r\n")
def test_no_bytes_are_anything_but_an_answer_or_a_failed_transfer(babbler: Receiver, head: bytes) -> None:
    try:
        answer = send(babbler, head)
    except TransferError:
        return

    assert 100 <= answer.status <= 599
    assert answer.retry_after >= 0


def test_a_message_that_is_too_large_is_not_sent(babbler: Receiver) -> None:
    babbler.got.clear()

    with pytest.raises(TransferError, match="at most"):
        post(Place(babbler.url, 60.0), b"x" * (MAX_BODY_BYTES + 1), {}, now=NOW)

    assert babbler.got == []


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver over TLS, with a certificate of a CA that this machine does not know."""
    make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pki/server.pem", tmp_path / "pki/server.key")
    receiver = Receiver(says(204))
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True, do_handshake_on_connect=False)
    with running(receiver, release=receiver.stopping.set):
        yield receiver


def test_a_certificate_of_somebody_unknown_is_refused(secure: Receiver) -> None:
    with pytest.raises(TransferError, match="CERTIFICATE_VERIFY_FAILED"):
        post(Place(secure.url.replace("http:", "https:"), 60.0), b"{}", {}, now=NOW)

    assert secure.got == []


def test_a_certificate_of_the_named_ca_is_believed(secure: Receiver, tmp_path: Path) -> None:
    place = Place(secure.url.replace("http:", "https:"), 60.0, str(tmp_path / "pki/ca.pem"))

    assert post(place, b"{}", {}, now=NOW).status == 204
    assert len(secure.got) == 1
