"""The released versions: manifests exactly as they were signed."""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import Version
from muster_models.errors import ConflictError, NotFoundError
from muster_models.manifest import Manifest, parse
from muster_models.trust.verified import VerifiedManifest

_COLUMNS = table(Version).c
_ASKED = _COLUMNS.digest.in_(bindparam("digests", expanding=True))
_BASELINES = sqlalchemy.select(_COLUMNS.digest, _COLUMNS.model, _COLUMNS.baseline).where(_ASKED)
_NAMES = sqlalchemy.select(_COLUMNS.digest, _COLUMNS.version).where(_ASKED)
_STREAMS = sqlalchemy.select(_COLUMNS.model, _COLUMNS.baseline).distinct()


@dataclass(frozen=True)
class Release:
    """A released version.

    Attributes:
        baseline: SHA-256 of its baseline file.
        published_at, withdrawn_at: Unix seconds.
    """

    digest: str
    manifest: Manifest
    document: bytes
    baseline: str
    published_at: float
    withdrawn_at: float | None

    @property
    def name(self) -> str:
        """``model@version``."""
        return self.manifest.name


def add(session: Session, verified: VerifiedManifest, now: float) -> None:
    """Remember a version whose release was verified; the same one again changes nothing.

    Raises:
        ConflictError: The model already has another version of that name.
    """
    manifest = verified.manifest
    if session.get(Version, verified.digest) is not None:
        return
    if _by_name(session, manifest.model, manifest.version) is not None:
        raise ConflictError(f"{manifest.name} exists with other content; versions never change")
    session.add(
        Version(
            digest=verified.digest,
            model=manifest.model,
            version=manifest.version,
            release=manifest.release,
            baseline=manifest.file("baseline").sha256,
            document=verified.document,
            published_at=milliseconds(now),
        )
    )
    session.flush()


def get(session: Session, digest: str) -> Release:
    """Return the version with a digest.

    Raises:
        NotFoundError: No such version.
    """
    row = session.get(Version, digest)
    if row is None:
        raise NotFoundError(f"no version with the digest {digest[:12]!r}")
    return _release(row)


def find(session: Session, model: str, version: str) -> Release:
    """Return ``model@version``.

    Raises:
        NotFoundError: No such version.
    """
    row = _by_name(session, model, version)
    if row is None:
        raise NotFoundError(f"no version {model}@{version}")
    return _release(row)


def find_by_start(session: Session, model: str, digits: str) -> Release | None:
    """Return the version of a model whose digest begins so; None where there is none, or more than one."""
    is_it = col(Version.digest).startswith(digits, autoescape=True)
    found = session.exec(select(Version).where(Version.model == model, is_it).limit(2)).all()
    return _release(found[0]) if len(found) == 1 else None


def of_model(session: Session, model: str) -> list[Release]:
    """Return the versions of a model, newest release first, withdrawn ones included."""
    query = select(Version).where(Version.model == model).order_by(col(Version.release).desc())
    return [_release(row) for row in session.exec(query)]


def models(session: Session) -> list[str]:
    """Return the names of all models, in order."""
    return list(session.exec(select(Version.model).distinct().order_by(Version.model)))


def withdraw(session: Session, digest: str, now: float) -> None:
    """Note that a version is no longer listed.

    Raises:
        NotFoundError: No such version.
    """
    row = session.get(Version, digest)
    if row is None:
        raise NotFoundError(f"no version with the digest {digest[:12]!r}")
    row.withdrawn_at = row.withdrawn_at or milliseconds(now)
    session.add(row)


def baselines(session: Session, digests: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return model and baseline of the versions among ``digests`` that are known."""
    rows = ask(session, _BASELINES, digests=list(set(digests)))
    return {digest: (model, baseline) for digest, model, baseline in rows}


def names(session: Session, digests: Iterable[str]) -> dict[str, str]:
    """Return the name (``1.2.0``) of the versions among ``digests`` that are known."""
    return dict(ask(session, _NAMES, digests=list(set(digests))).all())


def streams(session: Session) -> list[tuple[str, str]]:
    """Return every (model, baseline) that a released version has, in order."""
    return sorted((model, baseline) for model, baseline in ask(session, _STREAMS))


def _by_name(session: Session, model: str, version: str) -> Version | None:
    return session.exec(select(Version).where(Version.model == model, Version.version == version)).first()


def _release(row: Version) -> Release:
    return Release(
        row.digest,
        parse(row.document),
        row.document,
        row.baseline,
        seconds(row.published_at),
        None if row.withdrawn_at is None else seconds(row.withdrawn_at),
    )
