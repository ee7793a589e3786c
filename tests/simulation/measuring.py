"""What stands for the recordings of a simulated device: calls are drawn, and what they were is sketched.

Most stories draw the rows of a window and sketch them at its end, in one piece. The others draw every call,
at its own time, and let the real recorder take it, which ends windows by the device's clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from muster_agent.measure.merging import merge_windows
from muster_agent.measure.outbox import WindowPart
from muster_agent.measure.recorder import Recorder
from muster_agent.measure.recordings import Recordings, read_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.window import sketch_rows
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import LATENCY_EDGES_MS, Reporting, ShadowCounts, Window
from simulation.labelling import Labelling
from simulation.labelling import Window as Labelled
from simulation.outside import Answering, Catalogue
from simulation.story import Member
from simulation.versions import DRIFT, Version, scores_of
from simulation.world import World

# In the middle of each bin of the wire, seconds.
_LATENCIES = [edge / 1500.0 for edge in LATENCY_EDGES_MS] + [3.0]


@dataclass(frozen=True)
class Scene:
    """What a device's applications see.

    Attributes:
        wall: Unix seconds by the device's clock.
        drifts: Tells whether the world has changed where the device stands.
        is_asked: Tells whether anybody wants predictions.
        is_sick: The device stands where a version is worse that is so at one site only.
        counts: The applications count scrap.
        labelling: Learns the truth about what is answered.
        answering: Returns what should answer.
        beside: Returns which version is in shadow beside one.
    """

    world: World
    catalogue: Catalogue
    member: Member
    rows: np.random.Generator
    wall: Callable[[], float]
    drifts: Callable[[], bool]
    is_asked: Callable[[], bool]
    is_sick: bool
    counts: bool
    labelling: Labelling
    answering: Callable[[], Answering | None]
    beside: Callable[[str, str], str | None]


@dataclass(frozen=True)
class Period:
    """A version between two moments: as the world has them, and as the device's clock does."""

    began: float
    wall: float


@dataclass(frozen=True)
class Calls:
    """What was asked of a version in a period."""

    rows: np.typing.NDArray[np.float64]
    errors: int
    latency: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many calls there were, failed ones included."""
        return len(self.rows) + self.errors


class SimulatedRecordings(Recordings):
    """Draws what versions saw, and hands it out as windows.

    Args:
        emit: Takes every window.

    Attributes:
        share: Of the calls that a device's applications make.
    """

    share = 1.0

    def __init__(self, scene: Scene, *, emit: Callable[[WindowPart], None]) -> None:
        self._scene = scene
        self._give = emit
        self._since: dict[str, Period] = {}  # by digest

    def begin(self, verified: VerifiedManifest, folder: Path) -> None:
        """Measure a version from now on."""
        read_baseline(verified, folder)
        self._since.setdefault(verified.digest, self._now())

    def end_others(self, model: str, digest: str | None) -> None:
        """Hand out what other versions saw."""
        for other in [held for held in self._since if held != digest]:
            self._finish(model, other)
            del self._since[other]

    def turn(self, model: str) -> None:
        """End every window, and begin the next."""
        for digest in self._since:
            self._finish(model, digest)
            self._since[digest] = self._now()

    def configure(self, reporting: Reporting) -> None:
        """Measure as before: the pace of a simulation is its story's."""

    def merge(self, first: Window, second: Window) -> Window | None:
        """Return two windows as one."""
        version = self._scene.catalogue.versions.get(first.manifest)
        return None if version is None else merge_windows(first, second, version.baseline)

    def _now(self) -> Period:
        return Period(self._scene.world.now, self._scene.wall())

    def _finish(self, model: str, digest: str) -> None:
        since = self._since[digest]
        version, calls = self._scene.catalogue.versions[digest], self._calls(digest, since)
        if calls is None:
            return
        shadow = self._scene.beside(model, digest)
        end = max(since.wall, self._scene.wall())  # which may have been set back
        self._scene.labelling.saw(Labelled(self._scene.member.name, version, since.wall, end), calls.rows)
        self._give(
            WindowPart(
                model=model,
                manifest=digest,
                baseline=version.baseline.digest,
                start=since.wall,
                end=end,
                calls=calls.count,
                errors=calls.errors,
                latency=calls.latency,
                sketch=encode(sketch_rows(calls.rows, version.baseline), version.baseline),
                shadow=_asked(shadow, len(calls.rows)) if shadow is not None else None,
                counters=self._counted(version, calls.count),
            )
        )

    def _counted(self, version: Version, calls: int) -> dict[str, int]:
        scene = self._scene
        return {"scrap": version.scrap(calls, scene.rows)} if scene.counts else {}

    def _calls(self, digest: str, since: Period) -> Calls | None:
        """Draw what a version was asked since a moment; None for nothing."""
        scene = self._scene
        seconds = scene.world.now - since.began
        count = int(scene.member.rate * seconds * self.share)
        if count == 0 or not scene.is_asked():
            return None
        version, answering = scene.catalogue.versions[digest], scene.answering()
        lost = 0.0 if answering is None else _silence(answering, version, since.began, scene.world.now)
        silent = int(count * lost)
        errors = silent + version.errors(count - silent, scene.rows, is_sick=scene.is_sick)
        drift = DRIFT if scene.drifts() else 0.0
        rows = version.answer(count - errors, scene.rows, offset=scene.member.offset, drift=drift)
        since_activation = 0.0 if answering is None else scene.world.now - answering.since
        age = since_activation / scene.world.pace.window
        return Calls(rows, errors, version.latency(count, scene.rows, age=age))


