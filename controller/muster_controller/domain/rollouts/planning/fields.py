"""The fields of a plan as people write them, and as the plan holds them: one table for file, form and page.

The table follows from the types of ``Plan``, so a field that a plan has cannot be missing here. What a text
means follows from its field:
see
``plan_forms``. A stage may be its size alone, ``25%`` or ``1``; a list of words may stand in one text,
``mon, tue``.

Pure: what is wrong is a value, with its line and the form that was expected.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from muster_controller.domain.rollouts.planning.forms import expected, parse, write
from muster_controller.domain.rollouts.planning.lines import Fields, Items, Node, Text
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.domain.rollouts.planning.terms import parse_stage, write_number
from muster_models.errors import RequestError

# What follows from the version is no field of a file.
FROM_VERSION: Final = frozenset({"model", "digest", "previous"})
_SECONDS: Final = "_seconds"
# Within these, ``seconds`` alone would not say what they are.
_NAMES: Final = {("ByteBudget", "seconds"): "per", ("Shadow", "seconds"): "for"}


@dataclass(frozen=True)
class Problem:
    """Something in a file that is not as it must be.

    Attributes:
        line: Counted from 1; 0 where there is no file.
        where: The field, such as ``stages[2].soak``.
        text: What was expected, and what is there.
    """

    line: int
    where: str
    text: str

    def __str__(self) -> str:
        """Return it as people read it."""
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.where}: {self.text}" if self.where else f"{line}{self.text}"


@dataclass
class Reading:
    """What was read, while it is being read.

    Attributes:
        problems: In the order of the file.
        lines: Where each field stands.
    """

    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def refuse(self, node: Node, where: str, text: str) -> None:
        """Note a problem at a place."""
        self.problems.append(Problem(node.line, where, text))


@cache
def fields_of(kind: type) -> dict[str, inspect.Field]:
    """Return the fields of a part of a plan by the names that they have in a file."""
    held = inspect.type_info(kind)
    assert isinstance(held, inspect.StructType)
    left_out = FROM_VERSION if kind is Plan else frozenset()
    return {_key(kind, one.name): one for one in held.fields if one.name not in left_out}


def _key(kind: type, name: str) -> str:
    return _NAMES.get((kind.__name__, name), name.removesuffix(_SECONDS))


def read_fields(node: Fields, kind: type, *, reading: Reading, where: str = "") -> dict[str, Any]:
    """Return what a mapping says, by the plan's own names; what is wrong is noted in ``reading``."""
    known = fields_of(kind)
    found: dict[str, Any] = {}
    for key, value in node.fields.items():
        path = f"{where}.{key}" if where else key
        reading.lines[path] = node.line_of(key)
        if key not in known:
            at = Text("", node.line_of(key))
            reading.refuse(at, path, f"no such field{_suggest(key, known, kind)}")
        elif (
            said := _read(value, known[key].type, known[key].name, reading=reading, where=path)
        ) is not _WRONG:
            found[known[key].name] = said
    for key, one in known.items():
        if one.required and key not in node.fields:
            reading.refuse(
                node, f"{where}.{key}" if where else key, f"missing, {expected(one.type, one.name)}"
            )
    return found


class _Wrong:
    """Stands for a value that could not be read."""


_WRONG: Final = _Wrong()


def _read(node: Node, kind: inspect.Type, name: str, *, reading: Reading, where: str) -> Any:
    match kind:
        case inspect.UnionType():
            # Of a plan's unions, one side is always "not given".
            nothing = isinstance(node, Text) and node.is_nothing
            return None if nothing else _read(node, _given(kind), name, reading=reading, where=where)
        case inspect.StructType(cls) if isinstance(node, Fields):
            return read_fields(node, cls, reading=reading, where=where)
        case inspect.DictType() if isinstance(node, Fields):
            return _read_names(node, kind, reading=reading, where=where)
        case inspect.VarTupleType() if not isinstance(node, Fields):
            return _read_items(node, kind, name, reading=reading, where=where)
        case _:
            return _read_one(node, kind, name, reading=reading, where=where)


def _read_one(node: Node, kind: inspect.Type, name: str, *, reading: Reading, where: str) -> Any:
    is_stage = isinstance(kind, inspect.StructType) and kind.cls is Stage
    is_one = not isinstance(kind, inspect.StructType | inspect.DictType | inspect.VarTupleType)
    if not (isinstance(node, Text) and (is_one or is_stage)):
        reading.refuse(node, where, f"{expected(kind, name)}, got {_what(node)}")
        return _WRONG
    try:
        return parse_stage(node.text.strip()) if is_stage else parse(node.text, kind, name)
    except RequestError as error:
        reading.refuse(node, where, str(error))
        return _WRONG


