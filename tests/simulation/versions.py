"""Versions of a model that exist by their outputs alone: what they answer is drawn, and sketched for real.

A version is of one of fourteen kinds: twelve that come up in life, and two that are cheap to tell. What must
become of each is in ``EXPECTED``, and nowhere else.
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import Reason
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
ERRORS = 0.0005  # share of calls that fail with a version that is fine
SCRAP = 0.05  # pieces per call that an application counts as scrap
WASTE = 0.1  # more of them with a version that wastes
SCRAP_MARGIN = 0.03
ACCURACY = 0.95  # of a version that is fine
MISTAKES = 0.4  # more of its answers are wrong with a version that is mistaken
ACCURACY_MARGIN = 0.2
LEAST_LABELS = 60  # of a version, before its accuracy is judged
RARE = 0.08  # share of the inputs that a version has no answer to
LATENCY_BINS = len(LATENCY_EDGES_MS) + 1
USUAL_BIN = 4  # half a millisecond to one
SLOW_BINS = 4  # by which a slow version is later: ten times as long, and more


class Kind(StrEnum):
    """What is wrong with a version, if anything."""

    FINE = "fine"
    NOISIER = "noisier"
    REFUSED = "refused"
    CRASHES = "crashes"
    CRASHES_LATER = "crashes-later"
    LEAKS = "leaks"
    WORSE = "worse"
    WORSE_AT_SITE = "worse-at-site"
    NAN = "nan"
    SLOWER = "slower"
    LARGER = "larger"
    UNSURE = "unsure"
    WASTES = "wastes"
    MISTAKEN = "mistaken"


@dataclass(frozen=True)
class Expected:
    """What must become of a rollout of a kind of version.

    Attributes:
        what: The kind in words, after "it".
        completes: The rollout may complete.
        least: Share of the rollouts that complete where they may, and that a verdict stops (and no person)
            where they may not; over many seeds.
        stages: The most stages that are ever given the version.
        reveals: Only devices at one site show what is wrong, and perhaps none of them is in a stage: what is
            not overlooked once they were heard is a law of ``hearing``.
        late: What is wrong may show only after the last stage; then a person takes the version back.
    """

    what: str
    completes: bool = False
    least: float = 0.0
    stages: int = 99
    reveals: bool = False
    late: bool = False


EXPECTED: Mapping[Kind, Expected] = {
    Kind.FINE: Expected("is fine", completes=True, least=0.7),
    Kind.NOISIER: Expected("is fine, and its confidence is noisier", completes=True, least=0.5),
    Kind.REFUSED: Expected("does not answer its golden vectors", stages=1, least=0.8),
    Kind.CRASHES: Expected("crashes at load", stages=1, least=0.8),
    Kind.CRASHES_LATER: Expected("crashes after some windows", least=0.5, late=True),
    Kind.LEAKS: Expected("leaks memory, slows down and dies of it", least=0.5, late=True),
    Kind.WORSE: Expected("fails 5 % more of its calls", least=0.3),
    Kind.WORSE_AT_SITE: Expected("fails half of its calls at one site", reveals=True),
    Kind.NAN: Expected("answers NaN to 8 % of the inputs", least=0.3),
    Kind.SLOWER: Expected("is ten times slower", least=0.5),
    Kind.LARGER: Expected("answers with larger classes", least=0.3),
    Kind.UNSURE: Expected("is less sure of its answers", least=0.5),
    Kind.WASTES: Expected("makes the application count more scrap", least=0.3),
    Kind.MISTAKEN: Expected("is wrong nine times as often, and as sure as before", least=0.3),
}

# By kind, in windows after an activation: when its worker dies, and why.
_DEATHS = {Kind.CRASHES_LATER: (2.5, 4.5, Reason.CRASHED), Kind.LEAKS: (4.0, 6.0, Reason.OUT_OF_MEMORY)}


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

    @property
    def accuracy(self) -> float:
        """Share of its answers that are right."""
        return ACCURACY - (MISTAKES if self.kind is Kind.MISTAKEN else 0.0)

    @property
    def death(self) -> tuple[float, float, Reason] | None:
        """Between which windows after an activation its worker dies, and of what; None: it does not."""
        return _DEATHS.get(self.kind)

    def answer(self, rows: int, chance: np.random.Generator, *, offset: float, drift: float) -> Array:
        """Return what it sees and answers: one row per call.

        Args:
            offset: What is peculiar to a device, in standard deviations.
            drift: By how much a feature has moved.
        """
        return draw_rows(self.kind, rows, chance, offset=offset, drift=drift)

    def errors(self, calls: int, chance: np.random.Generator, *, is_sick: bool) -> int:
        """Return how many of so many calls fail.

        Args:
            is_sick: The device stands where a version is worse that is so at one site only.
        """
        share = ERRORS
        if self.kind is Kind.WORSE:
            share += 0.05
        elif self.kind is Kind.WORSE_AT_SITE and is_sick:
            share = 0.5
        return int(chance.binomial(calls, share))

    def scrap(self, calls: int, chance: np.random.Generator) -> int:
        """Return what the application counts in so many calls."""
        return int(chance.poisson(calls * (SCRAP + (WASTE if self.kind is Kind.WASTES else 0.0))))

    def latency(self, calls: int, chance: np.random.Generator, *, age: float) -> tuple[int, ...]:
        """Return the times that so many calls took, in the bins of the wire.

        Args:
            age: Windows since the version was activated.
        """
        later = SLOW_BINS if self.kind is Kind.SLOWER else 0
        if self.kind is Kind.LEAKS:
            later = min(int(age), 8)
        bins = [0] * LATENCY_BINS
        bins[USUAL_BIN + later : USUAL_BIN + later + 3] = chance.multinomial(calls, (0.6, 0.3, 0.1)).tolist()
        return tuple(bins)


def draw_rows(kind: Kind, rows: int, chance: np.random.Generator, *, offset: float, drift: float) -> Array:
    """Return rows of the columns of every version: two features, confidence and class."""
    level = chance.normal(20 + 5 * (offset + drift), 5, rows)
    tied = np.where(chance.random(rows) < 0.3, 0.0, chance.gamma(2.0, size=rows))
    sureness = {Kind.UNSURE: (3.0, 3.0), Kind.NOISIER: (4.0, 1.0)}.get(kind, (8.0, 2.0))
    confidence = chance.beta(*sureness, size=rows) * (1 - 1 / CLASSES) + 1 / CLASSES
    classes = chance.integers(0, CLASSES, rows).astype(float)
    if kind is Kind.LARGER:
        classes[chance.random(rows) < 1 / 3] = CLASSES - 1
    if kind is Kind.NAN:
        confidence[chance.random(rows) < RARE] = math.nan
        classes[np.isnan(confidence)] = math.nan
    return np.column_stack([level, tied, confidence, classes])


def scores_of(rows: Array) -> NDArray[np.float32]:
    """Return the scores that rows of ``draw_rows`` stand for, one per class."""
    confidence, classes = rows[:, 2], rows[:, 3]
    scores = np.repeat(((1 - confidence) / (CLASSES - 1))[:, None], CLASSES, axis=1)
    known = np.flatnonzero(~np.isnan(classes))
    scores[known, classes[known].astype(int)] = confidence[known]
    return scores.astype(np.float32)


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


def first_version() -> Version:
    """Return the version that every fleet begins with."""
    return make_version("1.0.0", Kind.FINE, release=1, own_baseline=False)


_FEATURES = (FeatureSpec("level", "row", column=0), FeatureSpec("tied", "row", column=1))
_PREDICTION = ClassOutput("scores", tuple("abc"))


@functools.cache
def _baseline(kind: Kind, *, seed: int) -> Baseline:
    rows = draw_rows(kind, REFERENCE_ROWS, np.random.default_rng(seed), offset=0.0, drift=0.0)
    return make_baseline(rows, column_kinds(_FEATURES, _PREDICTION), classes=CLASSES)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
