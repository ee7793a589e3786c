"""What an application counts beside its predictions, such as parts scrapped: names and whole numbers.

Pure: no clock, no socket. Adding is exact, and so is merging, in any order.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from muster_models.errors import MessageError
from muster_models.wire import MAX_COUNTERS, CounterName, Number

MOST = 2**53  # what every reader holds exactly; a count stays there
_Counts = Annotated[dict[CounterName, Number], Meta(max_length=MAX_COUNTERS)]


def check_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts that a window can hold.

    Raises:
        MessageError: A name or a number has the wrong form, or there are too many of them.
    """
    try:
        return msgspec.convert(dict(counts), _Counts)
    except msgspec.ValidationError as error:
        raise MessageError(
            f"expected up to {MAX_COUNTERS} counters, named like 'scrap' with at most 32 of a-z, 0-9, '_', "
            f"'.' and '-', each a whole number of 0 or more: {error}"
        ) from error


def add_counts(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """Return both counts added up, by name.

    Raises:
        MessageError: Together they have more names than a window can hold.
    """
    names = sorted(first.keys() | second.keys())
    if len(names) > MAX_COUNTERS:
        raise MessageError(
            f"expected at most {MAX_COUNTERS} counters of a model, got {len(names)}: {', '.join(names)}"[:600]
        )
    return {name: min(first.get(name, 0) + second.get(name, 0), MOST) for name in names}
