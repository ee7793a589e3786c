"""Mutations by the thousand of everything that is signed: not one is accepted with another meaning.

The laws in ``test_trust_laws`` shrink what they find; this counts. A mutation that leaves the meaning (a
space between two JSON tokens) is not an acceptance of anything else, and is not counted as one.
"""

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Signed, Targets

from muster_agent.disk import RealDisk
from muster_agent.store import Store
from muster_models.errors import MusterError
from muster_models.trust import publisher
from muster_models.trust.anchor import Documents, verify_documents
from muster_models.trust.director import open_envelope
from support.mutation import mutate
from support.repository import DEVICE, FILES, NOW, SignedRepository

ROLES = ("root", "timestamp", "snapshot", "targets", "model-digits")
SAMPLE, ALL = 2_000, 100_000
# Takes a mutation; returns what was accepted, None when it was refused.
Judge = Callable[[bytes], object]


class Subjects:
    """One signed repository, and what is accepted of a mutation of each of its parts."""

    def __init__(self, folder: Path) -> None:
        self.repository = SignedRepository(folder / "repository")
        self.golden = random.Random(0).randbytes(2_000)
        self.released = self.repository.release(FILES | {"golden.bin": self.golden})
        root = publisher.rotate_root(
            self.repository.document("root"),
            self.repository.root_keys(),
            signers=self.repository.roots[:2],
            now=NOW,
        )
        self.repository.controller.accept("root", root, NOW)
        self.documents = {role: self.repository.document(role) for role in ROLES}
        self.envelope = self.repository.envelope(self.repository.desired(self.released))
        self.targets = Metadata[Targets].from_bytes(self.documents["targets"]).signed
        self.blobs = folder / "store/blobs"
        self.store = Store(RealDisk(folder / "store"))
        self.store.load()
        self.client = self.repository.client(folder / "trust")
        self.client.manifest("digits", "1.0.0", self.released.digest)

    def all(self) -> Iterator[tuple[str, bytes, Judge]]:
        """Return name, genuine bytes and judge of everything that is signed."""
        for role in ROLES:
            yield role, self.documents[role], functools.partial(self.metadata, role)
        yield "envelope", self.envelope, self.order
        yield "manifest", self.released.document, self.manifest
        yield "installed manifest", self.released.document, self.client.reverify
        yield "file", self.golden, self.file

    def metadata(self, role: str, document: bytes) -> object:
        """Return what the role means to a device that reads it."""
        held = self.documents | {role: document}
        anchor = verify_documents(
            self.repository.root,
            Documents(
                (held["root"],),
                held["timestamp"],
                held["snapshot"],
                held["targets"],
                {"model-digits": held["model-digits"]},
            ),
        )
        signed: dict[str, Signed] = {
            "root": anchor.root,
            "timestamp": anchor.timestamp,
            "snapshot": anchor.snapshot,
            "targets": anchor.targets,
            **anchor.models,
        }
        return signed[role].to_dict() if role in signed else None

    def order(self, envelope: bytes) -> object:
        return open_envelope(envelope, self.targets, device=DEVICE, after=0, now=NOW.timestamp())

    def manifest(self, document: bytes) -> object:
        return self.repository.controller.verify(document)

    def file(self, content: bytes) -> object:
        """Return the content if a store that holds nothing of the file takes it for one."""
        entry = self.released.manifest.file("golden")
        for name in (entry.sha256, f"{entry.sha256}.part"):
            (self.blobs / name).unlink(missing_ok=True)
        with self.store.blob_writer(entry) as writer:
            writer.append(content)
            writer.commit()
        return content


def played(subjects: Subjects, mutations: int, seed: int) -> Counter[str]:
    """Play mutations of every subject in turn; count what came of them."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    everything = list(subjects.all())
    for number in range(mutations):
        name, genuine, judge = everything[number % len(everything)]
        mutated = genuine
        while mutated == genuine:
            mutated = mutate(genuine, chance)
        try:
            accepted = judge(mutated)
        except MusterError as error:
            counts[f"refused: {error.reason}"] += 1
            continue
        if accepted is None:
            counts["refused: a model's role"] += 1
        else:
            counts["the same meaning" if accepted == judge(genuine) else f"accepted: {name}"] += 1
    return counts


@pytest.mark.parametrize(
    ("mutations", "seed"),
    [pytest.param(SAMPLE, 1, id="sample"), pytest.param(ALL, 2, id="all", marks=[pytest.mark.slow])],
)
@pytest.mark.timeout(1800)
def test_no_mutation_of_anything_signed_is_accepted(tmp_path: Path, mutations: int, seed: int) -> None:
    subjects = Subjects(tmp_path)
    for name, genuine, judge in subjects.all():
        assert judge(genuine) is not None, f"{name} is refused as it is"

    counts = played(subjects, mutations, seed)

    assert counts.total() == mutations
    assert {name: count for name, count in counts.items() if name.startswith("accepted")} == {}
