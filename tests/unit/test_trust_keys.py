import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from muster_models.errors import Reason, StorageError, TrustError
from muster_models.trust.keys import create_signer, encode_public, load_signer, public_key


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_created_key_is_loaded_again_as_the_same_key(tmp_path: Path, passphrase: bytes | None) -> None:
    created = create_signer(tmp_path / "keys" / "root.pem", passphrase)

    loaded = load_signer(tmp_path / "keys" / "root.pem", passphrase)

    assert loaded.public_key == created.public_key
    loaded.public_key.verify_signature(created.sign(b"x"), b"x")


def test_only_the_owner_may_read_a_key(tmp_path: Path) -> None:
    create_signer(tmp_path / "key.pem", None)

    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    create_signer(tmp_path / "key.pem", None)
    content = (tmp_path / "key.pem").read_bytes()

    with pytest.raises(StorageError, match="never overwritten"):
        create_signer(tmp_path / "key.pem", None)

    assert (tmp_path / "key.pem").read_bytes() == content


@pytest.mark.parametrize(
    ("given", "message"), [(None, "no passphrase was given"), (b"wrong", "wrong passphrase")]
)
def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path, given: bytes | None, message: str) -> None:
    create_signer(tmp_path / "key.pem", b"right")

    with pytest.raises(TrustError, match=message) as caught:
        load_signer(tmp_path / "key.pem", given)

    assert caught.value.reason is Reason.WRONG_KEY


def test_a_passphrase_for_a_plain_key_does_no_harm(tmp_path: Path) -> None:
    created = create_signer(tmp_path / "key.pem", None)

    assert load_signer(tmp_path / "key.pem", b"not needed").public_key == created.public_key


def test_a_p256_key_made_elsewhere_serves_as_well(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )

    assert load_signer(tmp_path / "key.pem", None).public_key.scheme == "ecdsa-sha2-nistp256"


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_without_a_key_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)

    with pytest.raises(TrustError, match=r"key\.pem: expected a private key in PEM"):
        load_signer(tmp_path / "key.pem", None)


def test_a_missing_key_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"key\.pem"):
        load_signer(tmp_path / "key.pem", None)


def test_a_public_key_survives_its_json_form(tmp_path: Path) -> None:
    key = create_signer(tmp_path / "key.pem", None).public_key

    assert public_key(encode_public(key)) == key


def test_the_id_of_a_public_key_cannot_be_chosen(tmp_path: Path) -> None:
    key = create_signer(tmp_path / "key.pem", None).public_key
    document = encode_public(key).replace(b"{", b'{"keyid":"another role\'s key",', 1)

    assert public_key(document).keyid == key.keyid


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keytype":1,"scheme":2,"keyval":3}', b"\xff", b"[" * 20_000],
    ids=["empty", "a list", "no fields", "numbers", "not UTF-8", "deep"],
)
def test_what_is_no_public_key_is_refused(document: bytes) -> None:
    with pytest.raises(TrustError, match="expected a public key in JSON") as caught:
        public_key(document)

    assert caught.value.reason is Reason.BAD_MESSAGE
