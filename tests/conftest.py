"""What several folders of tests share: settings, and one real fleet on which the story was told."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from story.chapters import Story
from story.fleet import Fleet
from support.told import Silence, Told

# Property tests measure no time: on a loaded machine a slow example is no failure.
settings.register_profile("muster", deadline=None)
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
