"""The certificate a device showed during the TLS handshake, handed to the application by the protocol."""

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Peer:
    """Whose certificate the connection carries; TLS has verified it against the CA.

    Attributes:
        name: The common name.
        serial: Hex, lower case, without leading zeros.
    """

    name: str
    serial: str


def read_peer(certificate: dict[str, Any] | None) -> Peer | None:
    """Return who a certificate (as ``SSLSocket.getpeercert`` gives it) belongs to; None without one."""
    if not certificate:
        return None
    names = [value for part in certificate["subject"] for key, value in part if key == "commonName"]
    if len(names) != 1:
        return None
    return Peer(names[0], f"{int(certificate['serialNumber'], 16):x}")


class PeerProtocol(H11Protocol):
    """HTTP whose requests carry ``state["peer"]``, which uvicorn itself does not hand over."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Read the certificate once per connection."""
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        peer = None if connection is None else read_peer(connection.getpeercert())
        # A dictionary of this connection's own: uvicorn shares one among all of them.
        self.app_state = {**self.app_state, "peer": peer}
