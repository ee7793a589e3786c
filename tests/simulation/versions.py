"""Versions of a model that exist by their outputs alone: what they answer is drawn, and sketched for real."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from muster_models.manifest import ClassOutput, FeatureSpec, FileRole, TensorSpec, encode
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.features import column_kinds
from muster_models.trust.verified import VerifiedManifest, _seal
from muster_models.wire import LATENCY_EDGES_MS
from support.manifests import file_entry, make_manifest

Array = NDArray[np.float64]

MODEL = "digits"
CLASSES = 3
REFERENCE_ROWS = 2000
DRIFT = 1.0  # standard deviations by which a feature moves at a site that drifts


class Kind(StrEnum):
    """What becomes of a version."""

    GOOD = "good"
    REFUSED = "refused"  # does not answer its golden vectors
    CRASHES = "crashes"  # its worker dies in probation
    UNSURE = "unsure"  # runs, with lower confidence
    ERRS = "errs"  # runs, and some calls fail


@dataclass(frozen=True)
class Version:
    """A version with the bytes of its files."""

    kind: Kind
    verified: VerifiedManifest
    blobs: Mapping[str, bytes]
    baseline: Baseline

    @property
    def digest(self) -> str:
        return self.verified.digest

    @property
    def name(self) -> str:
        return self.verified.manifest.version

    def answer(self, rows: int, chance: np.random.Generator, *, offset: float, drift: float) -> Array:
        """Return what it sees and answers: one row per call.

        Args:
            offset: What is peculiar to a device, in standard deviations.
            drift: By how much a feature has moved.
        """
        return draw_rows(self.kind, rows, chance, offset=offset, drift=drift)

    def errors(self, calls: int, chance: np.random.Generator) -> int:
        """Return how many of so many calls fail."""
        return int(chance.binomial(calls, 0.25 if self.kind is Kind.ERRS else 0.0005))


def draw_rows(kind: Kind, rows: int, chance: np.random.Generator, *, offset: float, drift: float) -> Array:
    """Return rows of the columns of every version: two features, confidence and class."""
    level = chance.normal(20 + 5 * (offset + drift), 5, rows)
    tied = np.where(chance.random(rows) < 0.3, 0.0, chance.gamma(2.0, size=rows))
    sureness = (3.0, 3.0) if kind is Kind.UNSURE else (8.0, 2.0)
    confidence = chance.beta(*sureness, size=rows) * (1 - 1 / CLASSES) + 1 / CLASSES
    return np.column_stack([level, tied, confidence, chance.integers(0, CLASSES, rows)])


def latency(calls: int) -> tuple[int, ...]:
    """Return the times that so many calls took, in the bins of the wire."""
    bins = [0] * (len(LATENCY_EDGES_MS) + 1)
    bins[4] = calls
    return tuple(bins)


@functools.cache
def make_version(number: str, kind: Kind, *, release: int, own_baseline: bool) -> Version:
    """Return a version; those without a baseline of their own share that of the good ones."""
    baseline = _baseline(kind, seed=release if own_baseline else 0)
    contents: dict[FileRole, bytes] = {
        "model": f"the {kind} model {number} ".encode() * 8,
        "baseline": baseline.encode(),
        "golden": b"the same golden vectors",
    }
    files = tuple(
        file_entry(f"{role}.bin", role, sha256=_sha256(data), length=len(data))
        for role, data in contents.items()
    )
    manifest = make_manifest(
        model=MODEL,
        version=number,
        release=release,
        inputs=(TensorSpec("row", "float32", (None, 2)),),
        outputs=(TensorSpec("scores", "float32", (None, CLASSES)),),
        features=_FEATURES,
        prediction=_PREDICTION,
        files=files,
    )
    blobs = {_sha256(data): data for data in contents.values()}
    return Version(kind, _seal(encode(manifest)), blobs, baseline)


_FEATURES = (FeatureSpec("level", "row", column=0), FeatureSpec("tied", "row", column=1))
_PREDICTION = ClassOutput("scores", tuple("abc"))


def _baseline(kind: Kind, *, seed: int) -> Baseline:
    rows = draw_rows(kind, REFERENCE_ROWS, np.random.default_rng(seed), offset=0.0, drift=0.0)
    return make_baseline(rows, column_kinds(_FEATURES, _PREDICTION), classes=CLASSES)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
