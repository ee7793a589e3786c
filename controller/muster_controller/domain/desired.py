"""What a device should be told, and whether it has to be told again."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from muster_models.wire import Desired, DesiredModel, Reporting, SampleOrder


@dataclass(frozen=True)
class Content:
    """What a desired state says, apart from who it is for, its sequence and its times."""

    models: tuple[DesiredModel, ...]
    reporting: Reporting
    samples: tuple[SampleOrder, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256, in hex: equal contents have equal digests."""
        said = [self.models, self.reporting, self.samples]
        return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()


@dataclass(frozen=True)
class Held:
    """The newest desired state that was made for a device.

    Attributes:
        content: Digest of its content.
        issued, expires: Unix seconds.
    """

    sequence: int
    content: str
    issued: float
    expires: float


def content(
    models: Iterable[DesiredModel], reporting: Reporting, samples: Iterable[SampleOrder] = ()
) -> Content:
    """Return what one device should be told; the order of ``models`` and ``samples`` does not matter.

    Raises:
        ValueError: A model is named twice.
    """
    ordered = tuple(sorted(models, key=lambda model: model.model))
    if len({model.model for model in ordered}) != len(ordered):
        raise ValueError(f"each model once, got {[model.model for model in ordered]}")
    return Content(ordered, reporting, tuple(sorted(samples, key=lambda order: order.id)))


def following(
    device: str, content: Content, held: Held | None, *, now: float, lifetime: float
) -> Desired | None:
    """Return the desired state to sign and send, or None while the held one still says the same.

    A desired state is renewed after half of its life, so that a device that is offline for less than the
    other half never holds an expired one.

    Args:
        lifetime: Seconds until the new one expires.
    """
    if held is not None and held.content == content.digest and now < (held.issued + held.expires) / 2:
        return None
    sequence = 1 if held is None else held.sequence + 1
    return Desired(device, sequence, now, now + lifetime, content.models, content.reporting, content.samples)
