"""Nothing but the signed bytes is accepted: mutations of envelopes, metadata and manifests.

A mutation may leave the meaning as it was (a space between two JSON tokens); then exactly that meaning holds.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Targets
from tuf.api.serialization import DeserializationError

from muster_models.errors import InvalidInputError, MusterError, TransferError, TrustError
from muster_models.manifest import encode
from muster_models.trust import publisher
from muster_models.trust.anchor import Documents, verify_documents, verify_roots
from muster_models.trust.client import TrustClient
from muster_models.trust.director import open_envelope
from muster_models.trust.keys import public_key
from muster_models.trust.verified import VerifiedManifest
from support.repository import DEVICE, NOW, SignedRepository, make_signer

FEW = settings(max_examples=300, deadline=None)
ROLES = ("root", "timestamp", "snapshot", "targets", "model-digits")


@dataclass(frozen=True, repr=False)
class Signed:
    """One repository with one release, and its documents."""

    repository: SignedRepository
    released: VerifiedManifest
    documents: dict[str, bytes]
    envelope: bytes


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    repository = SignedRepository(tmp_path_factory.mktemp("repository"))
    released = repository.release()
    old_roots = repository.roots[:2]
    root = publisher.rotate_root(
        repository.document("root"), repository.root_keys(), signers=old_roots, now=NOW
    )
    repository.controller.accept("root", root, NOW)
    documents = {role: repository.document(role) for role in ROLES}
    return Signed(repository, released, documents, repository.envelope(repository.desired(released)))


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, float, bytes]:
    """Return what to do, where (share of the length), and with which bytes."""
    kind = draw(st.sampled_from(["replace", "insert", "delete", "truncate", "double", "flip"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    return kind, place, draw(st.binary(min_size=1, max_size=8))


def mutate(document: bytes, mutation: tuple[str, float, bytes]) -> bytes:
    kind, place, content = mutation
    at = int(place * len(document))
    match kind:
        case "replace":
            return document[:at] + content + document[at + len(content) :]
        case "insert":
            return document[:at] + content + document[at:]
        case "delete":
            return document[:at] + document[at + len(content) :]
        case "truncate":
            return document[:at]
        case "double":
            return document[: at + 1] + document[at:]
        case _:
            return document[:at] + bytes([document[at] ^ (1 << content[0] % 8)]) + document[at + 1 :]


def meaning(document: bytes) -> object:
    """Return what is signed once TUF has read it, or None if it does not parse.

    ``12:0:00`` and ``12:00:00`` are one instant: bytes, and even JSON, may differ where the meaning does not.
    """
    try:
        return Metadata.from_bytes(document).signed.to_dict()
    except DeserializationError:
        return None


@FEW
@given(mutation=mutations())
def test_no_mutation_of_an_envelope_changes_what_a_device_obeys(
    signed: Signed, mutation: tuple[str, float, bytes]
) -> None:
    envelope = mutate(signed.envelope, mutation)
    targets = Metadata[Targets].from_bytes(signed.documents["targets"]).signed
    try:
        desired = open_envelope(envelope, targets, device=DEVICE, after=0, now=NOW.timestamp())
    except TrustError:
        return

    assert desired == signed.repository.desired(signed.released)


@FEW
@given(payload=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_an_envelope_of_any_bytes_is_a_trust_error(signed: Signed, payload: bytes) -> None:
    targets = Metadata[Targets].from_bytes(signed.documents["targets"]).signed

    with pytest.raises(TrustError):
        open_envelope(payload, targets, device=DEVICE, after=0, now=NOW.timestamp())


@FEW
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_an_envelope_of_any_json_is_a_trust_error(signed: Signed, value: object) -> None:
    targets = Metadata[Targets].from_bytes(signed.documents["targets"]).signed

    with pytest.raises(TrustError):
        open_envelope(json.dumps(value).encode(), targets, device=DEVICE, after=0, now=NOW.timestamp())


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=100, deadline=None)
@given(mutation=mutations())
def test_no_mutation_of_metadata_changes_what_is_verified(
    signed: Signed, role: str, mutation: tuple[str, float, bytes]
) -> None:
    documents = dict(signed.documents)
    documents[role] = mutate(documents[role], mutation)
    assume(documents[role] != signed.documents[role])
    held = Documents(
        (documents["root"],),
        documents["timestamp"],
        documents["snapshot"],
        documents["targets"],
        {"model-digits": documents["model-digits"]},
    )
    try:
        anchor = verify_documents(signed.repository.root, held)
    except TrustError:
        return

    if not anchor.refused:
        assert meaning(documents[role]) == meaning(signed.documents[role])


@settings(max_examples=60, deadline=None)
@given(mutation=mutations(), role=st.sampled_from(ROLES[1:]))
def test_a_device_survives_mutated_metadata_and_installs_nothing_by_it(
    signed: Signed, mutation: tuple[str, float, bytes], role: str
) -> None:
    document = mutate(signed.documents[role], mutation)
    assume(meaning(document) != meaning(signed.documents[role]))
    version = json.loads(signed.documents[role])["signed"]["version"]
    path = signed.repository.metadata / (
        "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
    )
    with tempfile.TemporaryDirectory() as folder:
        client = signed.repository.client(Path(folder))
        path.write_bytes(document)
        try:
            with pytest.raises((TrustError, TransferError)):
                install(client, signed.released)
        finally:
            path.write_bytes(signed.documents[role])

        assert install(client, signed.released).digest == signed.released.digest


@FEW
@given(mutation=mutations())
def test_no_mutation_of_a_manifest_runs(signed: Signed, mutation: tuple[str, float, bytes]) -> None:
    document = mutate(signed.released.document, mutation)
    assume(document != signed.released.document)

    with pytest.raises((TrustError, InvalidInputError)):
        signed.repository.controller.verify(document)


@FEW
@given(mutation=mutations())
def test_a_mutated_role_document_is_never_accepted(
    signed: Signed, mutation: tuple[str, float, bytes]
) -> None:
    manifest = encode(signed.repository.manifest(version="2.0.0", release=2))
    keys = signed.repository.release_keys["digits"]
    role = publisher.release(signed.documents["model-digits"], manifest, signers=keys, now=NOW)
    mutated = mutate(role, mutation)
    assume(meaning(mutated) != meaning(role))

    with pytest.raises(TrustError):
        signed.repository.controller.accept("model-digits", mutated, NOW)


@FEW
@given(document=st.binary(max_size=300))
def test_any_bytes_as_root_or_public_key_are_a_trust_error(document: bytes) -> None:
    with pytest.raises(TrustError):
        verify_roots(document, [])
    with pytest.raises(TrustError):
        public_key(document)


@settings(max_examples=40, deadline=None)
@given(strangers=st.integers(0, 3), good=st.integers(0, 3), threshold=st.integers(1, 3))
def test_a_threshold_counts_the_roles_own_keys_and_nothing_else(
    strangers: int, good: int, threshold: int
) -> None:
    keys = [make_signer() for _ in range(3)]
    others = [make_signer() for _ in range(strangers)]
    online = make_signer().public_key
    root = publisher.make_root(keys, threshold, targets=online, snapshot=online, timestamp=online, now=NOW)
    new = publisher.rotate_root(
        root,
        publisher.RootKeys([key.public_key for key in keys], threshold, online, online, online),
        signers=[*others, *keys[:good]],
        now=NOW,
    )
    try:
        accepted = verify_roots(root, [new]).version == 2
    except MusterError:
        accepted = False

    assert accepted == (good >= threshold)


def install(client: TrustClient, version: VerifiedManifest) -> VerifiedManifest:
    return client.manifest(version.manifest.model, version.manifest.version, version.digest)
