"""The controller's own keys: which generation signs is what root and targets name."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.service import publishing
from muster_controller.service.keyring import Keyring
from muster_controller.store import desired
from muster_models.errors import ConflictError, Reason, TrustError
from muster_models.trust import ceremony, request
from muster_models.trust.ceremony import Present
from muster_models.trust.keys import public_key
from muster_models.trust.repository import Repository
from muster_models.trust.request import Request
from support.office import OPERATOR, Office, open_office
from support.repository import make_signer


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    made.install()
    yield made
    made.opened.close()


def present(office: Office) -> Present:
    root, targets = (office.context.repository.current(role) for role in ("root", "targets"))
    assert root is not None
    assert targets is not None
    return Present(root, targets, office.now)


def renewal(office: Office) -> Request:
    """Let the controller make new keys, and name them."""
    keys = publishing.renew_online_keys(office.context, OPERATOR)
    made = ceremony.replace_online_keys(
        present(office),
        snapshot=public_key(keys.snapshot.encode()),
        timestamp=public_key(keys.timestamp.encode()),
        director=public_key(keys.director.encode()),
    )
    return request.sign(request.sign(made, office.root), office.targets)


def told(office: Office) -> str:
    """Return the digest of what berlin-1 was told, as the database holds it."""
    with office.context.reading() as session:
        return desired.held(session, ["berlin-1"])["berlin-1"].content


def test_new_keys_do_not_sign_before_root_and_targets_name_them(office: Office) -> None:
    before = office.opened.director.public_key
    old = office.context.online
    new = publishing.renew_online_keys(office.context, OPERATOR)
    again = publishing.renew_online_keys(office.context, OPERATOR)

    assert new == again == office.context.online != old
    assert office.opened.director.public_key == before
    assert office.release("1.0.0").version.name == "digits@1.0.0"


def test_new_keys_sign_once_they_are_named_also_after_opening_again(office: Office) -> None:
    made = renewal(office)
    publishing.accept_documents(office.context, OPERATOR, made.parts)
    folder = office.context.folder
    keyring = Keyring(folder.keys)
    first = keyring.generations[0]
    reopened = Repository(
        folder.tuf, first["snapshot"], first["timestamp"], spare=lambda: keyring.generations
    )
    reopened.accept_all({"root": sign_root(office)}, office.now)

    assert office.opened.director.public_key == keyring.generations[1]["director"].public_key
    assert len(keyring.generations) == 2


def sign_root(office: Office) -> bytes:
    return request.sign(ceremony.renew_root(present(office)), office.root).parts["root"]


def test_every_device_is_told_again_when_another_director_signs(office: Office) -> None:
    office.enrol("berlin-1")
    with office.context.unit() as session:
        state = desired.Signed("berlin-1", 1, b"signed by the old key", "what it says", 1.0, 2.0)
        desired.save(session, [state])
    publishing.accept_documents(office.context, OPERATOR, {"root": sign_root(office)})
    kept = told(office)
    publishing.accept_documents(office.context, OPERATOR, renewal(office).parts)

    assert (kept, told(office)) == ("what it says", "")


def test_the_same_documents_again_change_nothing(office: Office) -> None:
    made = renewal(office)
    publishing.accept_documents(office.context, OPERATOR, made.parts)
    held = sorted(path.name for path in office.context.repository.metadata.iterdir())
    publishing.accept_documents(office.context, OPERATOR, made.parts)

    assert sorted(path.name for path in office.context.repository.metadata.iterdir()) == held


def test_keys_of_somebody_else_are_refused(office: Office) -> None:
    foreign = [make_signer().public_key for _ in range(3)]
    made = ceremony.replace_online_keys(
        present(office), snapshot=foreign[0], timestamp=foreign[1], director=foreign[2]
    )
    signed = request.sign(request.sign(made, office.root), office.targets)

    with pytest.raises(TrustError, match="this controller's key") as refused:
        publishing.accept_documents(office.context, OPERATOR, signed.parts)

    assert refused.value.reason is Reason.WRONG_KEY


def test_there_are_no_new_keys_without_a_repository(tmp_path: Path) -> None:
    empty = open_office(tmp_path / "controller")
    try:
        with pytest.raises(ConflictError, match="muster keys init"):
            publishing.renew_online_keys(empty.context, OPERATOR)
    finally:
        empty.opened.close()


@pytest.mark.parametrize("change", ["targets", "online"])
def test_a_power_cut_between_any_two_files_of_a_rotation_is_mended(
    office: Office, tmp_path: Path, change: str
) -> None:
    """The controller starts, signs what is there, and every device sees one consistent state."""
    folder = office.context.folder
    before = tmp_path / "before"
    shutil.copytree(folder.tuf, before)
    office.targets, old = make_signer(), office.targets
    made = ceremony.replace_targets_key(present(office), office.targets.public_key)
    made = request.sign(request.sign(made, office.root), office.targets)
    if change == "online":
        office.targets = old
        made = renewal(office)
    office.context.repository.accept_all(made.parts, office.now)
    written = [path for path in folder.tuf.rglob("*.json") if is_new(path, folder.tuf, before)]
    written.sort(key=lambda path: path.stat().st_mtime_ns)
    keyring = Keyring(folder.keys)
    first = keyring.generations[0]

    assert len(written) == 4
    for count in range(len(written) + 1):
        torn = tmp_path / f"torn-{count}"
        shutil.copytree(before, torn)
        for path in written[:count]:
            shutil.copy2(path, torn / path.relative_to(folder.tuf))
        repository = Repository(
            torn, first["snapshot"], first["timestamp"], spare=lambda: keyring.generations
        )
        repository.renew(office.now)
        mended = Repository(torn, first["snapshot"], first["timestamp"], spare=lambda: keyring.generations)
        assert mended.renew(office.now) is False
        assert mended.expiries().keys() == {"root", "targets", "snapshot", "timestamp"}


def is_new(path: Path, folder: Path, before: Path) -> bool:
    old = before / path.relative_to(folder)
    return not old.exists() or old.read_bytes() != path.read_bytes()
