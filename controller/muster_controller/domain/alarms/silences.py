"""Silences: an operator's order not to tell of some alarms until an instant. Nothing else about them changes.

A silence names alarms by model, kind, level and a selector over their subject; what it does not name is any.
It always ends: by itself, or earlier by order. Not to be mixed with the *kind* ``silence``, which is an alarm
about devices that were not heard of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muster_controller.domain import selector
from muster_controller.domain.alarms.alarm import KINDS, LEVELS, Alarm
from muster_models.errors import RequestError

MAX_SECONDS = 30 * 86_400.0
MAX_REASON = 400


@dataclass(frozen=True)
class Matcher:
    """Which alarms are meant; None means any.

    Attributes:
        where: A selector over the subject: a device by its id and labels, a group by its label. An alarm of
            the whole fleet is meant only where the selector is ``all`` or None: it is never hidden by part.
    """

    model: str | None = None
    kind: str | None = None
    level: str | None = None
    where: str | None = None

    def matches(self, alarm: Alarm, labels: Mapping[str, str]) -> bool:
        """Tell whether an alarm is meant; ``labels`` are those of the device that it is about, if any."""
        pairs = ((self.model, alarm.model), (self.kind, alarm.kind), (self.level, alarm.level))
        if any(wanted is not None and wanted != held for wanted, held in pairs):
            return False
        return self.where is None or _is_chosen(selector.parse(self.where), alarm, labels)

    def check(self) -> None:
        """Refuse a matcher that says nothing, or something that no alarm is.

        Raises:
            RequestError: As above; the message says what is expected.
        """
        if self == Matcher():
            raise RequestError(
                "say which alarms: a model, a kind, a level or a selector ('all' for every one)"
            )
        if self.kind is not None and self.kind not in KINDS:
            raise RequestError(f"expected a kind out of {', '.join(KINDS)}, got {self.kind[:80]!r}")
        if self.level is not None and self.level not in LEVELS:
            raise RequestError(f"expected a level out of {', '.join(LEVELS)}, got {self.level[:80]!r}")
        if self.where is not None:
            selector.parse(self.where)


@dataclass(frozen=True)
class Silence:
    """One silence.

    Attributes:
        since, until: Unix seconds; ``until`` is where it ends or ended.
    """

    id: int
    matcher: Matcher
    reason: str
    actor: str
    since: float
    until: float

    def is_active(self, now: float) -> bool:
        """Tell whether it holds."""
        return self.since <= now < self.until


def check_term(reason: str, since: float, until: float) -> None:
    """Refuse a silence without a reason, or without an end that is near enough.

    Raises:
        RequestError: As above.
    """
    if not 0 < len(reason.strip()) <= MAX_REASON:
        raise RequestError(f"a silence needs a reason of at most {MAX_REASON} characters")
    if not since < until <= since + MAX_SECONDS:
        raise RequestError(
            f"a silence ends after now and within {MAX_SECONDS / 86_400:.0f} days, "
            f"got {until - since:.0f} seconds from now"
        )


def silenced_by(
    alarm: Alarm, silences: Sequence[Silence], labels: Mapping[str, str], now: float
) -> Silence | None:
    """Return the silence that hides an alarm for longest; None when none does."""
    found = [one for one in silences if one.is_active(now) and one.matcher.matches(alarm, labels)]
    return max(found, key=lambda one: one.until, default=None)


def _is_chosen(chooser: selector.Selector, alarm: Alarm, labels: Mapping[str, str]) -> bool:
    if isinstance(chooser, selector.All):
        return True
    match alarm.level:
        case "fleet":
            return False
        case "group":
            label, _, value = alarm.subject.partition("=")
            return chooser.matches({label: value})
        case "device":
            return chooser.matches(selector.known_by(alarm.subject, labels))
