"""Opening a founded folder: from paths to the parts that use cases work with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Signer

from muster_controller.config import Folder, Settings
from muster_controller.pki import Authority
from muster_controller.service.context import Context, OnlineKeys
from muster_controller.service.sketches import Sketches
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import migrate, open_database
from muster_models.errors import RequestError
from muster_models.trust.keys import encode_public, load_signer
from muster_models.trust.repository import Repository


@dataclass(frozen=True)
class Opened:
    """A folder that was opened; ``close`` it.

    Attributes:
        director: Signs desired state.
        token: What operators must send.
    """

    context: Context
    baselines: Baselines
    director: Signer
    token: str

    def close(self) -> None:
        """Release the database."""
        self.context.engine.dispose()


def open_folder(folder: Folder, settings: Settings, *, clock: Callable[[], float]) -> Opened:
    """Open a founded folder; its database is brought up to date.

    Raises:
        RequestError: A file of the folder is missing.
        TrustError: A key file is damaged.
        StorageError: The database cannot be opened, or was written by a newer Muster.
    """
    for path in (folder.token, folder.pki / "ca.pem", folder.keys):
        if not path.exists():
            raise RequestError(f"{path}: not found; make the folder with: muster-controller init FOLDER")
    snapshot, timestamp, director = (
        load_signer(_key(folder.keys, role), None) for role in ("snapshot", "timestamp", "director")
    )
    blobs = Blobs(folder.blobs)
    baselines = Baselines(blobs)
    repository = Repository(folder.tuf, snapshot, timestamp)
    engine = open_database(folder.database)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    context = Context(
        folder=folder,
        settings=settings,
        engine=engine,
        blobs=blobs,
        repository=repository,
        authority=Authority(folder.pki),
        online=OnlineKeys(*(_public(signer) for signer in (snapshot, timestamp, director))),
        sketches=Sketches(baselines),
        clock=clock,
    )
    return Opened(context, baselines, director, folder.token.read_text().strip())


def _key(keys: Path, role: str) -> Path:
    return keys / f"{role}.key"


def _public(signer: Signer) -> str:
    return encode_public(signer.public_key).decode()
