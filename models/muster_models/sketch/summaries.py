"""Summaries of a whole row: what an image, a stretch of sound or an embedding is like, as one number.

All rows at once, and in 32-bit floats where the tensor is not wider: they are computed on the device.
"""

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError

Array = NDArray[np.generic]
Floats = NDArray[np.floating]

INK_LEVEL = 0.5  # share of the row's own maximum above which a pixel counts as ink
SILENCE_DB = -200.0  # below the quietest step of 32-bit samples


def is_narrow(tensor: Array) -> bool:
    """Tell whether 32-bit floats hold every value of a tensor exactly."""
    return bool(np.can_cast(tensor.dtype, np.float32))


def as_floats(tensor: Array) -> Floats:
    """Return a tensor as 32-bit floats where those hold its values, as 64-bit floats otherwise."""
    return tensor.astype(np.float32 if is_narrow(tensor) else np.float64)


def flat(tensor: Array) -> Floats:
    """Return one row of floats for each entry of the batch."""
    return as_floats(tensor).reshape(len(tensor), -1)


def brightness(tensor: Array) -> Floats:
    """Return the mean of each row."""
    return np.asarray(flat(tensor).mean(axis=1))


def contrast(tensor: Array) -> Floats:
    """Return the standard deviation of each row."""
    return np.asarray(flat(tensor).std(axis=1))


def sharpness(tensor: Array) -> Floats:
    """Return the mean difference of neighbouring pixels."""
    image = _as_images(as_floats(tensor))
    across = np.abs(np.diff(image, axis=2)).mean(axis=(1, 2))
    along = np.abs(np.diff(image, axis=1)).mean(axis=(1, 2))
    return np.asarray((across + along) / 2)


def ink(tensor: Array) -> Floats:
    """Return the share of pixels brighter than half of the brightest."""
    rows = flat(tensor)
    return np.asarray((rows > INK_LEVEL * rows.max(axis=1, keepdims=True)).mean(axis=1))


def level(tensor: Array) -> Floats:
    """Return the root mean square in decibels, 0 for full scale; a silent row has ``SILENCE_DB``."""
    signal = _signal(tensor)
    with np.errstate(divide="ignore", over="ignore"):
        loudness = 20 * np.log10(norm(signal)) - 10 * np.log10(max(signal.shape[1], 1))
    return np.asarray(np.maximum(loudness, SILENCE_DB))


def crossings(tensor: Array) -> Floats:
    """Return the share of neighbouring samples between which the sign changes."""
    signal = _signal(tensor)
    if signal.shape[1] < 2:  # noqa: PLR2004 - one sample has no neighbour
        return np.zeros(len(signal), dtype=signal.dtype)
    negative = np.signbit(signal)
    share = (negative[:, 1:] != negative[:, :-1]).mean(axis=1)
    return np.asarray(np.where(np.isfinite(signal).all(axis=1), share, np.nan))


def centroid(tensor: Array) -> Floats:
    """Return the mean frequency, weighted by amplitude, as a share of half the sampling rate.

    A constant offset is no sound and is left out. Silence has no frequency: it counts as missing.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        amplitude = np.abs(np.fft.rfft(_signal(tensor), axis=1))[:, 1:]
        frequency = np.arange(1, amplitude.shape[1] + 1, dtype=amplitude.dtype) / max(amplitude.shape[1], 1)
        return np.asarray(amplitude @ frequency / amplitude.sum(axis=1))


def norm(tensor: Array) -> Floats:
    """Return the length of each row as a vector."""
    rows = flat(tensor)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def _signal(tensor: Array) -> Floats:
    """Return sound from -1 to 1: whole numbers as a share of their range, floats as they are."""
    rows = flat(tensor)
    if tensor.dtype.kind in "iu":
        half = 2.0 ** (8 * tensor.dtype.itemsize - 1)
        rows = (rows - half if tensor.dtype.kind == "u" else rows) / half
    return rows


def _as_images(tensor: Floats) -> Floats:
    """Return (batch, height, width); a flat row of n² values is taken as an n by n image."""
    squeezed = tensor.reshape(len(tensor), *(size for size in tensor.shape[1:] if size != 1))
    if squeezed.ndim == 2:  # noqa: PLR2004 - batch and one axis
        side = round(squeezed.shape[1] ** 0.5)
        if side < 2 or side * side != squeezed.shape[1]:  # noqa: PLR2004 - one pixel has no neighbours
            raise SketchError(f"sharpness needs an image, got a row of {squeezed.shape[1]} values")
        squeezed = squeezed.reshape(-1, side, side)
    if squeezed.ndim > 3:  # noqa: PLR2004 - channels are averaged
        squeezed = _mean_of_last(squeezed.reshape(*squeezed.shape[:3], -1))
    return squeezed


def _mean_of_last(tensor: Floats) -> Floats:
    """Return the mean over the last axis, which is short: adding its parts takes a tenth of ``mean``."""
    total = tensor[..., 0].copy()
    for part in range(1, tensor.shape[-1]):
        total += tensor[..., part]
    return np.asarray(total / tensor.dtype.type(tensor.shape[-1]))
