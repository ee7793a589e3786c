"""Decoded sketches, kept for a while: a page that is looked at again decodes only what is new."""

import threading
from collections import OrderedDict

from muster_controller.store.baselines import Baselines
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.codec import decode
from muster_models.sketch.window import Sketch

MAX_HELD = 4096  # about 6 kB each with a dozen columns


class Sketches:
    """A bounded memory of sketches by the number of their window. Threads may share it."""

    def __init__(self, baselines: Baselines) -> None:
        self._baselines = baselines
        self._lock = threading.Lock()
        self._held: OrderedDict[int, Sketch] = OrderedDict()

    def baseline(self, sha256: str) -> Baseline:
        """Return a baseline by the SHA-256 of its file.

        Raises:
            NotFoundError: The file is not here.
            SketchError: The file is not a baseline.
        """
        return self._baselines.get(sha256)

    def sketch(self, window: int, data: bytes, baseline: Baseline) -> Sketch:
        """Return the sketch of a window.

        Raises:
            SketchError: The bytes are not a sketch on ``baseline``.
        """
        with self._lock:
            held = self._held.get(window)
        if held is not None:
            return held
        decoded = decode(data, baseline)
        with self._lock:
            self._held[window] = decoded
            while len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
        return decoded
