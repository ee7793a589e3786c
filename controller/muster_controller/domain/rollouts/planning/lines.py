"""YAML as a plan uses it: mappings, lists and texts, each with its line. Pure.

Only structure is taken from YAML. What a text means follows from the field that it stands in, so nothing is
guessed: ``22:00`` is no number in base 60, and ``no`` is no truth. Anchors, tags and a key that stands twice
are refused: a plan says what it says at the place where one reads it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import yaml

from muster_models.errors import RequestError

MAX_LENGTH: Final = 65_536  # characters of a file
MAX_DEPTH: Final = 12
NOTHING: Final = frozenset({"", "~", "null", "Null", "NULL"})
_PLAIN: Final = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"})
_UNSAFE: Final = frozenset("\"'#:[]{}\\")  # within a text that stands without quotes
_UNSAFE_IN_LIST: Final = _UNSAFE | {","}
_UNSAFE_FIRST: Final = frozenset("-?!|>%@`&*=<,")


@dataclass(frozen=True)
class Text:
    """A text; ``line`` is counted from 1, and 0 where there is no file."""

    text: str
    line: int = 0
    quoted: bool = False

    @property
    def is_nothing(self) -> bool:
        """Tell whether it stands for "not given"."""
        return not self.quoted and self.text in NOTHING


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple["Node", ...]
    line: int = 0


@dataclass(frozen=True)
class Fields:
    """A mapping; ``lines`` says where each key stands."""

    fields: Mapping[str, "Node"]
    line: int = 0
    lines: Mapping[str, int] | None = None

    def line_of(self, key: str) -> int:
        """Return where a key stands."""
        return (self.lines or {}).get(key, self.line)


Node = Text | Items | Fields


def read_yaml(text: str) -> Node:
    """Return the structure of a YAML document; an empty one is an empty mapping.

    Raises:
        RequestError: No YAML, more than one document, or something that a plan does not use; the message
            names the line.
    """
    if len(text) > MAX_LENGTH:
        raise RequestError(f"a plan has up to {MAX_LENGTH} characters, got {len(text)}")
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise RequestError(f"{where}not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise RequestError(f"not YAML: {str(error)[:200]}") from error
    return Fields({}, 1) if root is None else _node(root)


def _check_events(text: str) -> None:
    """Refuse what could grow without bound, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        line = 0 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise RequestError(f"line {line}: a plan has no anchors and no aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RequestError(f"line {line}: a plan is nested up to {MAX_DEPTH} deep")


def _node(node: yaml.Node) -> Node:
    line = node.start_mark.line + 1
    if node.tag not in _PLAIN:
        raise RequestError(f"line {line}: a plan has no tags, got {node.tag[:40]!r}")
    match node:
        case yaml.ScalarNode():
            return Text(_printable(node.value, line), line, quoted=node.style in {"'", '"', "|", ">"})
        case yaml.SequenceNode():
            return Items(tuple(_node(item) for item in node.value), line)
        case _:
            return _mapping(node, line)


def _mapping(node: yaml.Node, line: int) -> Fields:
    fields: dict[str, Node] = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        at = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise RequestError(f"line {at}: a key is a text")
        name = _printable(key.value, at)
        if name in fields:
            raise RequestError(f"line {at}: {name[:40]!r} stands twice, first in line {lines[name]}")
        fields[name], lines[name] = _node(value), at
    return Fields(fields, line, lines)


def _printable(text: str, line: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"line {line}: half of a character: {text[:40]!r}") from error
    return text


def write_yaml(node: Fields) -> str:
    """Return the document that reads back as ``node``."""
    return "".join(f"{line}\n" for line in _lines(node, 0))


def write_part(node: Node) -> str:
    """Return lines that read back as ``node``; of a list one line for each item."""
    match node:
        case Fields(fields) if fields:
            return write_yaml(node)
        case Items(items) if items:
            return "".join(f"- {_flow(item)}\n" for item in items)
        case _:
            return _flow(node)


def _lines(node: Fields, indent: int) -> Sequence[str]:
    pad, lines = " " * indent, []
    for key, value in node.fields.items():
        name = f"{pad}{_written(Text(key), _UNSAFE)}:"
        match value:
            case Fields(fields) if fields:
                lines += [name, *_lines(value, indent + 2)]
            case Items(items) if items and any(isinstance(item, Fields) for item in items):
                lines += [name, *(f"{pad}  - {_flow(item)}" for item in items)]
            case Text():
                lines.append(f"{name} {_written(value, _UNSAFE)}")
            case _:
                lines.append(f"{name} {_flow(value)}")
    return lines


def _flow(node: Node) -> str:
    match node:
        case Text():
            return _written(node, _UNSAFE_IN_LIST)
        case Items(items):
            return f"[{', '.join(_flow(item) for item in items)}]"
        case Fields(fields):
            inner = ", ".join(
                f"{_written(Text(key), _UNSAFE_IN_LIST)}: {_flow(value)}" for key, value in fields.items()
            )
            return f"{{{inner}}}"


def _written(node: Text, unsafe: AbstractSet[str]) -> str:
    """Return a text as it stands in a document: in quotes only where it must."""
    text = node.text
    if node.is_nothing:
        return "null"
    fits = text == text.strip() and text.isprintable() and not unsafe & set(text)
    if fits and text not in NOTHING and text[0] not in _UNSAFE_FIRST:
        return text
    return f'"{"".join(_escaped(character) for character in text)}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
