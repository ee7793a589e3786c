"""The thread that runs commands of jobs, one at a time, and says how each ended.

A job is taken before its command starts. When the controller is killed in between, the next start finds a job
that says it runs and has another's fence: it becomes ``unknown``, because its command may run on by itself.
"""

import json
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable

from sqlalchemy import Engine

from muster_controller.config import Folder, JobSettings, Settings
from muster_controller.delivery.post import Post
from muster_controller.retraining.command import Ended, run
from muster_controller.retraining.endings import end
from muster_controller.store import jobs
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.jobs import COMMAND, Ending, Found

POLL_SECONDS = 1.0
KEPT_FOLDERS = 20
STOP_SECONDS = 15.0
_log = logging.getLogger(__name__)


class Runner:
    """Runs the commands of one controller."""

    def __init__(
        self, engine: Engine, folder: Folder, settings: Settings, *, clock: Callable[[], float]
    ) -> None:
        """Prepare; ``start`` begins."""
        self._engine = engine
        self._folder = folder.jobs
        self._jobs = {one.name: one for one in settings.jobs or ()}
        self._post = Post(settings)
        self._clock = clock
        self._fence = secrets.token_hex(8)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin; what an earlier controller left running is no longer known to run."""
        self.lose_orphans()
        self._thread.start()

    def stop(self) -> None:
        """End, and with it the command that runs: its job has failed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def lose_orphans(self) -> None:
        """Say of commands that an earlier controller ran that nobody knows how they ended."""
        with Reading(self._engine) as session:
            orphans = jobs.orphans(session, self._fence)
        if not orphans:
            return
        ending = Ending("lose", "the controller ended while it ran; its command may run on")
        with Unit(self._engine) as session:
            for job in orphans:
                end(session, self._post, job.id, ending, now=self._clock())

    def work(self) -> bool:
        """Run the oldest command that waits; return whether there was one."""
        with Reading(self._engine) as session:
            waiting = next((job for job in jobs.queued(session) if job.runs == COMMAND), None)
        if waiting is None:
            return False
        settings = self._jobs.get(waiting.trigger)
        if settings is None or not settings.command:
            self._end(waiting, Ending("fail", f"controller.toml has no command for {waiting.trigger}"), None)
            return True
        now = self._clock()
        with Unit(self._engine) as session:
            deadline = now + settings.timeout_seconds
            if not jobs.start(session, waiting.id, self._fence, deadline=deadline, now=now):
                return True
        _log.info("job %d (%s) runs: %s", waiting.id, waiting.trigger, settings.command[0])
        self._end(waiting, _ending(self._execute(waiting, settings)), self._fence)
        return True

    def _execute(self, job: Found, settings: JobSettings) -> Ended:
        folder = self._folder / str(job.id)
        evidence = folder / "evidence.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            evidence.write_text(json.dumps({**job.evidence, "job": job.id}, indent=2))
        except OSError as error:
            return Ended(None, "", f"{folder}: {error.strerror}")
        inherited = {name: os.environ[name] for name in settings.environment if name in os.environ}
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **inherited,
            "MUSTER_JOB": str(job.id),
            "MUSTER_EVIDENCE": str(evidence.absolute()),
            "MUSTER_MODEL": job.model,
            "MUSTER_PARENT": job.parent,
        }
        timeout = settings.timeout_seconds
        return run(settings.command, environment, folder, timeout=timeout, cancelled=self._stopping)

    def _end(self, job: Found, ending: Ending, fence: str | None) -> None:
        with Unit(self._engine) as session:
            end(session, self._post, job.id, ending, now=self._clock(), fence=fence)
        self._tidy()

    def _tidy(self) -> None:
        """Keep the folders of the newest jobs."""
        if not self._folder.is_dir():
            return
        numbers = sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())
        for number in numbers[:-KEPT_FOLDERS]:
            shutil.rmtree(self._folder / str(number), ignore_errors=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                is_more = self.work()
            except Exception:  # noqa: BLE001 - a full disk must not end the runner; the next step tries again
                _log.exception("jobs: this step failed")
                is_more = False
            if not is_more:
                self._stopping.wait(POLL_SECONDS)


def _ending(ended: Ended) -> Ending:
    if ended.is_good:
        return Ending("succeed", "its command ended well", 0, ended.output)
    why = ended.why or f"its command ended with status {ended.exit_status}"
    return Ending("fail", why, ended.exit_status, ended.output)
