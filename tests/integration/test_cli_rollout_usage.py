"""``muster rollout``: what a command line gets wrong is told at once, and nothing is asked of anybody."""

import pytest

from muster_controller.cli.exits import Exit
from support.controller_process import execute

NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["watch", "1", "--timeout", "nan"], "--timeout: expected seconds, at least 0, got nan"),
        (["watch", "1", "--timeout", "-1"], "--timeout: expected seconds, at least 0, got -1"),
        (["rollback", "1", "--stage", "0"], "--stage: expected the number of a stage, counted from 1, got 0"),
        (["rollback", "1", "--device", ""], "--device: expected the id of a device, got nothing"),
        (["promote", "1"], "--reason"),
    ],
)
def test_what_cannot_be_meant_is_usage(arguments: list[str], told: str) -> None:
    done = execute("muster", "rollout", *arguments, MUSTER_URL=NOBODY, MUSTER_TOKEN_FILE=__file__)

    assert done.code == Exit.USAGE, done.err
    assert told in done.err
