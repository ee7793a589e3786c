import datetime as dt
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater

from muster_models.errors import ManifestError, Reason, TransferError, TrustError
from muster_models.manifest import MAX_BYTES, digest, encode
from muster_models.trust import memory, publisher
from muster_models.trust.client import TrustClient
from muster_models.trust.repository import Repository
from muster_models.trust.verified import VerifiedManifest
from support.repository import BASE_URL, DEVICE, NOW, SignedRepository, make_signer

DAY = dt.timedelta(days=1)
ALL_ROLES = ("timestamp", "snapshot", "targets", "model-digits")


@pytest.fixture
def repository(tmp_path: Path) -> SignedRepository:
    return SignedRepository(tmp_path / "repository")


@pytest.fixture
def client(repository: SignedRepository, tmp_path: Path) -> TrustClient:
    return repository.client(tmp_path / "trust")


def manifest(client: TrustClient, version: VerifiedManifest) -> VerifiedManifest:
    return client.manifest(version.manifest.model, version.manifest.version, version.digest)


def refusal(client: TrustClient, version: VerifiedManifest) -> TrustError:
    with pytest.raises(TrustError) as caught:
        manifest(client, version)
    return caught.value


def rewrite(repository: SignedRepository, role: str, document: bytes) -> None:
    """Put a document where devices look for the present one of ``role``: a mirror, or a stolen controller."""
    held = Metadata.from_bytes(repository.document(role)).signed.version
    name = "timestamp.json" if role == "timestamp" else f"{held}.{role}.json"
    (repository.metadata / name).write_bytes(document)


