"""Keys in a cloud's key service, with the stock client of AWS KMS against a service on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ceremony import Site, keyid_of, opened, prepare
from support.controller_process import execute
from support.kms import KeyService, serving_keys


@pytest.fixture(scope="module")
def service() -> Iterator[KeyService]:
    with serving_keys() as service:
        yield service


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("founded"))


@pytest.fixture
def fresh(founded: Path, tmp_path: Path) -> Iterator[Site]:
    """A controller without a signed repository."""
    with opened(tmp_path, founded) as site:
        yield site


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("ECC_NIST_P256", "ecdsa-sha2-nistp256"),
        ("ECC_NIST_P384", "ecdsa-sha2-nistp384"),
        ("RSA_2048", "rsassa-pss-sha256"),
    ],
)
def test_the_public_half_of_a_key_in_the_service_is_printed(
    service: KeyService, kind: str, scheme: str
) -> None:
    done = execute("muster", "keys", "public", service.create_key(kind), **service.environment)

    assert done.code == 0, done.err
    assert json.loads(done.out)["scheme"] == scheme


def test_a_root_key_in_the_service_signs_the_first_root_and_its_successor(
    fresh: Site, service: KeyService
) -> None:
    uri = service.create_key()
    own, _ = fresh.make_key("ada")
    fresh.init("--root", uri, "--root", str(own), **service.environment)
    device = fresh.device()
    device.refresh()
    keys = ("--keys", str(fresh.keys), "--key", str(own), "--key", uri)
    gone = keyid_of(own)
    done = fresh.muster("keys", "rotate", "root", *keys, "--drop", gone, **service.environment)
    device.refresh()

    assert done.code == 0, done.err
    assert gone not in fresh.holders()["root"][1]


@pytest.mark.parametrize("kind", ["ECC_NIST_P256", "RSA_2048"])
def test_a_device_installs_what_a_release_key_in_the_service_signed(
    fresh: Site, service: KeyService, kind: str
) -> None:
    fresh.init()
    uri = service.create_key(kind)
    (fresh.keys / "model-digits.key").write_text(f"{uri}\n")
    published = fresh.publish(**service.environment)
    assert published.code == 0, published.err
    digest = fresh.told("version", "show", "digits@1.0.0")["version"]["digest"]
    public = fresh.folder / "public.json"
    public.write_text(execute("muster", "keys", "public", uri, **service.environment).out)

    assert fresh.device().manifest("digits", "1.0.0", digest).digest == digest
    assert fresh.holders()["model-digits"] == (1, [keyid_of(public)])
    assert service.signed[-1] == uri.removeprefix("awskms:")


def test_a_signature_is_added_to_a_request_by_a_key_in_the_service(fresh: Site, service: KeyService) -> None:
    uri = service.create_key()
    own, _ = fresh.make_key("ada")
    fresh.init("--root", uri, "--root", str(own), **service.environment)
    waiting = fresh.folder / "stick.json"
    asked = fresh.muster(
        "keys", "renew", "root", "--keys", str(fresh.keys), "--key", str(own), "--request", str(waiting)
    )
    signed = execute("muster", "sign", str(waiting), "--key", uri, **service.environment)
    resumed = fresh.muster("publish", "--resume", str(waiting))

    assert asked.code == 0, asked.err
    assert "1 more for root" in asked.out
    assert signed.code == 0, signed.err
    assert (resumed.code, resumed.out) == (0, "handed over: root\n")


@pytest.mark.parametrize(
    ("uri", "changes", "said"),
    [
        ("awskms:alias/nobody", {}, "NotFoundException"),
        ("awskms:alias/nobody", {"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1"}, "Could not connect"),
    ],
)
def test_a_service_that_has_no_such_key_or_cannot_be_reached_is_one_line(
    service: KeyService, uri: str, changes: dict[str, str], said: str
) -> None:
    done = execute("muster", "keys", "public", uri, **{**service.environment, **changes})

    assert done.code == 1
    assert said in done.err
    assert done.err.count("\n") == 1
