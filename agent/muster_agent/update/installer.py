"""Doing what the update machine decided, one function per action; each returns the event that answers it.

Two kinds of work, each in a thread of its own per model: preparing a version (the network and the trial run,
which may take long) and making one answer (which must not wait for that). Everything that goes wrong is an
event with a reason; only a bug raises.
"""

import itertools
import logging
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from muster_agent.machine import Machine, check_fit, check_settings
from muster_agent.measure.recordings import Recordings, read_baseline
from muster_agent.runner import Runner, Terms
from muster_agent.spare import is_writable
from muster_agent.store import Store
from muster_agent.update.download import CancelledError, Downloader
from muster_agent.update.steps import (
    Activated,
    ActivationFailed,
    Downloaded,
    DownloadFailed,
    PreflightFailed,
    PreflightPassed,
    Refused,
    ShadowBegan,
    ShadowFailed,
    ShadowSkipped,
    Verified,
)
from muster_agent.update.verifier import Verifier
from muster_models.agreement import Comparison
from muster_models.errors import MusterError, Reason, StorageError, TransferError, TrustError
from muster_models.sketch.baseline import Baseline
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import DesiredModel, Shadow

log = logging.getLogger(__name__)

# A genuine version that meets one of these now may be installed later without anybody asking again.
_PASSING = frozenset({Reason.NO_SPACE, Reason.EXPIRED})


class _Moment(TypedDict):
    now: float
    jitter: float


@dataclass(frozen=True)
class Parts:
    """What installing needs of the rest of the agent.

    Attributes:
        scratch: A folder for private views of versions; emptied at start.
        spare: Makes another one, for a device whose own disk cannot be written.
        clock: Monotonic seconds.
    """

    verifier: Verifier
    store: Store
    downloader: Downloader
    runner: Runner
    recordings: Recordings
    machine: Machine
    scratch: Path
    clock: Callable[[], float]
    chance: random.Random
    spare: Callable[[], Path] | None = None


