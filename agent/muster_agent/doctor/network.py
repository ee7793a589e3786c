"""Checks of what the device talks to, over connections as the agent makes them."""

import contextlib
import email.utils
import http.client
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3

from muster_agent.doctor.finding import COMPARE_CLOCKS, SECONDS, SET_CLOCK, Case, Finding, State, enrol_again
from muster_agent.identity import tls_context
from muster_models.network_words import in_words, is_about_dates

# Seconds beside the controller's clock: what is odd, and what certificates and signed states may fail by.
_CLOCK_NOTICE, _CLOCK_WRONG = 10.0, 300.0
_OBJECTION_SECONDS = 0.5


def controller(case: Case) -> Iterator[Finding]:
    """The controller must answer with the pinned certificate; its answer also tells its time."""
    url = case.settings.controller
    with _pool(case) as pool:
        try:
            answer = pool.request("GET", url, redirect=False, preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            yield _unreachable("controller", case, url, error)
            if is_about_dates(error):
                yield from _unproven_clock(case)
            return
        date = answer.headers.get("Date", "")
        answer.close()
    yield Finding("controller", "good", f"{url} answers")
    yield from _clock(case, date, "the controller's")


def _unproven_clock(case: Case) -> Iterator[Finding]:
    """Compare with what answers at the controller's address, which cannot prove itself now."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent, and its date is only shown
    parts = urlsplit(case.settings.controller)
    asked = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=SECONDS, context=context)
    with contextlib.closing(asked), contextlib.suppress(OSError, http.client.HTTPException):
        asked.request("GET", "/")
        date = asked.getresponse().headers.get("Date", "")
        yield from _clock(case, date, "what the controller's address says")


def _clock(case: Case, date: str, whose: str) -> Iterator[Finding]:
    try:
        theirs = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    away = case.clock() - theirs
    state = _state(abs(away))
    said = f"it is {abs(away):.0f} s {'ahead of' if away > 0 else 'behind'} {whose}"
    yield Finding("clock", state, said, "" if state == "good" else SET_CLOCK)


def _state(away: float) -> State:
    if away > _CLOCK_WRONG:
        return "wrong"
    return "notice" if away > _CLOCK_NOTICE else "good"


def broker(case: Case) -> Iterator[Finding]:
    """The broker must be reachable, prove that it belongs to the controller, and accept this device."""
    broker = case.settings.mqtt
    place = f"{broker.host}:{broker.port}"
    context = tls_context(case.folder)
    try:
        with socket.create_connection((broker.host, broker.port), SECONDS) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=broker.host) as secure:
                    _await_objection(secure)
                    yield Finding("broker", "good", f"{place} answers by {secure.version()}")
            except OSError as error:
                said = f"{place} answers, and TLS fails: {in_words(error)}"
                yield Finding("broker", "wrong", said, _tls_fix(case, error))
    except OSError as error:
        yield Finding(
            "broker", "wrong", f"{place} cannot be reached: {in_words(error)}", _reach(f"mqtts://{place}")
        )


def _await_objection(secure: ssl.SSLSocket) -> None:
    """Give the other side a moment to refuse this device, which TLS 1.3 does after the handshake."""
    secure.settimeout(_OBJECTION_SECONDS)
    with contextlib.suppress(TimeoutError):
        secure.recv(1)


def repository(case: Case) -> Iterator[Finding]:
    """The signed metadata must be where models come from."""
    url = f"{case.settings.repository}/metadata/timestamp.json"
    with _pool(case) as pool:
        try:
            answer = pool.request("GET", url, redirect=False, preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            yield _unreachable("repository", case, url, error)
            return
        status = answer.status
        answer.close()
    if status == HTTPStatus.OK:
        yield Finding("repository", "good", f"{url} is there")
    else:
        yield Finding("repository", "wrong", f"{url}: HTTP status {status}", _status_fix(case, status))


def _status_fix(case: Case, status: int) -> str:
    match status:
        case HTTPStatus.FORBIDDEN | HTTPStatus.UNAUTHORIZED:
            return (
                "this device was revoked, or its certificate replaced: "
                f"muster device show {case.settings.device}; if it may be here, {enrol_again(case)}"
            )
        case HTTPStatus.NOT_FOUND:
            return "on the controller: muster keys init"
        case _:
            return "look into the controller's log"


def _unreachable(check: str, case: Case, url: str, error: Exception) -> Finding:
    tls = isinstance(error, urllib3.exceptions.SSLError)
    fix = _tls_fix(case, error) if tls or is_about_dates(error) else _reach(url)
    return Finding(check, "wrong", f"{url} does not answer: {in_words(error)}", fix)


def _tls_fix(case: Case, error: Exception) -> str:
    if is_about_dates(error):
        return COMPARE_CLOCKS + "a certificate has ended: let the controller run, which renews its own"
    if "revoked" in in_words(error):
        show = f"muster device show {case.settings.device}"
        return f"on the controller: {show}; if it may be here, {enrol_again(case)}"
    return f"what answers is not this device's controller: {_reach(case.settings.controller)}"


@contextlib.contextmanager
def _pool(case: Case) -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(retries=False, timeout=SECONDS, ssl_context=tls_context(case.folder))
    try:
        yield pool
    finally:
        pool.clear()


def _reach(url: str) -> str:
    parts = urlsplit(url)
    return f"check name, route and firewall to {parts.hostname}, port {parts.port or 443}, and who serves"
