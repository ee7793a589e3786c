"""``muster sign``, and what every command that signs has in common: show, ask, sign, hand over or pass on."""

import datetime as dt
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from muster_controller.cli import keyfiles
from muster_controller.cli.connection import Api, Connection, armour, unarmour
from muster_controller.cli.exits import UsageError
from muster_controller.cli.output import note, text, write_outcome
from muster_models.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from muster_models.trust.ceremony import Present
    from muster_models.trust.request import Need, Request

HERE = Connection()
SHORT = 12
SUFFIX = ".request.json"
SigningKeys = Annotated[
    tuple[str, ...],
    Parameter(name="--key", negative="", help="Sign with this key too: a file, or a URI such as hsm:2."),
]
RequestFile = Annotated[
    Path | None,
    Parameter(name="--request", help="Where the request to sign goes when signatures are missing."),
]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask before signing.")]


def sign(
    request: Annotated[Path, Parameter(name="REQUEST", help="A file that waits for signatures.")],
    /,
    *,
    key: SigningKeys,
    yes: Yes = False,
    output: Annotated[
        Literal["table", "json"], Parameter(name=["--output", "-o"], help="For people or for programs.")
    ] = "table",
) -> None:
    """Show what a request asks to sign, and sign it; without a network and without a controller.

    The file is replaced by one with the new signatures.
    """
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    if not key:
        raise UsageError("name the key to sign with: --key FILE|URI")
    waiting = read(request)
    present(waiting)
    confirm(yes=yes)
    for name in key:
        waiting = requests.sign(waiting, keyfiles.open_key(name))
    write(request, waiting)
    answer = {**described(waiting), "request": str(request)}
    write_outcome(output, answer, f"signed: {request}; {_outlook(waiting, request)}")


def read(path: Path) -> "Request":
    """Return the request in a file.

    Raises:
        NotFoundError: There is no such file.
        MessageError: It holds no request.
    """
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    try:
        return requests.decode(path.read_bytes())
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}") from error


def write(path: Path, request: "Request") -> None:
    """Replace the file by one with this request.

    Raises:
        StorageError: The disk refuses.
    """
    from muster_models.durable import replace  # noqa: PLC0415 - as above
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    replace(path, requests.encode(request))


def add_signatures(request: "Request", signers: Iterable["Signer"]) -> "Request":
    """Return the request signed by those of the signers that hold one of its roles."""
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    for signer in signers:
        if requests.holds(request, signer.public_key.keyid):
            request = requests.sign(request, signer)
    return request


