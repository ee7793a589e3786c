"""Serving the models of a device to its other programs: Open Inference Protocol v2 on a Unix socket.

Loopback TCP is an option for clients that cannot open a Unix socket. One thread per connection, a bounded
number of them; nothing that comes over a connection harms another one. What is answered: ``inference_api``.
"""

import functools
import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from muster_agent.prediction_ids import IdMaker
from muster_agent.runner.channel import set_timeout
from muster_agent.serving import localsocket
from muster_agent.serving.httpwire import Connection, HttpError, Message, accepted_encoding, compressed
from muster_agent.serving.inference_api import Api, Control, Count, Loading, Predictor, Reply, failure
from muster_agent.serving.inference_statistics import Statistics
from muster_models.errors import StorageError

IDLE_SECONDS = 120.0
MAX_CONNECTIONS = 64
# Below this a compressed answer is hardly smaller and costs time: one packet holds it anyway.
MIN_COMPRESSED = 1400
_STARTS = {status: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
_log = logging.getLogger(__name__)


class Server:
    """Listens and answers until it is closed.

    Args:
        predictor: Answers predictions.
        path: Where the Unix socket is made; removed at ``close``.
        port: A loopback TCP port to listen on as well; 0 takes a free one, None takes none.
        control, loading, ids, count: See ``Api``.

    Raises:
        StorageError: The socket cannot be made, or another process serves it.
    """

    def __init__(
        self,
        predictor: Predictor,
        path: Path,
        *,
        port: int | None = None,
        control: Mapping[str, Control] | None = None,
        loading: Loading = frozenset,
        ids: IdMaker | None = None,
        count: Count | None = None,
    ) -> None:
        self.path = path
        self.port: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._places = threading.Semaphore(MAX_CONNECTIONS)
        self._closed = False
        statistics = Statistics()  # one for both, as it is the same models
        make = functools.partial(Api, predictor, statistics=statistics, loading=loading, ids=ids, count=count)
        listeners = [(localsocket.listen(path), make(control or {}))]
        if port is not None:
            tcp = _listen_on_loopback(port, listeners[0][0])
            self.port = tcp.getsockname()[1]
            listeners.append((tcp, make({})))
        self._listeners = [listener for listener, _ in listeners]
        self._threads = [
            threading.Thread(target=self._accept, args=pair, name="muster-serve", daemon=True)
            for pair in listeners
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening, end every connection and remove the socket."""
        with self._lock:
            self._closed = True
            connections = tuple(self._open)
        for sock in (*self._listeners, *connections):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for listener in self._listeners:
            listener.close()
        for _ in range(MAX_CONNECTIONS):  # until the last connection has given its place back
            self._places.acquire()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # the disk has become read-only: whoever listens next replaces what stays
            _log.warning("%s stays: %s", self.path, error.strerror)

    def _accept(self, listener: socket.socket, api: Api) -> None:
        while True:
            self._places.acquire()
            try:
                sock, _ = listener.accept()
            except OSError as error:
                self._places.release()
                if self._closed:
                    return
                _log.warning("a connection could not be accepted: %s", error)
                continue
            with self._lock:
                closed = self._closed
                self._open.add(sock)
            if closed:
                self._end(sock)
                return
            threading.Thread(target=self._serve, args=(sock, api), name="muster-call", daemon=True).start()

    def _serve(self, sock: socket.socket, api: Api) -> None:
        try:
            set_timeout(sock, IDLE_SECONDS)
            connection = Connection(sock)
            while (request := _receive(connection)) is not None:
                _send(connection, api.answer(request), request.headers.get("accept-encoding", ""))
                if request.headers.get("connection", "").lower() == "close":
                    break
        except OSError:
            return  # the other side is gone, or was idle for too long
        finally:
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)
        sock.close()
        self._places.release()


def _listen_on_loopback(port: int, first: socket.socket) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        first.close()
        raise StorageError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error


def _receive(connection: Connection) -> Message | None:
    """Return the next request, or None when there will be none; a malformed one is answered here."""
    try:
        return connection.receive()
    except HttpError as error:
        # What follows cannot be told apart from the rest of this request, so the connection ends with it.
        _send(connection, failure(error.status, error))
        return None


def _send(connection: Connection, reply: Reply, accepted: str = "") -> None:
    headers = {"Content-Type": "application/json"}
    body = reply.body
    if reply.header_length is not None:
        headers["Content-Type"] = "application/octet-stream"
        headers["Inference-Header-Content-Length"] = str(reply.header_length)
    if len(body) >= MIN_COMPRESSED and (encoding := accepted_encoding(accepted)) is not None:
        headers["Content-Encoding"] = encoding
        body = compressed(encoding, body)
    connection.send(_STARTS[reply.status], headers, body)
