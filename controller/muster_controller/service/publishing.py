"""The signed repository and what is published into it: nothing is stored that its signatures do not cover."""

import base64
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from muster_controller.service.context import Context, Deed, OnlineKeys, record
from muster_controller.service.keeping import check_kept
from muster_controller.service.versions import show_version
from muster_controller.store import desired
from muster_controller.store import versions as store
from muster_controller.store.views.models import VersionDetail
from muster_models import manifest as manifests
from muster_models.errors import ConflictError, NotFoundError, Reason, RequestError
from muster_models.golden import decode_golden
from muster_models.manifest import Delta, FileEntry, Manifest
from muster_models.sketch.baseline import decode_baseline
from muster_models.trust.roles import DIRECTOR, MODEL_PREFIX, model_role

ROOT, TARGETS = "root", "targets"


@dataclass(frozen=True)
class ListedModel:
    """What the signed repository says of one model.

    Attributes:
        floor: The lowest release that may run.
        versions: SHA-256 of each listed version's manifest.
    """

    model: str
    floor: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class RepositoryView:
    """The signed repository; documents are Base64 of their exact bytes.

    Attributes:
        targets: The newest targets document; None before the repository is installed.
    """

    installed: bool
    targets: str | None
    models: tuple[ListedModel, ...]


@dataclass(frozen=True)
class RoleView:
    """The newest document of one role, Base64 of its exact bytes."""

    role: str
    document: str


@dataclass(frozen=True)
class Submission:
    """What a publisher hands over to release one version.

    Attributes:
        manifest: The exact bytes that are listed.
        role: The model's role, signed, with the version listed.
        targets: Newly signed targets, when the model is new or its keys changed.
    """

    manifest: bytes
    role: bytes
    targets: bytes | None = None

    def models(self) -> Iterator[str | None]:
        """Yield whose it is: the manifest's model, and None, the fleet, where new targets came along."""
        yield manifests.parse(self.manifest).model
        if self.targets is not None:
            yield None


def show_repository(context: Context) -> RepositoryView:
    """Return what the signed repository lists now."""
    repository = context.repository
    if not repository.is_installed:
        return RepositoryView(installed=False, targets=None, models=())
    models = tuple(
        ListedModel(name, repository.floor(name), repository.listed(name)) for name in repository.models()
    )
    return RepositoryView(installed=True, targets=_armour(repository.current(TARGETS)), models=models)


def show_role(context: Context, role: str) -> RoleView:
    """Return the newest document of ``root``, ``targets`` or a model's role.

    Raises:
        NotFoundError: No such role, or nothing of it yet.
    """
    known = role in {ROOT, TARGETS} or role.startswith(MODEL_PREFIX)
    document = context.repository.current(role) if known and context.repository.is_installed else None
    text = _armour(document)
    if text is None:
        raise NotFoundError(f"there is no document of the role {role[:80]!r}")
    return RoleView(role, text)


def install(context: Context, actor: str, *, root: bytes, targets: bytes) -> RepositoryView:
    """Begin the signed repository with the offline-signed root and targets.

    Raises:
        ConflictError: It is installed already.
        TrustError: The documents are not signed as they say, or do not name this controller's online keys.
    """
    if context.repository.is_installed:
        raise ConflictError("the signed repository is installed; its root is replaced by a rotation only")
    now = context.clock()
    with context.unit() as session:
        context.repository.install(root, targets, _instant(now))
        record(session, Deed(actor, "repository.install", "root"), now)
    return show_repository(context)


def accept_documents(context: Context, actor: str, documents: Mapping[str, bytes]) -> RepositoryView:
    """Take newly signed documents of several roles at once, as when the keys of one change with another.

    Documents that are current already change nothing. After a change of the director's key every device is
    told what it should run again, because it takes nothing more that the old key signed.

    Raises:
        TrustError: They are not signed as the roles above say, or are not the next versions.
    """
    _require_installed(context)
    repository, now = context.repository, context.clock()
    changed = {role: one for role, one in documents.items() if one != repository.current(role)}
    director = repository.holders(DIRECTOR)
    if not changed:
        return show_repository(context)
    with context.unit() as session:
        check_kept(context, session, changed, override=False, reason="")
        repository.accept_all(changed, _instant(now))
        if repository.holders(DIRECTOR) != director:
            desired.sign_again(session)
        for role in sorted(changed):
            record(session, Deed(actor, "repository.accept", role), now)
    context.wake()
    return show_repository(context)


def renew_online_keys(context: Context, actor: str) -> OnlineKeys:
    """Make new keys of this controller, for the next root and targets to name; until then the old ones sign.

    Raises:
        ConflictError: There is no signed repository.
    """
    keys = context.renew_online_keys()
    with context.unit() as session:
        record(session, Deed(actor, "repository.renew-keys", "online"), context.clock())
    return keys


