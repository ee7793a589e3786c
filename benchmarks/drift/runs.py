"""One case on one fleet, by Muster: what was reported, how it was judged, and what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drift import muster
from drift.cases import Case, prepare
from drift.judge import Score, Truth, judge
from drift.muster import Windows
from drift.natural import Replay
from drift.sources import Source
from drift.streams import Dealt, StreamForm
from muster_controller.domain.drift.detector import DriftConfig

METHOD = "Muster"
SPARSE = 8  # every how many rounds sketches go over the wire, where that is not what is measured


@dataclass(frozen=True)
class Result:
    """One method on one fleet.

    Attributes:
        data: Name of the set, or of River's stream.
        cpu: Seconds per feature-window, on the device and on the controller.
        incidents: All that were reported; what of them is false is in ``score``.
        expected: False incidents that the stated rate allows in this run; None for a method that states none.
    """

    method: str
    case: str
    data: str
    seed: int
    score: Score
    incidents: int
    expected: float | None
    bytes_sent: float
    cpu: tuple[float, float]

    def plain(self) -> dict[str, Any]:
        """Return what depends on the seed alone: no times."""
        score = self.score
        return {
            "method": self.method, "case": self.case, "data": self.data, "seed": self.seed,
            "feature_windows": score.feature_windows, "incidents": self.incidents, "false": score.false,
            "true": score.true, "parts": score.parts, "subjects": score.subjects,
            "delays": list(score.delays), "expected_false": self.expected, "bytes": round(self.bytes_sent, 3),
        }  # fmt: skip


def planted(case: Case, source: Source, asked: Mapping[str, float], *, seed: int) -> tuple[Windows, Truth]:
    """Return the fleet of a case with the settings that were asked for."""
    return prepare(case, source, case.settle(asked), seed=seed)


def streamed(form: StreamForm, *, seed: int) -> tuple[Windows, Truth]:
    """Return the fleet that one of River's streams is dealt to."""
    dealt = Dealt(form, seed)
    return dealt, dealt.truth


def replayed(source: Source) -> tuple[Windows, Truth]:
    """Return the fleet that measured an ordered set."""
    return Replay(source), Truth("natural")


def muster_result(fleet: Windows, truth: Truth, *, case: str, data: str, seed: int, wire: int = 1) -> Result:
    """Run Muster's own path and judge it; ``wire`` as in ``muster.run``."""
    setting = fleet.setting
    ran = muster.run(fleet, wire=wire)
    scored = judge(ran.alarms, truth, feature_windows=setting.devices * setting.windows * len(fleet.columns))
    return Result(
        METHOD, case, data, seed, scored, len(ran.alarms), setting.windows / DriftConfig().run_length,
        ran.bytes_sent, (ran.device_seconds, ran.fleet_seconds),
    )  # fmt: skip