def confirm(*, yes: bool) -> None:
    """Ask the person at the terminal, if there is one.

    Raises:
        ConflictError: The answer was not yes.
    """
    if yes or not sys.stdin.isatty():
        return
    sys.stderr.write("Sign this? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConflictError("nothing was signed")


def hand_over(api: Api, request: "Request") -> dict[str, Any]:
    """Send a complete request to the controller, and return its answer.

    Raises:
        ConflictError: A file of the released version was never uploaded.
    """
    from muster_models import manifest as manifests  # noqa: PLC0415 - only where it is needed

    documents = {role: armour(document) for role, document in request.parts.items()}
    if request.manifest is not None:
        manifest = manifests.parse(request.manifest)
        for entry in manifest.files:
            for sha256 in (entry.sha256, *(delta.sha256 for delta in entry.deltas)):
                if not api.has(f"/blobs/{sha256}"):
                    raise ConflictError(
                        f"the controller has no {entry.name} of {manifest.name}: publish it again"
                    )
        body = {"manifest": armour(request.manifest), "role": documents[f"model-{manifest.model}"]}
        targets = {"targets": documents["targets"]} if "targets" in documents else {}
        answer: dict[str, Any] = api.post("/versions", {**body, **targets})
        return answer
    if request.withdrawn is not None:
        (role,) = documents.values()
        withdrawn: dict[str, Any] = api.post(
            f"/versions/{request.withdrawn}/withdraw",
            {"role": role, "reason": request.reason, "override": request.override},
        )
        return withdrawn
    view: dict[str, Any] = api.put("/repository/roles", {"documents": documents})
    return view


def finish(
    api: Api, request: "Request", path: Path | None, connection: Connection, *, done: str
) -> dict[str, Any] | None:
    """Hand over what is complete, and pass on what is not.

    Args:
        api: Of the controller.
        request: With the signatures that could be made here.
        path: Where to write it when signatures are missing.
        connection: How answers are shown.
        done: What people are told when it was handed over; empty leaves all telling to the caller.

    Returns:
        The controller's answer, or None where signatures are missing.
    """
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    if not requests.is_complete(request):
        pass_on(path or default_path(request), request, connection)
        return None
    answer = hand_over(api, request)
    if done:
        write_outcome(connection.output, answer, done)
    return answer


def present_documents(api: Api, now: dt.datetime) -> "Present":
    """Return the present root and targets.

    Raises:
        ConflictError: There is no signed repository.
    """
    from muster_models.trust.ceremony import Present  # noqa: PLC0415 - only where keys are used

    return Present(required(api, "root"), required(api, "targets"), now)


def required(api: Api, role: str) -> bytes:
    """Return the present document of a role.

    Raises:
        ConflictError: There is no signed repository.
        NotFoundError: There is no such role.
    """
    held = document(api, role)
    if held is None and role in {"root", "targets"}:
        raise ConflictError("there is no signed repository yet; make it with: muster keys init DIR")
    if held is None:
        raise NotFoundError(f"there is no document of the role {role!r}")
    return held


def pass_on(path: Path, request: "Request", connection: Connection) -> None:
    """Write a request that waits for others, and say what they do with it.

    Raises:
        ConflictError: The file exists; it may hold signatures.
    """
    if path.exists():
        raise ConflictError(f"{path}: exists already, and may hold signatures; name another with --request")
    write(path, request)
    answer = {**described(request), "request": str(path)}
    write_outcome(connection.output, answer, f"{path} waits for signatures: {_outlook(request, path)}")


def described(request: "Request") -> dict[str, Any]:
    """Return what a request asks to sign, for people and programs.

    Raises:
        TrustError: A document does not parse, or the role does not list the manifest that came along.
    """
    import msgspec  # noqa: PLC0415 - with the manifest

    from muster_models import manifest as manifests  # noqa: PLC0415 - only where keys are used
    from muster_models.errors import Reason, TrustError  # noqa: PLC0415 - as above
    from muster_models.trust import request as requests  # noqa: PLC0415 - as above
    from muster_models.trust.view import view  # noqa: PLC0415 - as above

    views = [view(role, document) for role, document in sorted(request.parts.items())]
    release = None
    if request.manifest is not None:
        manifest = manifests.parse(request.manifest)
        digest = manifests.digest(request.manifest)
        if digest not in {entry.digest for one in views for entry in one.versions}:
            raise TrustError(
                Reason.NOT_LISTED, f"the role to sign does not list {manifest.name} as {digest[:12]}"
            )
        release = {"name": manifest.name, "digest": digest, **msgspec.to_builtins(manifest)}
    return {
        "release": release,
        "withdraws": request.withdrawn,
        "documents": msgspec.to_builtins(views),
        "signatures": [_told(need) for need in requests.needs(request)],
        "complete": requests.is_complete(request),
    }


def present(request: "Request") -> None:
    """Show on stderr what is about to be signed."""
    told = described(request)
    note("To be signed:")
    if told["release"] is not None:
        _note_release(told["release"])
    if told["withdraws"] is not None:
        _note_fields({"withdraws": told["withdraws"]})
    for document in told["documents"]:
        _note_document(document)
    for need in told["signatures"]:
        have = ", ".join(keyid[:SHORT] for keyid in need["signed"]) or "none"
        _note_fields(
            {"signatures": f"{need['role']} by {need['by']}: {need['threshold']} needed, have {have}"}
        )


def default_path(request: "Request") -> Path:
    """Return the file that a request goes to when none is named."""
    told = described(request)
    if told["release"] is not None:
        return Path(f"{told['release']['name'].replace('@', '-')}{SUFFIX}")
    return Path("-".join(f"{one['role']}-{one['version']}" for one in told["documents"]) + SUFFIX)


def document(api: Api, role: str) -> bytes | None:
    """Return the present document of a role, or None."""
    try:
        return unarmour(api.get(f"/repository/roles/{role}")["document"])
    except NotFoundError:
        return None


def _note_release(release: Mapping[str, Any]) -> None:
    _note_fields(
        {
            "version": release["name"],
            "digest": release["digest"],
            "release": release["release"],
            "metrics": release["metrics"],
            "waivers": {one["metric"]: one["reason"] for one in release["waivers"]},
        }
    )
    for file in release["files"]:
        _note_fields(
            {"file": f"{file['name']}  {file['role']}  {file['length']} bytes  {file['sha256'][:SHORT]}"}
        )
        for delta in file.get("deltas", ()):
            told = f"{delta['form']}  {delta['length']} bytes  {delta['sha256'][:SHORT]}"
            _note_fields({"  or from": f"{delta['base'][:SHORT]} by {told}"})


def _note_document(document: Mapping[str, Any]) -> None:
    _note_fields({"document": f"{document['role']} {document['version']}, expires {document['expires']}"})
    for held in document["holdings"]:
        keys = ", ".join(keyid[:SHORT] for keyid in held["keys"])
        _note_fields({"  gives": f"{held['role']} to {held['threshold']} of {keys}"})
    for entry in document["versions"]:
        _note_fields(
            {"  lists": f"{entry['version']}  release {entry['release']}  {entry['digest'][:SHORT]}"}
        )
    if document["withdrawn"] or document["floor"]:
        _note_fields({"  floor": document["floor"], "  withdrawn": ", ".join(document["withdrawn"])})


def _note_fields(fields: Mapping[str, object]) -> None:
    for title, value in fields.items():
        note(f"  {title.ljust(SHORT)}{text(value)}")


def _told(need: "Need") -> dict[str, Any]:
    return {
        "role": need.role,
        "by": need.by,
        "threshold": need.threshold,
        "holders": list(need.holders),
        "signed": list(need.signed),
        "missing": need.missing,
    }


def _outlook(request: "Request", path: Path) -> str:
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    waiting = [need for need in requests.needs(request) if need.missing]
    if not waiting:
        return f"complete; hand it over with: muster publish --resume {path}"
    told = "; ".join(f"{need.missing} more for {need.role} of {_open_keys(need)}" for need in waiting)
    return f"{told}; sign with: muster sign {path} --key FILE|URI"


def _open_keys(need: "Need") -> str:
    return ", ".join(keyid[:SHORT] for keyid in need.holders if keyid not in need.signed)
