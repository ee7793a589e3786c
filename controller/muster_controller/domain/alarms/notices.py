"""Notices: what receivers are told, which of them, when, and how often it is tried again. Pure.

One receiver hears in order: within a group nothing overtakes, and what fails holds up what is behind it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 3600.0
MOST_IN_ONE = 40  # alarms that one message names; more are counted
PREFIX = "muster"


@dataclass(frozen=True)
class Notice:
    """Something that happened.

    Attributes:
        type: ``alarm.firing``, ``rollout.held``, ``job.requested``, ``test``.
        group: Notices of one group and type that come soon after each other are told together; empty for one
            that is told alone and at once.
        kind, level, model: What receivers choose by.
        has_fired: False for an alarm that never got beyond pending.
        item: What happened, as JSON.
    """

    type: str
    subject: str
    kind: str
    level: str = "fleet"
    model: str = ""
    group: str = ""
    has_fired: bool = True
    item: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What a receiver asked for; an empty list means any."""

    kinds: Collection[str] = ()
    levels: Collection[str] = ()
    models: Collection[str] = ()
    pending: bool = False

    def takes(self, notice: Notice) -> bool:
        """Tell whether a receiver should be told."""
        chosen = ((self.kinds, notice.kind), (self.levels, notice.level), (self.models, notice.model))
        if any(wanted and held not in wanted for wanted, held in chosen):
            return False
        return self.pending or notice.has_fired


@dataclass(frozen=True)
class Told:
    """What a group of one receiver was last told, or will be.

    Attributes:
        id: Of the message.
        due: When it may be sent, Unix seconds.
        is_open: Nobody has tried to send it yet, so that more can be added.
    """

    id: int
    type: str
    due: float
    is_open: bool


@dataclass(frozen=True)
class Join:
    """A notice goes into a message that waits."""

    id: int


@dataclass(frozen=True)
class Send:
    """A notice becomes a message of its own, from ``due`` on."""

    due: float


def place(notice: Notice, told: Collection[Told], *, now: float, interval: float) -> Join | Send:
    """Return where a notice of a group goes.

    Args:
        told: The newest message of each type that the group of this receiver had.
        interval: Least time between two messages of one group and type, in seconds.
    """
    newest = max(told, key=lambda one: one.id, default=None)
    if newest is None or not notice.group:
        return Send(now)
    if newest.is_open and newest.type == notice.type:
        return Join(newest.id)
    alike = max((one.due + interval for one in told if one.type == notice.type), default=now)
    # Never before what the group is told first: an alarm is not resolved before it fires.
    return Send(max(now, alike, newest.due))


def backoff(tries: int, luck: float) -> float:
    """Return the seconds until the next try, after ``tries`` that failed; ``luck`` is between 0 and 1.

    Doubles each time; half of it is chance, so that receivers that failed together are not asked together.
    """
    exponent = min(tries - 1, 32)
    longest = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0**exponent)
    return longest * (0.5 + 0.5 * luck)


def joined(content: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a message with one more item; the newest of one id stands for it."""
    held = [one for one in content.get("items", ()) if "id" not in item or one.get("id") != item["id"]]
    omitted = int(content.get("omitted", 0))
    if len(held) >= MOST_IN_ONE:
        return {"items": held, "omitted": omitted + 1}
    return {"items": [*held, dict(item)], "omitted": omitted}


def cloud_event(
    message: str, notice_type: str, *, source: str, subject: str, at: str, content: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a message as a CloudEvent 1.0.

    Args:
        message: Its id: the same at each try.
        at: RFC 3339.
    """
    return {
        "specversion": "1.0",
        "id": message,
        "source": source,
        "type": f"{PREFIX}.{notice_type}",
        "subject": subject,
        "time": at,
        "datacontenttype": "application/json",
        "data": dict(content),
    }
