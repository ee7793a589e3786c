"""The form of a plan: texts by the path of their field, which say exactly what a plan's file says.

A text that is empty is a field that was left out. What was typed is still there when something is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from muster_controller.domain.rollouts.planning.fields import fields_of, show_fields
from muster_controller.domain.rollouts.planning.file import (
    PREVIOUS,
    VERSION,
    PlanFile,
    read_plan_file,
    read_plan_node,
    write_plan_file,
)
from muster_controller.domain.rollouts.planning.lines import Fields, Items, Node, Text, read_yaml, write_part
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.domain.rollouts.planning.terms import parse_stage
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.web.plan_words import GROUPS
from muster_models.errors import RequestError

MAX_TEXT: Final = 2_000  # of one field
MAX_FILE: Final = 65_536
_CHOSEN_LATER: Final = frozenset({"seed", "round"})  # whose default the plan itself does not say
SOAK, ROUNDS, STAGES = "soak", "minimum_rounds", "stages"


@dataclass(frozen=True)
class FormField:
    """One field as the page shows it.

    Attributes:
        path: In a plan's file; the name of the input.
        label, hint: What it is called, and what it says.
        default: What holds when it is empty, as a file would say it.
        choices: The only values; empty for any text.
        is_block: It takes lines of YAML.
    """

    path: str
    label: str
    hint: str
    default: str = ""
    choices: tuple[str, ...] = ()
    is_block: bool = False


@dataclass(frozen=True)
class PlanForm:
    """What an operator typed.

    Attributes:
        values: By path.
        file: The YAML, which counts instead of ``values`` where ``as_file``.
        problem: What is wrong with it, in words; empty when nothing is.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    as_file: bool = False
    reason: str = ""
    problem: str = ""

    def plan(self) -> PlanFile:
        """Return what was asked for.

        Raises:
            RequestError: A field is not of the expected form; the message names it, and its line in a file.
        """
        return read_plan_file(self.file) if self.as_file else read_plan_node(_node(self.values))

    def request(self) -> RolloutRequest:
        """Return what the service understands; raises as ``plan``."""
        plan = self.plan()
        return RolloutRequest(plan.version, plan.previous, plan.fields)

    def settled(self) -> "PlanForm":
        """Return the form whose texts and file say the same, or that says what is wrong."""
        try:
            plan = self.plan()
        except RequestError as error:
            return replace(self, problem=str(error))
        return replace(
            self, values=values_of(plan), file=self.file if self.as_file else write_plan_file(plan)
        )


def read_form(given: Mapping[str, Any]) -> PlanForm:
    """Return what was typed; a field that a plan does not have is left out."""
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    known = {one.path for fields in form_fields().values() for one in fields}
    return PlanForm(
        values={path: text[:MAX_TEXT] for path, text in texts.items() if path in known and text.strip()},
        file=texts.get("file", "")[: MAX_FILE + 1],
        as_file=texts.get("mode") == "file",
        reason=texts.get("reason", "")[:400],
    )


@cache
def form_fields() -> Mapping[str, tuple[FormField, ...]]:
    """Return the fields of the form by group, in the order in which they are shown."""
    known = {VERSION: FormField(VERSION, "", ""), PREVIOUS: FormField(PREVIOUS, "", "")}
    known |= {path: _field(path, one) for path, one in _paths().items()}
    return {
        group: tuple(replace(known[path], label=label, hint=hint) for path, (label, hint) in fields.items())
        for group, fields in GROUPS.items()
    }


@cache
def _paths() -> Mapping[str, inspect.Field]:
    """Return every field that holds a value of its own, by its path."""
    found: dict[str, inspect.Field] = {}
    for key, one in fields_of(Plan).items():
        inner = _struct(one.type)
        if inner is None:
            found[key] = one
        else:
            found |= {f"{key}.{name}": part for name, part in fields_of(inner).items()}
    of_stage = fields_of(Stage)
    return found | {SOAK: of_stage[SOAK], ROUNDS: of_stage[ROUNDS]}


def _struct(kind: inspect.Type) -> type | None:
    given = _given(kind)
    return given.cls if isinstance(given, inspect.StructType) else None


def _given(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.UnionType):
        return next(side for side in kind.types if not isinstance(side, inspect.NoneType))
    return kind


def _field(path: str, one: inspect.Field) -> FormField:
    kind = _given(one.type)
    choices: tuple[str, ...] = ()
    if isinstance(kind, inspect.BoolType):
        choices = ("false", "true")
    elif isinstance(kind, inspect.LiteralType):
        choices = tuple(map(str, kind.values))
    return FormField(path, "", "", _default(path, one), choices, is_block=_is_block(path, kind))


def _is_block(path: str, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.VarTupleType):
        return isinstance(kind.item_type, inspect.StructType) and path != STAGES
    return isinstance(kind, inspect.DictType)


