"""One step of the loop: alarms that fire start retraining jobs, where a trigger says so."""

from collections.abc import Iterable

from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller.config import JobSettings, Settings
from muster_controller.delivery.post import Post
from muster_controller.domain.alarms.alarm import Alarm
from muster_controller.domain.alarms.jobs import obstacle
from muster_controller.domain.alarms.silences import silenced_by
from muster_controller.retraining.endings import end
from muster_controller.retraining.starting import start, trigger_of
from muster_controller.store import alarms, jobs
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.jobs import Ending


class Training:
    """Starts jobs, and ends those that a receiver never answered for."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._post = Post(settings)
        self._jobs = settings.jobs or ()

    def train(self, now: float) -> None:
        """Start what is due, and give up on what has taken too long."""
        with Reading(self._engine) as session:
            is_due = bool(jobs.overdue(session, now)) or any(self._due(session, now))
        if not is_due:
            return
        with Unit(self._engine) as session:
            for job in jobs.overdue(session, now):
                end(session, self._post, job.id, Ending("fail", "nobody said in time how it ended"), now=now)
            for settings, alarm in self._due(session, now):
                start(session, self._post, settings, alarm, now=now)

    def _due(self, session: Session, now: float) -> Iterable[tuple[JobSettings, Alarm]]:
        """Yield what a trigger wants and nothing stands against; it looks anew after each."""
        if not self._jobs:
            return
        holding = alarms.silences(session, now=now)
        for known in alarms.unsettled(session):
            if silenced_by(known.alarm, holding, known.labels, now) is not None:
                continue
            for settings in self._jobs:
                trigger = trigger_of(settings)
                if not trigger.takes(known.alarm):
                    continue
                if obstacle(trigger, known.alarm, jobs.past(session, settings.name), now) is None:
                    yield settings, known.alarm
