"""Checks of what the device talks to, over connections as the agent makes them."""

import contextlib
import email.utils
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3

from muster_agent.doctor.finding import SECONDS, SET_CLOCK, Case, Finding, State, short
from muster_agent.identity import tls_context

# Seconds beside the controller's clock: what is odd, and what certificates and signed states may fail by.
_CLOCK_NOTICE, _CLOCK_WRONG = 10.0, 300.0


def controller(case: Case) -> Iterator[Finding]:
    """The controller must answer with the pinned certificate; its answer also tells its time."""
    url = case.settings.controller
    with _pool(case) as pool:
        try:
            answer = pool.request("GET", url, redirect=False, preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            yield Finding("controller", "wrong", f"{url} does not answer: {short(error)}", _reach(url))
            return
        date = answer.headers.get("Date", "")
        answer.close()
    yield Finding("controller", "good", f"{url} answers")
    try:
        theirs = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    away = case.clock() - theirs
    state = _state(abs(away))
    said = f"it is {abs(away):.0f} s {'ahead of' if away > 0 else 'behind'} the controller's"
    yield Finding("clock", state, said, "" if state == "good" else SET_CLOCK)


def _state(away: float) -> State:
    if away > _CLOCK_WRONG:
        return "wrong"
    return "notice" if away > _CLOCK_NOTICE else "good"


def broker(case: Case) -> Iterator[Finding]:
    """The broker must be reachable, and prove by TLS that it belongs to the controller."""
    broker = case.settings.mqtt
    place = f"{broker.host}:{broker.port}"
    try:
        with socket.create_connection((broker.host, broker.port), SECONDS) as plain:
            try:
                with tls_context(case.folder).wrap_socket(plain, server_hostname=broker.host) as secure:
                    yield Finding("broker", "good", f"{place} answers by {secure.version()}")
            except (ssl.SSLError, OSError) as error:
                yield Finding(
                    "broker", "wrong", f"{place} answers, and TLS fails: {short(error)}",
                    "compare the clocks first; then it needs a certificate of this device's controller",
                )  # fmt: skip
    except OSError as error:
        yield Finding(
            "broker", "wrong", f"{place} cannot be reached: {short(error)}", _reach(f"mqtts://{place}")
        )


def repository(case: Case) -> Iterator[Finding]:
    """The signed metadata must be where models come from."""
    url = f"{case.settings.repository}/metadata/timestamp.json"
    with _pool(case) as pool:
        try:
            status = pool.request("GET", url, redirect=False, preload_content=False).status
        except urllib3.exceptions.HTTPError as error:
            yield Finding("repository", "wrong", f"{url} does not answer: {short(error)}", _reach(url))
            return
    if status != HTTPStatus.OK:
        yield Finding(
            "repository", "wrong", f"{url}: HTTP status {status}", "on the controller: muster keys init"
        )
    else:
        yield Finding("repository", "good", f"{url} is there")


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
