"""The form that one value of a plan has, by its type and the name of its field. Pure.

- ``*_seconds`` is a duration: ``10m``;
- ``*_at`` is an instant: ``2027-01-15T08:00:00Z``;
- ``bytes`` is a size: ``200 MB``;
- a number that is 1 at most is a share: ``25%``; every number may be written in per cent;
- a choice is one of its words, and a near miss is told which.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

from msgspec import inspect

from muster_controller.domain.rollouts.planning import terms
from muster_models.errors import RequestError

Number = inspect.IntType | inspect.FloatType
_TRUTHS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_WORDS: Final[dict[type, str]] = {
    inspect.BoolType: "true or false", inspect.StrType: "a text", inspect.VarTupleType: "a list"
}  # fmt: skip
_LONG: Final = 1e7  # bounds beyond are there against nonsense, and no news to anybody


def parse(text: str, kind: inspect.Type, name: str) -> Any:
    """Return what one text says.

    Raises:
        RequestError: It is not of the form that its field has, or not within its bounds.
    """
    match kind:
        case inspect.BoolType():
            return _chosen(text, _TRUTHS, expected(kind, name))
        case inspect.IntType() | inspect.FloatType():
            return _within(_reader(kind, name)(text), kind, name, text=text)
        case inspect.StrType():
            return _fitting(text, kind)
        case inspect.LiteralType(values):
            return _chosen(text, {str(value): value for value in values}, expected(kind, name))
        case inspect.EnumType(cls):
            return _chosen(text, {str(one.value): one.value for one in cls}, expected(kind, name))
        case _:
            raise AssertionError(f"a plan has a field of a type without a form: {kind}")


def write(value: Any, kind: inspect.Type, name: str) -> str:
    """Return the text that reads back as a value."""
    match kind:
        case inspect.BoolType():
            return "true" if value else "false"
        case inspect.IntType() | inspect.FloatType():
            return _writer(kind, name)(value)
        case _:
            return str(value)


def expected(kind: inspect.Type, name: str) -> str:
    """Say what form a value has."""
    match kind:
        case inspect.UnionType(types):
            return expected(next(t for t in types if not isinstance(t, inspect.NoneType)), name)
        case inspect.IntType() | inspect.FloatType():
            return f"expected {_amount(kind, name)}{_bounds(kind, _writer(kind, name))}"
        case inspect.LiteralType(values):
            return f"expected one of {', '.join(map(str, values))}"
        case inspect.EnumType(cls):
            return f"expected one of {', '.join(str(one.value) for one in cls)}"
        case _:
            return f"expected {_WORDS.get(type(kind), 'fields of its own')}"


def _amount(kind: Number, name: str) -> str:
    if isinstance(kind, inspect.IntType):
        return "a size such as 200 MB" if name == "bytes" else "a whole number"
    if _is_duration(name):
        return "a duration such as 90s, 10m or 24h"
    if name.endswith("_at"):
        return "an instant such as 2027-01-15T08:00:00Z"
    return "a share such as 25%" if _is_share(kind) else "a number"


def _writer(kind: Number, name: str) -> Callable[[Any], str]:
    if isinstance(kind, inspect.IntType):
        return terms.write_size if name == "bytes" else str
    if _is_duration(name):
        return terms.write_duration
    if name.endswith("_at"):
        return terms.write_instant
    return terms.write_share if _is_share(kind) else terms.write_number


def _reader(kind: Number, name: str) -> Callable[[str], float]:
    if isinstance(kind, inspect.IntType):
        return terms.parse_size if name == "bytes" else terms.parse_whole
    if _is_duration(name):
        return terms.parse_duration
    if name == "percent":
        return _parse_percent
    return terms.parse_instant if name.endswith("_at") else terms.parse_number


def _parse_percent(text: str) -> float:
    """Return the number of ``25`` or ``25%``, for a field that is in per cent already."""
    return terms.parse_number(text.strip().removesuffix("%"))


def _is_duration(name: str) -> bool:
    return name.endswith("seconds")


def _is_share(kind: inspect.FloatType) -> bool:
    return kind.le is not None and kind.le <= 1


def _within(value: float, kind: Number, name: str, *, text: str) -> float:
    low = (kind.ge is None or value >= kind.ge) and (kind.gt is None or value > kind.gt)
    high = (kind.le is None or value <= kind.le) and (kind.lt is None or value < kind.lt)
    if not (low and high):
        raise RequestError(f"{expected(kind, name)}, got {text[:40]!r}")
    return value


def _bounds(kind: Number, shown: Callable[[Any], str]) -> str:
    """Say between what a value lies, where that is news."""
    sides = [
        f"{word} {shown(bound)}"
        for word, bound in (
            ("above", kind.gt), ("at least", kind.ge), ("below", kind.lt), ("at most", kind.le)
        )
        if bound is not None and abs(bound) < _LONG
    ]  # fmt: skip
    return f", {' and '.join(sides)}" if sides else ""


def _fitting(text: str, kind: inspect.StrType) -> str:
    if kind.min_length is not None and len(text) < kind.min_length:
        raise RequestError(f"expected a text, got {text!r}")
    if kind.max_length is not None and len(text) > kind.max_length:
        raise RequestError(f"expected up to {kind.max_length} characters, got {len(text)}")
    if kind.pattern is not None and re.search(kind.pattern, text) is None:
        raise RequestError(f"expected the form {kind.pattern}, got {text[:40]!r}")
    return text


def _chosen(text: str, words: dict[str, Any], wanted: str) -> Any:
    word = text.strip()
    if word in words:
        return words[word]
    near = get_close_matches(word, words, n=1)
    raise RequestError(f"{wanted}, got {word[:40]!r}" + (f": did you mean {near[0]!r}?" if near else ""))
