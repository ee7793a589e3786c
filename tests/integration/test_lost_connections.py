"""What the controller's log says of a caller who is gone before the answer."""

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from muster_controller.serving import bind, make_server
from support.office import serving

SECONDS = 30.0


class Slow:
    """An application that answers when it may."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.app = FastAPI()
        self.app.add_api_route("/slow", self._answer, methods=["POST"])
        self.app.add_api_route("/quick", self._answer_at_once)

    def _answer(self) -> dict[str, str]:
        self.asked.set()
        self.may_answer.wait(SECONDS)
        return {}

    def _answer_at_once(self) -> dict[str, str]:
        return {}


class Told(logging.Handler):
    """Keeps what is told, for whoever waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.came.set()


@pytest.fixture
def told() -> Iterator[Told]:
    logger = logging.getLogger("muster_controller.serving")
    handler = Told()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def slow() -> Iterator[tuple[Slow, str, int]]:
    slow = Slow()
    listener = bind("127.0.0.1", 0, setting="port")
    with contextlib.closing(listener), serving(make_server(slow.app), listener):
        yield slow, *listener.getsockname()
        slow.may_answer.set()


def test_a_caller_who_leaves_before_the_answer_is_told_of(slow: tuple[Slow, str, int], told: Told) -> None:
    app, host, port = slow
    with socket.create_connection((host, port), SECONDS) as caller:
        name = "{}:{}".format(*caller.getsockname())
        caller.sendall(b"POST /slow HTTP/1.1\r\nHost: muster\r\nContent-Length: 0\r\n\r\n")
        assert app.asked.wait(SECONDS)
    assert told.came.wait(SECONDS)

    assert told.lines == [
        f"POST /slow: the connection of {name} ended before its answer: closed by the other side"
    ]


def test_a_caller_who_leaves_after_the_answer_is_not(slow: tuple[Slow, str, int], told: Told) -> None:
    app, host, port = slow
    with httpx.Client(base_url=f"http://{host}:{port}", trust_env=False) as client:
        answers = [client.get("/quick").status_code for _ in range(3)]
    with socket.create_connection((host, port), SECONDS) as caller:  # its end is seen after the one before
        caller.sendall(b"POST /slow HTTP/1.1\r\nHost: muster\r\nContent-Length: 0\r\n\r\n")
        assert app.asked.wait(SECONDS)
    assert told.came.wait(SECONDS)

    assert answers == [200, 200, 200]
    assert ["/slow" in line for line in told.lines] == [True]
