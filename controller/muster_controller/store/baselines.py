"""The baselines of the released versions, read from their files once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from muster_controller.store.blobs import Blobs
from muster_models.errors import MusterError
from muster_models.sketch.baseline import Baseline, decode_baseline

T = TypeVar("T")
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

    def read_all(
        self,
        encoded: Sequence[tuple[str, bytes]],
        read: Callable[[Sequence[bytes], Baseline], Sequence[T | MusterError]],
    ) -> list[T | MusterError]:
        """Return what ``read`` makes of sketches, in their order; it is called once for each baseline.

        Args:
            encoded: SHA-256 of the baseline and bytes of each sketch.
            read: ``codec.decode_all`` or ``codec.rows_of_all``: many sketches at a time cost far less.
        """
        found: dict[int, T | MusterError] = {}
        for sha256 in {named for named, _ in encoded}:
            places = [place for place, (named, _) in enumerate(encoded) if named == sha256]
            try:
                made = read([encoded[place][1] for place in places], self.get(sha256))
            except MusterError as error:  # no such baseline
                made = [error] * len(places)
            found |= zip(places, made, strict=True)
        return [found[place] for place in range(len(encoded))]
