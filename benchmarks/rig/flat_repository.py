"""A signed repository as python-tuf's tutorial makes one: one targets file lists every version."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

NAME = "python-tuf, one flat targets file"
S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
EXPIRES = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


class FlatRepository:
    """One flat repository in ``folder/metadata``, with one key for each top role.

    Attributes:
        root: What a device pins.
    """

    def __init__(self, folder: Path, targets: Mapping[str, TargetFile]) -> None:
        self._metadata = folder / "metadata"
        self._metadata.mkdir(parents=True)
        self._signers = {
            role: CryptoSigner.generate_ed25519() for role in ("root", "timestamp", "snapshot", "targets")
        }
        root = Root(expires=EXPIRES, consistent_snapshot=True)
        for role, signer in self._signers.items():
            root.add_key(signer.public_key, role)
        self.root = self._write(root, "1.root.json")
        self._targets = Targets(expires=EXPIRES, targets=dict(targets))
        self._publish(1)

    def release(self, path: str, target: TargetFile) -> None:
        """List one more version."""
        self._targets.targets[path] = target
        self._targets.version += 1
        self._publish(self._targets.version)

    def _publish(self, version: int) -> None:
        self._write(self._targets, f"{version}.targets.json")
        meta = {"targets.json": MetaFile(version)}
        self._write(Snapshot(version, expires=EXPIRES, meta=meta), f"{version}.snapshot.json")
        self._write(Timestamp(version, expires=EXPIRES, snapshot_meta=MetaFile(version)), "timestamp.json")

    def _write(self, signed: S, name: str) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(self._signers[signed.type])
        document = metadata.to_bytes()
        (self._metadata / name).write_bytes(document)
        return document
