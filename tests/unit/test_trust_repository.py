import datetime as dt
import json
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from muster_models.errors import ConflictError, NotFoundError, Reason, StorageError, TrustError
from muster_models.manifest import encode
from muster_models.trust import publisher
from muster_models.trust.publisher import RootKeys
from muster_models.trust.repository import Repository
from support.repository import NOW, SignedRepository, make_signer

DAY = dt.timedelta(days=1)


@pytest.fixture
def repository(tmp_path: Path) -> SignedRepository:
    return SignedRepository(tmp_path)


def reopened(repository: SignedRepository) -> Repository:
    return Repository(repository.folder, repository.snapshot_key, repository.timestamp_key)


def next_root(repository: SignedRepository, keys: RootKeys | None = None, *, signers: slice) -> bytes:
    return publisher.rotate_root(
        repository.document("root"),
        keys or repository.root_keys(),
        signers=repository.roots[signers],
        now=repository.now,
    )


def version_of(document: bytes | None) -> int:
    assert document is not None
    return int(Metadata.from_bytes(document).signed.version)


def test_an_empty_folder_is_not_installed_and_says_so(tmp_path: Path) -> None:
    empty = Repository(tmp_path, make_signer(), make_signer())

    assert not empty.is_installed
    assert (empty.current("targets"), empty.listed("digits"), empty.models(), empty.expiries()) == (
        None,
        {},
        [],
        {},
    )
    assert not empty.renew(NOW)
    with pytest.raises(NotFoundError, match="no repository is installed"):
        _ = empty.root_v1
    with pytest.raises(NotFoundError, match="no repository is installed"):
        empty.accept("targets", b"", NOW)


def test_a_released_version_is_listed_and_verified(repository: SignedRepository) -> None:
    released = repository.release()

    assert repository.controller.listed("digits") == {"1.0.0": released.digest}
    assert repository.controller.verify(released.document).manifest == released.manifest
    assert repository.controller.models() == ["digits"]


def test_a_reopened_repository_is_the_same(repository: SignedRepository) -> None:
    repository.release()
    again = reopened(repository)

    assert again.is_installed
    for role in ("root", "timestamp", "snapshot", "targets", "model-digits"):
        assert again.current(role) == repository.controller.current(role)
    assert again.expiries() == repository.controller.expiries()


def test_every_state_stays_on_disk_so_that_any_device_can_follow(repository: SignedRepository) -> None:
    repository.release()
    repository.release(version="1.1.0", release=2)

    names = {path.name for path in repository.metadata.iterdir()}

    assert {"1.root.json", "1.targets.json", "2.targets.json", "1.model-digits.json"} <= names
    assert {"2.model-digits.json", "4.snapshot.json", "timestamp.json"} <= names


def test_a_repository_is_installed_once(repository: SignedRepository) -> None:
    with pytest.raises(ConflictError, match="installed already"):
        repository.controller.install(repository.root, repository.document("targets"), NOW)


def test_a_root_for_another_controller_is_not_installed(repository: SignedRepository, tmp_path: Path) -> None:
    stranger = Repository(tmp_path / "other", make_signer(), make_signer())

    with pytest.raises(TrustError, match="root must give snapshot to this controller's key") as caught:
        stranger.install(repository.root, repository.document("targets"), NOW)

    assert caught.value.reason is Reason.WRONG_KEY
    assert not stranger.is_installed


def test_a_repository_that_expired_on_the_way_is_not_installed(
    repository: SignedRepository, tmp_path: Path
) -> None:
    late = Repository(tmp_path / "other", repository.snapshot_key, repository.timestamp_key)

    with pytest.raises(TrustError, match="targets expired") as caught:
        late.install(repository.root, repository.document("targets"), NOW + 366 * DAY)

    assert caught.value.reason is Reason.EXPIRED


def test_a_release_by_another_models_key_is_refused(repository: SignedRepository) -> None:
    repository.release(model="weather")

    with pytest.raises(TrustError, match="none of which holds this role") as caught:
        repository.release(signers=repository.release_keys["weather"])

    assert caught.value.reason is Reason.WRONG_KEY
    assert repository.controller.listed("digits") == {}


