"""``muster publish`` and ``muster version withdraw``: what release keys sign."""

import datetime as dt
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from muster_controller.cli.connection import Api, Connection, armour, unarmour
from muster_controller.cli.exits import UsageError
from muster_controller.cli.keys import create_key, new_passphrase, open_key
from muster_controller.cli.output import note, write_fields, write_json, write_section, write_text
from muster_models.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from muster_models.manifest import Waiver
    from muster_models.publish import Built

HERE = Connection()
Keys = Annotated[Path, Parameter(name="--keys", help="The folder that 'muster keys init' made.")]


def publish(
    source: Annotated[Path, Parameter(name="SOURCE", help="The folder with model.toml.")],
    /,
    *,
    keys: Keys,
    waive: Annotated[
        tuple[str, ...], Parameter(negative="", help="METRIC=REASON: release in spite of a missed threshold.")
    ] = (),
    connection: Connection = HERE,
) -> None:
    """Build a version from its source folder, sign it, and release it."""
    from muster_models.publish import build, read_source  # noqa: PLC0415 - imports the engines

    waivers = parse_waivers(waive)
    read = read_source(source)
    with connection.open() as api, tempfile.TemporaryDirectory() as work:
        releases = list(api.items("/versions", {"model": read.declared.model}))
        _check_unused(releases, read.declared.version)
        newest: dict[str, Any] = max(releases, key=lambda one: one["release"], default={"release": 0})
        built = build(
            read,
            release=newest["release"] + 1,
            created=_now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            parent=newest.get("digest"),
            waivers=waivers,
            output=Path(work),
        )
        documents = _sign(api, built, keys)
        _upload(api, built.files)
        detail = api.post("/versions", {"manifest": armour(built.document), **documents})
    _show(detail, built, connection)


def withdraw(
    name: Annotated[str, Parameter(name="VERSION", help="MODEL@VERSION or a digest.")],
    /,
    *,
    keys: Keys,
    floor: Annotated[
        int | None, Parameter(help="The lowest release that may still run; also what runs now goes.")
    ] = None,
    reason: Annotated[str, Parameter(help="Why, for the audit trail.")] = "",
    connection: Connection = HERE,
) -> None:
    """Withdraw a version: no device installs it or starts it again."""
    from muster_models.trust import publisher  # noqa: PLC0415 - only where keys are used

    with connection.open() as api:
        version = api.get(f"/versions/{name}")["version"]
        role = unarmour(api.get(f"/repository/roles/model-{version['model']}")["document"])
        signer = open_key(keys / f"model-{version['model']}.key")
        changed = publisher.withdraw(role, version["version"], floor=floor, signers=[signer], now=_now())
        body = {"role": armour(changed), "reason": reason}
        detail = api.post(f"/versions/{version['digest']}/withdraw", body)
    if connection.output == "json":
        write_json(detail)
    else:
        write_text(f"{version['name']} is withdrawn")


def parse_waivers(texts: tuple[str, ...]) -> "list[Waiver]":
    """Return waivers from METRIC=REASON.

    Raises:
        UsageError: One has another form, or a reason of fewer than eight characters.
    """
    import msgspec  # noqa: PLC0415 - with the manifest

    from muster_models.manifest import Waiver  # noqa: PLC0415 - only for publishing

    waivers: list[Waiver] = []
    for given in texts:
        metric, mark, reason = given.partition("=")
        try:
            waivers.append(msgspec.convert({"metric": metric, "reason": reason}, Waiver))
        except msgspec.ValidationError as error:
            told = error if mark else "there is no '='"
            raise UsageError(f"a waiver is METRIC=REASON, got {given!r}: {told}") from error
    return waivers


def _check_unused(releases: list[dict[str, Any]], version: str) -> None:
    # The controller refuses it as well; this way nothing is built or signed in vain.
    for one in releases:
        if one["version"] == version:
            raise ConflictError(f"{one['name']} was released before; a version never changes")


def _sign(api: Api, built: "Built", keys: Path) -> dict[str, str]:
    """Return the model's role with the version listed, and new targets when the model is new."""
    from muster_models.trust import publisher  # noqa: PLC0415 - only where keys are used

    model = built.manifest.model
    role = _role(api, f"model-{model}")
    documents: dict[str, str] = {}
    signer = _release_key(keys, model)
    if role is None:
        targets = _targets_with(api, model, keys=keys, signer=signer)
        if targets is not None:
            documents["targets"] = armour(targets)
    signed = publisher.release(role, built.document, signers=[signer], now=_now())
    return {**documents, "role": armour(signed)}


def _targets_with(api: Api, model: str, *, keys: Path, signer: "Signer") -> bytes | None:
    """Return targets that delegate to the model's release key; None where they do already."""
    from muster_models.trust import publisher  # noqa: PLC0415 - only where keys are used

    targets = _role(api, "targets")
    if targets is None:
        raise ConflictError("there is no signed repository yet; make it with: muster keys init DIR")
    try:
        return publisher.add_model(
            targets,
            model,
            keys=[signer.public_key],
            threshold=1,
            signer=open_key(keys / "targets.key"),
            now=_now(),
        )
    except ConflictError:
        return None


def _release_key(keys: Path, model: str) -> "Signer":
    path = keys / f"model-{model}.key"
    if path.exists():
        return open_key(path)
    if not (keys / "targets.key").is_file():
        raise NotFoundError(f"{keys}: no keys here; make them with: muster keys init DIR")
    # A new model's key is protected in the same way as the key that vouches for it.
    encrypted = b"ENCRYPTED" in (keys / "targets.key").read_bytes()
    note(f"making the release key of {model}: {path}")
    return create_key(path, new_passphrase() if encrypted else None)


def _role(api: Api, role: str) -> bytes | None:
    try:
        return unarmour(api.get(f"/repository/roles/{role}")["document"])
    except NotFoundError:
        return None


def _upload(api: Api, files: Mapping[str, Path]) -> None:
    for sha256, path in files.items():
        if not api.has(f"/blobs/{sha256}"):
            api.put_file(f"/blobs/{sha256}", path)


def _show(detail: dict[str, Any], built: "Built", connection: Connection) -> None:
    if connection.output == "json":
        write_json({**detail, "latency_ms": built.latency_ms})
        return
    fields = {
        "released": "version.name",
        "digest": "version.digest",
        "release": "version.release",
        "bytes": "version.bytes",
        "metrics": "version.metrics",
    }
    write_fields(detail, fields)
    write_section(
        "Thresholds",
        detail["version"]["thresholds"],
        {
            "metric": "metric",
            "minimum": "minimum",
            "maximum": "maximum",
            "measured": "value",
            "waiver": "waiver",
        },
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