def steal_controller(repository: SignedRepository, role: str, document: bytes) -> None:
    """Publish a document the way its own checks forbid: with the online keys, past ``accept``."""
    version = Metadata.from_bytes(document).signed.version
    (repository.metadata / f"{version}.{role}.json").write_bytes(document)
    timestamp = Metadata[Timestamp].from_bytes(repository.document("timestamp"))
    snapshot = Metadata[Snapshot].from_bytes(repository.document("snapshot"))
    snapshot.signed.version += 1
    snapshot.signed.meta[f"{role}.json"] = MetaFile(version)
    snapshot.sign(repository.snapshot_key)
    (repository.metadata / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta.version = snapshot.signed.version
    timestamp.sign(repository.timestamp_key)
    (repository.metadata / "timestamp.json").write_bytes(timestamp.to_bytes())


# What is listed, and what may run.


def test_a_listed_version_may_be_installed(repository: SignedRepository, client: TrustClient) -> None:
    released = repository.release()

    assert manifest(client, released).manifest == released.manifest


def test_a_device_that_is_up_to_date_fetches_one_small_file(
    repository: SignedRepository, tmp_path: Path
) -> None:
    fetcher = repository.fetcher()
    client = repository.client(tmp_path / "trust", fetcher=fetcher)
    manifest(client, repository.release())
    fetcher.requests.clear()

    client.refresh()

    assert fetcher.requests == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert len((repository.metadata / "timestamp.json").read_bytes()) <= 500


def test_a_client_that_was_just_started_does_not_take_anything_for_unchanged(
    repository: SignedRepository, client: TrustClient, tmp_path: Path
) -> None:
    client.refresh()
    fetcher = repository.fetcher()
    again = repository.client(tmp_path / "trust", fetcher=fetcher)

    assert (client.is_unchanged(), again.is_unchanged()) == (True, False)
    assert fetcher.requests == []


def test_asking_whether_anything_changed_is_one_request_and_keeps_nothing(
    repository: SignedRepository, tmp_path: Path
) -> None:
    fetcher = repository.fetcher()
    client = repository.client(tmp_path / "trust", fetcher=fetcher)
    client.refresh()
    before = {path: path.read_bytes() for path in (tmp_path / "trust").rglob("*") if path.is_file()}
    fetcher.requests.clear()
    unchanged = client.is_unchanged()
    repository.release(version="1.1.0", release=2)
    changed = not client.is_unchanged()

    assert (unchanged, changed) == (True, True)
    assert fetcher.requests == ["metadata/timestamp.json"] * 2
    assert {path: path.read_bytes() for path in (tmp_path / "trust").rglob("*") if path.is_file()} == before


def test_nothing_is_taken_for_unchanged_while_something_expires_or_a_role_was_refused(
    repository: SignedRepository, client: TrustClient
) -> None:
    manifest(client, repository.release())
    client.refresh()
    rewrite(repository, "model-digits", b"{}")
    repository.now += 6.5 * DAY
    near = client.is_unchanged()

    assert near is False


def test_a_repository_that_cannot_be_reached_is_not_taken_for_unchanged(
    repository: SignedRepository, tmp_path: Path
) -> None:
    fetcher = repository.fetcher()
    client = repository.client(tmp_path / "trust", fetcher=fetcher)
    client.refresh()
    fetcher.online = False

    assert client.is_unchanged() is False


def test_a_manifest_that_was_verified_is_not_fetched_again(
    repository: SignedRepository, tmp_path: Path
) -> None:
    fetcher = repository.fetcher()
    client = repository.client(tmp_path / "trust", fetcher=fetcher)
    released = repository.release()
    manifest(client, released)

    manifest(client, released)

    assert len([path for path in fetcher.requests if path.startswith("blobs/")]) == 1


def test_a_version_released_later_is_found_without_being_told(
    repository: SignedRepository, client: TrustClient
) -> None:
    manifest(client, repository.release())
    second = repository.release(version="1.1.0", release=2)

    assert manifest(client, second).digest == second.digest


def test_going_back_to_an_older_listed_version_needs_no_new_signature(
    repository: SignedRepository, client: TrustClient
) -> None:
    first = repository.release()
    manifest(client, repository.release(version="1.1.0", release=2))

    assert manifest(client, first).digest == first.digest


@pytest.mark.parametrize(
    ("model", "version"), [("digits", "9.9.9"), ("weather", "1.0.0"), ("../etc", "1.0.0"), ("digits", "../1")]
)
def test_what_is_not_listed_is_refused(
    repository: SignedRepository, client: TrustClient, model: str, version: str
) -> None:
    released = repository.release()

    with pytest.raises(TrustError) as caught:
        client.manifest(model, version, released.digest)

    assert caught.value.reason is Reason.NOT_LISTED


def test_a_listed_version_with_another_digest_is_refused(
    repository: SignedRepository, client: TrustClient
) -> None:
    repository.release()

    with pytest.raises(TrustError, match=r"is listed as .*, asked for 000000000000") as caught:
        client.manifest("digits", "1.0.0", "0" * 64)

    assert caught.value.reason is Reason.NOT_LISTED


@pytest.mark.parametrize("change", [b" ", b"", None], ids=["longer", "shorter", "same length"])
def test_a_tampered_manifest_is_refused(
    repository: SignedRepository, client: TrustClient, change: bytes | None
) -> None:
    released = repository.release()
    original = released.document
    tampered = original.replace(b'"release":1', b'"release":2') if change is None else original[:-1] + change
    (repository.folder / "blobs" / released.digest).write_bytes(tampered)

    assert refusal(client, released).reason is Reason.TAMPERED
    repository.put_blob(original)
    assert manifest(client, released).digest == released.digest


def test_an_endless_manifest_is_cut(repository: SignedRepository, client: TrustClient) -> None:
    released = repository.release()
    (repository.folder / "blobs" / released.digest).write_bytes(b" " * MAX_BYTES)

    with pytest.raises(TransferError) as caught:
        manifest(client, released)

    assert caught.value.reason is Reason.TOO_LARGE


def test_a_manifest_of_one_version_listed_as_another_is_refused(
    repository: SignedRepository, client: TrustClient
) -> None:
    released = repository.release()
    document = Metadata[Targets].from_bytes(repository.document("model-digits"))
    entry = document.signed.targets["models/digits/1.0.0/manifest.json"]
    entry.path = "models/digits/1.0.1/manifest.json"
    document.signed.targets = {entry.path: entry}
    document.signed.version = 2
    document.sign(repository.release_keys["digits"][0])
    steal_controller(repository, "model-digits", document.to_bytes())

    with pytest.raises(TrustError, match=r"listed as digits@1\.0\.1 .* says digits@1\.0\.0") as caught:
        client.manifest("digits", "1.0.1", released.digest)

    assert caught.value.reason is Reason.NOT_LISTED


# What a stolen controller cannot do.


@pytest.mark.parametrize(
    ("who", "reason"),
    [("nobody", Reason.UNSIGNED), ("weather", Reason.WRONG_KEY), ("director", Reason.WRONG_KEY)],
)
def test_a_stolen_controller_cannot_release(
    repository: SignedRepository, client: TrustClient, who: str, reason: Reason
) -> None:
    repository.release()
    repository.release(model="weather")
    signers: dict[str, list[Signer]] = {
        "nobody": [],
        "weather": repository.release_keys["weather"],
        "director": [repository.director_key],
    }
    evil = encode(repository.manifest(version="6.6.6", release=6))
    role = publisher.release(repository.document("model-digits"), evil, signers=signers[who], now=NOW)
    repository.put_blob(evil)
    steal_controller(repository, "model-digits", role)

    with pytest.raises(TrustError) as caught:
        client.manifest("digits", "6.6.6", digest(evil))

    assert caught.value.reason is reason


def test_one_signature_of_two_releases_nothing(repository: SignedRepository, client: TrustClient) -> None:
    pair = [make_signer(), make_signer()]
    repository.add_model("digits", signers=pair, threshold=2)
    evil = encode(repository.manifest())
    repository.put_blob(evil)
    steal_controller(repository, "model-digits", publisher.release(None, evil, signers=pair[:1], now=NOW))

    with pytest.raises(TrustError, match="expected 2 good signatures, got 1") as caught:
        client.manifest("digits", "1.0.0", digest(evil))

    assert caught.value.reason is Reason.UNSIGNED


def test_two_signatures_of_two_release(repository: SignedRepository, client: TrustClient) -> None:
    repository.add_model("digits", signers=[make_signer(), make_signer()], threshold=2)
    released = repository.release()

    assert manifest(client, released).digest == released.digest


def test_a_models_document_cannot_be_served_as_anothers(
    repository: SignedRepository, client: TrustClient
) -> None:
    key = make_signer()
    repository.add_model("digits", signers=[key])
    repository.add_model("weather", signers=[key])
    released = repository.release()
    repository.release(model="weather")
    steal_controller(repository, "model-digits", repository.document("model-weather"))

    assert refusal(client, released).reason is Reason.TAMPERED


def test_trouble_with_one_model_does_not_stop_another(
    repository: SignedRepository, client: TrustClient
) -> None:
    digits, weather = repository.release(), repository.release(model="weather")
    manifest(client, digits)
    manifest(client, weather)
    role = publisher.renew(repository.document("model-digits"), signers=[make_signer()], now=NOW)
    steal_controller(repository, "model-digits", role)

    client.refresh()

    assert refusal(client, digits).reason is Reason.WRONG_KEY
    assert manifest(client, weather).digest == weather.digest
    assert client.reverify(digits.document).digest == digits.digest


@pytest.mark.parametrize("role", ALL_ROLES)
@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"\x00\xff", b"[" * 10_000], ids=["empty", "{}", "bytes", "deep"]
)
def test_damaged_metadata_is_refused(
    repository: SignedRepository, client: TrustClient, role: str, damage: bytes
) -> None:
    released = repository.release()
    rewrite(repository, role, damage)

    assert refusal(client, released).reason is Reason.TAMPERED


