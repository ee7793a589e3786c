"""``muster keys``: the offline keys, and the signed repository that begins with them."""

import datetime as dt
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection, armour, unarmour
from muster_controller.cli.exits import UsageError
from muster_controller.cli.output import note, write_json, write_text
from muster_models.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

app = App(name="keys", help="The offline keys that releases are signed with.")
HERE = Connection()
PASSPHRASE: Final = "MUSTER_PASSPHRASE"  # noqa: S105 - the name of a variable
ROOTS: Final = 3
THRESHOLD: Final = 2
Protect = Annotated[bool, Parameter(name="--passphrase", help="Encrypt the keys.")]


@app.command
def init(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    single: Annotated[bool, Parameter(negative="", help="One root key instead of two of three.")] = False,
    model: Annotated[tuple[str, ...], Parameter(negative="", help="Make its release key now.")] = (),
    passphrase: Protect = True,
    connection: Connection = HERE,
) -> None:
    """Make the offline keys in DIR, and begin the signed repository with them.

    The passphrase is taken from MUSTER_PASSPHRASE, or asked for.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConflictError(f"{folder}: exists already and is not empty; keys are never overwritten")
    with connection.open() as api:
        if api.get("/repository")["installed"]:
            raise ConflictError("the controller has a signed repository already")
        online = api.get("/online-keys")
        secret = new_passphrase() if passphrase else None
        root, targets = _make(folder, online, secret, single=single, models=model)
        view = api.put("/repository", {"root": armour(root), "targets": armour(targets)})
    if connection.output == "json":
        write_json(view)
        return
    if not passphrase:
        note("the keys are not encrypted: whoever reads the files can release models")
    if single:
        note("one root key: whoever loses it can never replace a key, whoever steals it can replace all")
    write_text(f"keys are in {folder}; keep the root keys apart and off this machine")


@app.command
def renew(
    folder: Annotated[Path, Parameter(name="DIR")],
    role: Annotated[tuple[str, ...], Parameter(name="ROLE")] = (),
    /,
    *,
    connection: Connection = HERE,
) -> None:
    """Sign roles again before they expire: root, targets, model-NAME; without ROLE all but root.

    What they say stays as it is.
    """
    with connection.open() as api:
        view = api.get("/repository")
        chosen = role or ("targets", *(f"model-{held['model']}" for held in view["models"]))
        renewed = []
        for name in chosen:
            document = unarmour(api.get(f"/repository/roles/{name}")["document"])
            signed = _renew_root(folder, document) if name == "root" else _renew(folder, name, document)
            renewed.append(api.put(f"/repository/roles/{name}", {"document": armour(signed)}))
    if connection.output == "json":
        write_json(renewed)
    else:
        write_text(f"signed again: {', '.join(chosen)}")


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


def open_key(path: Path) -> "Signer":
    """Return the signer in a key file, asking for its passphrase when it is encrypted.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It is encrypted, and there is nobody to ask.
        TrustError: The passphrase is wrong.
    """
    from muster_models.trust.keys import load_signer  # noqa: PLC0415 - only where keys are used

    if not path.is_file():
        raise NotFoundError(f"{path}: no such key; make the keys with: muster keys init DIR")
    encrypted = b"ENCRYPTED" in path.read_bytes()
    return load_signer(path, _held_passphrase(path) if encrypted else None)


def create_key(path: Path, passphrase: bytes | None) -> "Signer":
    """Make a new key."""
    from muster_models.trust.keys import create_signer  # noqa: PLC0415 - only where keys are used

    return create_signer(path, passphrase)


def _renew(folder: Path, role: str, document: bytes) -> bytes:
    from muster_models.trust import publisher  # noqa: PLC0415 - only where keys are used

    return publisher.renew(document, signers=[open_key(folder / f"{role}.key")], now=dt.datetime.now(dt.UTC))


def _renew_root(folder: Path, document: bytes) -> bytes:
    from tuf.api.metadata import Root  # noqa: PLC0415 - only where keys are used

    from muster_models.trust import publisher, roles  # noqa: PLC0415 - as above

    root = roles.parse(Root, document, role="root").signed
    held = {name: [root.keys[keyid] for keyid in role.keyids] for name, role in root.roles.items()}
    keys = publisher.RootKeys(
        roots=held["root"],
        threshold=root.roles["root"].threshold,
        targets=held["targets"][0],
        snapshot=held["snapshot"][0],
        timestamp=held["timestamp"][0],
    )
    # Whichever root keys lie here sign; the controller sees whether they are enough.
    signers = [open_key(path) for path in sorted(folder.glob("root*.key"))]
    return publisher.rotate_root(document, keys, signers=signers, now=dt.datetime.now(dt.UTC))


def _held_passphrase(path: Path) -> bytes:
    given = os.environ.get(PASSPHRASE)
    if given:
        return given.encode()
    if not sys.stdin.isatty():
        raise UsageError(f"{path} is encrypted: set {PASSPHRASE}")
    return getpass.getpass(f"Passphrase of {path.name}: ").encode()


def _make(
    folder: Path,
    online: dict[str, str],
    secret: bytes | None,
    *,
    single: bool,
    models: tuple[str, ...],
) -> tuple[bytes, bytes]:
    from muster_models.trust.keys import public_key  # noqa: PLC0415 - only where keys are used
    from muster_models.trust.publisher import add_model, make_root, make_targets  # noqa: PLC0415 - as above

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = ["root"] if single else [f"root-{number}" for number in range(1, ROOTS + 1)]
    roots = [create_key(folder / f"{name}.key", secret) for name in names]
    publisher = create_key(folder / "targets.key", secret)
    keys = {role: public_key(document.encode()) for role, document in online.items()}
    now = dt.datetime.now(dt.UTC)
    root = make_root(
        roots,
        1 if single else THRESHOLD,
        targets=publisher.public_key,
        snapshot=keys["snapshot"],
        timestamp=keys["timestamp"],
        now=now,
    )
    targets = make_targets(publisher, director=keys["director"], now=now)
    for model in models:
        release = create_key(folder / f"model-{model}.key", secret)
        targets = add_model(targets, model, keys=[release.public_key], threshold=1, signer=publisher, now=now)
    return root, targets
