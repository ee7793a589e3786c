"""Where the outbox is begun: on the disk, or in memory for as long as the disk refuses."""

import logging
from collections.abc import Callable

from muster_agent.measure.outbox import Outbox, Place
from muster_models.errors import StorageError

log = logging.getLogger(__name__)


def begin_somewhere(begin: Callable[..., Outbox]) -> Outbox:
    """Return an outbox; what a device has to say goes out also where its disk takes nothing.

    Args:
        begin: Makes one; takes the place by name.
    """
    try:
        return begin(place=Place.DISK)
    except StorageError as error:
        log.warning("what is to be sent waits in memory, and nothing can be installed: %s", error)
        return begin(place=Place.MEMORY)


def settle(outbox: Outbox) -> bool:
    """Move what waits in memory to the disk if it takes it; tell whether it was moved now."""
    try:
        moved = outbox.settle()
    except StorageError as error:
        log.debug("what is to be sent still waits in memory: %s", error)
        return False
    if moved:
        log.info("the disk can be written again")
    return moved
