"""The controller's own keys: for snapshot, timestamp and director, in one or several generations.

Which generation signs is not written down here: root and targets name it. So keys are replaced by making new
ones and having them named; a power cut between the two leaves nothing to mend.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key, SecretsHandler, Signature, Signer

from muster_controller.service.context import OnlineKeys
from muster_models.errors import ConflictError
from muster_models.trust.keys import create_signer, encode_public, load_signer
from muster_models.trust.repository import Repository
from muster_models.trust.roles import DIRECTOR

ROLES: Final = ("snapshot", "timestamp", DIRECTOR)
Generation = Mapping[str, Signer]


class Keyring:
    """The online keys in a folder: ``snapshot.key`` of the first generation, ``snapshot.2.key`` of the next.

    Raises:
        TrustError: A key file is damaged.
        StorageError: A key file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._generations = [self._load(1)]
        while all(self._path(role, len(self._generations) + 1).exists() for role in ROLES):
            self._generations.append(self._load(len(self._generations) + 1))

    @property
    def generations(self) -> Sequence[Generation]:
        """Every generation, oldest first."""
        return tuple(self._generations)

    @property
    def newest(self) -> OnlineKeys:
        """The public halves that root and targets should name."""
        held = self._generations[-1]
        return OnlineKeys(*(encode_public(held[role].public_key).decode() for role in ROLES))

    def renew(self, repository: Repository) -> OnlineKeys:
        """Make the next generation; one that was made and is not named yet stays the next one.

        Raises:
            ConflictError: There is no signed repository whose root could name it.
            StorageError: The disk refuses.
        """
        if not repository.is_installed:
            raise ConflictError("there is no signed repository yet; make it with: muster keys init DIR")
        if repository.holders(DIRECTOR) == [self._generations[-1][DIRECTOR].public_key.keyid]:
            number = len(self._generations) + 1
            for role in ROLES:
                path = self._path(role, number)
                if not path.exists():  # a power cut may have left some of them
                    create_signer(path, None)
            self._generations.append(self._load(number))
        return self.newest

    def _load(self, number: int) -> Generation:
        return {role: load_signer(self._path(role, number), None) for role in ROLES}

    def _path(self, role: str, number: int) -> Path:
        return self._folder / (f"{role}.key" if number == 1 else f"{role}.{number}.key")


class Director(Signer):
    """Signs with that director key which the present targets name; with the first while they name none."""

    def __init__(self, keyring: Keyring, holders: Callable[[str], Sequence[str]]) -> None:
        self._keyring = keyring
        self._holders = holders

    @property
    def public_key(self) -> Key:
        """The key that signs now."""
        return self._present.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> "Director":
        """Refuse: a director is not opened by a URI."""
        raise NotImplementedError(priv_key_uri, public_key, secrets_handler)

    def sign(self, payload: bytes) -> Signature:
        """Sign."""
        return self._present.sign(payload)

    @property
    def _present(self) -> Signer:
        named = set(self._holders(DIRECTOR))
        held = [generation[DIRECTOR] for generation in self._keyring.generations]
        return next((signer for signer in held if signer.public_key.keyid in named), held[0])
