"""What the messages of devices mean: bytes to messages, messages to rows, in the transaction of a batch.

A message that is refused is counted; when its name (device, epoch, sequence) can still be read it also counts
as received, so that it never blocks what the device sends after it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from sqlmodel import Session

from muster_controller.store import (
    desired,
    devices,
    events,
    inbox,
    refusals,
    running,
    samples,
    shadows,
    versions,
    windows,
)
from muster_controller.store.baselines import Baselines
from muster_controller.store.refusals import Refused
from muster_models import topics, wire
from muster_models.errors import MessageError, MusterError, Reason, SketchError
from muster_models.sketch.codec import rows_of_all

AHEAD_SECONDS = 86_400.0  # a device's clock may be wrong, but nothing is stored for a day later than tomorrow
KINDS: dict[type, topics.Up] = {
    wire.Hello: "hello",
    wire.Report: "report",
    wire.Window: "window",
    wire.Event: "event",
    wire.Sample: "sample",
}


@dataclass(frozen=True)
class Taken:
    """One message as it was read.

    Attributes:
        device: Who sent it, by its topic; empty when the topic says nothing.
        name: None for what does not travel through the outbox, and for what cannot be read at all.
        content: What it says, or why it is refused.
    """

    device: str
    name: inbox.Name | None
    content: wire.Uplink | Refused


@dataclass
class Stored:
    """What a batch left in the database.

    Attributes:
        marks: Watermarks that the devices must be told, by (device, epoch).
        greeted: Devices that said hello.
    """

    marks: Mapping[inbox.Stream, int] = field(default_factory=dict)
    greeted: set[str] = field(default_factory=set)


def read(topic: str, payload: bytes) -> Taken:
    """Return the message in a payload, or why it is refused."""
    try:
        parsed = topics.parse_up(topic)
    except MessageError as error:
        return Taken("", None, Refused("", error.reason, str(error)))
    try:
        message = wire.decode_uplink(payload)
    except MessageError as error:
        return Taken(parsed.device, _name(parsed.device, payload), _refused(parsed.device, error))
    return _check_sender(parsed, message)


def _check_sender(topic: topics.UpTopic, message: wire.Uplink) -> Taken:
    if message.device != topic.device:
        error = f"a message on the topic of {topic.device} says it is from {message.device}"
        return Taken(topic.device, None, Refused(topic.device, Reason.WRONG_DEVICE, error))
    name = None
    if not isinstance(message, wire.Hello):
        name = (message.device, message.epoch, message.sequence)
    expected = KINDS[type(message)]
    if expected != topic.kind:
        error = f"a {expected} came on the topic for {topic.kind}"
        return Taken(topic.device, name, Refused(topic.device, Reason.BAD_MESSAGE, error))
    return Taken(topic.device, name, message)


def _name(device: str, payload: bytes) -> inbox.Name | None:
    name = wire.read_name(payload)
    return None if name is None or name.device != device else (device, name.epoch, name.sequence)


def store(session: Session, taken: Sequence[Taken], *, baselines: Baselines, now: float) -> Stored:
    """Store a batch in the order of its arrival; what was stored before changes nothing."""
    active = devices.active(session, {one.device for one in taken})
    strangers = [_stranger(one) for one in taken if one.device not in active]
    known = [one for one in taken if one.device in active]
    receipt = inbox.receive(session, {one.name for one in known if one.name is not None})
    batch = _Batch(session, baselines, now, active)
    left: set[inbox.Name | None] = set(receipt.new)
    for one in known:
        if one.name is None or one.name in left:
            left -= {one.name}
            batch.take(one)
    batch.finish()
    refusals.count(session, [*strangers, *batch.refused], now)
    devices.saw(session, active, now)
    return Stored(receipt.marks, batch.greeted)


def _stranger(one: Taken) -> Refused:
    if not one.device:
        assert isinstance(one.content, Refused)
        return one.content
    return Refused(one.device, Reason.WRONG_DEVICE, "not enrolled, or revoked")


class _Batch:
    """The effects of new messages."""

    def __init__(self, session: Session, baselines: Baselines, now: float, devices: set[str]) -> None:
        self._session = session
        self._running = running.Book(session, devices)
        self._baselines = baselines
        self._now = now
        self._windows: list[wire.Window] = []
        self._health: dict[str, wire.Health] = {}
        self.refused: list[Refused] = []
        self.greeted: set[str] = set()

    def take(self, one: Taken) -> None:
        """Carry out what one message says."""
        match one.content:
            case Refused() as refused:
                self.refused.append(refused)
            case wire.Hello() as hello:
                self._greet(hello)
            case wire.Report() as report:
                stamp = running.Stamp(report.device, report.epoch, report.sequence, self._past(report.at))
                self._run(stamp, report.models)
                if report.health is not None:
                    self._health[report.device] = report.health  # the last of a batch is the newest
            case wire.Event() as event:
                events.add(self._session, msgspec.structs.replace(event, at=self._past(event.at)))
            case wire.Window() as window:
                self._windows.append(window)
            case wire.Sample() as sample:
                self._keep(msgspec.structs.replace(sample, at=self._past(sample.at)))

    def finish(self) -> None:
        """Store the windows, all at once, and how each device is."""
        for device, health in self._health.items():
            devices.feel(self._session, device, self._in_time(health))
        if not self._windows:
            return
        named = {digest for window in self._windows for digest in _versions(window)}
        known = versions.baselines(self._session, named)
        sound = [window for window in self._windows if self._is_sound(window, known)]
        encoded = [(window.baseline, window.sketch) for window in sound if window.sketch]
        read = iter(self._baselines.read_all(encoded, rows_of_all))
        accepted: list[tuple[wire.Window, int]] = []
        for window in sound:
            match next(read) if window.sketch else 0:
                case int() as rows:
                    accepted.append((window, rows))
                case error:
                    self.refused.append(_refused(window.device, error))
        windows.add(self._session, accepted, self._now)
        shadows.add(self._session, (window for window, _ in accepted))

    def _keep(self, sample: wire.Sample) -> None:
        try:
            samples.receive(self._session, sample, self._now)
        except MusterError as error:
            self.refused.append(_refused(sample.device, error))

    def _is_sound(self, window: wire.Window, known: Mapping[str, tuple[str, str]]) -> bool:
        try:
            _check(window, known, self._now)
        except MusterError as error:
            self.refused.append(_refused(window.device, error))
            return False
        return True

    def _greet(self, hello: wire.Hello) -> None:
        devices.greet(self._session, hello)
        if hello.health is not None:
            self._health.pop(hello.device, None)
            skew = hello.health.at - self._now
            devices.feel(self._session, hello.device, self._in_time(hello.health), skew=round(skew, 1))
        outbox = hello.outbox
        self._run(running.Stamp(hello.device, outbox.epoch, outbox.last, self._now), hello.models)
        if outbox.first > 0:
            inbox.skip(self._session, (hello.device, outbox.epoch), outbox.first - 1)
        desired.send_again(self._session, hello.device, hello.desired)
        self.greeted.add(hello.device)

    def _run(self, stamp: running.Stamp, models: Sequence[wire.ModelReport]) -> None:
        for model in models:
            self._running.apply(stamp, model)

    def _in_time(self, health: wire.Health) -> wire.Health:
        return msgspec.structs.replace(health, at=self._past(health.at))

    def _past(self, instant: float) -> float:
        return min(instant, self._now + AHEAD_SECONDS)


def _check(window: wire.Window, known: Mapping[str, tuple[str, str]], now: float) -> None:
    """Raise when a window is not as it must be; its sketch is looked at later."""
    if known.get(window.manifest) != (window.model, window.baseline):
        raise SketchError(
            f"a window of {window.model} names version {window.manifest[:12]} on baseline "
            f"{window.baseline[:12]}, which was not released so"
        )
    if window.end < window.start or window.end > now + AHEAD_SECONDS:
        raise MessageError(f"a window from {window.start:.0f} to {window.end:.0f} cannot be")
    bins = len(wire.LATENCY_EDGES_MS) + 1
    if len(window.latency) != bins or window.errors > window.calls:
        raise MessageError(
            f"expected {bins} latency bins and at most {window.calls} errors, "
            f"got {len(window.latency)} and {window.errors}"
        )

    if window.shadow is not None:
        _check_shadow(window.model, window.shadow, known)


def _check_shadow(model: str, shadow: wire.ShadowCounts, known: Mapping[str, tuple[str, str]]) -> None:
    if known.get(shadow.candidate, ("",))[0] != model:
        raise MessageError(f"{shadow.candidate[:12]}, which answered in shadow, is no version of {model}")
    bins = len(wire.LATENCY_EDGES_MS) + 1
    is_sound = (
        len(shadow.latency) == bins
        and shadow.agreed <= shadow.rows
        and shadow.errors <= shadow.calls
        and math.isfinite(shadow.difference)
    )
    if not is_sound:
        raise MessageError(f"counts of a shadow contradict each other: {shadow}"[:300])


def _versions(window: wire.Window) -> tuple[str, ...]:
    return (window.manifest, window.shadow.candidate) if window.shadow is not None else (window.manifest,)


def _refused(device: str, error: MusterError) -> Refused:
    return Refused(device, error.reason, str(error))


def as_refused(one: Taken, detail: str) -> Taken:
    """Return a message that could not be stored for a reason of ours, so that it is counted instead."""
    return replace(one, content=Refused(one.device, Reason.BAD_MESSAGE, detail))
