"""``muster keys rotate``, ``add-owner``, ``revoke``: other keys for a role, signed by whoever must agree."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from muster_controller.cli import signing
from muster_controller.cli.connection import Api, Connection
from muster_controller.cli.exits import UsageError
from muster_controller.cli.keyfiles import create_beside, public_half, signers
from muster_controller.cli.output import note
from muster_controller.cli.roles import Keys
from muster_controller.cli.signing import RequestFile, SigningKeys, Yes
from muster_models.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from securesystemslib.signer import Key

    from muster_models.trust.ceremony import Present
    from muster_models.trust.request import Request

HERE = Connection()
TOP: Final = ("root", "targets", "online")
MIN_KEYID: Final = 6
New = Annotated[
    tuple[str, ...],
    Parameter(
        name="--new", negative="", help="A key to put in, instead of a new one: public JSON, file or URI."
    ),
]
Drop = Annotated[
    tuple[str, ...], Parameter(name="--drop", negative="", help="Id of a key to take out; without it, all.")
]


def rotate(
    role: Annotated[str, Parameter(name="ROLE", help="root, targets, online, or the name of a model.")],
    /,
    *,
    keys: Keys,
    key: SigningKeys = (),
    new: New = (),
    drop: Drop = (),
    threshold: Annotated[
        int | None, Parameter(help="How many must sign from now on; of root or a model.")
    ] = None,
    request: RequestFile = None,
    yes: Yes = False,
    connection: Connection = HERE,
) -> None:
    """Replace the keys of a role by new ones.

    A new root needs a threshold of the old root keys and of the new ones. ``online`` stands for the keys that
    the controller holds itself: it makes new ones, and root and targets name them.
    """
    if role in {"targets", "online"} and (drop or threshold is not None or len(new) > (role == "targets")):
        raise UsageError(
            f"{role} has one key of each kind: --drop, --threshold and several --new are not for it"
        )
    with connection.open() as api:
        present = signing.present_documents(api, dt.datetime.now(dt.UTC))
        match role:
            case "root":
                change = _root(present, keys, new=new, drop=drop, threshold=threshold)
            case "targets":
                change = _targets(present, keys, new)
            case "online":
                change = _online(api, present)
            case _:
                change = _model(api, present, role, keys=keys, new=new, drop=drop, threshold=threshold)
        _agree(api, change, keys=keys, key=(*key, *new), request=request, yes=yes, connection=connection,
               done=f"{role} has new keys")  # fmt: skip


def add_owner(
    model: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    key: Annotated[
        tuple[str, ...],
        Parameter(
            name="--key", negative="", help="A key that shall own the model: public JSON, file or URI."
        ),
    ],
    keys: Keys,
    threshold: Annotated[
        int | None, Parameter(help="How many owners must sign each release; 2 is the four-eyes rule.")
    ] = None,
    only: Annotated[
        bool, Parameter(negative="", help="Take the model from whoever owned it so far.")
    ] = False,
    request: RequestFile = None,
    yes: Yes = False,
    connection: Connection = HERE,
) -> None:
    """Give a model's role to further keys, and say how many of them must sign each release."""
    if not key:
        raise UsageError("name the new owner's key: --key PUBLIC")
    with connection.open() as api:
        present = signing.present_documents(api, dt.datetime.now(dt.UTC))
        held, needed = _holding(present, f"model-{model}")
        owners = [*(() if only else held), *(public_half(name) for name in key)]
        change = _give(api, present, model, owners=owners, threshold=threshold or needed or 1)
        _agree(api, change, keys=keys, key=_private(key), request=request, yes=yes, connection=connection,
               done=f"model-{model} has {len({one.keyid for one in owners})} owners")  # fmt: skip


def revoke(
    subject: Annotated[str, Parameter(name="MODEL|KEYID", help="A model, or the beginning of a key's id.")],
    /,
    *,
    keys: Keys,
    key: SigningKeys = (),
    new: New = (),
    threshold: Annotated[int | None, Parameter(help="How many must sign from now on.")] = None,
    request: RequestFile = None,
    yes: Yes = False,
    connection: Connection = HERE,
) -> None:
    """Take a model from all its keys and give it to a new one, or take a key out of every role it holds.

    What was released stays released: withdraw versions that a thief may have signed.
    """
    with connection.open() as api:
        present = signing.present_documents(api, dt.datetime.now(dt.UTC))
        if _holding(present, f"model-{subject}")[0]:
            owners = _fresh(keys, f"model-{subject}", 1, new)
            change = _give(api, present, subject, owners=owners, threshold=threshold or 1)
        else:
            change = _without(api, present, subject, threshold)
        _agree(api, change, keys=keys, key=(*key, *_private(new)), request=request, yes=yes,
               connection=connection, done=f"{subject} is revoked")  # fmt: skip


def _root(
    present: "Present", keys: Path, *, new: tuple[str, ...], drop: tuple[str, ...], threshold: int | None
) -> "Request":
    from muster_models.trust import ceremony  # noqa: PLC0415 - only where keys are used

    held, needed = _holding(present, "root")
    kept, gone = _part(held, drop)
    fresh = _fresh(keys, "root", len(gone), new)
    return ceremony.replace_root_keys(present, [*kept, *fresh], threshold or needed)


