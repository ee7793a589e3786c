"""Opening a founded folder: from paths to the parts that use cases work with."""

from collections.abc import Callable
from dataclasses import dataclass

from securesystemslib.signer import Signer

from muster_controller.config import Folder, Settings, database_of
from muster_controller.pki import Authority
from muster_controller.service.context import Context
from muster_controller.service.keyring import Director, Keyring
from muster_controller.service.sketches import Sketches
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import migrate, open_database
from muster_models.errors import RequestError
from muster_models.known_types import know_types
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
        InvalidInputError: The setting ``database`` is not a URL of PostgreSQL.
        TrustError: A key file is damaged.
        StorageError: The database cannot be opened, or was written by a newer Muster.
    """
    know_types()
    for path in (folder.token, folder.pki / "ca.pem", folder.keys):
        if not path.exists():
            raise RequestError(f"{path}: not found; make the folder with: muster-controller init FOLDER")
    keyring = Keyring(folder.keys)
    blobs = Blobs(folder.blobs)
    baselines = Baselines(blobs)
    first = keyring.generations[0]
    repository = Repository(
        folder.tuf, first["snapshot"], first["timestamp"], spare=lambda: keyring.generations
    )
    engine = open_database(database_of(folder, settings))
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
        online_keys=lambda: keyring.newest,
        renew_online_keys=lambda: keyring.renew(repository),
        sketches=Sketches(baselines),
        clock=clock,
    )
    director = Director(keyring, repository.holders)
    return Opened(context, baselines, director, folder.token.read_text().strip())
