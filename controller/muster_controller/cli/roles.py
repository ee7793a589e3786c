"""Roles as the command line names them: ``root``, ``targets``, or the name of a model."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from muster_models.errors import NotFoundError

ROLE_HELP: Final = "root, targets, or the name of a model"
ONLINE: Final = ("snapshot", "timestamp", "director")  # whose keys the controller holds itself
_PREFIX: Final = "model-"
Keys = Annotated[
    Path, Parameter(name="--keys", help="The folder of keys that sign, and where new ones are made.")
]


def role_name(word: str) -> str:
    """Return the role in the signed repository that a word of the command line names."""
    return word if word in {"root", "targets", *ONLINE} else f"{_PREFIX}{word}"


def said_name(role: str) -> str:
    """Return the word by which the command line names a role."""
    return role.removeprefix(_PREFIX)


def check_roles(words: Iterable[str], known: Collection[str]) -> None:
    """Return if every word names one of the known roles.

    Raises:
        NotFoundError: One names none; the message says what there is.
    """
    for word in words:
        if role_name(word) not in known:
            there = ", ".join(map(said_name, known))
            raise NotFoundError(f"no role is named {word!r}, expected {ROLE_HELP}; there are: {there}")
