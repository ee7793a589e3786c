"""``muster keys``: who may sign what; the offline keys, and the signed repository that begins with them."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from muster_controller.cli import signing
from muster_controller.cli.connection import Connection, armour
from muster_controller.cli.exits import UsageError
from muster_controller.cli.keyfiles import create_key, new_passphrase, open_key, public_half, signers
from muster_controller.cli.output import note, write_json, write_table, write_text
from muster_controller.cli.roles import ONLINE, ROLE_HELP, Keys, check_roles, role_name, said_name
from muster_controller.cli.signing import RequestFile, SigningKeys
from muster_models.errors import ConflictError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

app = App(name="keys", help="The keys that sign releases: who holds which role.")
HERE = Connection()
ROOTS: Final = 3
THRESHOLD: Final = 2
SHORT: Final = 12
Roles = Annotated[tuple[str, ...], Parameter(name="ROLE", help=f"{ROLE_HELP}.")]
Shown = Annotated[
    tuple[str, ...], Parameter(name="ROLE", help=f"{ROLE_HELP}, or the controller's: {', '.join(ONLINE)}.")
]
Protect = Annotated[bool, Parameter(name="--passphrase", help="Encrypt the keys.")]
HOLDINGS = {
    "role": "role",
    "needs": "threshold",
    "keys": "short",
    "document": "version",
    "expires": "expires",
}


@app.command
def init(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    single: Annotated[bool, Parameter(negative="", help="One root key instead of two of three.")] = False,
    root: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="A root key that exists: a file, or a URI such as hsm:2."),
    ] = (),
    model: Annotated[tuple[str, ...], Parameter(negative="", help="Make its release key now.")] = (),
    passphrase: Protect = True,
    connection: Connection = HERE,
) -> None:
    """Make the offline keys in DIR, and begin the signed repository with them.

    The passphrase is taken from MUSTER_PASSPHRASE, or asked for.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConflictError(f"{folder}: exists already and is not empty; keys are never overwritten")
    if root and len(root) < (1 if single else THRESHOLD):
        raise UsageError(f"two signatures need at least two root keys, got {len(root)}; or say --single")
    with connection.open() as api:
        if api.get("/repository")["installed"]:
            raise ConflictError("the controller has a signed repository already")
        online = api.get("/online-keys")
        given = [open_key(name) for name in root]
        secret = new_passphrase() if passphrase else None
        roots = given or _make_roots(folder, secret, single=single)
        root_document, targets = _begin(
            folder, online, secret, roots=roots, threshold=1 if single else THRESHOLD, models=model
        )
        view = api.put("/repository", {"root": armour(root_document), "targets": armour(targets)})
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
    role: Roles = (),
    /,
    *,
    keys: Keys,
    key: SigningKeys = (),
    request: RequestFile = None,
    connection: Connection = HERE,
) -> None:
    """Sign roles again before they expire; without ROLE all but root.

    What they say stays as it is.
    """
    from muster_models.trust import ceremony, publisher  # noqa: PLC0415 - only where keys are used

    with connection.open() as api:
        view = api.get("/repository")
        models = [held["model"] for held in view["models"]]
        words = role or ("targets", *models)
        check_roles(words, ("root", "targets", *map(role_name, models)))
        chosen = [role_name(word) for word in words]
        now = dt.datetime.now(dt.UTC)
        present = signing.present_documents(api, now)
        parts = {
            name: publisher.renew(signing.required(api, name), signers=[], now=now)
            for name in chosen
            if name != "root"
        }
        if "root" in chosen:
            parts |= ceremony.renew_root(present).parts
        waiting = signing.add_signatures(present.request(parts), signers(keys, set(parts), key))
        signing.finish(api, waiting, request, connection, done=f"signed again: {', '.join(words)}")


@app.command
def show(role: Shown = (), /, *, connection: Connection = HERE) -> None:
    """Show who holds which role, how many must sign, and when each document expires."""
    from muster_models.trust.view import view  # noqa: PLC0415 - only where keys are used

    with connection.open() as api:
        expires = api.get("/status")["expires"]
        views = [view(role, signing.required(api, role)) for role in ("root", "targets")]
        versions = {one.role: one.version for one in views}
        held: list[dict[str, Any]] = []
        for holding in (holding for one in views for holding in one.holdings):
            document = signing.document(api, holding.role) if holding.role.startswith("model-") else None
            if document is not None:
                versions[holding.role] = view(holding.role, document).version
            held.append(
                {
                    "role": holding.role,
                    "threshold": holding.threshold,
                    "keys": list(holding.keys),
                    "version": versions.get(holding.role),
                    "expires": expires.get(holding.role),
                }
            )
    check_roles(role, [one["role"] for one in held])
    held = [one for one in held if not role or said_name(one["role"]) in role]
    if connection.output == "json":
        write_json(held)
        return
    for one in held:
        one["short"] = [keyid[:SHORT] for keyid in one["keys"]]
    write_table(held, HOLDINGS, empty="nobody holds a role")


@app.command
def public(
    key: Annotated[str, Parameter(name="KEY", help="A key file, or a URI such as hsm:2.")],
    /,
) -> None:
    """Print the public half of a key in JSON, to be given to whoever gives it a role."""
    from muster_models.trust.keys import encode_public  # noqa: PLC0415 - only where keys are used

    held = public_half(key)
    note(f"key id {held.keyid}")
    write_text(encode_public(held).decode())


@app.command
def make(
    path: Annotated[Path, Parameter(name="FILE")],
    /,
    *,
    passphrase: Protect = True,
) -> None:
    """Make one key in FILE, as an owner of a model does, and print its public half."""
    from muster_models.trust.keys import encode_public  # noqa: PLC0415 - only where keys are used

    held = create_key(path, new_passphrase() if passphrase else None).public_key
    note(f"key id {held.keyid}")
    write_text(encode_public(held).decode())


def _make_roots(folder: Path, secret: bytes | None, *, single: bool) -> "list[Signer]":
    names = ["root"] if single else [f"root-{number}" for number in range(1, ROOTS + 1)]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [create_key(folder / f"{name}.key", secret) for name in names]


def _begin(
    folder: Path,
    online: dict[str, str],
    secret: bytes | None,
    *,
    roots: "list[Signer]",
    threshold: int,
    models: tuple[str, ...],
) -> tuple[bytes, bytes]:
    from muster_models.trust.keys import public_key  # noqa: PLC0415 - only where keys are used
    from muster_models.trust.publisher import add_model, make_root, make_targets  # noqa: PLC0415 - as above

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    publisher = create_key(folder / "targets.key", secret)
    keys = {role: public_key(document.encode()) for role, document in online.items()}
    now = dt.datetime.now(dt.UTC)
    root = make_root(
        roots,
        threshold,
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
