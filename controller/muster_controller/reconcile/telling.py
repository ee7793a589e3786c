"""One step of the loop: what each device should run is signed and sent, again until the broker has it.

Whether a device has it is known from its greeting: one that holds an older desired state is told again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from securesystemslib.signer import Signer
from sqlalchemy import Engine

from muster_controller.config import Settings
from muster_controller.domain import desired as domain
from muster_controller.domain.desired import Content, Held
from muster_controller.store import assignments, desired, devices, reporting, samples, untold, versions
from muster_controller.store.engine import Reading, Unit
from muster_models import topics
from muster_models.trust.director import sign_desired
from muster_models.wire import DesiredModel, Reporting, SampleOrder

DAY_SECONDS = 86_400.0
AT_ONCE = 1_000  # desired states read and sent together
MAX_HELD = 2**52  # no controller ever counted so far: such a claim is not believed
_log = logging.getLogger(__name__)


class Publish(Protocol):
    """What sends: ``Link.publish``."""

    def __call__(self, topic: str, payload: bytes, sent: Callable[[], None] | None = None) -> bool:
        """Send at least once; return whether there is a session to send it on."""
        ...


class Telling:
    """Keeps every device's desired state signed, current and sent."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        director: Signer,
        publish: Publish,
        wake: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            engine: The database.
            settings: For how long a desired state is valid, and how devices report unless it was ordered.
            director: Signs.
            publish: Sends.
            wake: Called, on another thread, when something that was sent should be written down by ``send``.
        """
        self._engine = engine
        self._usual: Reporting = settings.reporting
        self._lifetime = settings.desired_days * DAY_SECONDS
        self._director = director
        self._publish = publish
        self._wake = wake
        self._under_way: dict[str, int] = {}
        self._arrived: deque[tuple[str, int]] = deque()
        self._lost = threading.Event()
        self._last = ""  # of the devices that were looked at in turn

    def sign(self, now: float) -> bool:
        """Sign a new desired state for devices that should be told something else, or whose one ages.

        Looked at are those that were noted, and the next ones in turn: so one that ages is found, and one
        that nobody noted. What a pass costs depends on what changed, and not on the fleet.

        Returns:
            Whether more is noted than one pass looks at, or what was looked at has changed meanwhile.
        """
        with Reading(self._engine) as session:
            noted = untold.first(session, AT_ONCE)
            turn = devices.next_after(session, self._last, AT_ONCE)
            looked = {*turn, *(device for _, device in noted)}
            held = desired.held(session, looked)
            members = devices.some(session, looked)
            wanted = assignments.of_devices(session, looked)
            stopped = assignments.stopped(session)
            how = reporting.current(session, self._usual)
            ordered = samples.open_orders(session, looked, now)
            digests = {one.digest for models in wanted.values() for one in models}
            names = versions.names(session, digests)
        signed = [
            state
            for member in members
            if (
                state := self._sign(
                    member.id,
                    self._content(wanted.get(member.id, ()), names, stopped, how, ordered.get(member.id, ())),
                    _believe(held.get(member.id), member.held, now),
                    now=now,
                )
            )
        ]
        if signed or noted:
            with Unit(self._engine) as session:
                before = {state.device: held[state.device] for state in signed if state.device in held}
                if desired.held(session, {state.device for state in signed}) != before:
                    return True  # another loop was quicker: one number must not name two desired states
                desired.save(session, signed)
                untold.settle(session, [number for number, _ in noted])
        self._last = turn[-1] if len(turn) == AT_ONCE else ""
        return len(noted) == AT_ONCE

    def send(self, now: float) -> bool:
        """Send what has not reached the broker yet; return whether more is waiting to be sent at once."""
        self._note_arrived(now)
        if self._lost.is_set():
            self._lost.clear()
            self._under_way.clear()
        with Reading(self._engine) as session:
            unsent = desired.unsent(session, AT_ONCE)
        fresh = [one for one in unsent if self._under_way.get(one[0]) != one[1]]
        for device, sequence, envelope in fresh:
            sent = partial(self._has_arrived, device, sequence)
            if not self._publish(topics.down(device, "desired"), envelope, sent):
                return False
            self._under_way[device] = sequence
        return len(unsent) == AT_ONCE and bool(fresh)

    def forget(self) -> None:
        """Take nothing for under way any more, because the session it was sent on is over; for any thread."""
        self._lost.set()

    def _has_arrived(self, device: str, sequence: int) -> None:
        self._arrived.append((device, sequence))
        self._wake()

    def _note_arrived(self, now: float) -> None:
        arrived = [self._arrived.popleft() for _ in range(len(self._arrived))]
        if not arrived:
            return
        with Unit(self._engine) as session:
            desired.mark_sent(session, arrived, now)
        for device, sequence in arrived:
            if self._under_way.get(device) == sequence:
                del self._under_way[device]

    def _content(
        self,
        wanted: Sequence[assignments.Wanted],
        names: Mapping[str, str],
        stopped: frozenset[str],
        how: Reporting,
        ordered: Sequence[SampleOrder],
    ) -> Content:
        models = [
            DesiredModel(
                model=one.model,
                version=names[one.digest],
                manifest=one.digest,
                stop=one.model in stopped,
                probation_seconds=one.probation_seconds,
                shadow=one.shadow,
            )
            for one in wanted
        ]
        return domain.content(models, how, ordered)

    def _sign(self, device: str, content: Content, held: Held | None, *, now: float) -> desired.Signed | None:
        following = domain.following(device, content, held, now=now, lifetime=self._lifetime)
        if following is None:
            return None
        return desired.Signed(
            device=device,
            sequence=following.sequence,
            envelope=sign_desired(following, self._director),
            content=content.digest,
            issued=following.issued,
            expires=following.expires,
        )


def _believe(held: Held | None, claimed: int, now: float) -> Held | None:
    """Return the desired state to go on from: never below the number that the device says it holds.

    A device holds a higher number than we know when the database was restored from an older copy. It would
    take everything up to that number for a replay.
    """
    known = 0 if held is None else held.sequence
    return held if not known < claimed < MAX_HELD else Held(claimed, "", now, now)
