"""Versions of the zoo, built by the real publisher and laid out as the agent's store lays them out."""

import shutil
from pathlib import Path

from muster_models.publish.build import build
from muster_models.publish.source import read_source
from muster_models.trust.verified import VerifiedManifest
from support.agent_site import CREATED, ZOO
from support.verified import seal


def lay_out(name: str, folder: Path) -> tuple[VerifiedManifest, Path]:
    """Return version 1.1.0 of a model of the zoo and the private folder with its files."""
    built = build(
        read_source(ZOO / name / "1.1.0"), release=1, created=CREATED, output=folder / f"{name}-built"
    )
    private = folder / name
    private.mkdir(mode=0o700)
    for entry in built.manifest.files:
        shutil.copyfile(built.files[entry.sha256], private / entry.name)
    return seal(built.manifest), private