def accept_role(context: Context, actor: str, role: str, *, document: bytes) -> RoleView:
    """Take a newly signed document of ``root``, ``targets`` or a model's role, renewed or with other keys.

    Raises:
        TrustError: Not signed as the role above says, or not the next version.
        ConflictError: There is no signed repository.
    """
    accept_documents(context, actor, {role: document})
    return show_role(context, role)


def release(context: Context, actor: str, submission: Submission) -> VersionDetail:
    """Publish a version. The same submission again changes nothing, so a broken connection is no problem.

    What must hold, in this order:
        1. the model's role is signed by the keys that targets name (those that came along, or the present
           ones), and lists exactly this manifest;
        2. every file and patch that the manifest names is here, with the length it says, and Muster's own
           files parse;
        3. neither the version's name nor its release number was used;
        4. the documents follow the present ones.
    Then the documents become current, and the version is remembered.

    Raises:
        TrustError: A signature, a hash or a listing is wrong.
        RequestError: A file is missing or has another length.
        ConflictError: The version's name was used, with other content.
    """
    _require_installed(context)
    now = context.clock()
    manifest = manifests.parse(submission.manifest)
    verified = context.repository.verify_release(
        submission.role, submission.manifest, targets=submission.targets
    )  # 1
    _check_files(context, manifest)  # 2
    # Devices fetch the manifest by its SHA-256, like every file that it lists.
    context.blobs.put(verified.digest, [verified.document])
    with context.unit() as session:
        store.add(session, verified, now)  # 3
        changed = _changed(context, manifest, submission)
        check_kept(context, session, changed, override=False, reason="")
        if changed:
            context.repository.accept_all(changed, _instant(now))  # 4
        waived = {waiver.metric: waiver.reason for waiver in manifest.waivers}
        detail = {"digest": verified.digest, "waivers": waived}
        record(session, Deed(actor, "version.release", manifest.name, detail=detail), now)
    context.wake()
    return show_version(context, verified.digest)


def _changed(context: Context, manifest: Manifest, submission: Submission) -> dict[str, bytes]:
    """Return the documents that are not current yet: none when a submission comes again."""
    sent = {TARGETS: submission.targets, model_role(manifest.model): submission.role}
    return {
        role: document
        for role, document in sent.items()
        if document is not None and document != context.repository.current(role)
    }


def withdraw(
    context: Context, actor: str, digest: str, *, role: bytes, reason: str = "", override: bool = False
) -> VersionDetail:
    """Withdraw a version: no device installs it or starts it again.

    Args:
        context: Of this controller.
        actor: Who does it.
        digest: Of the version's manifest.
        role: The model's role, signed, without the version.
        reason: For the audit trail; must be given with ``override``.
        override: Also when a rollout may still have to go back to the version.

    Raises:
        NotFoundError: No such version.
        ConflictError: ``role`` still lists the version, or a rollout may have to go back to it.
        TrustError: ``role`` is not signed by the model's keys.
    """
    now, repository = context.clock(), context.repository
    with context.unit() as session:
        manifest = store.get(session, digest).manifest
        name = model_role(manifest.model)
        lost = check_kept(context, session, {name: role}, override=override, reason=reason)
        if role != repository.current(name):
            repository.accept(name, role, _instant(now))
        if manifest.version in repository.listed(manifest.model):
            raise ConflictError(f"the role that was sent still lists {manifest.name}")
        store.withdraw(session, digest, now)
        detail = {"overridden": list(lost)} if lost else {}
        record(session, Deed(actor, "version.withdraw", manifest.name, reason, detail), now)
    context.wake()
    return show_version(context, digest)


def _require_installed(context: Context) -> None:
    if not context.repository.is_installed:
        raise ConflictError("there is no signed repository yet; make it with: muster keys init DIR")


def _check_files(context: Context, manifest: Manifest) -> None:
    for entry in manifest.files:
        _check_file(context, f"file {entry.name!r}", entry)
        for delta in entry.deltas:
            _check_file(context, f"patch for {entry.name!r}", delta)
    decode_baseline(context.blobs.read(manifest.file("baseline").sha256))
    decode_golden(context.blobs.read(manifest.file("golden").sha256))


def _check_file(context: Context, name: str, entry: FileEntry | Delta) -> None:
    if not context.blobs.has(entry.sha256):
        raise RequestError(f"the {name} ({entry.sha256[:12]}) was not uploaded")
    length = context.blobs.path(entry.sha256).stat().st_size
    if length != entry.length:
        raise RequestError(
            f"the {name} has {length} bytes, the manifest says {entry.length}", Reason.TAMPERED
        )


def _armour(document: bytes | None) -> str | None:
    return None if document is None else base64.b64encode(document).decode()


def _instant(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, dt.UTC)
