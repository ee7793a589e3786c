import datetime as dt

import pytest
from tuf.api.metadata import Metadata, Targets

from muster_models.errors import ConflictError, ManifestError, NotFoundError, TrustError
from muster_models.manifest import digest, encode
from muster_models.trust import publisher
from muster_models.trust.anchor import verify_role, verify_roots, verify_top
from muster_models.trust.roles import LIFETIMES, facts_of
from support.manifests import make_manifest
from support.repository import NOW, SignedRepository, make_signer

LATER = NOW + dt.timedelta(days=10)
KEY = make_signer()
FIRST = publisher.release(None, encode(make_manifest()), signers=[KEY], now=NOW)


def targets_of(document: bytes) -> Targets:
    return Metadata[Targets].from_bytes(document).signed


def test_a_root_needs_no_more_signatures_than_there_are_keys() -> None:
    key = KEY.public_key

    with pytest.raises(ValueError, match=r"threshold must be 1\.\.1, got 2"):
        publisher.make_root([KEY], 2, targets=key, snapshot=key, timestamp=key, now=NOW)


def test_a_single_key_may_hold_a_root() -> None:
    key = KEY.public_key
    root = publisher.make_root([KEY], 1, targets=key, snapshot=key, timestamp=key, now=NOW)

    assert verify_roots(root, []).expires == NOW + LIFETIMES["root"]


def test_the_director_can_list_nothing() -> None:
    targets = targets_of(publisher.make_targets(KEY, director=make_signer().public_key, now=NOW))

    assert targets.delegations is not None
    assert list(targets.delegations.get_roles_for_target("models/digits/1.0.0/manifest.json")) == []


def test_a_release_lists_the_manifest_by_hash_length_and_number() -> None:
    document = encode(make_manifest())
    target = targets_of(FIRST).targets["models/digits/1.0.0/manifest.json"]

    assert (target.hashes, target.length) == ({"sha256": digest(document)}, len(document))
    assert target.custom == {"release": 1}
    assert facts_of(targets_of(FIRST), "model-digits").release == 1


def test_a_second_release_keeps_the_first_and_is_the_next_version() -> None:
    second = encode(make_manifest(version="1.1.0", release=2))
    role = targets_of(publisher.release(FIRST, second, signers=[KEY], now=LATER))

    assert role.version == 2
    assert len(role.targets) == 2
    assert role.expires == LATER + LIFETIMES["model"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release": 2}, r"digits@1\.0\.0 was released before"),
        ({"version": "1.1.0", "release": 1}, "release number must be above 1, got 1"),
        ({"model": "weather", "release": 2}, "the manifest is of model weather, the role is model-digits"),
    ],
)
def test_a_release_that_contradicts_the_last_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConflictError, match=message):
        publisher.release(FIRST, encode(make_manifest(**changes)), signers=[KEY], now=NOW)


def test_what_is_no_manifest_is_not_released() -> None:
    with pytest.raises(ManifestError):
        publisher.release(None, b"{}", signers=[KEY], now=NOW)


def test_withdrawing_removes_the_version_raises_the_floor_and_keeps_the_name() -> None:
    role = publisher.withdraw(FIRST, "1.0.0", floor=2, signers=[KEY], now=LATER)
    facts = facts_of(targets_of(role), "model-digits")

    assert targets_of(role).targets == {}
    assert (facts.floor, facts.withdrawn) == (2, {"1.0.0": digest(encode(make_manifest()))})
    with pytest.raises(ConflictError, match="was released before"):
        publisher.release(role, encode(make_manifest(release=2)), signers=[KEY], now=LATER)


def test_withdrawing_what_is_not_listed_is_refused() -> None:
    with pytest.raises(NotFoundError, match=r"digits@9\.0\.0 is not listed"):
        publisher.withdraw(FIRST, "9.0.0", floor=None, signers=[KEY], now=NOW)


def test_the_floor_never_falls() -> None:
    second = publisher.release(
        FIRST, encode(make_manifest(version="2.0.0", release=2)), signers=[KEY], now=NOW
    )
    raised = publisher.withdraw(second, "1.0.0", floor=2, signers=[KEY], now=NOW)

    with pytest.raises(ConflictError, match="the floor never falls: it is 2, got 1"):
        publisher.withdraw(raised, "2.0.0", floor=1, signers=[KEY], now=NOW)


def test_renewing_changes_only_version_and_expiry() -> None:
    old, new = targets_of(FIRST), targets_of(publisher.renew(FIRST, signers=[KEY], now=LATER))

    assert new.targets == old.targets
    assert (new.version, new.expires) == (2, LATER + LIFETIMES["model"])


def test_a_model_has_one_role(tmp_path_factory: pytest.TempPathFactory) -> None:
    repository = SignedRepository(tmp_path_factory.mktemp("repository"))
    repository.add_model("digits")

    with pytest.raises(ConflictError, match="model digits has a role already"):
        repository.add_model("digits")


def test_keys_of_an_unknown_role_cannot_be_changed() -> None:
    targets = publisher.make_targets(KEY, director=KEY.public_key, now=NOW)

    with pytest.raises(NotFoundError, match="role model-digits is not delegated"):
        publisher.change_keys(
            targets, "model-digits", keys=[KEY.public_key], threshold=1, signer=KEY, now=NOW
        )


def test_a_second_signature_may_be_added_elsewhere() -> None:
    other = make_signer()
    root_key = KEY.public_key
    root = publisher.make_root([KEY], 1, targets=root_key, snapshot=root_key, timestamp=root_key, now=NOW)
    targets = publisher.add_model(
        publisher.make_targets(KEY, director=root_key, now=NOW),
        "digits",
        keys=[KEY.public_key, other.public_key],
        threshold=2,
        signer=KEY,
        now=NOW,
    )
    delegator = verify_top(verify_roots(root, []), targets)

    with pytest.raises(TrustError, match="expected 2 good signatures, got 1"):
        verify_role(delegator, "model-digits", FIRST)
    signed_twice = publisher.cosign(FIRST, other)

    assert verify_role(delegator, "model-digits", signed_twice).version == 1
