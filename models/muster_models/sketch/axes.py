"""Principal axes of an input: where the baseline's rows lie, so that a device can say how a row lies to them.

The axes are part of the signed baseline. A projection says where a row lies along one of them; the residual
says how far it lies from all of them, which is what a new kind of input moves first.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.manifest import MAX_COMPONENTS, FeatureSpec
from muster_models.sketch.summaries import Array, Floats, flat

USUAL_COMPONENTS = 8  # of an input whose residual is sketched and none of its projections
MAX_BYTES = 1024 * 1024  # of the axes of one input
_REAL = np.dtype("<f4")


class Axes(Struct, frozen=True, forbid_unknown_fields=True):
    """Principal axes of one input.

    Attributes:
        mean: Of the reference, in 32-bit floats, lowest byte first.
        vectors: Orthonormal, the one with most variance first, one after the other, in the same form.
    """

    input: str
    mean: bytes
    vectors: bytes

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean, and the vectors in rows."""
        mean = np.frombuffer(self.mean, dtype=_REAL).astype(np.float32)
        vectors = np.frombuffer(self.vectors, dtype=_REAL).astype(np.float32)
        return mean, vectors.reshape(-1, max(len(mean), 1))


def check(axes: Axes) -> None:
    """Hold axes against their form.

    Raises:
        SketchError: They are too large, have different lengths, or hold what is no finite number.
    """
    length, size = len(axes.mean), len(axes.vectors)
    if not length or length % _REAL.itemsize or size % length or not 0 < size // length <= MAX_COMPONENTS:
        raise SketchError(f"axes of {axes.input!r}: {size} bytes are no vectors of {length} bytes each")
    if size > MAX_BYTES:
        raise SketchError(f"axes of {axes.input!r}: expected at most {MAX_BYTES} bytes, got {size}")
    if not all(np.isfinite(array).all() for array in axes.arrays()):
        raise SketchError(f"axes of {axes.input!r} must be finite")


def fit_all(features: Sequence[FeatureSpec], inputs: Mapping[str, Array]) -> tuple[Axes, ...]:
    """Return the axes of every input that has a projection or a residual among the features.

    Raises:
        SketchError: An input has too few rows, or too many values, for the axes that are asked for.
    """
    wanted: dict[str, int] = {}
    for feature in features:
        if feature.summary == "projection" and feature.component is not None:
            wanted[feature.input] = max(wanted.get(feature.input, 0), feature.component + 1)
    for feature in features:
        if feature.summary == "residual":
            wanted.setdefault(feature.input, USUAL_COMPONENTS)
    return tuple(_fit(name, flat(inputs[name]), count) for name, count in wanted.items())


def _fit(name: str, rows: Floats, count: int) -> Axes:
    width = rows.shape[1]
    if width * count * _REAL.itemsize > MAX_BYTES:
        raise SketchError(f"{count} axes of {name!r}: expected at most {MAX_BYTES} bytes, a row has {width}")
    finite = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
    if len(finite) <= count or width < count:
        raise SketchError(f"{count} axes of {name!r}: expected more rows and values, got {finite.shape}")
    mean = finite.mean(axis=0)
    vectors = np.linalg.svd(finite - mean, full_matrices=False)[2][:count]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    vectors *= np.where(largest < 0, -1.0, 1.0)  # a direction and its opposite are the same axis
    return Axes(name, mean.astype(_REAL).tobytes(), vectors.astype(_REAL).tobytes())


def project(tensor: Array, axes: Axes) -> tuple[Floats, Floats]:
    """Return where each row lies along each axis, and how far it lies from all of them.

    Raises:
        SketchError: A row has another length than the axes.
    """
    mean, vectors = axes.arrays()
    rows = flat(tensor)
    if rows.shape[1] != len(mean):
        raise SketchError(f"axes of {axes.input!r} are for {len(mean)} values, a row has {rows.shape[1]}")
    with np.errstate(over="ignore", invalid="ignore"):
        centred = rows - mean
        places = centred @ vectors.T
        rest = centred - places @ vectors
        return places, np.asarray(np.sqrt(np.einsum("ij,ij->i", rest, rest)))