def test_an_unsigned_release_is_refused(repository: SignedRepository) -> None:
    with pytest.raises(TrustError, match="expected 1 good signatures, got 0") as caught:
        repository.release(signers=[])

    assert caught.value.reason is Reason.UNSIGNED


def test_a_release_of_a_model_without_a_role_is_refused(repository: SignedRepository) -> None:
    document = encode(repository.manifest())
    role = publisher.release(None, document, signers=[make_signer()], now=NOW)

    with pytest.raises(TrustError, match="no such role is delegated") as caught:
        repository.controller.verify_release(role, document)

    assert caught.value.reason is Reason.NOT_LISTED


def test_a_model_and_its_first_release_may_come_together(repository: SignedRepository) -> None:
    document = encode(repository.manifest())
    key = make_signer()
    targets = publisher.add_model(
        repository.document("targets"),
        "digits",
        keys=[key.public_key],
        threshold=1,
        signer=repository.targets_key,
        now=NOW,
    )
    role = publisher.release(None, document, signers=[key], now=NOW)

    verified = repository.controller.verify_release(role, document, targets=targets)
    repository.controller.accept_all({"targets": targets, "model-digits": role}, NOW)

    assert repository.controller.listed("digits") == {"1.0.0": verified.digest}


def test_a_manifest_changed_after_signing_is_refused(repository: SignedRepository) -> None:
    document = encode(repository.manifest())
    repository.add_model("digits")
    role = publisher.release(None, document, signers=repository.release_keys["digits"], now=NOW)
    changed = document.replace(b'"release":1', b'"release":7')

    with pytest.raises(TrustError, match=r"digits@1\.0\.0 is listed as") as caught:
        repository.controller.verify_release(role, changed)

    assert caught.value.reason is Reason.NOT_LISTED


@pytest.mark.parametrize("releases", [1, 3])
def test_a_role_document_is_accepted_only_as_the_next_version(
    repository: SignedRepository, releases: int
) -> None:
    """Neither a replay of the present document nor a jump ahead is accepted."""
    repository.release()
    keys = repository.release_keys["digits"]
    document = repository.document("model-digits")
    for number in range(2, releases + 1):
        manifest = encode(repository.manifest(version=f"{number}.0.0", release=number))
        document = publisher.release(document, manifest, signers=keys, now=NOW)

    with pytest.raises(TrustError, match=f"expected version 2, got {releases}") as caught:
        repository.controller.accept("model-digits", document, NOW)

    assert caught.value.reason is Reason.REPLAYED


def test_an_expired_role_document_is_refused(repository: SignedRepository) -> None:
    repository.release()
    document = publisher.renew(
        repository.document("model-digits"), signers=repository.release_keys["digits"], now=NOW
    )

    with pytest.raises(TrustError, match="model-digits expired") as caught:
        repository.controller.accept("model-digits", document, NOW + 181 * DAY)

    assert caught.value.reason is Reason.EXPIRED


@pytest.mark.parametrize("role", ["root", "targets", "model-digits"])
def test_a_document_without_a_canonical_form_is_refused(repository: SignedRepository, role: str) -> None:
    repository.release()
    document = json.loads(repository.document(role))
    document["signed"]["version"] += 1
    document["signed"]["x-muster"]["issued"] += 0.5

    with pytest.raises(TrustError) as caught:
        repository.controller.accept(role, json.dumps(document).encode(), NOW)

    assert caught.value.reason is Reason.TAMPERED


def test_a_damaged_role_document_is_refused_and_changes_nothing(repository: SignedRepository) -> None:
    repository.release()
    before = repository.document("timestamp")

    with pytest.raises(TrustError) as caught:
        repository.controller.accept("model-digits", b"{}", NOW)

    assert caught.value.reason is Reason.TAMPERED
    assert repository.document("timestamp") == before


def test_one_models_document_cannot_stand_in_for_anothers(repository: SignedRepository) -> None:
    """TUF binds a document to keys only, and two models may share a key."""
    key = make_signer()
    repository.add_model("digits", signers=[key])
    repository.add_model("weather", signers=[key])
    repository.release(model="weather")

    with pytest.raises(TrustError, match="was signed as 'model-weather'") as caught:
        repository.controller.accept("model-digits", repository.document("model-weather"), NOW)

    assert caught.value.reason is Reason.TAMPERED


