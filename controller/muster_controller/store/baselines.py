"""The baselines of the released versions, read from their files once, and the sketches on them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from muster_controller.store.blobs import Blobs
from muster_models.errors import MusterError
from muster_models.sketch.baseline import Baseline, decode_baseline
from muster_models.sketch.codec import decode_all
from muster_models.sketch.window import Sketch

T = TypeVar("T")
MAX_HELD = 64  # about 100 kB each
MAX_SKETCHES = 1_000  # about 10 kB each


class Baselines:
    """Baselines by SHA-256; the most recently used ones are kept. Threads may share it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._held: OrderedDict[str, Baseline] = OrderedDict()
        self._sketches: OrderedDict[tuple[str, bytes], Sketch] = OrderedDict()
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

    def sketches(self, encoded: Sequence[tuple[str, bytes]]) -> list[Sketch | MusterError]:
        """Return sketches, in their order.

        The watch over drift reads the same windows as rollouts do, so the newest are kept.

        Args:
            encoded: SHA-256 of the baseline and bytes of each.
        """
        with self._lock:
            held = [self._sketches.get(one) for one in encoded]
        missing = [one for one, sketch in zip(encoded, held, strict=True) if sketch is None]
        made = self.read_all(missing, decode_all)
        with self._lock:
            for one, sketch in zip(missing, made, strict=True):
                if isinstance(sketch, Sketch):
                    self._sketches[one] = sketch
            while len(self._sketches) > MAX_SKETCHES:
                self._sketches.popitem(last=False)
        decoded = iter(made)
        return [next(decoded) if sketch is None else sketch for sketch in held]

    def read_all(
        self,
        encoded: Sequence[tuple[str, bytes]],
        read: Callable[[Sequence[bytes], Baseline], Sequence[T | MusterError]],
    ) -> list[T | MusterError]:
        """Return what ``read`` makes of sketches, in their order; it is called once for each baseline.

        Args:
            encoded: SHA-256 of the baseline and bytes of each sketch.
            read: Such as ``codec.rows_of_all``: many sketches at a time cost far less.
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
