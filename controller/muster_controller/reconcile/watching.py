"""One step of the loop: what is new in a model's windows goes into its drift signals; alarms come of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller.config import Settings
from muster_controller.delivery.post import Post
from muster_controller.domain.drift import detector as drift
from muster_controller.domain.drift.detector import DriftConfig, DriftState
from muster_controller.domain.drift.groups import Groups
from muster_controller.reconcile.alarming import save_signal
from muster_controller.store import drift as drift_store
from muster_controller.store import reporting, running, versions, windows
from muster_controller.store.baselines import Baselines
from muster_controller.store.device_facts import GroupBook
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.facts import MAX_WINDOWS, window_facts
from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _News:
    """What is to be judged of one model on one baseline; ``moved`` are devices that left it for another."""

    judged: drift_store.Judged | None
    windows: Sequence[windows.StoredWindow]
    groups: Groups
    moved: frozenset[str]


class Watching:
    """Keeps the drift signals of every model up to date."""

    def __init__(
        self, engine: Engine, baselines: Baselines, settings: Settings, groups: GroupBook | None = None
    ) -> None:
        """Prepare; ``groups`` are those that another step keeps as well."""
        self._engine = engine
        self._baselines = baselines
        self._post = Post(settings)
        self._config = DriftConfig(
            calibration_windows=settings.drift.calibration_windows,
            tolerance=settings.drift.tolerance,
            run_length=settings.drift.run_length,
            minimum_rows=settings.drift.minimum_rows,
            round_seconds=settings.reporting.window_seconds,
            history_seconds=settings.window_days * 86_400,
        )
        self._usual = settings.reporting
        self._groups = groups or GroupBook(settings.drift.group_labels)

    def streams(self) -> list[tuple[str, str]]:
        """Return every (model, baseline) to watch."""
        with Reading(self._engine) as session:
            return versions.streams(session)

    def watch(self, model: str, baseline: str, now: float) -> bool:
        """Take in what is new of one model on one baseline; return whether more is waiting.

        State and alarms are stored together, so a loop that is killed goes on where it was.

        Raises:
            NotFoundError: The file of the baseline is gone.
        """
        with Reading(self._engine) as session:
            length = reporting.current(session, self._usual).window_seconds
            news = self._news(
                session, model, baseline, settled=now - self._config.calibration_windows * length
            )
        if news is None:
            return False
        config = replace(self._config, round_seconds=length)
        known = self._baselines.get(baseline)
        state = _decode(news.judged, known)
        facts = window_facts(news.windows, self._baselines)
        state, signals = drift.observe(state, facts, known, config, groups=news.groups, now=now)
        state, ended = drift.retire(state, news.moved, known, now=now)
        upto = news.windows[-1].id if news.windows else _upto(news.judged)
        with Unit(self._engine) as session:
            judged = drift_store.Judged(upto, state.encode())
            drift_store.save(session, model, baseline, judged=judged, now=now)
            for signal in (*signals, *ended):
                save_signal(session, model, baseline, signal=signal, post=self._post, now=now)
        return len(news.windows) == MAX_WINDOWS

    def _news(self, session: Session, model: str, baseline: str, *, settled: float) -> _News | None:
        """Return what is new.

        Args:
            settled: Since when a device must be on another baseline to be forgotten: a canary that comes back
                stays known.
        """
        judged = drift_store.judged(session, model, baseline)
        found = windows.after(session, model, baseline, upto=_upto(judged), limit=MAX_WINDOWS)
        if not found and not drift_store.has_active_alarm(session, model, baseline):
            return None
        groups = self._groups.read(session)
        return _News(judged, found, groups, running.moved_on(session, model, baseline, before=settled))


def _upto(judged: drift_store.Judged | None) -> int:
    return 0 if judged is None else judged.upto


def _decode(judged: drift_store.Judged | None, baseline: Baseline) -> DriftState:
    if judged is None:
        return DriftState.new(baseline)
    try:
        return drift.decode_state(judged.state)
    except SketchError as error:
        # A form of an older program: calibrating anew costs some windows, stopping would cost the watch.
        _log.warning("the state of the drift signals is begun anew: %s", error)
        return DriftState.new(baseline)
