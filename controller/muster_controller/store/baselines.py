"""The baselines of the released versions, read from their files once."""

import threading
from collections import OrderedDict

from muster_controller.store.blobs import Blobs
from muster_models.sketch.baseline import Baseline, decode_baseline

MAX_HELD = 64  # about 100 kB each


class Baselines:
    """Baselines by SHA-256; the most recently used ones are kept. Threads may share it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._held: OrderedDict[str, Baseline] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str) -> Baseline:
        """Return a baseline.

        Raises:
            NotFoundError: No such file.
            SketchError: The file is not a baseline.
        """
        with self._lock:
            if sha256 not in self._held:
                self._held[sha256] = decode_baseline(self._blobs.read(sha256))
            self._held.move_to_end(sha256)
            while len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
            return self._held[sha256]
