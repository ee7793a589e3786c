"""TOML files that people edit: read strictly into a struct, and written with every default spelt out."""

import math
import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from muster_models.errors import InvalidInputError, Reason

Form = TypeVar("Form", bound=Struct)


def load(path: Path, form: type[Form], *, missing: str) -> Form:
    """Read a file into a struct.

    Args:
        missing: What to do when there is no such file, for the message.

    Raises:
        InvalidInputError: The file is missing or unreadable, or is not as ``parse`` expects.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInputError(Reason.BAD_SETTING, f"{path}: not found; {missing}") from error
    except OSError as error:
        raise InvalidInputError(Reason.BAD_SETTING, f"{path}: {error.strerror}") from error
    return parse(data, form, name=str(path))


def parse(data: bytes, form: type[Form], *, name: str) -> Form:
    """Return the struct that a document describes; ``name`` says in errors which document it is.

    Raises:
        InvalidInputError: It is not TOML in UTF-8, or a key is unknown or not of the expected form; names it.
    """
    try:
        return msgspec.convert(tomllib.loads(data.decode()), form)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise InvalidInputError(Reason.BAD_SETTING, f"{name}: {error}") from error


def render(content: Struct) -> str:
    """Return the document that reads back as ``content``, every default written out.

    TOML has no null: a field that is None is left out, and reads back where None is its default.
    """
    lines: list[str] = []
    tables: list[str] = []
    for key, value in _entries(msgspec.to_builtins(content)):
        if isinstance(value, dict):
            tables += ["", f"[{_quote(key)}]", *(_line(*entry) for entry in _entries(value))]
        else:
            lines.append(_line(key, value))
    return "\n".join([*lines, *tables, ""])


def _entries(table: dict[str, object]) -> list[tuple[str, object]]:
    return [(key, value) for key, value in table.items() if value is not None]


def _line(key: str, value: object) -> str:
    return f"{_quote(key)} = {_value(value)}"


def _quote(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else _text(key)


def _value(value: object) -> str:
    match value:
        case str():
            return _text(value)
        case dict():
            return "{" + ", ".join(_line(*entry) for entry in _entries(value)) + "}"
        case list() | tuple():
            return "[" + ", ".join(_value(entry) for entry in value) + "]"
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no infinity, TOML writes it as Python does
        case _:
            return msgspec.json.encode(value).decode()


def _text(text: str) -> str:
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
