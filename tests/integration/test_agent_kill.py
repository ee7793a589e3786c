"""A real process with the real store and outbox is killed at random: what it was told is done is done."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from muster_agent.disk import RealDisk
from muster_models import wire
from muster_models.wire import Event, Stored
from support import invariants
from support.outboxes import open_outbox

TESTS = Path(__file__).parents[1]
KILLS = 20


def run_and_kill(folder: Path, number: int, chance: Random) -> dict[str, int]:
    """Run the victim for a while; return the last number of each kind that it was told is done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.victim", str(folder), str(number)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(chance.random() * 0.3)
        process.kill()
        lines = [first, *process.stdout]
    # A line that was cut off was not said.
    said = [line.split() for line in lines if line.endswith("\n")]
    return {what: int(last) for what, last in said}


def check_store(folder: Path, told: int) -> None:
    state = invariants.versions_are_whole(RealDisk(folder / "store"))
    assert state.sequence >= told


def take_events(folder: Path) -> tuple[list[int], list[int]]:
    """Return the sequence numbers in the outbox and the numbers of its events, and store them."""
    with closing(open_outbox(folder / "outbox.sqlite")) as outbox:
        sequences, numbers = [], []
        while batch := outbox.batch(0, 100):
            messages = [wire.decode_uplink(payload) for _, _, payload in batch]
            sequences += [sequence for sequence, _, _ in batch]
            numbers += [int(message.detail) for message in messages if isinstance(message, Event)]
            outbox.stored(Stored(outbox.status().epoch, sequences[-1]))
        return sequences, numbers


def test_a_killed_agent_has_what_it_was_told_is_done(tmp_path: Path) -> None:
    chance = Random(11)
    number, last = 0, 0
    for _ in range(KILLS):
        told = run_and_kill(tmp_path, number, chance)
        check_store(tmp_path, told["saved"])
        sequences, numbers = take_events(tmp_path)

        assert sequences == list(range(last + 1, last + 1 + len(sequences)))
        assert numbers == list(range(number, number + len(numbers)))
        assert number + len(numbers) > told.get("added", number - 1)
        last += len(sequences)
        number += len(numbers)

    assert number > KILLS
