"""Asking the publish gate about bytes."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from muster_models.errors import ModelFileError
from muster_models.manifest import RuntimeKind
from muster_models.publish.gate import inspect


def accept(kind: RuntimeKind, data: bytes, folder: Path, *, names: Sequence[str] = ()) -> None:
    """Let the gate inspect a file that it must accept; ``names`` are the files beside it."""
    path = folder / f"model.{kind}"
    path.write_bytes(data)
    inspect(kind, path, names=frozenset({path.name, *names}))


def refusal(kind: RuntimeKind, data: bytes, folder: Path, *, names: Sequence[str] = ()) -> ModelFileError:
    """Return what the gate says about a file that it must refuse."""
    with pytest.raises(ModelFileError) as caught:
        accept(kind, data, folder, names=names)
    return caught.value
