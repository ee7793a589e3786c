"""Delegates of TFLite from libraries: each one that loads, and why another one did not."""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from muster_models.engine import Options

Opener = Callable[[str, Options], object]


def open_delegates(
    paths: Sequence[str], options: Mapping[str, Options], opener: Opener
) -> tuple[dict[str, object], list[str]]:
    """Return the delegates that load, by the names of their files, and why each other one does not.

    Args:
        paths: Of the libraries.
        options: Of each, by its path.
        opener: The engine's ``load_delegate``.
    """
    opened: dict[str, object] = {}
    lacking: list[str] = []
    for path in paths:
        name = Path(path).name
        if os.sep in path and not Path(path).is_file():  # a bare name is looked for as libraries are
            lacking.append(f"delegate {path} is not there")
            continue
        try:
            # Asked here first: the engine leaves half an object behind where it fails at this.
            _ = ctypes.CDLL(path).tflite_plugin_create_delegate
            opened[name] = opener(path, options.get(path, {}))
        except (OSError, ValueError, RuntimeError, AttributeError) as error:
            lacking.append(f"delegate {path} does not load: {' '.join(str(error).split())}")
    return opened, lacking
