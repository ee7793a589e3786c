"""Which version of a package is installed, read from the names of folders beside it.

``importlib.metadata`` knows that too. It brings a mail parser and an archive reader along, which cost a
process 3 MB for as long as it lives.
"""

import os
import re
import sys
from collections.abc import Iterable

_SUFFIXES = (".dist-info", ".egg-info")  # by a wheel; by a package of a Linux distribution


def version_of(name: str, path: Iterable[str] | None = None) -> str | None:
    """Return the version of an installed package; None where it is not installed.

    Args:
        name: As it is published, such as ``ai-edge-litert``; not the name that is imported.
        path: Folders to look in; None looks where Python imports from.
    """
    wanted = _normal(name)
    for folder in sys.path if path is None else path:
        for entry in _entries(folder):
            if entry.endswith(_SUFFIXES):
                found, _, version = entry.rpartition(".")[0].partition("-")
                if version and _normal(found) == wanted:
                    return version.partition("-")[0]  # what may follow is the version of Python
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))  # noqa: PTH208 - names are all that is asked for
    except OSError:  # an archive, or nothing
        return []