def _default(path: str, one: inspect.Field) -> str:
    if one.required or path in _CHOSEN_LATER:
        return ""
    if path == STAGES:
        return ", ".join(f"{stage.percent:g}%" for stage in one.default)
    made = one.default_factory() if one.default is msgspec.NODEFAULT else one.default
    holder = Stage if path in {SOAK, ROUNDS} else _holder(path)
    shown = show_fields({one.name: msgspec.to_builtins(made)}, holder)
    values = _flat(shown, holder)
    text = next(iter(values.values()), "")
    return "" if text == "null" else text


def _holder(path: str) -> type:
    key, _, inner = path.partition(".")
    held = _struct(fields_of(Plan)[key].type) if inner else Plan
    assert held is not None
    return held


def values_of(file: PlanFile) -> dict[str, str]:
    """Return the texts of a plan by the path of their field."""
    head = {VERSION: file.version} | ({PREVIOUS: file.previous} if file.previous else {})
    rest = {name: value for name, value in file.fields.items() if name != STAGES}
    values = head | _flat(show_fields(rest, Plan), Plan)
    return values | _stage_values(file.fields[STAGES]) if STAGES in file.fields else values


def _flat(node: Fields, kind: type, prefix: str = "") -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in node.fields.items():
        path, inner = f"{prefix}{key}", _struct(fields_of(kind)[key].type)
        match value:
            case Fields(fields) if inner is not None:
                # One that is there and says nothing: its first default says so.
                values |= _flat(value, inner, f"{path}.") if fields else _first(inner, f"{path}.")
            case Text(text):
                values[path] = text
            case Items(items) if items and all(isinstance(item, Text) for item in items):
                values[path] = ", ".join(item.text for item in items if isinstance(item, Text))
            case Items(items) if items:
                values[path] = write_part(value)
            case Fields(fields) if fields:
                values[path] = write_part(value)
            case _:
                pass  # an empty list says what leaving it out says
    return values


def _first(kind: type, prefix: str) -> dict[str, str]:
    """Return the first default of a part of a plan, which stands for the whole part."""
    one = next(one for one in fields_of(kind).values() if not one.required)
    default = one.default_factory() if one.default is msgspec.NODEFAULT else one.default
    return _flat(show_fields({one.name: msgspec.to_builtins(default)}, kind), kind, prefix)


def _stage_values(stages: list[dict[str, Any]]) -> dict[str, str]:
    """Return the three lists that say what the stages of a plan say."""
    shown = [show_fields(stage, Stage).fields for stage in stages]
    sizes = [
        f"{_text(one['percent'])}%"
        if "percent" in one and _text(one["percent"]) != "null"
        else _text(one["count"])
        for one in shown
    ]
    values = {STAGES: ", ".join(sizes)}
    for path in (SOAK, ROUNDS):
        default = _default(path, fields_of(Stage)[path])
        held = [_text(one[path]) if path in one else default for one in shown]
        if set(held) != {default}:
            values[path] = held[0] if len(set(held)) == 1 else ", ".join(held)
    return values


def _text(node: Node) -> str:
    return node.text if isinstance(node, Text) else ""


def _node(values: Mapping[str, str]) -> Fields:
    """Return the structure of a plan's file that says what the texts say."""
    root: dict[str, Any] = {}
    for path, text in values.items():
        if not text.strip() or path in {STAGES, SOAK, ROUNDS}:
            continue
        holder, (*outer, key) = root, path.split(".")
        for name in outer:
            holder = holder.setdefault(name, {})
        holder[key] = _block(path, text) if path in _blocks() else Text(text.strip())
    stages = _stage_node(values)
    if stages is not None:
        root[STAGES] = stages
    return Fields({key: Fields(held) if isinstance(held, dict) else held for key, held in root.items()})


@cache
def _blocks() -> frozenset[str]:
    return frozenset(one.path for fields in form_fields().values() for one in fields if one.is_block)


def _block(path: str, text: str) -> Node:
    try:
        return read_yaml(text)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error


def _stage_node(values: Mapping[str, str]) -> Node | None:
    given = {path: _parts(values.get(path, "")) for path in (STAGES, SOAK, ROUNDS)}
    if not any(given.values()):
        return None
    sizes = given[STAGES] or _parts(_default(STAGES, fields_of(Plan)[STAGES]))
    stages: list[Node] = []
    for index, size in enumerate(sizes):
        more = {
            path: Text(_of(path, given[path], index, len(sizes))) for path in (SOAK, ROUNDS) if given[path]
        }
        key = next(iter(_size(size)))
        stages.append(Fields({key: Text(size), **more}) if more else Text(size))
    return Items(tuple(stages))


def _size(text: str) -> dict[str, Any]:
    try:
        return parse_stage(text)
    except RequestError as error:
        raise RequestError(f"{STAGES}: {error}") from error


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _of(path: str, given: list[str], index: int, stages: int) -> str:
    if len(given) not in {1, stages}:
        raise RequestError(
            f"{path}: expected one for all stages, or one for each of the {stages}, got {len(given)}"
        )
    return given[0] if len(given) == 1 else given[index]
