"""``muster publish`` and ``muster version withdraw``: what release keys sign."""

import datetime as dt
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from muster_controller.cli import baseline, engines, patches, signing
from muster_controller.cli.connection import Api, Connection
from muster_controller.cli.exits import UsageError
from muster_controller.cli.keyfiles import create_beside, open_key, signers
from muster_controller.cli.output import note, write_fields, write_json, write_outcome, write_section
from muster_controller.cli.signing import RequestFile, SigningKeys, Yes
from muster_models.errors import ConflictError, NotFoundError, Reason, TrustError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from muster_models.manifest import Waiver
    from muster_models.publish import Built, Source
    from muster_models.sketch.baseline import Baseline
    from muster_models.trust.request import Request

HERE = Connection()
Keys = Annotated[Path | None, Parameter(name="--keys", help="The folder that 'muster keys init' made.")]


def publish(
    source: Annotated[Path | None, Parameter(name="SOURCE", help="The folder with model.toml.")] = None,
    /,
    *,
    keys: Keys = None,
    key: SigningKeys = (),
    waive: Annotated[
        tuple[str, ...], Parameter(negative="", help="METRIC=REASON: release in spite of a missed threshold.")
    ] = (),
    resume: Annotated[
        Path | None, Parameter(help="Hand over a request that others have signed, instead of building.")
    ] = None,
    request: RequestFile = None,
    deltas: Annotated[
        int, Parameter(help="Make patches against so many of the newest listed versions; 0 for none.")
    ] = 3,
    baseline_of: Annotated[
        str | None, Parameter(help="MODEL@VERSION whose baseline it keeps, so that both can be compared.")
    ] = None,
    bootstrap: Annotated[
        bool, Parameter(negative="", help="Without reference rows: a provisional baseline of [[ranges]].")
    ] = False,
    despite_engines: Annotated[
        bool, Parameter(negative="", help="Release it though no engine of the fleet can load it.")
    ] = False,
    yes: Yes = False,
    connection: Connection = HERE,
) -> None:
    """Build a version from its source folder, show it, sign it, and release it.

    Where the model's role asks for more signatures than there are keys here, a request is written for the
    next person: ``muster sign REQUEST --key KEY``, and then ``muster publish --resume REQUEST``.
    """
    if (source is None) == (resume is None):
        raise UsageError("name either the SOURCE folder of a version, or --resume REQUEST")
    if resume is not None:
        _resume(resume, keys=keys, key=key, connection=connection, yes=yes)
        return
    if keys is None and not key:
        raise UsageError("name the keys to sign with: --keys DIR, or --key FILE|URI")
    assert source is not None
    from muster_models.publish import build, read_source  # noqa: PLC0415 - imports the engines

    waivers = parse_waivers(waive)
    patches.check_count(deltas)
    read = read_source(source)
    with connection.open() as api, tempfile.TemporaryDirectory() as work:
        releases = list(api.items("/versions", {"model": read.declared.model}))
        _check_unused(releases, read.declared.version)
        _check_keys(api, read.declared.model, keys=keys, key=key)
        newest: dict[str, Any] = max(releases, key=lambda one: one["release"], default={"release": 0})
        built = build(
            read,
            release=newest["release"] + 1,
            created=_now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            parent=newest.get("digest"),
            waivers=waivers,
            baseline=_given(api, read, baseline_of, bootstrap=bootstrap),
            output=Path(work),
        )
        baseline.note_distances(built.distances)
        engines.check_fleet(api, read, despite=despite_engines)
        built = patches.add(api, built, _listed(releases)[:deltas], output=Path(work))
        waiting = _prepare(api, built, keys=keys, key=key)
        signing.present(waiting)
        signing.confirm(yes=yes)
        model = f"model-{built.manifest.model}"
        held = signers(keys, {model, *waiting.parts}, key)
        waiting = signing.add_signatures(waiting, held)
        _check_own(waiting, keys)
        _upload(api, built.files)
        detail = signing.finish(api, waiting, request, connection, done="")
    if detail is not None:
        detail["distances"] = [asdict(one) for one in built.distances]
        _show(detail, built.latency_ms, connection)


def _given(api: Api, source: "Source", baseline_of: str | None, *, bootstrap: bool) -> "Baseline | None":
    """Return the baseline that the options name; None leaves it to the source folder."""
    from muster_models.publish.baselines import of_ranges  # noqa: PLC0415 - imports the engines

    if bootstrap and (baseline_of is not None or source.declared.baseline is not None):
        raise UsageError("--bootstrap is for a version without any baseline; leave out what names one")
    if bootstrap:
        return of_ranges(source.declared)
    return None if baseline_of is None else baseline.fetch(api, baseline_of)


def withdraw(
    name: Annotated[str, Parameter(name="VERSION", help="MODEL@VERSION or a digest.")],
    /,
    *,
    keys: Keys = None,
    key: SigningKeys = (),
    floor: Annotated[
        int | None, Parameter(help="The lowest release that may still run; also what runs now goes.")
    ] = None,
    reason: Annotated[str, Parameter(help="Why, for the audit trail.")] = "",
    override: Annotated[
        bool,
        Parameter(negative="", help="Also when a rollout may still have to go back to it; needs a reason."),
    ] = False,
    request: RequestFile = None,
    connection: Connection = HERE,
) -> None:
    """Withdraw a version: no device installs it or starts it again."""
    import msgspec  # noqa: PLC0415 - with the request

    from muster_models.trust import publisher  # noqa: PLC0415 - only where keys are used

    if keys is None and not key:
        raise UsageError("name the keys to sign with: --keys DIR, or --key FILE|URI")
    if override and not reason:
        raise UsageError("--override needs a --reason")
    with connection.open() as api:
        version = api.get(f"/versions/{name}")["version"]
        model = f"model-{version['model']}"
        role = signing.required(api, model)
        changed = publisher.withdraw(role, version["version"], floor=floor, signers=[], now=_now())
        if version["assigned"] or version["running"]:
            note(
                f"{version['assigned']} devices should run {version['name']}, {version['running']} do; they "
                "stop at their next look at the repository: roll out another version"
            )
        waiting = msgspec.structs.replace(
            signing.present_documents(api, _now()).request({model: changed}),
            withdrawn=version["digest"],
            reason=reason,
            override=override,
        )
        waiting = signing.add_signatures(waiting, signers(keys, {model}, key))
        _check_own(waiting, keys)
        signing.finish(api, waiting, request, connection, done=f"{version['name']} is withdrawn")


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


