"""The type that says "somebody verified this": only ``trust`` makes one."""

from dataclasses import dataclass

from muster_models.manifest import Manifest, parse
from muster_models.manifest import digest as digest_of

_SEAL = object()


@dataclass(frozen=True, init=False)
class VerifiedManifest:
    """A manifest whose signatures, listing and hash were checked.

    The store stages nothing else, and a worker runs nothing else.

    Attributes:
        document: The exact bytes that were signed.
        digest: Their SHA-256, the name of the version.
    """

    manifest: Manifest
    document: bytes
    digest: str

    def __init__(self, document: bytes, seal: object) -> None:
        if seal is not _SEAL:
            raise RuntimeError("only muster_models.trust makes a VerifiedManifest")
        object.__setattr__(self, "document", document)
        object.__setattr__(self, "manifest", parse(document))
        object.__setattr__(self, "digest", digest_of(document))


def _seal(document: bytes) -> VerifiedManifest:
    """Wrap bytes that ``trust`` has verified. An architecture test sees that only this package calls it."""
    return VerifiedManifest(document, _SEAL)
