"""Errors of sockets, TLS and HTTP libraries become words, without what only a programmer reads."""

import errno
import http.client
import os
import socket
import ssl

import pytest
import urllib3

from muster_models.network_words import in_words, is_about_dates, tls_in_words


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] text (_ssl.c:2580)")
    error.reason = reason
    return error


def unproven(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed (_ssl.c:1006)")
    error.verify_code, error.verify_message = code, "in OpenSSL's words"
    return error


def wrapped(inner: Exception) -> Exception:
    return urllib3.exceptions.SSLError(inner)


AUTHORITY = "comes from another authority"
EXPIRED = "it has expired by the clock of this machine"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError("timed out"), "no answer in time"),
        (http.client.RemoteDisconnected("x"), "it ended the connection without an answer"),
        (alert("SSLV3_ALERT_CERTIFICATE_REVOKED"), "it refuses this side's certificate, which is revoked"),
        (
            alert("TLSV1_ALERT_UNKNOWN_CA"),
            f"it refuses this side's certificate, which {AUTHORITY}",
        ),
        (alert("WRONG_VERSION_NUMBER"), "TLS failed: wrong version number"),
        (unproven(10), f"its certificate is refused here: {EXPIRED}"),
        (unproven(9), "its certificate is refused here: it is not valid yet by the clock of this machine"),
        (unproven(20), "its certificate is refused here: it comes from another authority"),
        (unproven(64), "its certificate is refused here: in OpenSSL's words"),
        (
            wrapped(unproven(10)),
            f"its certificate is refused here: {EXPIRED}",
        ),
        (ValueError(""), "ValueError"),
        (ValueError("a\nb"), "a b"),
    ],
)
def test_an_error_is_said_in_words(error: Exception, words: str) -> None:
    assert in_words(error) == words


def test_what_a_library_wraps_is_unwrapped() -> None:
    with pytest.raises(urllib3.exceptions.HTTPError) as caught:
        urllib3.PoolManager(retries=urllib3.Retry(1, backoff_factor=0)).request("GET", "https://127.0.0.1:1/")

    assert in_words(caught.value) == "Connection refused"


@pytest.mark.parametrize(
    ("error", "dates"),
    [
        (unproven(10), True),
        (wrapped(unproven(9)), True),
        (unproven(20), False),
        (alert("SSLV3_ALERT_CERTIFICATE_EXPIRED"), True),
        (alert("SSLV3_ALERT_CERTIFICATE_REVOKED"), False),
        (OSError("no"), False),
    ],
)
def test_dates_are_told_apart_because_a_clock_may_be_wrong(error: Exception, *, dates: bool) -> None:
    assert is_about_dates(error) is dates


def test_no_reason_has_no_words() -> None:
    assert tls_in_words(None) == ""
