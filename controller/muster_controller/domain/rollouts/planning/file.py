"""A plan as a file: YAML that people write, and that says exactly what the form on the page says. Pure.

::

    version: digits@1.2.0
    selector: site in (berlin, oslo)
    stages: [1, 25%, 100%]
    control: 25%

Reading a file, writing what was read and reading that again is the identity. A form is read by the same
functions: it is a mapping of texts that stands in no line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from muster_controller.domain.rollouts.planning.conditions import COMPARING, COUNTER_PREFIX
from muster_controller.domain.rollouts.planning.fields import (
    FROM_VERSION,
    Problem,
    Reading,
    fields_of,
    read_fields,
    show_fields,
    without_defaults,
)
from muster_controller.domain.rollouts.planning.lines import Fields, Node, Text, read_yaml, write_yaml
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_models.errors import MusterError, RequestError

VERSION, PREVIOUS = "version", "previous"
_NAME: Final = re.compile(r"[^@\s]+@[^@\s]+|[0-9a-f]{64}")  # of a version
MAX_TOLD: Final = 8  # problems of one file that are told at once
# Stands for what only the controller knows, so that everything else can be checked without it.
_STAND_IN: Final = {"model": "model", "digest": "0" * 64, "previous": "1" * 64}


@dataclass(frozen=True)
class PlanFile:
    """What a file says.

    Attributes:
        version: ``model@version`` or a digest.
        previous: What a rollback returns to; None lets the controller choose.
        fields: Of ``Plan``, as plain values; what was left out has the plan's default.
    """

    version: str
    previous: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_plan_file(text: str, *, version: str | None = None) -> PlanFile:
    """Read a plan.

    Args:
        text: YAML.
        version: What is rolled out, instead of what the file names; it need not name one then.

    Raises:
        RequestError: It is no YAML, or a field is unknown, of another form, or contradicts another one. The
            message names line and field of each problem, and the form that is expected.
    """
    node = read_yaml(text)
    if not isinstance(node, Fields):
        raise RequestError(f"line {node.line}: a plan is a mapping, such as 'version: digits@1.2.0'")
    if version is not None:
        node = Fields({**node.fields, VERSION: Text(version, node.line)}, node.line, node.lines)
    return read_plan_node(node)


def read_plan_node(node: Fields) -> PlanFile:
    """Read a plan from the structure of a file or of a form.

    Raises:
        RequestError: As ``read_plan_file``.
    """
    reading = Reading()
    version = _read_name(node, VERSION, reading)
    previous = _read_name(node, PREVIOUS, reading)
    if version is None and not reading.problems:
        reading.refuse(node, VERSION, "missing, expected model@version or a digest")
    rest = {key: value for key, value in node.fields.items() if key not in {VERSION, PREVIOUS}}
    fields = read_fields(Fields(rest, node.line, node.lines), Plan, reading=reading)
    if version is not None and version == previous:
        text = f"expected another version than {version!r}, which is to be rolled out"
        reading.refuse(node.fields[PREVIOUS], PREVIOUS, text)
    problems = reading.problems or [*_unknown_gates(fields, reading), *_contradictions(fields, reading)]
    if problems:
        told = sorted(problems, key=lambda problem: problem.line)
        more = f"; and {len(told) - MAX_TOLD} more" if len(told) > MAX_TOLD else ""
        raise RequestError("; ".join(map(str, told[:MAX_TOLD])) + more)
    return PlanFile(version or "", previous, fields)


def _read_name(node: Fields, key: str, reading: Reading) -> str | None:
    match node.fields.get(key):
        case None:
            return None
        case Text() as said if said.is_nothing:
            return None
        case Text(text) as said:
            if _NAME.fullmatch(text.strip()) is None:
                reading.refuse(said, key, f"expected model@version or a digest, got {text[:40]!r}")
            return text.strip()
        case other:
            reading.refuse(other, key, "expected model@version or a digest")
            return None


def _unknown_gates(fields: Mapping[str, Any], reading: Reading) -> list[Problem]:
    """Return where a gate is named that there is not."""
    margins, minimums = (fields.get(key) or {} for key in ("margins", "minimums"))
    known = (*COMPARING, *(COUNTER_PREFIX + name for name in margins.get("counters", ())))
    named = (
        ("margins.required", margins.get("required", ())),
        ("margins.weights", margins.get("weights", ())),
        ("minimums.gates", minimums.get("gates", ())),
    )
    return [
        Problem(
            reading.lines.get(f"{where}.{name}", reading.lines.get(where, 0)), where, _no_gate(name, known)
        )
        for where, names in named
        for name in names
        if name not in known
    ]


def _no_gate(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    rest = f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
    return f"no gate is called {name!r}{rest}"


def _contradictions(fields: Mapping[str, Any], reading: Reading) -> list[Problem]:
    """Return what each field alone does not show: the plan as a whole is parsed."""
    try:
        parse_plan({**fields, **_STAND_IN})
    except MusterError as error:
        text = str(error).removeprefix("plan: ")
        where = _blamed(text, reading.lines)
        return [Problem(reading.lines.get(where, 0), where, text)]
    return []


def _blamed(text: str, lines: Mapping[str, int]) -> str:
    """Return the field that a message is about: the first that it names, in either number."""
    words = re.findall(r"[a-z_]+", text)
    names = {name: name for name in lines} | {f"{name}".removesuffix("s"): name for name in lines}
    names |= {one.name: key for key, one in fields_of(Plan).items() if key in lines}
    if "selector" in lines and "plan" not in words and not any(word in names for word in words):
        return "selector"
    return next((names[word] for word in words if word in names), "")


def write_plan_file(file: PlanFile) -> str:
    """Return the file that reads as ``file``."""
    head: dict[str, Node] = {VERSION: Text(file.version)}
    if file.previous is not None:
        head[PREVIOUS] = Text(file.previous)
    return write_yaml(Fields({**head, **show_fields(file.fields, Plan).fields}))


def file_of(plan: Plan, *, version: str, previous: str | None) -> PlanFile:
    """Return the file of a plan: what differs from the defaults, the versions by name."""
    document = msgspec.to_builtins(plan)
    kept = without_defaults(document, Plan)
    return PlanFile(version, previous, {key: value for key, value in kept.items() if key not in FROM_VERSION})
