"""Prediction ids: a short text that says which prediction it names, for whoever learns the truth later.

``mp1.<model>.<device>.<base64url>``; the last part holds, big-endian: 8 bytes of the version's digest, 6 of
the time (Unix milliseconds), 4 of a number that differs between rows of one moment, one that says what
follows (1: a class in 2 bytes and its score in one, in 255ths; 2: a value as a 32-bit float), and the CRC-32
of all before it.

Nobody has to remember an id: the prediction is in it. The check sum finds what a spreadsheet or a hand has
damaged. It is no proof: whoever may push labels is believed about the truth, so a forged prediction gains
nothing that a forged label does not (docs/labels.md). Pure: no clock, no files.
"""

import base64
import binascii
import math
import re
import struct
import zlib
from dataclasses import dataclass

from muster_models.errors import MessageError
from muster_models.manifest import MODEL_PATTERN
from muster_models.topics import DEVICE_PATTERN

PREFIX = "mp1"
VERSION_DIGITS = 16  # of the digest, in hex
MAX_LENGTH = len(PREFIX) + 3 + 2 * 63 + 36
MAX_CLASSES = 1 << 16
_HEAD = struct.Struct(">8sHIIB")  # digest, milliseconds in two parts, number, what follows
_CLASS, _VALUE = struct.Struct(">HB"), struct.Struct(">f")
_CHECK = struct.Struct(">I")
_LEVELS = 255
_CLASS_KIND, _VALUE_KIND = 1, 2
_LAST_MILLISECOND = (1 << 48) - 1


@dataclass(frozen=True)
class ClassAnswer:
    """A class, by its index in the manifest's labels.

    Attributes:
        confidence: Its score, 0..1, to the nearest 255th.
    """

    index: int
    confidence: float


@dataclass(frozen=True)
class ValueAnswer:
    """A number, as a 32-bit float holds it: seven digits."""

    value: float


@dataclass(frozen=True)
class PredictionId:
    """What an id says.

    Attributes:
        version: The first 16 hex digits of the version's digest.
        at: When it was predicted, Unix milliseconds by the device's clock.
        number: Differs between the rows of one millisecond.
    """

    model: str
    device: str
    version: str
    at: int
    number: int
    answer: ClassAnswer | ValueAnswer

    def encode(self) -> str:
        """Return the id as text.

        Raises:
            ValueError: A field has a value that no id can hold.
        """
        try:
            packed = self._pack()
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{self} has no id: {error}") from error
        named = f"{PREFIX}.{self.model}.{self.device}."
        check = _CHECK.pack(zlib.crc32(named.encode() + packed))
        return named + base64.urlsafe_b64encode(packed + check).rstrip(b"=").decode()

    def _pack(self) -> bytes:
        if not 0 <= self.at <= _LAST_MILLISECOND:
            raise OverflowError(f"expected milliseconds in 0..{_LAST_MILLISECOND}, got {self.at}")
        if len(self.version) != VERSION_DIGITS:
            raise OverflowError(f"expected {VERSION_DIGITS} digits of a version, got {self.version!r}")
        match self.answer:
            case ClassAnswer(index=index, confidence=confidence):
                level = round(min(1.0, max(0.0, confidence)) * _LEVELS)
                kind, rest = _CLASS_KIND, _CLASS.pack(index, level)
            case ValueAnswer(value=value):
                kind, rest = _VALUE_KIND, _VALUE.pack(value)
        high, low = divmod(self.at, 1 << 32)
        return _HEAD.pack(bytes.fromhex(self.version), high, low, self.number, kind) + rest


_MODEL = re.compile(MODEL_PATTERN.removesuffix("$") + r"\Z")


def parse(text: str) -> PredictionId:
    """Return what an id says.

    Raises:
        MessageError: It is not an id, or was damaged on its way.
    """
    if len(text) > MAX_LENGTH:
        raise MessageError(f"a prediction id has at most {MAX_LENGTH} characters, got {len(text)}")
    match text.split("."):
        case [prefix, model, device, armoured] if prefix == PREFIX:
            pass
        case [prefix, *_] if re.fullmatch(r"mp\d{1,3}", prefix) and prefix != PREFIX:
            raise MessageError(f"expected a prediction id of form {PREFIX}, got one of form {prefix}")
        case _:
            raise MessageError(f"expected {PREFIX}.<model>.<device>.<code>, got {text[:80]!r}")
    if _MODEL.match(model) is None or DEVICE_PATTERN.fullmatch(device) is None:
        raise MessageError(f"prediction id: expected names of a model and a device, got {text[:80]!r}")
    data = _unarmour(armoured)
    held, check = data[: -_CHECK.size], data[-_CHECK.size :]
    if _CHECK.pack(zlib.crc32(f"{PREFIX}.{model}.{device}.".encode() + held)) != check:
        raise MessageError(f"prediction id {text[:80]!r} was damaged: its check sum is another one")
    digest, high, low, number, kind = _HEAD.unpack_from(held)
    answer = _answer(kind, held[_HEAD.size :])
    return PredictionId(model, device, digest.hex(), (high << 32) | low, number, answer)


def _unarmour(armoured: str) -> bytes:
    try:
        data = base64.b64decode(armoured + "=" * (-len(armoured) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MessageError(f"prediction id: its code is not Base64: {armoured[:48]!r}") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != armoured:  # one prediction has one id
        raise MessageError(f"prediction id: its code is not in its one form: {armoured[:48]!r}")
    if len(data) < _HEAD.size + _CHECK.size:
        raise MessageError(f"prediction id: its code has {len(data)} bytes and was cut off")
    return data


def _answer(kind: int, rest: bytes) -> ClassAnswer | ValueAnswer:
    try:
        if kind == _CLASS_KIND:
            index, level = _CLASS.unpack(rest)
            return ClassAnswer(index, level / _LEVELS)
        if kind == _VALUE_KIND:
            (value,) = _VALUE.unpack(rest)
            if math.isfinite(value):
                return ValueAnswer(value)
    except struct.error as error:
        raise MessageError(f"prediction id: its answer has {len(rest)} bytes") from error
    raise MessageError(f"prediction id: expected a class or a finite value, got kind {kind}: {rest.hex()}")
