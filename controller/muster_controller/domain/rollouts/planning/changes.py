"""What an edit changes in a plan, field by field, in the words of a plan's file. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from muster_controller.domain.rollouts.planning.fields import fields_of, show_fields, without_defaults
from muster_controller.domain.rollouts.planning.file import PREVIOUS, VERSION
from muster_controller.domain.rollouts.planning.lines import Fields, Items, Node, Text, write_part
from muster_controller.domain.rollouts.planning.plan import Plan

NONE = "none"


@dataclass(frozen=True)
class Change:
    """One field that says something else.

    Attributes:
        field: As a plan's file names it: ``limits.failures``.
        before, after: As a file says it; ``none`` for nothing.
    """

    field: str
    before: str
    after: str

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.field}: {self.before} → {self.after}"


def compare(before: Plan, after: Plan, names: Mapping[str, str]) -> tuple[Change, ...]:
    """Return what differs between two plans, in the order of a file; a default stands for what was left out.

    Args:
        before: The plan as it was.
        after: As it is now.
        names: Of the versions, by digest.
    """
    old, new = _said(before, names), _said(after, names)
    whole = _texts(before, whole=True), _texts(after, whole=True)
    order = (VERSION, PREVIOUS, *fields_of(Plan))
    fields = sorted(dict.fromkeys((*old, *new)), key=lambda name: order.index(name.partition(".")[0]))
    pairs = {name: (_of(name, old, whole[0]), _of(name, new, whole[1])) for name in fields}
    return tuple(Change(name, was, now) for name, (was, now) in pairs.items() if was != now)


def _of(name: str, said: Mapping[str, str], whole: Mapping[str, str]) -> str:
    return said.get(name, whole.get(name, NONE))


def _said(plan: Plan, names: Mapping[str, str]) -> dict[str, str]:
    previous = NONE if plan.previous is None else names.get(plan.previous, plan.previous)
    versions = {VERSION: names.get(plan.digest, plan.digest), PREVIOUS: previous}
    return versions | _texts(plan, whole=False)


def _texts(plan: Plan, *, whole: bool) -> dict[str, str]:
    """Return what each field says; only those that differ from their default, or the whole."""
    document = msgspec.to_builtins(plan)
    said = document if whole else without_defaults(document, Plan)
    return _flat(show_fields(said, Plan))


def _flat(node: Fields, prefix: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, value in node.fields.items():
        path = f"{prefix}{key}"
        match value:
            case Fields(fields) if fields:
                texts |= _flat(value, f"{path}.")
            case Items(items) if items:
                texts[path] = ", ".join(_line(item) for item in items)
            case Text():
                texts[path] = _line(value)
            case _:
                texts[path] = NONE
    return texts


def _line(node: Node) -> str:
    match node:
        case Text() if node.is_nothing:
            return NONE
        case Text(text):
            return text
        case _:
            return write_part(Items((node,))).removeprefix("- ").strip()
