"""Signing keys in files: ed25519 in PKCS#8 PEM, encrypted when a passphrase is given; public keys as JSON.

Keys in hardware or in a cloud come from securesystemslib's own signers and serve as well everywhere a
``Signer`` is taken.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Key, Signer

from muster_models.durable import sync_folder
from muster_models.errors import Reason, StorageError, TrustError

MAX_BYTES = 16 * 1024  # an RSA-4096 key in PEM has 3,272


def create_signer(path: Path, passphrase: bytes | None) -> Signer:
    """Make a new key, write it to ``path`` readable by its owner only, and return it ready to sign.

    Raises:
        StorageError: ``path`` exists (a key is never overwritten), or the disk refuses.
    """
    private = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(passphrase)
    _write_new(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return CryptoSigner(private)


def load_signer(path: Path, passphrase: bytes | None) -> Signer:
    """Read a private key of any kind that TUF knows; a passphrase is ignored when the file is not encrypted.

    Raises:
        TrustError: The passphrase is missing or wrong, or the file holds no such key.
        StorageError: The file cannot be read.
    """
    try:
        content = path.read_bytes()[:MAX_BYTES]
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if b"ENCRYPTED" not in content:
        passphrase = None
    elif passphrase is None:
        raise TrustError(Reason.WRONG_KEY, f"{path}: the key is encrypted and no passphrase was given")
    try:
        return CryptoSigner(load_pem_private_key(content, passphrase))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise TrustError(Reason.WRONG_KEY, f"{path}: wrong passphrase, or a damaged key") from error
        raise TrustError(Reason.WRONG_KEY, f"{path}: expected a private key in PEM: {error}") from error


def encode_public(key: Key) -> bytes:
    """Return the JSON form of a public key, for handing it to whoever delegates a role to it."""
    return msgspec.json.encode(key.to_dict(), order="sorted")


def public_key(document: bytes) -> Key:
    """Parse the JSON form of a public key.

    The key id is computed, never taken from the document: a chosen id could replace another role's key.

    Raises:
        TrustError: Not the JSON form of a public key.
    """
    try:
        content = msgspec.json.decode(document[:MAX_BYTES], type=dict[str, object])
        canonical = encode_canonical({name: content[name] for name in ("keytype", "scheme", "keyval")})
        return Key.from_dict(hashlib.sha256(str(canonical).encode()).hexdigest(), content)
    except (msgspec.MsgspecError, FormatError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise TrustError(Reason.BAD_MESSAGE, f"expected a public key in JSON: {error!r}") from error


def _write_new(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise StorageError(f"{path}: exists already; a key is never overwritten") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise StorageError(f"{path}: {error.strerror}") from error