class RecordedCalls(SimulatedRecordings):
    """Lets the real recorder take every call, at a time of its own.

    Args:
        chance: Draws those times.
    """

    share = 0.4  # each call is one step of a program here, and no row among many

    def __init__(self, scene: Scene, *, emit: Callable[[WindowPart], None], chance: Random) -> None:
        super().__init__(scene, emit=emit)
        self._luck = chance
        self._recording: dict[str, Recorder] = {}
        self._at = 0.0

    def begin(self, verified: VerifiedManifest, folder: Path) -> None:
        """Measure a version from now on."""
        super().begin(verified, folder)
        if verified.digest not in self._recording:
            self._at = self._scene.wall()
            self._recording[verified.digest] = Recorder(
                verified.manifest,
                read_baseline(verified, folder),
                Reporting(window_seconds=self._scene.world.pace.window, save_seconds=0),
                digest=verified.digest,
                clock=lambda: self._at,
                emit=self._give,
            )

    def end_others(self, model: str, digest: str | None) -> None:
        """Hand out what other versions saw."""
        super().end_others(model, digest)
        for other in [held for held in self._recording if held != digest]:
            self._recording.pop(other).close()

    def _finish(self, model: str, digest: str) -> None:
        since, recorder = self._since[digest], self._recording[digest]
        calls = self._calls(digest, since)
        if calls is not None:
            self._record(recorder, calls, since)
        shadow = self._scene.beside(model, digest)
        if calls is not None and shadow is not None:
            recorder.compare(_asked(shadow, len(calls.rows)))
        self._at = self._scene.wall()
        recorder.work()

    def _record(self, recorder: Recorder, calls: Calls, since: Period) -> None:
        until = self._scene.wall()
        times = sorted(self._luck.uniform(since.wall, until) for _ in range(calls.count))
        seconds = [_LATENCIES[at] for at, count in enumerate(calls.latency) for _ in range(count)]
        inputs, scores = calls.rows[:, :2].astype(np.float32), scores_of(calls.rows)
        for number, at in enumerate(times):
            self._at = at
            row = number - calls.errors
            recorder.record(
                {"row": inputs[max(row, 0) : max(row, 0) + 1]},
                {"scores": scores[row : row + 1]} if row >= 0 else None,
                seconds=seconds[number],
            )


def _silence(answering: Answering, version: Version, began: float, ended: float) -> float:
    """Return in which share of a period nothing answered, because the version killed its worker."""
    if answering.version is not version or answering.died is None or ended <= began:
        return 0.0
    return (ended - max(began, answering.died)) / (ended - began)


def _asked(candidate: str, calls: int) -> ShadowCounts:
    """Return what a candidate answered that was asked every fourth call."""
    asked = calls // 4
    bins = [0] * (len(LATENCY_EDGES_MS) + 1)
    bins[4] = asked
    return ShadowCounts(candidate, asked, asked, asked // 2, 0, calls - asked, tuple(bins))
