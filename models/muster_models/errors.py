"""Every error of Muster, and the reason codes that people and machines read.

MusterError                     the world is wrong; a wrong caller gets ValueError or RuntimeError
├── InvalidInputError           bytes or values from outside do not have the expected form
│   ├── ManifestError           a manifest
│   ├── MessageError            a message or topic on the wire
│   ├── SketchError             an encoded sketch or baseline
│   └── ModelFileError          a model file that the publish gate refuses
├── TrustError                  a signature, a role, a sequence or a hash says no
├── FitError                    a genuine version that this device cannot run
├── TransferError               a download failed; trying again may help
├── StorageError                the disk refused
├── PredictionError             a runtime failed to load or to answer
└── RequestError                the controller refuses what was asked
    ├── NotFoundError
    ├── ConflictError
    └── ForbiddenError
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused, failed or was undone: one code, the same on device, wire and page."""

    # trust
    TAMPERED = "tampered"  # bytes differ from the signed hash or length
    UNSIGNED = "unsigned"  # no threshold of valid signatures
    WRONG_KEY = "wrong-key"  # signed, by a key that does not hold the role
    EXPIRED = "expired"
    REPLAYED = "replayed"  # an older sequence or metadata version than one already seen
    WRONG_DEVICE = "wrong-device"
    NOT_LISTED = "not-listed"
    BELOW_FLOOR = "below-floor"
    # fit
    WRONG_HARDWARE = "wrong-hardware"
    WRONG_RUNTIME = "wrong-runtime"
    AGENT_TOO_OLD = "agent-too-old"
    NO_SPACE = "no-space"
    ENVIRONMENT = "environment"  # the machine lacks something that the model asks for, such as a locale
    # form
    BAD_MANIFEST = "bad-manifest"
    BAD_MESSAGE = "bad-message"
    BAD_SKETCH = "bad-sketch"
    BAD_MODEL = "bad-model"
    TOO_LARGE = "too-large"
    BAD_SETTING = "bad-setting"
    # transfer and disk
    DOWNLOAD_FAILED = "download-failed"
    STORAGE_FAILED = "storage-failed"
    # behaviour
    LOAD_FAILED = "load-failed"
    CRASHED = "crashed"
    HUNG = "hung"
    OUT_OF_MEMORY = "out-of-memory"
    NOT_FINITE = "not-finite"
    WRONG_SHAPE = "wrong-shape"
    WRONG_OUTPUT = "wrong-output"  # a golden vector was answered outside its tolerance
    TOO_SLOW = "too-slow"
    # course of an update
    TIMED_OUT = "timed-out"
    SUPERSEDED = "superseded"
    ORDERED = "ordered"  # the controller asked for it
    NOT_ALLOWED = "not-allowed"  # the device's own settings forbid it


class MusterError(Exception):
    """Something outside this program is not as it must be.

    Attributes:
        reason: The code that reports, counters and pages show.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InvalidInputError(MusterError):
    """Bytes or values from outside do not have the expected form."""


class ManifestError(InvalidInputError):
    """A manifest does not parse or contradicts itself."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_MANIFEST) -> None:
        super().__init__(reason, message)


class MessageError(InvalidInputError):
    """A message or a topic does not parse."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_MESSAGE) -> None:
        super().__init__(reason, message)


class SketchError(InvalidInputError):
    """An encoded sketch or baseline does not parse, or belongs to another baseline."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.BAD_SKETCH, message)


class ModelFileError(InvalidInputError):
    """The publish gate found something in a model file that no device should load."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_MODEL) -> None:
        super().__init__(reason, message)


class TrustError(MusterError):
    """A signature, a role, a sequence number, an expiry or a hash says no."""


class FitError(MusterError):
    """A genuine version that this device cannot run."""


class TransferError(MusterError):
    """A download failed; the same request may succeed later."""

    def __init__(self, message: str, reason: Reason = Reason.DOWNLOAD_FAILED) -> None:
        super().__init__(reason, message)


class StorageError(MusterError):
    """The disk refused: full, read-only or failing."""

    def __init__(self, message: str, reason: Reason = Reason.STORAGE_FAILED) -> None:
        super().__init__(reason, message)


class PredictionError(MusterError):
    """A runtime failed to load a model, or a model failed to answer."""


class RequestError(MusterError):
    """The controller refuses what was asked."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_MESSAGE) -> None:
        super().__init__(reason, message)


class NotFoundError(RequestError):
    """Nothing has the name that was asked for."""


class ConflictError(RequestError):
    """The request contradicts the present state."""


class ForbiddenError(RequestError):
    """The caller may not do this."""
