"""Files by their SHA-256, in a local folder: written once, whole or not at all."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from muster_models.durable import sync_folder
from muster_models.errors import NotFoundError, Reason, RequestError, StorageError, TrustError

MAX_BLOB_BYTES = 2 * 1024**3
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The files of all versions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, sha256: str) -> bool:
        """Tell whether a file is there; what is there is complete and was verified when it was written."""
        return self._path(sha256).is_file()

    def path(self, sha256: str) -> Path:
        """Return where a file lies.

        Raises:
            NotFoundError: It is not there.
        """
        path = self._path(sha256)
        if not path.is_file():
            raise NotFoundError(f"no file {sha256}")
        return path

    def read(self, sha256: str) -> bytes:
        """Return the content of a small file.

        Raises:
            NotFoundError: It is not there.
        """
        return self.path(sha256).read_bytes()

    def put(self, sha256: str, parts: Iterable[bytes]) -> int:
        """Store a file and return its length in bytes; the same file again changes nothing.

        Raises:
            RequestError: Not a SHA-256, or more than ``MAX_BLOB_BYTES``.
            TrustError: The content has another hash.
            StorageError: The disk refused.
        """
        with self.writer(sha256) as writer:
            for part in parts:
                writer.write(part)
            return writer.commit()

    def writer(self, sha256: str) -> "BlobWriter":
        """Return a writer for content that arrives in pieces; leaving it without ``commit`` keeps nothing.

        Raises:
            RequestError: Not a SHA-256.
            StorageError: The disk refused.
        """
        return BlobWriter(self._path(sha256))

    def _path(self, sha256: str) -> Path:
        if _SHA256.fullmatch(sha256) is None:
            raise RequestError(f"expected a SHA-256 in lower-case hex, got {sha256[:80]!r}")
        return self._folder / sha256


class BlobWriter:
    """One file on its way in."""

    def __init__(self, path: Path) -> None:
        self._final = path
        self._hash = hashlib.sha256()
        self._length = 0
        try:
            descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=path.parent)
        except OSError as error:
            raise StorageError(f"{path.parent}: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "wb")
        self._temporary = Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, part: bytes) -> None:
        """Take the next bytes.

        Raises:
            RequestError: More than ``MAX_BLOB_BYTES``.
            StorageError: The disk refused.
        """
        self._length += len(part)
        if self._length > MAX_BLOB_BYTES:
            raise RequestError(f"a file has at most {MAX_BLOB_BYTES} bytes", Reason.TOO_LARGE)
        self._hash.update(part)
        try:
            self._file.write(part)
        except OSError as error:
            raise StorageError(f"{self._temporary}: {error.strerror}") from error

    def commit(self) -> int:
        """Put the file in its place and return its length in bytes.

        Raises:
            TrustError: The content has another hash than its name says.
            StorageError: The disk refused.
        """
        if self._hash.hexdigest() != self._final.name:
            raise TrustError(
                Reason.TAMPERED, f"expected content of {self._final.name}, got {self._hash.hexdigest()}"
            )
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._temporary.replace(self._final)
            sync_folder(self._final.parent)
        except OSError as error:
            raise StorageError(f"{self._final}: {error.strerror}") from error
        return self._length