@pytest.mark.parametrize("role", ALL_ROLES)
def test_metadata_signed_by_a_stranger_is_refused(
    repository: SignedRepository, client: TrustClient, role: str
) -> None:
    released = repository.release()
    document = Metadata.from_bytes(repository.document(role))
    document.sign(make_signer())
    rewrite(repository, role, document.to_bytes())

    assert refusal(client, released).reason is Reason.WRONG_KEY


@pytest.mark.parametrize("role", ALL_ROLES)
def test_metadata_changed_after_signing_is_refused(
    repository: SignedRepository, client: TrustClient, role: str
) -> None:
    released = repository.release()
    document = Metadata.from_bytes(repository.document(role))
    document.signed.expires += DAY
    rewrite(repository, role, document.to_bytes())

    assert refusal(client, released).reason is Reason.TAMPERED


# Replay and time.


@pytest.mark.parametrize("keep_cache", [True, False], ids=["cache kept", "cache lost in a power cut"])
def test_older_metadata_is_refused(repository: SignedRepository, tmp_path: Path, *, keep_cache: bool) -> None:
    first = repository.release()
    old = (repository.metadata / "timestamp.json").read_bytes()
    client = repository.client(tmp_path / "trust")
    repository.withdraw("digits", "1.0.0")
    client.refresh()
    (repository.metadata / "timestamp.json").write_bytes(old)
    if not keep_cache:
        for path in (tmp_path / "trust" / "cache").glob("*.json"):
            path.unlink()

    again = repository.client(tmp_path / "trust")

    with pytest.raises(TrustError) as caught:
        again.refresh()
    assert caught.value.reason is Reason.REPLAYED
    assert refusal(again, first).reason is Reason.REPLAYED