def test_a_withdrawn_version_no_longer_verifies(repository: SignedRepository) -> None:
    first = repository.release()
    second = repository.release(version="2.0.0", release=2)
    repository.withdraw("digits", "1.0.0", floor=2)

    with pytest.raises(TrustError, match=r"digits@1\.0\.0 was withdrawn") as caught:
        repository.controller.verify(first.document)

    assert caught.value.reason is Reason.NOT_LISTED
    assert repository.controller.floor("digits") == 2
    assert repository.controller.listed("digits") == {"2.0.0": second.digest}


def test_a_version_of_an_unknown_model_does_not_verify(repository: SignedRepository) -> None:
    with pytest.raises(TrustError, match="the model has no release"):
        repository.controller.verify(encode(repository.manifest()))


def test_two_signatures_are_needed_where_the_owner_asks_for_two(repository: SignedRepository) -> None:
    pair = [make_signer(), make_signer()]
    repository.add_model("digits", signers=pair, threshold=2)

    with pytest.raises(TrustError, match="expected 2 good signatures, got 1") as caught:
        repository.release(signers=pair[:1])
    repository.release(signers=pair)

    assert caught.value.reason is Reason.UNSIGNED
    assert list(repository.controller.listed("digits")) == ["1.0.0"]


def test_a_models_keys_change_together_with_its_document(repository: SignedRepository) -> None:
    repository.release()
    key = make_signer()
    targets = publisher.change_keys(
        repository.document("targets"),
        "model-digits",
        keys=[key.public_key],
        threshold=1,
        signer=repository.targets_key,
        now=NOW,
    )
    role = publisher.renew(repository.document("model-digits"), signers=[key], now=NOW)

    with pytest.raises(TrustError, match="none of which holds this role"):
        repository.controller.accept("targets", targets, NOW)
    repository.controller.accept_all({"targets": targets, "model-digits": role}, NOW)

    assert version_of(repository.controller.current("model-digits")) == 2


def test_a_root_is_replaced_by_one_that_the_old_keys_sign(repository: SignedRepository) -> None:
    repository.controller.accept("root", next_root(repository, signers=slice(2)), NOW)

    assert version_of(repository.controller.current("root")) == 2
    assert version_of(repository.root) == 1
    assert version_of(reopened(repository).current("root")) == 2


def test_one_of_three_root_keys_replaces_nothing(repository: SignedRepository) -> None:
    with pytest.raises(TrustError, match="root: expected 2 good signatures, got 1"):
        repository.controller.accept("root", next_root(repository, signers=slice(1)), NOW)


def test_a_root_that_takes_the_controllers_key_away_is_refused(repository: SignedRepository) -> None:
    """The controller could no longer sign, and every device would be frozen."""
    repository.timestamp_key = make_signer()

    with pytest.raises(TrustError, match="root must give timestamp to this controller's key"):
        repository.controller.accept("root", next_root(repository, signers=slice(2)), NOW)


def test_signing_again_is_done_only_when_due(repository: SignedRepository) -> None:
    controller = repository.controller
    snapshot, timestamp = controller.current("snapshot"), controller.current("timestamp")

    assert not controller.renew(NOW + dt.timedelta(hours=23))
    assert controller.renew(NOW + dt.timedelta(hours=25))
    assert controller.current("snapshot") == snapshot
    assert version_of(controller.current("timestamp")) == version_of(timestamp) + 1
    assert controller.renew(NOW + 16 * DAY)
    assert version_of(controller.current("snapshot")) == version_of(snapshot) + 1
    assert controller.expiries()["timestamp"] == NOW + 23 * DAY


def test_a_root_written_just_before_a_power_cut_is_followed_by_new_signatures(
    repository: SignedRepository,
) -> None:
    repository.timestamp_key = make_signer()
    root = next_root(repository, signers=slice(2))
    (repository.metadata / "2.root.json").write_bytes(root)

    again = reopened(repository)

    assert again.renew(NOW)
    assert not again.renew(NOW)
    assert version_of(again.current("timestamp")) == 2


def test_a_damaged_folder_is_named(repository: SignedRepository) -> None:
    (repository.metadata / "1.snapshot.json").unlink()

    with pytest.raises(StorageError, match=r"1\.snapshot\.json"):
        reopened(repository)
