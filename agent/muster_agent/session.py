"""One session of the device with a broker: messages go up by ticket, what happened is asked for in turn.

A session is never resumed: what was not yet stored elsewhere is in the outbox, and is sent again.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from muster_agent.config import Broker
from muster_models.errors import TransferError
from muster_models.mqtt import Connection, Level, Manner, as_transfer_error
from muster_models.wire import MAX_BYTES

PACKET_BYTES = MAX_BYTES + 4096  # the largest message and its topic; asked of brokers that speak MQTT 5
MANNER = Manner(is_kept=False, acknowledges=False, limits={"MaximumPacketSize": PACKET_BYTES})


@dataclass(frozen=True)
class Arrived:
    """A message came down."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Answered:
    """The broker answered a message that was sent.

    Attributes:
        ticket: What ``publish`` returned.
        refusal: Why the broker did not take it; empty when it did. (It is never a promise to keep it.)
    """

    ticket: int
    refusal: str


Happening = Arrived | Answered


class Session(Connection):
    """A session as ``device``; for one thread, but for ``wake``."""

    def __init__(
        self, broker: Broker, device: str, *, context: ssl.SSLContext, level: Level, deadline_seconds: float
    ) -> None:
        super().__init__(
            device, context=context, level=level, manner=MANNER, deadline_seconds=deadline_seconds
        )
        self._broker = broker
        self._happened: list[Happening] = []
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish

    def open(self, subscriptions: Sequence[str]) -> None:
        """Connect, greet and subscribe.

        Raises:
            GreetingRefusedError: The broker was reached and ended the session before it began.
            TransferError: The broker cannot be reached, does not prove who it is, is too slow, or refuses
                a subscription.
        """
        self._open(
            self._broker.host,
            self._broker.port,
            keepalive_seconds=self._broker.keepalive_seconds,
            subscriptions=subscriptions,
        )

    def publish(self, topic: str, payload: bytes) -> int:
        """Hand a message to the broker, at least once; return the ticket by which its answer is known.

        Raises:
            TransferError: The connection is lost.
        """
        with as_transfer_error("sending"):
            sent = self._client.publish(topic, payload, qos=1)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise TransferError(f"sending: {sent.rc.name}")
        return sent.mid

    def poll(self, seconds: float) -> list[Happening]:
        """Return what happened; wait up to ``seconds`` for it, shorter when there is work or a ``wake``.

        Raises:
            TransferError: The connection is lost.
        """
        self._turn(seconds)
        happened, self._happened = self._happened, []
        # What arrived before the loss is still handed over; the next call tells of the loss.
        if self._lost and not happened:
            raise TransferError(self._lost)
        return happened

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._happened.append(Arrived(message.topic, bytes(message.payload)))

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        # "No matching subscribers" is no failure to MQTT 5, but nobody will store the message.
        taken = reason.value == 0
        self._happened.append(Answered(mid, "" if taken else str(reason)))
