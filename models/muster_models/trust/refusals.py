"""One table from the errors of python-tuf to ours: nothing else leaves this package."""

from collections.abc import Iterator
from contextlib import contextmanager

from tuf.api import exceptions as tuf

from muster_models.errors import Reason, StorageError, TransferError, TrustError

# The first entry that fits decides, so special cases stand before general ones.
_REASONS: tuple[tuple[type[tuf.RepositoryError], Reason], ...] = (
    (tuf.UnsignedMetadataError, Reason.UNSIGNED),
    (tuf.ExpiredMetadataError, Reason.EXPIRED),
    (tuf.BadVersionNumberError, Reason.REPLAYED),
    (tuf.LengthOrHashMismatchError, Reason.TAMPERED),
    (tuf.RepositoryError, Reason.TAMPERED),  # does not parse, or contradicts itself
)


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Raise our errors where python-tuf raises its own.

    Args:
        what: Begins the message: the role or file that was being read.

    Raises:
        TrustError: Metadata was refused.
        TransferError: It could not be fetched.
        StorageError: The disk refused.
    """
    try:
        yield
    except tuf.RepositoryError as error:
        reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
        raise TrustError(reason, f"{what}: {error}") from error
    except tuf.DownloadLengthMismatchError as error:
        raise TransferError(f"{what}: {error}", Reason.TOO_LARGE) from error
    except tuf.DownloadError as error:
        raise TransferError(f"{what}: {error}") from error
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise StorageError(f"{what}: {named}{error.strerror or error}") from error
