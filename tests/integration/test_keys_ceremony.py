"""The life of keys with the real command and controller; a device with the first root follows each step."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ceremony import Site, keyid_of, opened, prepare
from support.controller_process import execute
from support.softhsm import PIN, Token, make_token


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("founded"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, founded: Path) -> Path:
    """A controller in a folder to copy, with offline keys and a signed repository."""
    with opened(tmp_path_factory.mktemp("begun"), founded) as site:
        site.init()
        return site.folder


@pytest.fixture
def fresh(founded: Path, tmp_path: Path) -> Iterator[Site]:
    """A controller without a signed repository."""
    with opened(tmp_path, founded) as site:
        yield site


@pytest.fixture
def site(begun: Path, tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path, begun) as site:
        yield site


@pytest.fixture
def token(tmp_path: Path) -> Token:
    return make_token(tmp_path / "token")


def test_show_says_who_holds_which_role_and_until_when(site: Site) -> None:
    shown = {one["role"]: one for one in site.told("keys", "show")}
    table = site.muster("keys", "show").out

    assert set(shown) == {"root", "targets", "snapshot", "timestamp", "director"}
    assert (shown["root"]["threshold"], len(shown["root"]["keys"])) == (2, 3)
    assert all(shown[role]["expires"] for role in ("root", "targets", "snapshot", "timestamp"))
    assert shown["targets"]["keys"][0][:12] in table


def test_a_single_root_key_is_made_only_by_name_and_with_a_warning(fresh: Site) -> None:
    made = fresh.muster("keys", "init", str(fresh.keys), "--no-passphrase", "--single")

    assert made.code == 0, made.err
    assert "one root key: whoever loses it can never replace a key" in made.err
    assert [path.name for path in sorted(fresh.keys.glob("root*"))] == ["root.key"]
    assert fresh.holders()["root"] == (1, [keyid_of(fresh.keys / "root.key")])
    assert fresh.publish().code == 0


def test_two_roots_of_three_are_made_without_that_warning(fresh: Site) -> None:
    made = fresh.muster("keys", "init", str(fresh.keys), "--no-passphrase")

    assert made.code == 0, made.err
    assert "one root key" not in made.err
    assert fresh.holders()["root"][0] == 2


def test_a_lost_root_key_is_replaced_by_the_two_others(site: Site) -> None:
    device = site.device()
    device.refresh()
    lost = keyid_of(site.keys / "root-3.key")
    (site.keys / "root-3.key").unlink()
    done = site.muster("keys", "rotate", "root", "--keys", str(site.keys), "--drop", lost)
    threshold, held = site.holders()["root"]
    device.refresh()

    assert (done.code, done.out) == (0, "root has new keys\n")
    assert "root 2, expires" in done.err
    assert threshold == 2
    assert lost not in held
    assert len(held) == 3
    assert (site.metadata / "2.root.json").exists()


def test_one_root_key_alone_replaces_none(site: Site) -> None:
    for name in ("root-2.key", "root-3.key"):
        (site.keys / name).unlink()
    before = site.holders()
    waiting = site.folder / "root.json"
    done = site.muster("keys", "rotate", "root", "--keys", str(site.keys), "--request", str(waiting))
    resumed = site.muster("publish", "--resume", str(waiting))

    assert done.code == 0
    assert "1 more for root" in done.out
    assert (resumed.code, resumed.out) == (5, "")
    assert "waits for signatures: 1 more for root by root 1" in resumed.err
    assert site.holders() == before


def test_root_keys_at_three_places_sign_one_after_the_other(site: Site) -> None:
    places = {name: site.folder / name for name in ("root-1.key", "root-2.key", "root-3.key")}
    for name, path in places.items():
        (site.keys / name).rename(path)
    before = site.holders()["root"]
    waiting = site.folder / "stick.json"
    asked = site.muster("keys", "renew", "root", "--keys", str(site.keys), "--request", str(waiting))
    for name in ("root-3.key", "root-1.key"):
        assert execute("muster", "sign", str(waiting), "--key", str(places[name])).code == 0
    resumed = site.muster("publish", "--resume", str(waiting))
    site.device().refresh()

    assert "2 more for root" in asked.out
    assert (resumed.code, resumed.out) == (0, "handed over: root\n")
    assert site.holders()["root"] == before
    assert (site.metadata / "2.root.json").exists()


def test_another_targets_key_takes_over_with_root_and_targets_at_once(site: Site) -> None:
    device = site.device()
    device.refresh()
    before = site.holders()["targets"]
    done = site.muster("keys", "rotate", "targets", "--keys", str(site.keys))
    published = site.publish()
    device.refresh()

    assert done.code == 0, done.err
    assert (site.keys / "targets.v2.key").exists()
    assert site.holders()["targets"] != before
    assert published.code == 0, published.err


def test_the_controller_gets_new_keys_and_signs_with_them_also_after_a_restart(site: Site) -> None:
    device = site.device()
    device.refresh()
    before = site.holders()
    done = site.muster("keys", "rotate", "online", "--keys", str(site.keys))
    after = site.holders()
    device.refresh()
    site.controller.stop()
    site.controller.start()
    published = site.publish()
    device.refresh()

    assert (done.code, done.out) == (0, "online has new keys\n"), done.err
    for role in ("snapshot", "timestamp", "director"):
        assert set(after[role][1]).isdisjoint(before[role][1])
    assert after["root"] == before["root"]
    assert published.code == 0, published.err


def test_a_model_gets_its_own_keys_and_the_old_one_signs_nothing_more(site: Site) -> None:
    site.release()
    device = site.device()
    device.refresh()
    own, public = site.make_key("ada")
    given = site.muster("keys", "add-owner", "digits", "--key", str(own), "--only", "--keys", str(site.keys))
    refused = site.publish("digits/1.1.0")
    published = site.publish("digits/1.1.0", "--key", str(own))
    device.refresh()

    assert given.code == 0, given.err
    assert site.holders()["model-digits"] == (1, [keyid_of(public)])
    assert (refused.code, refused.out) == (1, "")
    assert "none of the keys here may sign this" in refused.err
    assert published.code == 0, published.err


def test_a_revoked_model_goes_to_a_new_key_and_keeps_its_versions(site: Site) -> None:
    site.release()
    old = site.holders()["model-digits"]
    done = site.muster("keys", "revoke", "digits", "--keys", str(site.keys))
    published = site.publish("digits/1.1.0")
    site.device().refresh()

    assert (done.code, done.out) == (0, "digits is revoked\n"), done.err
    assert site.holders()["model-digits"] != old
    assert published.code == 0, published.err
    assert sorted(site.released()) == ["digits@1.0.0", "digits@1.1.0"]


def test_a_revoked_key_leaves_the_others(site: Site) -> None:
    site.release()
    _, public = site.make_key("ada")
    stolen = site.holders()["model-digits"][1][0]
    added = site.muster("keys", "add-owner", "digits", "--key", str(public), "--keys", str(site.keys))
    waiting = site.folder / "revoke.json"
    revoked = site.muster("keys", "revoke", stolen[:12], "--keys", str(site.keys), "--request", str(waiting))
    signed = execute("muster", "sign", str(waiting), "--key", str(site.folder / "ada/ada.key"))
    resumed = site.muster("publish", "--resume", str(waiting))

    assert (added.code, revoked.code, signed.code, resumed.code) == (0, 0, 0, 0), revoked.err
    assert "1 more for model-digits" in revoked.out
    assert site.holders()["model-digits"] == (1, [keyid_of(public)])


def test_a_role_never_needs_more_signatures_than_it_has_keys(site: Site) -> None:
    site.release()
    held = site.holders()
    keys = ("--keys", str(site.keys))
    too_many = site.muster("keys", "add-owner", "digits", "--key", str(site.keys / "targets.key"), *keys,
                           "--threshold", "3")  # fmt: skip
    last = site.muster("keys", "revoke", held["model-digits"][1][0], *keys)
    online = site.muster("keys", "revoke", held["snapshot"][1][0], *keys)
    unknown = site.muster("keys", "revoke", "0123456789ab", *keys)
    model = site.muster("keys", "rotate", "nothing", *keys)

    assert [one.code for one in (too_many, last, online, unknown, model)] == [5, 5, 5, 3, 3]
    assert "would have 0 keys" in last.err
    assert "muster keys rotate online" in online.err
    assert site.holders() == held


def test_a_root_key_in_a_token_signs_the_first_root_and_its_successor(fresh: Site, token: Token) -> None:
    own, _ = fresh.make_key("ada")
    fresh.init("--root", token.uri, "--root", str(own), **token.environment)
    device = fresh.device()
    device.refresh()
    keys = ("--keys", str(fresh.keys), "--key", str(own), "--key", token.uri)
    gone = keyid_of(own)
    done = fresh.muster("keys", "rotate", "root", *keys, "--drop", gone, **token.environment)
    device.refresh()

    assert done.code == 0, done.err
    assert gone not in fresh.holders()["root"][1]


def test_a_release_key_in_a_token_may_be_named_in_the_folder_of_keys(site: Site, token: Token) -> None:
    (site.keys / "model-digits.key").write_text(f"{token.uri}\n")
    published = site.publish(**token.environment)
    device = site.device()
    device.refresh()
    wrong = site.publish("digits/1.1.0", **{**token.environment, "MUSTER_PIN": f"9{PIN}"})

    assert published.code == 0, published.err
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err.splitlines()[-1].startswith("muster: model-digits: ")
    assert "Traceback" not in wrong.err


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("hsm:2?label=nobody", "No PKCS#11 token found"),
        ("gcpkms:projects/p/key", "pip install 'securesystemslib[gcpkms]'"),
        ("azurekms://vault.vault.azure.net/keys/name/1", "pip install 'securesystemslib[azurekms]'"),
        ("hv:release/1", "pip install 'securesystemslib[vault]'"),
        ("sigstore:me", "expected a key file or one of hsm:"),
        ("nowhere.key", "no such key"),
    ],
)
def test_a_key_that_cannot_be_had_is_one_line(token: Token, key: str, said: str) -> None:
    done = execute("muster", "keys", "public", key, **token.environment)

    assert done.code in {1, 3}
    assert said in done.err
    assert done.err.count("\n") == 1


def test_the_public_half_of_a_key_in_a_token_is_printed_as_json(token: Token) -> None:
    done = execute("muster", "keys", "public", token.uri, **token.environment)

    assert json.loads(done.out)["scheme"] == "ecdsa-sha2-nistp256"


def test_an_encrypted_key_asks_for_its_passphrase(fresh: Site) -> None:
    made = fresh.muster("keys", "init", str(fresh.keys), MUSTER_PASSPHRASE="correct horse")
    nobody = fresh.muster("keys", "rotate", "targets", "--keys", str(fresh.keys), MUSTER_PASSPHRASE="")
    wrong = fresh.publish("digits/1.0.0", MUSTER_PASSPHRASE="battery staple")
    right = fresh.publish("digits/1.0.0", MUSTER_PASSPHRASE="correct horse")

    assert made.code == 0, made.err
    assert (nobody.code, wrong.code, right.code) == (2, 1, 0), right.err
    assert "wrong passphrase" in wrong.err
    assert "To be signed" not in wrong.err  # it was refused before anything was built
    assert b"ENCRYPTED" in (fresh.keys / "model-digits.key").read_bytes()
