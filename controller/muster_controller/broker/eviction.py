"""Ending the live session of a device that was turned away.

Mosquitto checks certificates when a session begins and never again. But a session ends when another one of
the same name begins, and the controller, who is the authority, can give itself any name: it takes the
session over with a certificate that ends within minutes, and leaves. What the broker kept for the device goes
with it.
"""

import datetime as dt
import ssl
import tempfile
from pathlib import Path

from muster_controller.broker.config import Listener
from muster_controller.pki import Authority
from muster_models import topics
from muster_models.errors import TransferError
from muster_models.mqtt import Connection, Level, Manner

DEADLINE_SECONDS = 5.0
KEEPALIVE_SECONDS = 10
MANNER = Manner(is_kept=False, acknowledges=False, limits={})


def evict(listener: Listener, authority: Authority, device: str, folder: Path) -> None:
    """End the session of a device, if there is one.

    Args:
        listener: Of the broker.
        authority: Of the devices' certificates.
        device: Who must go.
        folder: Where a key may lie for a moment.

    Raises:
        TransferError: The broker cannot be reached, so it is not known whether there is a session.
    """
    with tempfile.TemporaryDirectory(dir=folder) as private:
        paths = authority.issue_stand_in(device, Path(private), dt.datetime.now(dt.UTC))
        context = ssl.create_default_context(cadata=authority.pem)
        context.load_cert_chain(*paths)
    stand_in = _StandIn(
        device, context=context, level=Level.V5, manner=MANNER, deadline_seconds=DEADLINE_SECONDS
    )
    try:
        stand_in.take_over(listener, device)
    finally:
        stand_in.close()


class _StandIn(Connection):
    """A session in a device's name, which lasts for one greeting."""

    def take_over(self, listener: Listener, device: str) -> None:
        """Begin the session, which ends the one before."""
        own = [topics.down(device, "desired")]
        try:
            self._open(
                listener.local_host, listener.port, keepalive_seconds=KEEPALIVE_SECONDS, subscriptions=own
            )
        except TransferError:
            # Once it was greeted, the other session is over, whatever the broker thinks of this one.
            if not self._greeted:
                raise
