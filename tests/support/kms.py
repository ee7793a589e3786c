"""AWS KMS on the loopback interface, as much of it as signing needs, for the service's own client.

moto, which plays the whole service, cannot stand in for it: it hashes what it is told is a digest once more.
"""

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from support.http_server import QuietServer, running

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_SHA256, _SHA384 = hashes.SHA256(), hashes.SHA384()
# As the service lists them, the preferred one not first.
_RSA = ["RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_256"]


@dataclass
class KeyService:
    """A service that signs with keys which it gives to nobody.

    Attributes:
        signed: Which key signed, in order.
    """

    url: str
    keys: dict[str, Private] = field(default_factory=dict)
    signed: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it, set as a person sets it for the real one."""
        return {
            "AWS_ENDPOINT_URL_KMS": self.url,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def create_key(self, kind: str = "ECC_NIST_P256") -> str:
        """Make a key; return its URI."""
        name = str(uuid.uuid4())
        match kind:
            case "ECC_NIST_P256":
                self.keys[name] = ec.generate_private_key(ec.SECP256R1())
            case "ECC_NIST_P384":
                self.keys[name] = ec.generate_private_key(ec.SECP384R1())
            case _:
                self.keys[name] = rsa.generate_private_key(65537, 2048)
        return f"awskms:{name}"

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and body for a request."""
        key = self.keys.get(asked["KeyId"])
        if key is None:
            message = f"key '{asked['KeyId']}' does not exist"
            return 400, {"__type": "NotFoundException", "message": message}
        if operation == "GetPublicKey":
            form = serialization.PublicFormat.SubjectPublicKeyInfo
            public = key.public_key().public_bytes(serialization.Encoding.DER, form)
            return 200, {
                "PublicKey": base64.b64encode(public).decode(),
                "SigningAlgorithms": _algorithms(key),
            }
        assert (operation, asked["MessageType"]) == ("Sign", "DIGEST")
        assert asked["SigningAlgorithm"] in _algorithms(key)
        self.signed.append(asked["KeyId"])
        signature = _sign(key, base64.b64decode(asked["Message"]))
        return 200, {"Signature": base64.b64encode(signature).decode()}


def _algorithms(key: Private) -> list[str]:
    if isinstance(key, rsa.RSAPrivateKey):
        return _RSA
    return [f"ECDSA_SHA_{key.key_size}"]


def _sign(key: Private, digest: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PSS(padding.MGF1(_SHA256), _SHA256.digest_size), Prehashed(_SHA256))
    return key.sign(digest, ec.ECDSA(Prehashed(_SHA256 if key.key_size == 256 else _SHA384)))


@contextmanager
def serving_keys() -> Iterator[KeyService]:
    """Run a service."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].removeprefix("TrentService.")
            status, told = service.answer(operation, asked)
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = QuietServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service = KeyService(f"http://127.0.0.1:{server.server_address[1]}")
    with running(server, release=threading.Event().set):
        yield service