def _targets(present: "Present", keys: Path, new: tuple[str, ...]) -> "Request":
    from muster_models.trust import ceremony  # noqa: PLC0415 - only where keys are used

    (fresh,) = _fresh(keys, "targets", 1, new)
    return ceremony.replace_targets_key(present, fresh)


def _online(api: Api, present: "Present") -> "Request":
    from muster_models.trust import ceremony  # noqa: PLC0415 - only where keys are used
    from muster_models.trust.keys import public_key  # noqa: PLC0415 - as above

    fresh = {role: public_key(document.encode()) for role, document in api.post("/online-keys", {}).items()}
    return ceremony.replace_online_keys(present, **fresh)


def _model(
    api: Api,
    present: "Present",
    model: str,
    *,
    keys: Path,
    new: tuple[str, ...],
    drop: tuple[str, ...],
    threshold: int | None,
) -> "Request":
    held, needed = _holding(present, f"model-{model}")
    if not held:
        raise NotFoundError(f"nobody holds a role named {model}: name a model, or one of {', '.join(TOP)}")
    kept, gone = _part(held, drop)
    owners = [*kept, *_fresh(keys, f"model-{model}", len(gone), new)]
    return _give(api, present, model, owners=owners, threshold=threshold or needed)


def _give(api: Api, present: "Present", model: str, *, owners: "Sequence[Key]", threshold: int) -> "Request":
    from muster_models.trust import ceremony  # noqa: PLC0415 - only where keys are used

    role = signing.document(api, f"model-{model}")
    return ceremony.give_model(present, model, role, keys=owners, threshold=threshold)


def _without(api: Api, present: "Present", keyid: str, threshold: int | None) -> "Request":
    from muster_models.trust import ceremony  # noqa: PLC0415 - only where keys are used
    from muster_models.trust.view import view  # noqa: PLC0415 - as above

    views = (view("root", present.root), view("targets", present.targets))
    held = {one.role for both in views for one in both.holdings if _match(one.keys, keyid)}
    if not held:
        raise NotFoundError(f"no model and no key of a role begins with {keyid!r}; see: muster keys show")
    if len(held) > 1:
        raise ConflictError(f"{keyid} holds {', '.join(sorted(held))}: rotate one role after the other")
    (role,) = held
    if role != "root" and not role.startswith("model-"):
        kind = "targets" if role == "targets" else "online"
        raise ConflictError(f"{keyid} holds {role}, which needs a key: muster keys rotate {kind}")
    keys, needed = _holding(present, role)
    kept, _ = _part(keys, (keyid,))
    if role == "root":
        return ceremony.replace_root_keys(present, kept, threshold or needed)
    return _give(api, present, role.removeprefix("model-"), owners=kept, threshold=threshold or needed)


def _holding(present: "Present", role: str) -> "tuple[list[Key], int]":
    """Return the keys of a role and how many must sign; no keys where nobody holds it."""
    from muster_models.trust.view import keys_of, view  # noqa: PLC0415 - only where keys are used

    document = present.root if role == "root" else present.targets
    above = view("root" if role == "root" else "targets", document)
    needed = next((one.threshold for one in above.holdings if one.role == role), 0)
    return keys_of(document, role), needed


def _part(held: "Sequence[Key]", drop: tuple[str, ...]) -> "tuple[list[Key], list[Key]]":
    """Return the keys that stay and those that go; without ``drop`` all go."""
    for one in drop:
        if not _match([key.keyid for key in held], one):
            raise NotFoundError(f"no key of this role begins with {one!r}; see: muster keys show")
    gone = [key for key in held if not drop or _match([key.keyid], *drop)]
    return [key for key in held if key not in gone], gone


def _match(keyids: Sequence[str], *beginnings: str) -> bool:
    if any(len(beginning) < MIN_KEYID for beginning in beginnings):
        raise UsageError(f"a key id needs at least {MIN_KEYID} characters, got {min(beginnings, key=len)!r}")
    return any(keyid.startswith(beginning) for keyid in keyids for beginning in beginnings)


def _fresh(folder: Path, role: str, count: int, new: tuple[str, ...]) -> "list[Key]":
    if new:
        return [public_half(name) for name in new]
    if count == 1 and role != "root":
        return [create_beside(folder, role).public_key]
    return [create_beside(folder, f"{role}-{number}").public_key for number in range(1, count + 1)]


def _private(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those names of keys that can sign: a public half cannot."""
    return tuple(name for name in names if not _is_public(name))


def _is_public(name: str) -> bool:
    path = Path(name)
    return path.is_file() and path.read_bytes().lstrip().startswith(b"{")


def _agree(
    api: Api,
    change: "Request",
    *,
    keys: Path,
    key: tuple[str, ...],
    request: Path | None,
    yes: bool,
    connection: Connection,
    done: str,
) -> None:
    """Show a change, sign it with what is here, and hand it over or pass it on."""
    signing.present(change)
    signing.confirm(yes=yes)
    # The old keys of a role and the new ones lie under its name.
    signed = signing.add_signatures(change, signers(keys, set(change.parts), _private(key)))
    answer = signing.finish(api, signed, request, connection, done=done)
    if answer is not None:
        note("destroy the keys that hold no role any more; see: muster keys show")
