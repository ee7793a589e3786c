"""Heads that repeat on one connection are read once, and mean the same each time."""

import socket
from collections.abc import Iterator

import pytest

from muster_agent.serving.httpwire import Connection, HttpError

HEAD = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Connection]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, Connection(theirs)


def test_a_head_that_repeats_means_the_same_with_another_body(ends: tuple[socket.socket, Connection]) -> None:
    ours, connection = ends
    ours.sendall(HEAD + b"one" + HEAD + b"two")
    first, second = connection.receive(), connection.receive()

    assert first is not None
    assert second is not None
    assert (first.body, second.body) == (b"one", b"two")
    assert (first.start, first.headers) == (second.start, second.headers)


def test_another_head_between_two_is_read_for_itself(ends: tuple[socket.socket, Connection]) -> None:
    ours, connection = ends
    other = HEAD.replace(b"Length: 3", b"Length: 4")
    ours.sendall(HEAD + b"one" + other + b"four" + HEAD + b"two")
    bodies = [message.body for message in (connection.receive() for _ in range(3)) if message is not None]

    assert bodies == [b"one", b"four", b"two"]


def test_a_head_of_nothing_is_no_message(ends: tuple[socket.socket, Connection]) -> None:
    ours, connection = ends
    ours.sendall(b"\r\n\r\n")

    with pytest.raises(HttpError):
        connection.receive()


def test_a_head_that_was_refused_is_refused_again(ends: tuple[socket.socket, Connection]) -> None:
    ours, connection = ends
    ours.sendall(2 * HEAD.replace(b"3", b"-3"))

    for _ in range(2):
        with pytest.raises(HttpError, match="Content-Length"):
            connection.receive()