def _read_items(node: Node, kind: inspect.VarTupleType, name: str, *, reading: Reading, where: str) -> Any:
    match node:
        case Items(items):
            parts = items
        case Text(text, line) if not node.is_nothing:
            parts = tuple(Text(part.strip(), line) for part in text.split(","))
        case _:
            parts = ()
    said = [
        _read(part, kind.item_type, name, reading=reading, where=f"{where}[{number}]")
        for number, part in enumerate(parts, start=1)
    ]
    least, most = kind.min_length or 0, kind.max_length
    if len(said) < least or (most is not None and len(said) > most):
        much = f"{least} or more" if most is None else f"{least} to {most}"
        reading.refuse(node, where, f"expected {much} of them, got {len(said)}")
        return _WRONG
    return _WRONG if _WRONG in said else said


def _read_names(node: Fields, kind: inspect.DictType, *, reading: Reading, where: str) -> Any:
    said: dict[str, Any] = {}
    for key, value in node.fields.items():
        path = f"{where}.{key}"
        reading.lines[path] = node.line_of(key)
        try:
            parse(key, kind.key_type, "")
        except RequestError as error:
            reading.refuse(Text("", node.line_of(key)), path, str(error))
        said[key] = _read(value, kind.value_type, "", reading=reading, where=path)
    if kind.max_length is not None and len(said) > kind.max_length:
        reading.refuse(node, where, f"expected up to {kind.max_length}, got {len(said)}")
    return _WRONG if _WRONG in said.values() else said


def _given(kind: inspect.UnionType) -> inspect.Type:
    return next(side for side in kind.types if not isinstance(side, inspect.NoneType))


def _what(node: Node) -> str:
    match node:
        case Text(text):
            return repr(text[:40]) if text else "nothing"
        case Items(items):
            return f"a list of {len(items)}"
        case Fields(fields):
            return f"the fields {', '.join(fields)[:80]}" if fields else "nothing"


def _suggest(key: str, known: Mapping[str, inspect.Field], kind: type) -> str:
    """Return what may have been meant: also where the plan's own name was given."""
    if kind is Plan and key in fields_of(Stage):
        return f": it belongs to a stage, such as stages: [{{percent: 100, {key}: …}}]"
    own = {one.name: name for name, one in known.items()}
    near = get_close_matches(key, [*known, *own], n=1, cutoff=0.6)
    if near:
        return f", did you mean {own.get(near[0], near[0])!r}?"
    among = f"a {kind.__name__.lower()}" if kind is not Plan else "a plan"
    return f"; {among} has {', '.join(known)}"


def show_fields(document: Mapping[str, Any], kind: type) -> Fields:
    """Return a part of a plan as a file says it; fields in the plan's order, what is not given left out."""
    shown = {
        key: _show(document[one.name], one.type, one.name)
        for key, one in fields_of(kind).items()
        if one.name in document
    }
    return Fields(shown)


def _show(value: Any, kind: inspect.Type, name: str) -> Node:
    if isinstance(kind, inspect.UnionType):
        return Text("null") if value is None else _show(value, _given(kind), name)
    match kind:
        case inspect.StructType(cls) if cls is Stage:
            return _show_stage(value)
        case inspect.StructType(cls):
            return show_fields(value, cls)
        case inspect.DictType(value_type=inner):
            return Fields({key: _show(one, inner, "") for key, one in value.items()})
        case inspect.VarTupleType(item_type=inner):
            return Items(tuple(_show(one, inner, name) for one in value))
        case _:
            return Text(write(value, kind, name))


def _show_stage(stage: Mapping[str, Any]) -> Node:
    """Return the size of a stage alone where it says nothing else."""
    said = {key: value for key, value in stage.items() if value is not None}
    match said:
        case {"percent": percent} if len(said) == 1:
            return Text(f"{write_number(percent)}%")
        case {"count": count} if len(said) == 1:
            return Text(str(count))
        case _:
            return show_fields(said, Stage)


def without_defaults(document: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return the fields of a part of a plan that differ from their defaults."""
    whole = {one.name: one for one in _all_fields(kind)}
    kept: dict[str, Any] = {}
    for name, value in document.items():
        if name in whole and value != _default(whole[name]):
            kept[name] = _without(value, whole[name].type)
    return kept


def _without(value: Any, kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.UnionType):
        return None if value is None else _without(value, _given(kind))
    match kind:
        case inspect.StructType(cls):
            return without_defaults(value, cls)
        case inspect.DictType(value_type=inner):
            return {key: _without(one, inner) for key, one in value.items()}
        case inspect.VarTupleType(item_type=inner):
            return [_without(one, inner) for one in value]
        case _:
            return value


def _all_fields(kind: type) -> Iterable[inspect.Field]:
    held = inspect.type_info(kind)
    assert isinstance(held, inspect.StructType)
    return held.fields


def _default(one: inspect.Field) -> Any:
    """Return a field's default as plain values; what no value equals where it has none."""
    if one.required:
        return _WRONG
    made = one.default_factory() if one.default is msgspec.NODEFAULT else one.default
    return msgspec.to_builtins(made)
