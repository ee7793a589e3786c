"""Pages of lists: a cursor names the last row of a page, so that pages stay right while rows are added."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlmodel import col
from sqlmodel.sql.expression import SelectOfScalar

from muster_models.errors import RequestError

T = TypeVar("T")
R = TypeVar("R")
MAX_LIMIT = 500
DEFAULT_LIMIT = 100


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list.

    Attributes:
        next: The cursor of the following page; None on the last one.
    """

    items: tuple[T, ...]
    next: str | None


def newest_first(
    query: SelectOfScalar[R],
    key: Any,
    *,
    equal: Iterable[tuple[Any, str | None]],
    limit: int,
    cursor: str | None,
) -> SelectOfScalar[R]:
    """Return ``query`` for one page of rows and one more, by falling ``key``.

    Args:
        query: Selects the rows of one table.
        key: The table's integer key.
        equal: Columns with the value asked for; None asks for any.
        limit: Rows of a page.
        cursor: Where the page before ended.

    Raises:
        RequestError: ``cursor`` is not one of such a list.
    """
    query = query.order_by(col(key).desc()).limit(limit + 1)
    for column, value in equal:
        if value is not None:
            query = query.where(col(column) == value)
    before = number_cursor(cursor)
    return query if before is None else query.where(col(key) < before)


def cut(rows: Sequence[R], limit: int, *, view: Callable[[R], T], key: Callable[[R], str | int]) -> Page[T]:
    """Return the page of ``rows``, which were asked for with one row more than ``limit``."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(tuple(view(row) for row in shown), encode_cursor(key(shown[-1])) if more else None)


def encode_cursor(key: str | int) -> str:
    """Return the opaque text that names a row."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def text_cursor(cursor: str | None) -> str | None:
    """Return the text key that a cursor holds, None without a cursor.

    Raises:
        RequestError: Not a cursor of such a list.
    """
    key = _decode(cursor)
    if key is not None and not isinstance(key, str):
        raise RequestError(f"cursor {cursor!r} belongs to another list")
    return key


def number_cursor(cursor: str | None) -> int | None:
    """Return the number that a cursor holds, None without a cursor.

    Raises:
        RequestError: Not a cursor of such a list.
    """
    key = _decode(cursor)
    if key is not None and (not isinstance(key, int) or isinstance(key, bool)):
        raise RequestError(f"cursor {cursor!r} belongs to another list")
    return key


def _decode(cursor: str | None) -> object:
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise RequestError(
            f"expected a cursor that a list returned as 'next', got {cursor[:80]!r}"
        ) from error
