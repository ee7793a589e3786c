"""Signatures of webhooks in the form of Standard Webhooks 1.0: HMAC-SHA256, identifier ``v1``."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from muster_models.errors import InvalidInputError, Reason

PREFIX = "whsec_"
NEW_BYTES = 32
FEWEST_BYTES, MOST_BYTES = 24, 64
MOST_KEYS = 2  # the new one, and the old one while receivers change over
MAX_FILE_BYTES = 4096


def new_secret() -> str:
    """Return a new secret in the form that both sides keep."""
    return PREFIX + base64.b64encode(secrets.token_bytes(NEW_BYTES)).decode()


def load_keys(path: Path) -> list[bytes]:
    """Read the keys of a secret file; with two, messages carry both signatures.

    Raises:
        InvalidInputError: The file cannot be read, or does not hold one or two lines ``whsec_…``. The message
            never holds what was read.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_FILE_BYTES).decode().split()
    except OSError as error:
        raise _wrong(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _wrong(f"{path}: not text") from error
    if not 1 <= len(lines) <= MOST_KEYS:
        raise _wrong(f"{path}: expected one or two lines {PREFIX}…, got {len(lines)}")
    return [_key(path, line) for line in lines]


def sign(message: str, body: bytes, keys: Sequence[bytes], now: float) -> Mapping[str, str]:
    """Return the headers of a message that is sent now.

    Args:
        message: Its id, the same at each try.
        now: Unix seconds; receivers refuse what is too far from their own clock.
    """
    timestamp = str(int(now))
    content = b".".join((message.encode(), timestamp.encode(), body))
    signatures = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _key(path: Path, line: str) -> bytes:
    try:
        key = base64.b64decode(line.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(f"{path}: expected Base64 after {PREFIX}") from error
    if not line.startswith(PREFIX) or not FEWEST_BYTES <= len(key) <= MOST_BYTES:
        raise _wrong(
            f"{path}: expected {PREFIX} and {FEWEST_BYTES} to {MOST_BYTES} bytes in Base64, got {len(key)}"
        )
    return key


def _wrong(message: str) -> InvalidInputError:
    return InvalidInputError(Reason.BAD_SETTING, message)