@pytest.mark.parametrize("content", [b"", b"torn {"])
def test_a_cache_damaged_in_a_power_cut_is_mended(
    repository: SignedRepository, tmp_path: Path, content: bytes
) -> None:
    released = repository.release()
    manifest(repository.client(tmp_path / "trust"), released)
    for path in (tmp_path / "trust" / "cache").rglob("*.json"):
        path.write_bytes(content)

    again = repository.client(tmp_path / "trust")

    assert again.reverify(released.document).digest == released.digest
    assert manifest(again, released).digest == released.digest


def test_damaged_memory_is_forgotten_and_learned_again(repository: SignedRepository, tmp_path: Path) -> None:
    released = repository.release()
    manifest(repository.client(tmp_path / "trust"), released)
    path = tmp_path / "trust" / "memory"
    path.write_bytes(path.read_bytes()[:-1])

    again = repository.client(tmp_path / "trust")

    with pytest.raises(TrustError, match="refresh first"):
        again.reverify(released.document)
    assert manifest(again, released).digest == released.digest


@pytest.mark.parametrize("days", [8, 31, 366, 3000])
def test_expired_metadata_installs_nothing_and_keeps_what_runs(
    repository: SignedRepository, client: TrustClient, days: int
) -> None:
    released = repository.release()
    manifest(client, released)
    repository.now = NOW + days * DAY

    refused = refusal(client, released)

    assert refused.reason is Reason.EXPIRED
    assert client.reverify(released.document).digest == released.digest


def test_an_expired_role_of_a_model_installs_nothing_and_keeps_what_runs(
    repository: SignedRepository, client: TrustClient
) -> None:
    released = repository.release()
    manifest(client, released)
    repository.now = NOW + 181 * DAY
    repository.controller.renew(repository.now)

    assert refusal(client, released).reason is Reason.EXPIRED
    assert client.reverify(released.document).digest == released.digest


def test_a_client_that_runs_for_weeks_looks_again_before_it_calls_its_metadata_expired(
    repository: SignedRepository, client: TrustClient
) -> None:
    released = repository.release()
    manifest(client, released)
    repository.now = NOW + 20 * DAY
    repository.controller.renew(repository.now)

    assert manifest(client, released).digest == released.digest


def test_a_clock_set_back_does_not_make_expired_metadata_valid(
    repository: SignedRepository, tmp_path: Path
) -> None:
    """The mirror is frozen for eight days, the director is heard, and then the clock is set back."""
    released = repository.release()
    client = repository.client(tmp_path / "trust")
    manifest(client, released)
    repository.now = NOW + 8 * DAY
    client.desired(repository.envelope(repository.desired()), device=DEVICE, after=0)
    repository.now = NOW

    refused = refusal(client, released)
    after_restart = refusal(repository.client(tmp_path / "trust"), released)

    assert (refused.reason, after_restart.reason) == (Reason.EXPIRED, Reason.EXPIRED)
    assert client.time_floor == (NOW + 8 * DAY).timestamp()


def test_the_time_floor_reaches_python_tuf(repository: SignedRepository, tmp_path: Path) -> None:
    """A device whose clock was never set refuses what expired before the newest time that was signed."""
    repository.release()
    client = repository.client(tmp_path / "trust", clock=lambda: 0.0)
    client.refresh()
    path = tmp_path / "trust" / "memory"
    far = (NOW + 8 * DAY).timestamp()
    memory.save(path, memory.Memory(memory.load(path).documents, far))

    with pytest.raises(TrustError, match=r"timestamp\.json is expired") as caught:
        repository.client(tmp_path / "trust", clock=lambda: 0.0).refresh()

    assert caught.value.reason is Reason.EXPIRED


def test_python_tuf_still_reads_the_private_clock_that_the_time_floor_sets(
    repository: SignedRepository, tmp_path: Path
) -> None:
    updater = Updater(
        str(tmp_path), f"{BASE_URL}/metadata", fetcher=repository.fetcher(), bootstrap=repository.root
    )
    default = updater._trusted_set.reference_time

    assert isinstance(default, dt.datetime)
    assert default.tzinfo is dt.UTC
    assert abs(dt.datetime.now(dt.UTC) - default) < dt.timedelta(minutes=1)


def test_the_time_floor_survives_a_restart_and_never_falls(
    repository: SignedRepository, tmp_path: Path
) -> None:
    repository.client(tmp_path / "trust").refresh()

    again = repository.client(tmp_path / "trust", clock=lambda: 0.0)

    assert again.time_floor == NOW.timestamp()


