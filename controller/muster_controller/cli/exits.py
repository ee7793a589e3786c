"""Exit codes, and which error ends with which."""

from enum import IntEnum
from typing import Final

from muster_models.errors import ConflictError, ForbiddenError, MusterError, NotFoundError, Reason


class Exit(IntEnum):
    """How a command ended, for scripts."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    CONFLICT = 5
    ROLLOUT_FAILED = 6
    TIMEOUT = 7
    HOLDS = 8  # a rollout waits for a person, and that was asked about
    DIFFERS = 9  # what is computed again is not what was recorded
    INTERRUPTED = 130


class UsageError(ValueError):
    """The command line does not say what is needed, in the expected form."""


TABLE: Final[tuple[tuple[type[MusterError], Exit], ...]] = (
    (NotFoundError, Exit.NOT_FOUND),
    (ForbiddenError, Exit.FORBIDDEN),
    (ConflictError, Exit.CONFLICT),
)


def exit_of(error: MusterError) -> Exit:
    """Return the exit code of an error."""
    if error.reason is Reason.TIMED_OUT:
        return Exit.TIMEOUT
    return next((code for kind, code in TABLE if isinstance(error, kind)), Exit.ERROR)
