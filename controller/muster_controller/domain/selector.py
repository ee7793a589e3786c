"""Selectors over labels and ids: which devices a plan speaks of.

Grammar, loosest binding first::

    either = both ("or" both)*
    both   = single ("and" single)*
    single = "not" single | "(" either ")" | "all"
           | KEY "=" VALUE | KEY "!=" VALUE | KEY "in" "(" VALUE ("," VALUE)* ")" | KEY "exists"

A device without the label matches neither ``=`` nor ``in``, and does match ``!=``. Values may be quoted.
The key ``device`` is the device's id; no label has that name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from muster_models.errors import RequestError

MAX_LENGTH = 1000
MAX_DEPTH = 50
_TOKEN = re.compile(r"\s*(?:(?P<sign>!=|=|\(|\)|,)|\"(?P<quoted>[^\"]*)\"|(?P<word>[A-Za-z0-9._/:-]+))")
DEVICE = "device"
_KEYWORDS = frozenset({"all", "and", "or", "not", "in", "exists"})


def known_by(device: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return what a selector sees of a device: its labels, and its id as one more."""
    return {**labels, DEVICE: device}


class Selector(Protocol):
    """Something that chooses devices by what they are ``known_by``."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a device with these labels is chosen."""
        ...


@dataclass(frozen=True)
class All:
    """Every device."""

    def matches(self, labels: Mapping[str, str]) -> bool:  # noqa: ARG002 - chooses whatever the labels
        """Tell that every device is chosen."""
        return True


@dataclass(frozen=True)
class OneOf:
    """Devices whose label has one of some values."""

    key: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the label is there with one of the values."""
        return labels.get(self.key) in self.values


@dataclass(frozen=True)
class Exists:
    """Devices that have a label, whatever its value."""

    key: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the label is there."""
        return self.key in labels


@dataclass(frozen=True)
class Not:
    """Devices that another selector does not choose."""

    inner: Selector

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the inner selector does not choose the device."""
        return not self.inner.matches(labels)


@dataclass(frozen=True)
class Both:
    """Devices that two selectors choose."""

    left: Selector
    right: Selector

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether both choose the device."""
        return self.left.matches(labels) and self.right.matches(labels)


@dataclass(frozen=True)
class Either:
    """Devices that at least one of two selectors chooses."""

    left: Selector
    right: Selector

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether at least one chooses the device."""
        return self.left.matches(labels) or self.right.matches(labels)


@dataclass(frozen=True)
class _Token:
    text: str
    column: int
    kind: str  # sign, quoted, word, end


def parse(text: str) -> Selector:
    """Parse a selector such as ``site = berlin and not (hw in (rpi4, rpi5) or lab exists)``.

    Raises:
        RequestError: Not a selector; the message names the column and what was expected there.
    """
    if len(text) > MAX_LENGTH:
        raise RequestError(f"a selector has at most {MAX_LENGTH} characters, got {len(text)}")
    parser = _Parser(_tokens(text))
    selector = parser.either()
    parser.expect_end()
    return selector


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            column = len(text) - len(text[at:].lstrip()) + 1
            raise RequestError(
                f"selector, column {column}: expected a label, a value or a sign, got {text[column - 1]!r}"
            )
        kind = str(found.lastgroup)
        tokens.append(_Token(found[kind], found.start(kind) + 1, kind))
        at = found.end()
    return [*tokens, _Token("", len(text) + 1, "end")]


class _Parser:
    """Recursive descent over the tokens; each method is a line of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def either(self) -> Selector:
        selector = self.both()
        while self._accept("or"):
            selector = Either(selector, self.both())
        return selector

    def both(self) -> Selector:
        selector = self.single()
        while self._accept("and"):
            selector = Both(selector, self.single())
        return selector

    def single(self) -> Selector:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"at most {MAX_DEPTH} nested selectors")
        try:
            return self._single()
        finally:
            self._depth -= 1

    def _single(self) -> Selector:
        if self._accept("not"):
            return Not(self.single())
        if self._accept("("):
            selector = self.either()
            self._expect(")")
            return selector
        if self._accept("all"):
            return All()
        return self._condition()

    def _condition(self) -> Selector:
        key = self._name("a label, 'not', 'all' or '('")
        if self._accept("="):
            return OneOf(key, frozenset({self._name("a value")}))
        if self._accept("!="):
            return Not(OneOf(key, frozenset({self._name("a value")})))
        if self._accept("exists"):
            return Exists(key)
        if self._accept("in"):
            return OneOf(key, self._values())
        raise self._error("'=', '!=', 'in' or 'exists'")

    def _values(self) -> frozenset[str]:
        self._expect("(")
        values = {self._name("a value")}
        while self._accept(","):
            values.add(self._name("a value"))
        self._expect(")")
        return frozenset(values)

    def expect_end(self) -> None:
        if self._token.kind != "end":
            raise self._error("'and', 'or' or the end")

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _accept(self, text: str) -> bool:
        if self._token.text == text and self._token.kind in {"sign", "word"}:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error(f"{text!r}")

    def _name(self, expected: str) -> str:
        token = self._token
        if token.kind == "quoted" or (token.kind == "word" and token.text not in _KEYWORDS):
            self._at += 1
            return token.text
        raise self._error(expected)

    def _error(self, expected: str) -> RequestError:
        got = repr(self._token.text) if self._token.kind != "end" else "the end"
        return RequestError(f"selector, column {self._token.column}: expected {expected}, got {got}")
