"""The messages of the outbox as bytes, and which of them make room first."""

from muster_models import wire
from muster_models.errors import MessageError
from muster_models.topics import Up
from muster_models.wire import Event, Outboxed, Report, Sample, Window

CHEAPEST_PAIR = """
SELECT id, following FROM (
    SELECT id, is_fixed, lead(id) OVER pairs AS following, parts + lead(parts) OVER pairs AS together
    FROM message WHERE kind = 'window' AND sequence IS NULL
    WINDOW pairs AS (PARTITION BY grouping ORDER BY id)
) WHERE following IS NOT NULL AND NOT is_fixed ORDER BY together, id LIMIT 1
"""
FACTS = "SELECT name, value FROM fact WHERE name IN ('epoch', 'last', 'merged', 'dropped')"
# How many messages have a number behind one, how many have one at all, and what those take.
NUMBERED = """
SELECT coalesce(sum(sequence > ?), 0), count(*), coalesce(sum(length(payload)), 0)
FROM message WHERE sequence IS NOT NULL
"""
OLDEST_SAMPLE = "SELECT id FROM message WHERE kind = 'sample' AND sequence IS NULL ORDER BY id LIMIT 1"
OLDEST_REPORT = """
SELECT id FROM message WHERE kind = 'report' AND sequence IS NULL
AND id < (SELECT max(id) FROM message WHERE kind = 'report') ORDER BY id LIMIT 1
"""
OLDEST_WINDOW = "SELECT id FROM message WHERE kind = 'window' AND sequence IS NULL ORDER BY id LIMIT 1"


def kind_of(message: Outboxed) -> Up:
    """Return below which topic a message goes up."""
    match message:
        case Report():
            return "report"
        case Window():
            return "window"
        case Event():
            return "event"
        case Sample():
            return "sample"


def grouping_of(window: Window) -> str:
    """Return what only windows share that may be merged."""
    return f"{window.model}:{window.manifest}:{window.baseline}"


def decode(payload: bytes) -> Outboxed:
    """Parse a message that waits.

    Raises:
        MessageError: It is none, or of another format.
    """
    message = wire.decode_uplink(payload)
    assert not isinstance(message, wire.Hello)
    return message


def is_readable(payload: bytes) -> bool:
    """Tell whether a message can be parsed."""
    try:
        decode(payload)
    except MessageError:
        return False
    return True
