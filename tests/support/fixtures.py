"""Model files too foreign or too hostile for this tree; they lie beside the repository where they are had."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fixture_zoo() -> Path:
    """Return the folder of foreign model files, or skip the test that asks for it."""
    named = os.environ.get("MUSTER_FIXTURES")
    zoo = (Path(named) if named else ROOT.parent / "shared/fixtures") / "zoo"
    if not zoo.is_dir():
        pytest.skip(f"no foreign model files in {zoo}; MUSTER_FIXTURES names their folder")
    return zoo
