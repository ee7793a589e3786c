"""Rows from a folder of images, in the order of their names; of the size that the model takes.

Images are not scaled to another size here: how that is done changes what a model answers.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muster_agent.api import TensorDescription
from muster_agent.batch.source import Array, Batch, Tensors, dtype_for, invalid, readable, row_shape

IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"})
_PIXEL = 1 / 255
_PNM = re.compile(rb"P([56])(?:\s+#[^\n]*)*\s+(\d{1,5})(?:\s+#[^\n]*)*\s+(\d{1,5})\s+255\s", re.DOTALL)


class ImageSource:
    """The images of a folder."""

    def __init__(self, folder: Path, inputs: Tensors, scale: float | None) -> None:
        if len(inputs) != 1:
            raise invalid(f"{folder}: images are for a model of one input, this one has {len(inputs)}")
        self._tensor = inputs[0]
        self._files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
        if not self._files:
            raise invalid(f"{folder}: expected images ({', '.join(sorted(IMAGES))}), found none")
        self._dtype = dtype_for(self._tensor, is_real=scale is not None)
        if self._dtype == np.int8:
            raise invalid(
                f"{folder}: the model takes INT8, which holds no pixels; say --scale, such as 0.0039"
            )
        self._channels, self._size, self._is_first = _layout(self._tensor, self._files[0])
        self._scale = scale if scale is not None else _PIXEL if self._dtype.kind == "f" else 1.0
        self.rows: int | None = len(self._files)

    def read(self, start: int, size: int) -> Iterator[Batch]:
        """Yield the rows from ``start`` on, see ``Source``."""
        for begin in range(start, len(self._files), size):
            files = self._files[begin : begin + size]
            stacked = np.stack([self._image(path) for path in files])
            yield Batch({self._tensor.name: stacked}, [path.name for path in files])

    def _image(self, path: Path) -> Array:
        with readable(path):
            pixels = _pixels(path, self._channels)
        if pixels.shape[:2] != self._size:
            raise invalid(
                f"{path}: the model takes {self._size[1]} x {self._size[0]} pixels, "
                f"got {pixels.shape[1]} x {pixels.shape[0]}; scale the images first"
            )
        ordered = pixels.transpose(2, 0, 1) if self._is_first else pixels
        values = ordered * self._scale if self._scale != 1.0 else ordered
        return values.astype(self._dtype).reshape(row_shape(self._tensor))


def _layout(tensor: TensorDescription, example: Path) -> tuple[int, tuple[int, int], bool]:
    """Return the channels of an image input, its height and width, and whether channels come first.

    Where an input is one list of values, images of as many have the form of the first of them.
    """
    match row_shape(tensor):
        case (values,):
            height, width = _size(example)
            channels, rest = divmod(values, height * width)
            if rest or channels not in {1, 3}:
                raise invalid(
                    f"{example}: the model takes {values} values, "
                    f"got {width} x {height} pixels: {height * width} values, in colour {3 * height * width}"
                )
            return channels, (height, width), False
        case (height, width):
            return 1, (height, width), False
        case (1 | 3 as channels, height, width):
            return channels, (height, width), True
        case (height, width, 1 | 3 as channels):
            return channels, (height, width), False
        case shape:
            raise invalid(
                f"input {tensor.name!r} takes {list(shape)}: expected height and width, with 1 or 3 channels"
            )


def _size(path: Path) -> tuple[int, int]:
    """Return the height and width of an image."""
    with readable(path):
        content = path.read_bytes() if path.suffix.lower() in {".pgm", ".ppm"} else b""
        if (head := _PNM.match(content)) is not None:
            return max(1, int(head[3])), max(1, int(head[2]))
        return _pixels(path, 1).shape[:2]


def _pixels(path: Path, channels: int) -> NDArray[np.uint8]:
    """Return an image as height x width x channels."""
    content = path.read_bytes() if path.suffix.lower() in {".pgm", ".ppm"} else b""
    if (head := _PNM.match(content)) is not None and (3 if head[1] == b"6" else 1) == channels:
        shape = int(head[3]), int(head[2]), channels
        if len(content) - head.end() != math.prod(shape):
            raise invalid(
                f"{path}: expected {math.prod(shape)} bytes of pixels, got {len(content) - head.end()}"
            )
        return np.frombuffer(content, np.uint8, offset=head.end()).reshape(shape)
    try:
        from PIL import Image  # noqa: PLC0415 - a device need not have it
    except ImportError as error:
        raise invalid(
            f"{path}: without Pillow only binary .pgm and .ppm with the model's channels are read: "
            "pip install pillow"
        ) from error
    try:
        with Image.open(path) as image:
            decoded = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    except (SyntaxError, Image.DecompressionBombError) as error:  # what it raises besides the usual
        raise invalid(f"{path}: {error}") from error
    return decoded.reshape(*decoded.shape[:2], channels)
