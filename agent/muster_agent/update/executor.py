"""Handing actions to whoever carries them out, and their outcome back as events. Nothing here blocks."""

import threading
from collections.abc import Callable

from muster_agent.notices import Notice, Notices
from muster_agent.update.installer import Installer
from muster_agent.update.lanes import Job, Lanes
from muster_agent.update.state import ON_TRIAL, ModelState
from muster_agent.update.steps import (
    Abandon,
    Action,
    Activate,
    AnyEvent,
    BeginShadow,
    Collect,
    Configure,
    Deactivate,
    Download,
    Emit,
    EndShadow,
    Preflight,
    Report,
    Verify,
)
from muster_models.errors import MusterError

Post = Callable[[str, AnyEvent], None]


class Executor:
    """Carries actions out in threads of their own, two per model.

    Args:
        installer: Does the work.
        notices: Takes events for the controller.
        post: Takes each outcome, from any thread.
        report: Called when the controller should be told the state of the device.
        collect: Removes what no version needs; called in the thread that decides.
    """

    def __init__(
        self,
        installer: Installer,
        *,
        lanes: Lanes,
        notices: Notices,
        post: Post,
        report: Callable[[], None],
        collect: Callable[[], None],
    ) -> None:
        self._installer = installer
        self._lanes = lanes
        self._notices = notices
        self._post = post
        self._report = report
        self._collect = collect
        self._wanted: dict[tuple[str, str], threading.Event] = {}

    def carry_out(self, state: ModelState, action: Action) -> None:  # noqa: C901 - one line per action
        """Begin an action for a model in the state that was saved for it."""
        model, installer = state.model, self._installer
        match action:
            case Download(digest=digest):
                self._download(state, digest)
            case Verify(digest=digest):
                self._prepare(model, digest, lambda: installer.verify(digest))
            case Preflight(digest=digest):
                self._prepare(model, digest, lambda: installer.preflight(digest))
            case BeginShadow(digest=digest, order=order):
                self._answer(model, lambda: installer.begin_shadow(model, digest, order))
            case EndShadow():
                self._answer(model, lambda: installer.end_shadow(model))
            case Activate(digest=digest):
                proven = not _is_on_trial(state, digest)
                self._answer(model, lambda: installer.activate(model, digest, proven=proven))
            case Configure(settings=settings, stop=stop):
                self._answer(model, lambda: self._configure(model, dict(settings), stop=stop))
            case Deactivate():
                self._answer(model, lambda: installer.deactivate(model))
            case Abandon(digest=digest):
                self._cancelled(model, digest).set()
            case Emit():
                self._emit(model, action)
            case Report():
                self._report()
            case Collect():
                self._collect()

    def cancel_all(self) -> None:
        """End every download soon; what arrived is kept."""
        for cancelled in self._wanted.values():
            cancelled.set()

    def _download(self, state: ModelState, digest: str) -> None:
        wanted, cancelled = state.wanted, threading.Event()
        if wanted is None or wanted.manifest != digest:
            return  # the deadline of the phase leads on
        self._wanted = {key: event for key, event in self._wanted.items() if not event.is_set()}
        self._wanted[state.model, digest] = cancelled
        self._prepare(state.model, digest, lambda: self._installer.download(wanted, cancelled))

    def _prepare(self, model: str, digest: str, work: Callable[[], AnyEvent | None]) -> None:
        cancelled = self._cancelled(model, digest)

        def unless_cancelled() -> AnyEvent | None:
            return None if cancelled.is_set() else work()

        self._lanes.submit(f"prepare-{model}", self._job(model, unless_cancelled))

    def _answer(self, model: str, work: Callable[[], AnyEvent | None]) -> None:
        self._lanes.submit(f"answer-{model}", self._job(model, work))

    def _job(self, model: str, work: Callable[[], AnyEvent | None]) -> Job:
        def job() -> None:
            outcome = work()
            if outcome is not None:
                self._post(model, outcome)

        return job

    def _cancelled(self, model: str, digest: str) -> threading.Event:
        return self._wanted.setdefault((model, digest), threading.Event())

    def _configure(self, model: str, settings: dict[str, float], *, stop: bool) -> AnyEvent | None:
        try:
            return self._installer.configure(model, settings, stop=stop)
        except MusterError as error:
            self._notices.tell(Notice("refused", model, reason=error.reason, detail=str(error)))
            return None

    def _emit(self, model: str, action: Emit) -> None:
        if action.kind == "committed":
            self._answer(model, lambda: self._installer.commit(model))
        self._notices.tell(Notice(action.kind, model, action.digest, action.reason, action.detail))


def _is_on_trial(state: ModelState, digest: str) -> bool:
    return state.phase in ON_TRIAL and state.candidate is not None and state.candidate.manifest == digest