def _listed(releases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was not withdrawn, newest first."""
    listed = [one for one in releases if one["withdrawn_at"] is None]
    return sorted(listed, key=lambda one: int(one["release"]), reverse=True)


def _check_unused(releases: list[dict[str, Any]], version: str) -> None:
    # The controller refuses it as well; this way nothing is built or signed in vain.
    for one in releases:
        if one["version"] == version:
            raise ConflictError(f"{one['name']} was released before; a version never changes")


def _prepare(api: Api, built: "Built", *, keys: Path | None, key: tuple[str, ...]) -> "Request":
    """Return the request to list the version; with new targets when nobody holds the model's role yet."""
    import msgspec  # noqa: PLC0415 - with the request

    from muster_models.trust import ceremony, publisher  # noqa: PLC0415 - only where keys are used
    from muster_models.trust.view import keys_of  # noqa: PLC0415 - as above

    model = built.manifest.model
    present = signing.present_documents(api, _now())
    role = signing.document(api, f"model-{model}")
    signed = publisher.release(role, built.document, signers=[], now=present.now)
    waiting = present.request({f"model-{model}": signed})
    if not keys_of(present.targets, f"model-{model}"):
        owners = [open_key(name).public_key for name in key] or [_release_key(keys, model).public_key]
        given = ceremony.give_model(present, model, None, keys=owners, threshold=1)
        waiting = msgspec.structs.replace(waiting, parts={**waiting.parts, **given.parts})
    return msgspec.structs.replace(waiting, manifest=built.document)


def _resume(
    path: Path, *, keys: Path | None, key: tuple[str, ...], connection: Connection, yes: bool
) -> None:
    """Hand over a request, after signing it too where keys are named."""
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    waiting = signing.read(path)
    if keys is not None or key:
        signing.present(waiting)
        signing.confirm(yes=yes)
        waiting = signing.add_signatures(waiting, signers(keys, set(waiting.parts), key))
        signing.write(path, waiting)
    missing = [need for need in requests.needs(waiting) if need.missing]
    if missing:
        told = "; ".join(f"{need.missing} more for {need.role} by {need.by}" for need in missing)
        raise ConflictError(f"{path} waits for signatures: {told}")
    with connection.open() as api:
        answer = signing.hand_over(api, waiting)
    if waiting.manifest is not None:
        _show(answer, None, connection)
    else:
        said = f"handed over: {', '.join(sorted(waiting.parts))}"
        write_outcome(connection.output, answer, said)


def _check_own(waiting: "Request", keys: Path | None) -> None:
    """Refuse to write a request that nobody here could sign: that is a wrong key, not a second signature."""
    from muster_models.trust import request as requests  # noqa: PLC0415 - only where keys are used

    if any(need.signed for need in requests.needs(waiting)):
        return
    if keys is not None and not any(keys.glob("*.key")):
        raise NotFoundError(f"{keys}: no keys here; make them with: muster keys init DIR")
    raise _stranger(holder for need in requests.needs(waiting) for holder in need.holders)


def _check_keys(api: Api, model: str, *, keys: Path | None, key: tuple[str, ...]) -> None:
    """Open the keys that will sign, before anything is built: what is wrong with them is known at once."""
    from muster_models.trust.view import keys_of  # noqa: PLC0415 - only where keys are used

    holders = {held.keyid for held in keys_of(signing.required(api, "targets"), f"model-{model}")}
    wanted = f"model-{model}" if holders else "targets"
    opened = {signer.public_key.keyid for signer in signers(keys, {wanted}, key)}
    if not opened:
        raise NotFoundError(f"{keys}: no {wanted}.key here; make keys with: muster keys init DIR")
    if holders and not holders & opened:
        raise _stranger(holders)


def _stranger(holders: Iterable[str]) -> TrustError:
    told = ", ".join(sorted({holder[:12] for holder in holders}))
    return TrustError(Reason.WRONG_KEY, f"none of the keys here may sign this; {told} may")


def _release_key(keys: Path | None, model: str) -> "Signer":
    if keys is None or not (keys / "targets.key").is_file():
        raise NotFoundError(f"{keys}: no keys here; make them with: muster keys init DIR")
    path = keys / f"model-{model}.key"
    if path.exists():
        return open_key(path)
    # A new model's key is protected in the same way as the key that vouches for it.
    note(f"making the release key of {model}: {path}")
    return create_beside(keys, f"model-{model}")


def _upload(api: Api, files: Mapping[str, Path]) -> None:
    for sha256, path in files.items():
        if not api.has(f"/blobs/{sha256}"):
            api.put_file(f"/blobs/{sha256}", path)


def _show(detail: dict[str, Any], latency_ms: float | None, connection: Connection) -> None:
    if connection.output == "json":
        write_json(detail if latency_ms is None else {**detail, "latency_ms": latency_ms})
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
