"""The controller is killed before every SQL statement of a course of rollouts: what comes of it is the same.

A course is lived without a kill first, and what the database says is kept after every instant. Then each
instant is lived again from the copy, killed at one step, and lived to its end by another process: the
database must say the same, to the row and to the millisecond. Within, the world asserts that nothing goes out
which is not stored.
"""

import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from muster_controller.store.engine import open_database
from support import databases
from support.databases import KINDS
from support.rollout_content import Rows, content
from support.rollout_course import Manner, make_site, read
from support.rollout_nursery import Nursery
from support.rollout_orders import INSTANTS, ORDERS

SAMPLE = 16  # kills of each database's course that are always tried; all of them with what is slow
PARTS = 4  # of the sample, each a test of its own, so that none is long on a machine that does much else
PAIRS = 4  # lives of which the second is killed as well
START = 0  # an instant in which a rollout is started


@dataclass(frozen=True)
class Moment:
    """Where a course stands before an instant.

    Attributes:
        steps: That the instant takes undisturbed.
    """

    world: Path
    place: Path | str
    said: dict[str, Rows]
    steps: int


@dataclass
class Course:
    """A course that was lived without a kill.

    Attributes:
        differs: Tables that came out otherwise the last time: as it should be, as it was.
    """

    nursery: Nursery
    moments: tuple[Moment, ...]
    folder: Path
    differs: dict[str, tuple[Rows, Rows]] = field(default_factory=dict)

    @property
    def points(self) -> list[tuple[int, int]]:
        """Every (instant, step) at which it can be killed."""
        lived = enumerate(self.moments[:INSTANTS])
        return [(instant, step) for instant, moment in lived for step in range(1, moment.steps + 1)]

    def relive(self, instant: int, *dies_at: int, manner: Manner = "careful") -> bool:
        """Live an instant anew, killed once for each of ``dies_at``; tell whether it ends as before."""
        moment, following = self.moments[instant], self.moments[instant + 1]
        folder = self.folder / "again"
        place, world = databases.copy(moment.place, folder), _copy(moment.world, folder)
        for step in dies_at:
            assert self.nursery.live(world, place, dies_at=step, manner=manner).code == -signal.SIGKILL
        end = self.nursery.live(world, place, manner=manner)
        held = said(place)
        databases.discard(place)
        self.differs = {
            name: (rows, held[name]) for name, rows in following.said.items() if rows != held[name]
        }
        return end.code == 0 and not self.differs and read(world).machines == read(following.world).machines


def _copy(world: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(world, folder / "world"))


def said(place: Path | str) -> dict[str, Rows]:
    engine = open_database(place)
    try:
        return content(engine)
    finally:
        engine.dispose()


@pytest.fixture(scope="module", params=KINDS)
def course(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    folder = tmp_path_factory.mktemp("course")
    with databases.using(request.param):
        site, office = make_site(folder)
        office.opened.close()
        place = databases.place(folder / "controller")
        with Nursery(folder / "controller") as nursery:
            moments = []
            for instant in range(INSTANTS + 1):
                kept = folder / f"moment-{instant}"
                held = databases.copy(place, kept)
                world = _copy(site.world, kept)
                end = nursery.live(site.world, place)
                assert end.code == 0
                moments.append(Moment(world, held, said(held), end.steps))
            yield Course(nursery, tuple(moments), folder)


def test_the_course_is_what_it_should_be(course: Course) -> None:
    last = course.moments[-1].said

    assert [row["phase"] for row in last["rollout"]] == ["completed", *["rolled-back"] * 3]
    assert {row["digest"] for row in last["assignment"]} == {read(course.moments[-1].world).digests["1.1.0"]}
    assert len(course.points) > 3_000


@pytest.mark.parametrize("part", range(PARTS))
def test_a_kill_before_some_statements_changes_nothing(course: Course, part: int) -> None:
    points = course.points
    for point in points[:: len(points) // SAMPLE][part::PARTS]:
        assert course.relive(*point), (point, course.differs)


def test_two_kills_in_one_instant_change_nothing(course: Course) -> None:
    chance = random.Random(1)
    for instant in chance.sample(range(INSTANTS), PAIRS):
        steps = course.moments[instant].steps
        points = chance.randrange(steps // 2, steps), chance.randrange(1, steps // 2)
        assert course.relive(instant, *points), (instant, points, course.differs)


def test_two_loops_at_once_make_each_step_once(course: Course) -> None:
    for instant in sorted(ORDERS):
        assert course.relive(instant, manner="doubled"), (instant, course.differs)


def test_a_controller_that_commits_after_every_statement_is_found_out(course: Course) -> None:
    """What these tests look at can fail."""
    steps = range(1, course.moments[START].steps, 4)

    assert not all(course.relive(START, step, manner="careless") for step in steps)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("instant", range(INSTANTS))
def test_a_kill_before_any_statement_changes_nothing(course: Course, instant: int) -> None:
    for step in range(1, course.moments[instant].steps + 1):
        assert course.relive(instant, step), (step, course.differs)
