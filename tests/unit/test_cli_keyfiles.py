"""Which file of a folder is the key of which role, and how new keys are protected."""

from pathlib import Path

import pytest

from muster_controller.cli import keyfiles
from muster_controller.cli.exits import UsageError
from muster_models.errors import NotFoundError, TrustError
from muster_models.trust.keys import create_signer, encode_public
from muster_models.trust.signers import is_uri

NAMES = """
    root.key root-1.key root-2.key root-2.v2.key targets.key targets.v3.key
    model-digits.key model-digits.v2.key model-digits-2.key model-weather.key root-1.key.old
"""


@pytest.mark.parametrize(
    ("role", "files"),
    [
        ("root", ["root-1.key", "root-2.key", "root-2.v2.key", "root.key"]),
        ("targets", ["targets.key", "targets.v3.key"]),
        ("model-digits", ["model-digits.key", "model-digits.v2.key"]),
        ("model-digits-2", ["model-digits-2.key"]),
        ("model-pump", []),
    ],
)
def test_a_role_has_the_files_of_its_name_and_no_others(tmp_path: Path, role: str, files: list[str]) -> None:
    for name in NAMES.split():
        (tmp_path / name).touch()

    assert [path.name for path in keyfiles.files_of(tmp_path, role)] == files


def test_a_new_key_never_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    create_signer(tmp_path / "targets.key", None)
    for _ in range(2):
        keyfiles.create_beside(tmp_path, "targets")

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "targets.key",
        "targets.v2.key",
        "targets.v3.key",
    ]


def test_a_new_key_is_encrypted_where_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_signer(tmp_path / "targets.key", b"correct horse")
    monkeypatch.setenv(keyfiles.PASSPHRASE, "correct horse")
    keyfiles.create_beside(tmp_path, "model-digits")

    assert b"ENCRYPTED" in (tmp_path / "model-digits.key").read_bytes()


def test_a_wrong_passphrase_makes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_signer(tmp_path / "targets.key", b"correct horse")
    monkeypatch.setenv(keyfiles.PASSPHRASE, "battery staple")

    with pytest.raises(TrustError, match="wrong passphrase"):
        keyfiles.create_beside(tmp_path, "model-digits")
    assert [path.name for path in tmp_path.iterdir()] == ["targets.key"]


def test_without_a_key_to_go_by_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="muster keys init DIR"):
        keyfiles.create_beside(tmp_path, "model-digits")


def test_a_pin_that_nobody_can_give_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keyfiles.PIN, raising=False)
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(UsageError, match="set MUSTER_PIN"):
            keyfiles._held_pin("hsm:2", "pin")


def test_a_public_half_is_read_from_json_and_from_a_key(tmp_path: Path) -> None:
    signer = create_signer(tmp_path / "own.key", None)
    (tmp_path / "own.json").write_bytes(encode_public(signer.public_key))

    for name in ("own.key", "own.json"):
        assert keyfiles.public_half(str(tmp_path / name)) == signer.public_key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hsm:2", True),
        ("awskms:alias/release", True),
        ("keys/root-1.key", False),
        ("c:/keys/root.key", False),
        ("-----BEGIN PRIVATE KEY-----", False),
        ("", False),
    ],
)
def test_a_uri_is_told_from_a_path(text: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_uri(text) is expected
