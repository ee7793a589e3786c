"""What the story raises when something that should have happened did not."""


class StoryError(Exception):
    """A step did not happen, or something happened that must not."""
