"""Keys as the command line names them: files, URIs of tokens and services, and the folder they are kept in.

A key file holds a private key in PEM, or the URI of a key that lives elsewhere, so a folder of keys may be
partly or wholly in hardware.
"""

import getpass
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from muster_controller.cli.exits import UsageError
from muster_models.errors import NotFoundError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

PASSPHRASE: Final = "MUSTER_PASSPHRASE"  # noqa: S105 - the name of a variable
PIN: Final = "MUSTER_PIN"
MAX_URI: Final = 1024
_asked: dict[str, str] = {}  # by key: a person is asked once in a command, and three wrong PINs lock a token


def new_passphrase() -> bytes:
    """Return the passphrase for new keys.

    Raises:
        UsageError: There is nobody to ask, or the two answers differ.
    """
    given = os.environ.get(PASSPHRASE)
    if given:
        return given.encode()
    if not sys.stdin.isatty():
        raise UsageError(f"set {PASSPHRASE}, or say --no-passphrase to leave the keys unencrypted")
    first = getpass.getpass("Passphrase for the new keys: ")
    if not first or first != getpass.getpass("Again: "):
        raise UsageError("the passphrases are empty or differ")
    return first.encode()


def open_key(name: str | Path) -> "Signer":
    """Return the signer in a key file or behind a URI, asking for what it is protected with.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It is protected, and there is nobody to ask.
        TrustError: The passphrase is wrong, or there is no such key.
    """
    from muster_models.trust.keys import load_signer  # noqa: PLC0415 - only where keys are used
    from muster_models.trust.signers import is_uri  # noqa: PLC0415 - as above

    if isinstance(name, str) and is_uri(name):
        return _open_uri(name)
    path = Path(name)
    if not path.is_file():
        raise NotFoundError(f"{path}: no such key; make the keys with: muster keys init DIR")
    content = path.read_bytes()
    text = content[:MAX_URI].decode(errors="replace").strip()
    if is_uri(text):
        return _open_uri(text)
    return load_signer(path, _held_passphrase(path) if b"ENCRYPTED" in content else None)


def create_key(path: Path, passphrase: bytes | None) -> "Signer":
    """Make a new key."""
    from muster_models.trust.keys import create_signer  # noqa: PLC0415 - only where keys are used

    return create_signer(path, passphrase)


def create_beside(folder: Path, stem: str) -> "Signer":
    """Make a new key in a folder of keys, protected with the passphrase of those that lie there.

    Raises:
        NotFoundError: There are no keys in the folder, so it cannot be told whether to encrypt.
        TrustError: The passphrase is not that of the other keys; nothing was made.
    """
    siblings = [folder / "targets.key", *sorted(folder.glob("*.key"))]
    sibling = next((path for path in siblings if path.is_file()), None)
    if sibling is None:
        raise NotFoundError(f"{folder}: no keys here; make them with: muster keys init DIR")
    content = sibling.read_bytes()
    if b"PRIVATE KEY" not in content:  # it lives in a token, which says nothing about files
        return create_key(_free(folder, stem), new_passphrase())
    open_key(sibling)
    return create_key(_free(folder, stem), _held_passphrase(sibling) if b"ENCRYPTED" in content else None)


def public_half(name: str) -> "Key":
    """Return the public key in a file that ``muster keys public`` wrote, or of a key file or URI.

    Raises:
        NotFoundError: There is no such file.
        TrustError: It holds no key.
    """
    from muster_models.trust.keys import public_key  # noqa: PLC0415 - only where keys are used

    path = Path(name)
    if path.is_file() and path.read_bytes().lstrip().startswith(b"{"):
        return public_key(path.read_bytes())
    return open_key(name).public_key


def signers(folder: Path | None, roles: set[str], named: tuple[str, ...]) -> Iterator["Signer"]:
    """Yield the signers that ``--key`` names, then those in the folder that were made for some roles."""
    for name in named:
        yield open_key(name)
    for role in sorted(roles) if folder is not None else ():
        assert folder is not None
        for path in files_of(folder, role):
            yield open_key(path)


def files_of(folder: Path, role: str) -> list[Path]:
    """Return the key files of a role, such as ``root-2.key``; ``root-2.v2.key`` is what a rotation made."""
    number = r"(-\d+)?" if role == "root" else ""
    pattern = re.compile(rf"{re.escape(role)}{number}(\.v\d+)?\.key")
    return sorted(path for path in folder.glob("*.key") if pattern.fullmatch(path.name))


def _free(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.key", 2
    while path.exists():
        path, number = folder / f"{stem}.v{number}.key", number + 1
    return path


def _open_uri(uri: str) -> "Signer":
    from muster_models.trust.signers import open_uri  # noqa: PLC0415 - only where keys are used

    def ask(what: str) -> str:
        if uri not in _asked:
            _asked[uri] = _held_pin(uri, what)
        return _asked[uri]

    return open_uri(uri, ask)


def _held_pin(uri: str, what: str) -> str:
    given = os.environ.get(PIN)
    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"{uri} asks for its {what}: set {PIN}")
    return getpass.getpass(f"The {what} of {uri}: ")


def _held_passphrase(path: Path) -> bytes:
    given = os.environ.get(PASSPHRASE)
    if given:
        return given.encode()
    if not sys.stdin.isatty():
        raise UsageError(f"{path} is encrypted: set {PASSPHRASE}")
    if str(path) not in _asked:
        _asked[str(path)] = getpass.getpass(f"Passphrase of {path.name}: ")
    return _asked[str(path)].encode()
