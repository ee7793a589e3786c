"""What several folders of tests share: settings, and one real fleet on which the story was told."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from story.chapters import Story
from story.fleet import Fleet
from support import commands, databases
from support.told import Silence, Told

# Property tests measure no time: on a loaded machine a slow example is no failure. A commit has one verdict,
# so its examples are always the same; the full run looks for new ones.
settings.register_profile("muster", deadline=None, derandomize="MUSTER_SEARCH" not in os.environ)
settings.load_profile("muster")


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Run the README's story with real processes: controller, broker, eight agents and a feeder."""
    fleet = Fleet(tmp_path_factory.mktemp("story"))
    try:
        story = Story(fleet, Silence())
        yield Told(fleet, story, story.tell())
    finally:
        fleet.stop()


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a test the kind of database that it is marked with, or that the run asks for.

    See ``support.databases``.
    """
    kind: str = getattr(request, "param", os.environ.get("MUSTER_TEST_DATABASE", "sqlite"))
    with databases.using(kind):
        yield kind


@pytest.fixture(scope="session", autouse=True)
def _servers() -> Iterator[None]:
    yield
    commands.stop()
    databases.stop()
