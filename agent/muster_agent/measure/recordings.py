"""The recorders of the versions that answer: one each, begun before its first call, ended after its last."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muster_agent.measure.merging import merge_windows
from muster_agent.measure.outbox import WindowPart
from muster_agent.measure.recorder import Journal, Recorder
from muster_models.errors import PredictionError, Reason, SketchError, StorageError
from muster_models.sketch.baseline import Baseline, decode_baseline
from muster_models.sketch.reference import check_fits
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Reporting, ShadowCounts, Window

Array = NDArray[np.generic]
Key = tuple[str, str]  # model and digest of its manifest


class Recordings:
    """Measures every version that answers. Thread safe.

    Args:
        clock: Unix seconds.
        emit: Takes each window that ended.
        journal: Returns what keeps copies of open windows; None keeps none.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        emit: Callable[[WindowPart], None],
        journal: Callable[[], Journal] | None = None,
    ) -> None:
        self._reporting = Reporting()
        self._clock = clock
        self._emit = emit
        self._journal = journal
        self._lock = threading.Lock()
        self._recorders: dict[Key, Recorder] = {}
        self._baselines: dict[str, Baseline] = {}
        self._counters: dict[str, set[str]] = {}  # names counted by, of each model

    def begin(self, verified: VerifiedManifest, folder: Path) -> None:
        """Measure a version from now on; nothing changes for one that is measured already.

        Args:
            verified: The version.
            folder: Holds its files under their own names.

        Raises:
            SketchError: Its baseline does not fit its manifest.
            StorageError: Its baseline cannot be read.
        """
        key = (verified.manifest.model, verified.digest)
        baseline = read_baseline(verified, folder)
        with self._lock:
            if key in self._recorders:
                return
            recorder = Recorder(
                verified.manifest,
                baseline,
                self._reporting,
                digest=verified.digest,
                clock=self._clock,
                emit=self._emit,
                journal=self._journal,
                counters=self._counters.get(verified.manifest.model, ()),
            )
            self._baselines[baseline.digest] = baseline
            self._recorders[key] = recorder
        recorder.start()

    def end_others(self, model: str, digest: str | None) -> None:
        """Hand out what other versions of ``model`` than ``digest`` saw, and forget them."""
        with self._lock:
            gone = [key for key in self._recorders if key[0] == model and key[1] != digest]
            ended = [self._recorders.pop(key) for key in gone]
        for recorder in ended:
            recorder.close()

    def configure(self, reporting: Reporting) -> None:
        """Report differently from now on."""
        with self._lock:
            self._reporting = reporting
            recorders = list(self._recorders.values())
        for recorder in recorders:
            recorder.configure(reporting)

    def observe(  # noqa: PLR0917 - as the runner calls it
        self,
        model: str,
        digest: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array] | None,
        seconds: float,
        error: PredictionError | None,
    ) -> None:
        """Count one call; the runner calls this in the application's thread."""
        recorder = self._recorders.get((model, digest))
        if recorder is not None:
            recorder.record(inputs, outputs, seconds=seconds, error=error)

    def compared(self, model: str, digest: str, counts: ShadowCounts) -> None:
        """Count what a candidate answered in shadow beside ``digest``; for any thread."""
        recorder = self._recorders.get((model, digest))
        if recorder is not None:
            recorder.compare(counts)

    def count(self, model: str, counts: Mapping[str, int]) -> None:
        """Add what the application counted to the window of the version that answers; for any thread.

        While one version gives way to another, that is the one that goes.

        Raises:
            MessageError: A name or a number has the wrong form, or there are too many names.
            PredictionError: No version of the model is measured.
        """
        with self._lock:  # so that a version which begins just now knows every name
            recorder = next((one for (name, _), one in self._recorders.items() if name == model), None)
            if recorder is None:
                raise PredictionError(Reason.LOAD_FAILED, f"no version of {model[:64]!r} runs here")
            recorder.count(counts)
            self._counters.setdefault(model, set()).update(counts)

    def merge(self, first: Window, second: Window) -> Window | None:
        """Return two windows of one version as one; None when their baseline is not known any more."""
        return merge_windows(first, second, self._baselines.get(first.baseline))

    def close(self) -> None:
        """Hand out what every version saw."""
        with self._lock:
            models = {model for model, _ in self._recorders}
        for model in models:
            self.end_others(model, None)


def read_baseline(verified: VerifiedManifest, folder: Path) -> Baseline:
    """Return the baseline of a version from its private folder.

    Raises:
        SketchError: It is damaged, or its columns are not what the manifest's features give.
        StorageError: It cannot be read.
    """
    path = folder / verified.manifest.file("baseline").name
    try:
        baseline = decode_baseline(path.read_bytes())
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    try:
        check_fits(baseline, verified.manifest.features, verified.manifest.prediction)
    except SketchError as error:
        raise SketchError(f"{path.name}: {error}") from error
    return baseline
