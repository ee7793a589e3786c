"""A client that costs next to nothing, so that what is measured is the server."""

import json
import socket
from collections.abc import Callable

import numpy as np

ROW = np.random.default_rng(1).uniform(0, 16, (1, 64)).astype(np.float32)
_PATH = "/v2/models/digits/infer"


def caller(port: int) -> Callable[[], bytes]:
    """Return one prediction of ``digits`` in JSON, over a connection that is kept.

    Raises:
        SystemExit: From the call: the server does not answer it.
    """
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tensor = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": ROW.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

    def call() -> bytes:
        sock.sendall(request)
        answer = b""
        while not _is_whole(answer):
            part = sock.recv(65536)
            if not part:
                raise SystemExit(f"port {port} closed the connection: {answer[:300]!r}")
            answer += part
        if b" 200 " not in answer[:16]:
            raise SystemExit(f"port {port} answered {answer[:300]!r}")
        return answer

    return call


def _is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return bool(found) and len(body) >= int(length)
