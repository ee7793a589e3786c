"""``muster-agent infer``, killed at any call that writes: the output is not there, or it is complete."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from muster_agent.serving.server import Server
from support import shim
from support.batch_course import ROWS, Answerer, saved
from support.shim import COUNT, KILL, REFUSE, TEAR, Run, ShimProcess, Strike

FORMS = {"out.csv": "two", "out.npz": "two", "out.npy": "one"}
STRIKES = {
    "kill": Strike(KILL),
    "torn write": Strike(TEAR),
    "disk full once": Strike(REFUSE, error=errno.ENOSPC),
    "read-only": Strike(REFUSE, error=errno.EROFS, lasts=True),
}
SAMPLE = 5


@dataclass(frozen=True)
class Desk:
    """A process that can be struck, an agent, and rows for it."""

    process: ShimProcess
    socket: Path
    source: Path

    def infer(self, folder: Path, output: str, strike: Strike) -> shim.Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        arguments = {
            "socket": str(self.socket), "source": str(self.source), "model": FORMS[output], "output": output,
        }  # fmt: skip
        return self.process.run(Run("infer", str(folder), str(folder) + ".told", arguments, strike))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    server = Server(Answerer(), folder / "agent.sock")
    with shim.started(folder) as process:
        yield Desk(process, server.path, saved(folder / "rows.npy", ROWS))
    server.close()


def strike(desk: Desk, scene: Path, output: str, what: Strike) -> None:
    """Strike once, look at what is there, and let the same command be repeated."""
    whole = scene / "whole" / output
    struck = scene / f"{what.call}" / output
    outcome = desk.infer(struck.parent, output, what)
    part = struck.with_name(f"{output}.part")
    names = {path.name for path in struck.parent.iterdir()}

    assert outcome.status in {0, shim.REFUSED, -9}, outcome.error
    assert names <= {output, part.name}, "everything else lies in a folder that is called a part"
    if struck.exists():
        assert struck.read_bytes() == whole.read_bytes()
    again = desk.infer(struck.parent, output, Strike())
    assert again.status == 0, again.error
    assert struck.read_bytes() == whole.read_bytes()
    assert [path.name for path in struck.parent.iterdir()] == [output]


def points(desk: Desk, scene: Path, output: str, what: Strike) -> int:
    """Do it once unharmed; return how many places for a strike there are."""
    never = Strike(TEAR if what.mode == TEAR else COUNT, call=1 << 30)
    outcome = desk.infer(scene / "whole", output, never)
    assert outcome.status == 0, outcome.error
    return outcome.calls


@pytest.mark.parametrize("what", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("output", FORMS)
def test_a_batch_that_is_struck_somewhere_is_absent_or_complete_and_a_repeat_finishes_it(
    desk: Desk, tmp_path: Path, output: str, what: Strike
) -> None:
    calls = points(desk, tmp_path, output, what)
    chance = Random(f"{output}/{what}")
    chosen = {calls, calls - 1, *chance.sample(range(1, calls + 1), SAMPLE)}  # and around the end
    for call in sorted(chosen):
        strike(desk, tmp_path, output, Strike(what.mode, call, what.error, what.lasts))

    assert calls >= 10


@pytest.mark.slow
@pytest.mark.parametrize("what", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("output", FORMS)
def test_a_batch_that_is_struck_anywhere_is_absent_or_complete_and_a_repeat_finishes_it(
    desk: Desk, tmp_path: Path, output: str, what: Strike
) -> None:
    for call in range(1, points(desk, tmp_path, output, what) + 1):
        strike(desk, tmp_path, output, Strike(what.mode, call, what.error, what.lasts))