def test_a_new_device_believes_no_time_before_its_pinned_root(
    repository: SignedRepository, tmp_path: Path
) -> None:
    assert repository.client(tmp_path / "trust", clock=lambda: 0.0).time_floor == NOW.timestamp()


def test_a_damaged_pinned_root_is_refused_at_once(repository: SignedRepository, tmp_path: Path) -> None:
    with pytest.raises(TrustError) as caught:
        TrustClient(
            tmp_path / "trust",
            root=repository.root[:-9],
            base_url=BASE_URL,
            fetcher=repository.fetcher(),
            clock=repository.time,
        )

    assert caught.value.reason is Reason.TAMPERED


@pytest.mark.parametrize(
    ("clock", "online", "floor"),
    [
        (NOW.timestamp(), NOW.timestamp() + 3600, NOW.timestamp() + 3600),
        (NOW.timestamp(), NOW.timestamp() + 1e9, NOW.timestamp() + 86_400),
        (0.0, NOW.timestamp(), NOW.timestamp()),
    ],
    ids=["a little ahead", "a thief's far future", "a clock that was never set"],
)
def test_online_keys_move_the_time_floor_only_a_day_ahead_of_a_set_clock(
    clock: float, online: float, floor: float
) -> None:
    assert memory.raise_time(0.0, clock, offline=(), online=(online,)) == floor


def test_offline_keys_move_the_time_floor_as_far_as_they_say() -> None:
    assert memory.raise_time(0.0, NOW.timestamp(), offline=(2e9,), online=()) == 2e9


# Withdrawal and the floor.


def test_a_withdrawn_version_is_neither_installed_nor_kept_running(
    repository: SignedRepository, client: TrustClient
) -> None:
    first = repository.release()
    manifest(client, first)
    repository.withdraw("digits", "1.0.0")
    client.refresh()

    refused = refusal(client, first)

    assert (refused.reason, str(refused)) == (Reason.NOT_LISTED, "digits@1.0.0 was withdrawn")
    with pytest.raises(TrustError, match="was withdrawn"):
        client.reverify(first.document)


def test_nothing_below_the_signed_floor_runs_also_after_a_restart_without_network(
    repository: SignedRepository, tmp_path: Path
) -> None:
    first = repository.release()
    repository.release(version="2.0.0", release=2)
    third = repository.release(version="3.0.0", release=3)
    client = repository.client(tmp_path / "trust")
    manifest(client, third)
    repository.withdraw("digits", "2.0.0", floor=3)
    client.refresh()
    fetcher = repository.fetcher()
    fetcher.online = False

    again = repository.client(tmp_path / "trust", fetcher=fetcher)

    assert again.floor("digits") == 3
    assert again.floor("weather") == 0
    with pytest.raises(TrustError, match="the lowest that may run is 3") as caught:
        again.reverify(first.document)
    assert caught.value.reason is Reason.BELOW_FLOOR
    assert refusal(client, first).reason is Reason.BELOW_FLOOR
    assert again.reverify(third.document).digest == third.digest


def test_a_version_nobody_verified_here_does_not_run(
    repository: SignedRepository, client: TrustClient
) -> None:
    released = repository.release()
    client.refresh()

    with pytest.raises(TrustError, match="nothing that was verified lists it") as caught:
        client.reverify(released.document)

    assert caught.value.reason is Reason.NOT_LISTED


def test_what_is_no_manifest_does_not_run(client: TrustClient) -> None:
    with pytest.raises(ManifestError):
        client.reverify(b"{}")


# Rotation.


def rotate_root(repository: SignedRepository, *, signers: list[Signer]) -> bytes:
    return publisher.rotate_root(
        repository.document("root"), repository.root_keys(), signers=signers, now=repository.now
    )


def test_a_device_follows_every_root_from_the_one_it_pinned(
    repository: SignedRepository, tmp_path: Path
) -> None:
    released = repository.release()
    for _ in range(5):
        old = repository.roots
        repository.roots = [make_signer() for _ in range(3)]
        root = rotate_root(repository, signers=[*old[:2], *repository.roots[:2]])
        repository.controller.accept("root", root, NOW)
    client = repository.client(tmp_path / "trust")

    assert manifest(client, released).digest == released.digest
    assert repository.client(tmp_path / "trust").reverify(released.document).digest == released.digest


def test_a_root_without_enough_old_signatures_is_refused(
    repository: SignedRepository, client: TrustClient
) -> None:
    released = repository.release()
    root = rotate_root(repository, signers=repository.roots[:1])
    (repository.metadata / "2.root.json").write_bytes(root)

    assert refusal(client, released).reason is Reason.UNSIGNED