class Installer:
    """Carries out actions. For one model, preparing and answering may each be called from one thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._numbers = itertools.count(1)
        self._stopped: dict[str, bool] = {}
        self._views: dict[str, Path] = {}
        shutil.rmtree(parts.scratch, ignore_errors=True)

    # Preparing

    def download(
        self, wanted: DesiredModel, cancelled: threading.Event
    ) -> Downloaded | DownloadFailed | Refused | None:
        """Bring manifest and files of a version onto the disk; None when it was cancelled."""
        digest = wanted.manifest
        try:
            # What was withdrawn a moment ago must not be installed any more.
            self._parts.verifier.refresh()
        except MusterError as error:
            return self._download_failed(digest, error)
        try:
            verified = self._parts.verifier.installable(wanted)
            check_fit(verified.manifest, self._parts.machine)
            check_settings(verified.manifest, wanted.settings)
            self._parts.downloader.fetch(verified, cancelled)
        except CancelledError:
            return None
        except (TransferError, StorageError) as error:
            return self._download_failed(digest, error)
        except MusterError as error:
            if error.reason in _PASSING:
                return self._download_failed(digest, error)
            return Refused(digest=digest, reason=error.reason, detail=str(error), **self._moment())
        return Downloaded(digest=digest, **self._moment())

    def verify(self, digest: str) -> Verified | DownloadFailed | Refused:
        """Hash every file of a version again."""
        try:
            verified = self._held(digest)
        except TrustError as error:
            return Refused(digest=digest, reason=error.reason, detail=str(error), **self._moment())
        except MusterError as error:
            return self._download_failed(digest, error)
        try:
            self._parts.store.verify(verified)
        except MusterError as error:
            # The store removed what is damaged: it is fetched anew.
            return self._download_failed(digest, error)
        return Verified(digest=digest, **self._moment())

    def preflight(self, digest: str) -> PreflightPassed | PreflightFailed | DownloadFailed:
        """Let a child process answer the golden vectors."""
        view = self._new_view()
        try:
            verified = self._held(digest)
            folder = self._parts.store.expose(verified, view)
            read_baseline(verified, folder)
            verdict = self._parts.runner.preflight(verified, folder)
        except StorageError as error:
            return self._download_failed(digest, error)
        except MusterError as error:
            return PreflightFailed(digest=digest, reason=error.reason, detail=str(error), **self._moment())
        finally:
            shutil.rmtree(view, ignore_errors=True)
        if not verdict.accepted:
            reason = verdict.reason or Reason.CRASHED
            return PreflightFailed(digest=digest, reason=reason, detail=verdict.detail, **self._moment())
        log.info("preflight of %s passed in %.2f s", verified.manifest.name, verdict.seconds)
        return PreflightPassed(digest=digest, **self._moment())

    # Answering in shadow

    def begin_shadow(
        self, model: str, digest: str, order: Shadow
    ) -> ShadowBegan | ShadowSkipped | ShadowFailed | DownloadFailed | Refused:
        """Let a version answer beside the current one, unseen, where both fit and the current one answers."""
        answering = self._parts.runner.serving().get(model)
        if answering is None or answering.stopped or not answering.alive:
            return self._skipped(digest, "no other version answers here")
        try:
            incumbent = self._held(answering.digest)
            baseline = read_baseline(incumbent, self._views[model] / incumbent.digest)
        except TrustError as error:
            return self._skipped(digest, f"nothing is compared with the current version: {error}")
        except MusterError as error:  # trouble of the disk is no reason to go on without a shadow
            return self._download_failed(digest, error)
        checked = self.verify(digest)
        return (
            self._try_in_shadow(incumbent, baseline, digest, order)
            if isinstance(checked, Verified)
            else checked
        )

    def _try_in_shadow(
        self, incumbent: VerifiedManifest, baseline: Baseline, digest: str, order: Shadow
    ) -> ShadowBegan | ShadowSkipped | ShadowFailed:
        try:
            candidate = self._held(digest)
            if _needs_room(incumbent, candidate):
                return self._skipped(digest, "two versions do not fit into memory, as is declared")
            self._load_in_shadow(incumbent, baseline, candidate, order)
        except MusterError as error:
            return ShadowFailed(digest=digest, reason=error.reason, detail=str(error), **self._moment())
        log.info("%s answers in shadow for %.0f s", candidate.manifest.name, order.seconds)
        return ShadowBegan(digest=digest, **self._moment())

    def _load_in_shadow(
        self, incumbent: VerifiedManifest, baseline: Baseline, candidate: VerifiedManifest, order: Shadow
    ) -> None:
        comparison = Comparison(incumbent.manifest, baseline, candidate.manifest)
        terms = Terms(order, comparison, incumbent.digest, candidate.digest, candidate.manifest.version)
        view = self._new_view()

        def clear() -> None:
            shutil.rmtree(view, ignore_errors=True)

        try:
            folder = self._parts.store.expose(candidate, view)
            self._parts.runner.begin_shadow(candidate, folder, terms, ended=clear)
        except MusterError:
            clear()
            raise

    def end_shadow(self, model: str) -> None:
        """Let the version go that answers in shadow."""
        self._parts.runner.end_shadow(model)

    def _skipped(self, digest: str, detail: str) -> ShadowSkipped:
        log.warning("version %s is activated without a shadow: %s", digest[:12], detail)
        return ShadowSkipped(digest=digest, detail=detail, **self._moment())

    # Answering

    def configure(
        self, model: str, settings: Mapping[str, float], *, stop: bool
    ) -> Activated | ActivationFailed | None:
        """Hand settings and the stop order to what answers; what answers later follows them too.

        Raises:
            MusterError: The version that answers has no such settings; it goes on with those it had.
        """
        self._stopped[model] = stop
        answering = self._parts.runner.serving().get(model)
        if answering is None:
            return None
        check_settings(answering.manifest, settings)
        if answering.stopped == stop:
            return None
        # A version that was stopped proved itself before; starting it again is no trial.
        return self.activate(model, answering.digest, proven=True)

    def activate(self, model: str, digest: str, *, proven: bool) -> Activated | ActivationFailed:
        """Make a version answer, in place of what does now.

        Args:
            model: Its model.
            digest: The version, which is on the disk.
            proven: It is no candidate: its worker is started again when it ends.
        """
        try:
            if not self._answers(model, digest):
                self._replace(model, digest)
        except MusterError as error:
            return ActivationFailed(digest=digest, reason=error.reason, detail=str(error), **self._moment())
        if proven:
            self._parts.runner.commit(model)
        return Activated(digest=digest, **self._moment())

    def commit(self, model: str) -> None:
        """End the trial of what answers."""
        self._parts.runner.commit(model)

    def deactivate(self, model: str) -> None:
        """Let nothing answer."""
        self._parts.runner.remove(model)
        self._parts.recordings.end_others(model, None)
        self._keep_view(model, None)

    def _answers(self, model: str, digest: str) -> bool:
        answering = self._parts.runner.serving().get(model)
        return (
            answering is not None
            and answering.digest == digest
            and answering.alive
            and answering.stopped == self._stopped.get(model, False)
        )

    def _replace(self, model: str, digest: str) -> None:
        before = self._parts.runner.serving().get(model)
        view = self._new_view()
        measured = None if self._stopped.get(model, False) else digest  # a fallback is no prediction
        try:
            verified = self._held(digest)
            self._parts.store.verify(verified)
            folder = self._parts.store.expose(verified, view)
            if measured is None:
                self._parts.runner.stop(verified)
            else:
                self._parts.recordings.begin(verified, folder)
                self._parts.runner.activate(verified, folder)
        except MusterError:
            self._parts.recordings.end_others(model, before.digest if before is not None else None)
            shutil.rmtree(view, ignore_errors=True)
            raise
        self._parts.recordings.end_others(model, measured)
        self._keep_view(model, view)
        if measured is None:
            log.warning("%s is stopped by order", verified.manifest.name)
        else:
            log.info("%s answers", verified.manifest.name)

    def _keep_view(self, model: str, view: Path | None) -> None:
        """Remove the files that the version before was loaded from; its last call has returned."""
        old = self._views.pop(model, None)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        if view is not None:
            self._views[model] = view

    # Both

    def _held(self, digest: str) -> VerifiedManifest:
        document = self._parts.store.installed(digest)
        if document is None:
            raise StorageError(f"the manifest of version {digest[:12]} is not on the disk")
        return self._parts.verifier.reverify(document)

    def _new_view(self) -> Path:
        scratch, spare = self._parts.scratch, self._parts.spare
        if spare is not None and not is_writable(scratch.parent):
            scratch = spare()
        return scratch / str(next(self._numbers))

    def _download_failed(self, digest: str, error: MusterError) -> DownloadFailed:
        return DownloadFailed(digest=digest, reason=error.reason, detail=str(error), **self._moment())

    def _moment(self) -> _Moment:
        return {"now": self._parts.clock(), "jitter": self._parts.chance.random()}


def _needs_room(*versions: VerifiedManifest) -> bool:
    return any(version.manifest.budget.swap == "stop-then-load" for version in versions)