def test_a_device_recovers_after_stolen_online_keys_were_replaced(
    repository: SignedRepository, tmp_path: Path
) -> None:
    """The thief signs a huge version; new keys in root let lower versions count again."""
    released = repository.release()
    client = repository.client(tmp_path / "trust")
    manifest(client, released)
    timestamp = Metadata[Timestamp].from_bytes(repository.document("timestamp"))
    timestamp.signed.version = 2**31 - 3
    timestamp.sign(repository.timestamp_key)
    rewrite(repository, "timestamp", timestamp.to_bytes())
    client.refresh()

    repository.timestamp_key, repository.snapshot_key = make_signer(), make_signer()
    root = rotate_root(repository, signers=repository.roots[:2])
    (repository.metadata / "2.root.json").write_bytes(root)
    rewrite(repository, "timestamp", repository.document("timestamp"))
    fresh = Repository(repository.folder, repository.snapshot_key, repository.timestamp_key)
    assert fresh.renew(NOW)

    client.refresh()

    assert manifest(client, released).digest == released.digest


def test_a_root_that_does_not_follow_from_the_pinned_one_is_refused(
    repository: SignedRepository, tmp_path: Path
) -> None:
    repository.release()
    other = SignedRepository(tmp_path / "other")
    client = TrustClient(
        tmp_path / "trust",
        root=other.root,
        base_url=BASE_URL,
        fetcher=repository.fetcher(),
        clock=repository.time,
    )

    with pytest.raises(TrustError) as caught:
        client.refresh()

    assert caught.value.reason is Reason.WRONG_KEY


def test_a_device_enrolled_again_elsewhere_forgets_the_old_repository(
    repository: SignedRepository, tmp_path: Path
) -> None:
    manifest(repository.client(tmp_path / "trust"), repository.release())
    other = SignedRepository(tmp_path / "other")
    released = other.release()

    moved = other.client(tmp_path / "trust")

    assert manifest(moved, released).digest == released.digest


# Desired state.


def test_desired_state_is_obeyed_without_network_once_the_director_is_known(
    repository: SignedRepository, tmp_path: Path
) -> None:
    released = repository.release()
    repository.client(tmp_path / "trust").refresh()
    fetcher = repository.fetcher()
    fetcher.online = False
    client = repository.client(tmp_path / "trust", fetcher=fetcher)
    desired = repository.desired(released, sequence=3)

    assert client.desired(repository.envelope(desired), device=DEVICE, after=2) == desired


def test_desired_state_teaches_the_time(repository: SignedRepository, tmp_path: Path) -> None:
    client = repository.client(tmp_path / "trust")
    client.refresh()
    repository.now += dt.timedelta(hours=5)

    client.desired(repository.envelope(repository.desired()), device=DEVICE, after=0)

    assert client.time_floor == repository.time()


def test_a_replaced_director_key_is_refused_after_the_next_refresh(
    repository: SignedRepository, client: TrustClient
) -> None:
    stolen, repository.director_key = repository.director_key, make_signer()
    client.refresh()
    targets = publisher.change_keys(
        repository.document("targets"),
        "director",
        keys=[repository.director_key.public_key],
        threshold=1,
        signer=repository.targets_key,
        now=NOW,
    )
    repository.controller.accept("targets", targets, NOW)
    client.refresh()
    desired = repository.desired()

    with pytest.raises(TrustError) as caught:
        client.desired(repository.envelope(desired, signer=stolen), device=DEVICE, after=0)

    assert caught.value.reason is Reason.WRONG_KEY
    assert client.desired(repository.envelope(desired), device=DEVICE, after=0) == desired


def test_nobody_is_obeyed_once_the_directors_delegation_expired(
    repository: SignedRepository, client: TrustClient
) -> None:
    client.refresh()
    repository.now = NOW + 366 * DAY

    with pytest.raises(TrustError, match="targets expired") as caught:
        client.desired(repository.envelope(repository.desired()), device=DEVICE, after=0)

    assert caught.value.reason is Reason.EXPIRED


def test_without_network_and_history_nothing_is_obeyed(repository: SignedRepository, tmp_path: Path) -> None:
    fetcher = repository.fetcher()
    fetcher.online = False
    client = repository.client(tmp_path / "trust", fetcher=fetcher)

    with pytest.raises(TransferError, match="no network"):
        client.desired(repository.envelope(repository.desired()), device=DEVICE, after=0)
