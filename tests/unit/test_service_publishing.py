"""What may enter the signed repository, and what leaves it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from muster_controller.service import publishing, versions
from muster_controller.service.publishing import Submission
from muster_models import manifest as manifests
from muster_models.errors import ConflictError, NotFoundError, Reason, RequestError, SketchError, TrustError
from muster_models.manifest import Delta, Threshold, Waiver
from muster_models.trust import publisher
from support.office import OPERATOR, Draft, Office, digest_of, open_office
from support.repository import make_signer


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    made.install()
    yield made
    made.opened.close()


def upload(office: Office, draft: Draft) -> None:
    for sha256, content in draft.files.items():
        office.context.blobs.put(sha256, [content])


def submit(office: Office, draft: Draft, **changes: bytes) -> str:
    upload(office, draft)
    submission = replace(Submission(draft.document, draft.role, draft.targets), **changes)
    return publishing.release(office.context, OPERATOR, submission).version.name


def test_a_signed_version_with_its_files_is_released(office: Office) -> None:
    draft = office.draft()

    assert submit(office, draft) == "digits@1.0.0"
    assert office.context.repository.listed("digits") == {"1.0.0": draft.digest}


def test_the_same_submission_again_changes_nothing(office: Office) -> None:
    draft = office.draft()
    submit(office, draft)
    role = office.context.repository.current("model-digits")

    submit(office, draft)

    assert office.context.repository.current("model-digits") == role
    assert len(versions.list_versions(office.context).items) == 1


def test_a_release_that_broke_off_is_finished_by_sending_it_again(office: Office) -> None:
    """The controller was killed after the repository had taken the documents, before the database had."""
    draft = office.draft()
    documents = {"model-digits": draft.role, "targets": draft.targets or b""}
    office.context.repository.accept_all(documents, office.now)

    assert submit(office, draft) == "digits@1.0.0"
    assert [one.name for one in versions.list_versions(office.context).items] == ["digits@1.0.0"]


def test_a_role_that_another_key_signed_is_refused(office: Office) -> None:
    draft = office.draft(signer=make_signer())

    with pytest.raises(TrustError) as refused:
        submit(office, draft)

    assert refused.value.reason in {Reason.UNSIGNED, Reason.WRONG_KEY}
    assert versions.list_versions(office.context).items == ()


def test_a_manifest_that_was_changed_after_signing_is_refused(office: Office) -> None:
    draft = office.draft()
    changed = manifests.encode(msgspec.structs.replace(draft.manifest, description="better"))

    with pytest.raises(TrustError) as refused:
        submit(office, draft, manifest=changed)

    assert refused.value.reason is Reason.NOT_LISTED


def test_a_version_name_is_never_used_twice(office: Office) -> None:
    submit(office, office.draft("1.0.0"))

    with pytest.raises(ConflictError, match="released before"):
        office.draft("1.0.0", description="other")


def test_a_role_that_lists_a_used_name_with_other_content_is_refused(office: Office) -> None:
    """A publisher's tool may be anybody's: the controller does not rely on its refusal."""
    submit(office, office.draft("1.0.0"))
    present = office.context.repository.current("model-digits")
    assert present is not None
    other = office.draft("1.0.1", release=7, description="other")
    renamed = manifests.encode(msgspec.structs.replace(other.manifest, version="1.0.0"))
    withdrawn = publisher.withdraw(
        present, "1.0.0", floor=None, signers=[office.release_keys["digits"]], now=office.now
    )
    with pytest.raises(ConflictError):
        publisher.release(withdrawn, renamed, signers=[office.release_keys["digits"]], now=office.now)

    with pytest.raises(TrustError):
        submit(office, other, manifest=renamed)


def test_a_missing_file_is_named(office: Office) -> None:
    draft = office.draft()
    missing = draft.manifest.file("model")
    for sha256, content in draft.files.items():
        if sha256 != missing.sha256:
            office.context.blobs.put(sha256, [content])

    with pytest.raises(RequestError, match=r"'model\.bin' .* was not uploaded"):
        publishing.release(office.context, OPERATOR, Submission(draft.document, draft.role, draft.targets))


def test_a_patch_that_the_manifest_names_must_be_there_as_it_says(office: Office) -> None:
    content = b"a patch"
    base, other = digest_of(b"an earlier model"), digest_of(content)

    def named(version: str, length: int) -> Draft:
        plain = office.draft(version).manifest.files
        delta = Delta(base, "zstd-patch", other, length)
        files = tuple(
            msgspec.structs.replace(entry, deltas=(delta,)) if entry.role == "model" else entry
            for entry in plain
        )
        return office.draft(version, files=files)

    def refusal(draft: Draft) -> str:
        with pytest.raises(RequestError) as refused:
            submit(office, draft)
        return str(refused.value)

    missing = refusal(named("1.0.0", len(content)))
    office.context.blobs.put(other, [content])
    longer = refusal(named("1.0.0", len(content) + 1))

    assert "the patch for 'model.bin'" in missing
    assert "was not uploaded" in missing
    assert "has 7 bytes, the manifest says 8" in longer
    assert submit(office, named("1.0.0", len(content))) == "digits@1.0.0"


def test_a_baseline_that_is_none_is_refused(office: Office) -> None:
    broken = office.baseline
    office.baseline = _Garbage()  # type: ignore[assignment]  # only its bytes are used
    draft = office.draft()
    office.baseline = broken

    with pytest.raises(SketchError):
        submit(office, draft)


class _Garbage:
    digest = digest_of(b"no baseline")

    def encode(self) -> bytes:
        return b"no baseline"


def test_nothing_is_released_before_the_repository_is_installed(tmp_path: Path) -> None:
    office = open_office(tmp_path / "empty")
    try:
        with pytest.raises(ConflictError, match="muster keys init"):
            publishing.release(office.context, OPERATOR, Submission(b"{}", b"{}"))
    finally:
        office.opened.close()


def test_root_and_targets_are_installed_once(office: Office) -> None:
    root, targets = office.offline_documents()

    with pytest.raises(ConflictError):
        publishing.install(office.context, OPERATOR, root=root, targets=targets)


def test_a_root_that_names_other_online_keys_is_refused(tmp_path: Path) -> None:
    office = open_office(tmp_path / "other")
    try:
        stranger = make_signer().public_key
        root = publisher.make_root(
            [office.root],
            1,
            targets=office.targets.public_key,
            snapshot=stranger,
            timestamp=stranger,
            now=office.now,
        )
        _, targets = office.offline_documents()

        with pytest.raises(TrustError) as refused:
            publishing.install(office.context, OPERATOR, root=root, targets=targets)

        assert refused.value.reason is Reason.WRONG_KEY
        assert not office.context.repository.is_installed
    finally:
        office.opened.close()


def test_a_withdrawn_version_is_no_longer_listed(office: Office) -> None:
    digest = office.release().version.digest
    present = office.context.repository.current("model-digits")
    assert present is not None
    role = publisher.withdraw(
        present, "1.0.0", floor=None, signers=[office.release_keys["digits"]], now=office.now
    )

    detail = publishing.withdraw(office.context, OPERATOR, digest, role=role, reason="wrong labels")

    assert detail.version.withdrawn_at is not None
    assert publishing.show_repository(office.context).models[0].versions == {}


def test_withdrawing_with_a_role_that_still_lists_the_version_is_refused(office: Office) -> None:
    digest = office.release().version.digest
    present = office.context.repository.current("model-digits")
    assert present is not None

    with pytest.raises(ConflictError, match="still lists"):
        publishing.withdraw(office.context, OPERATOR, digest, role=present)

    assert versions.show_version(office.context, digest).version.withdrawn_at is None


def test_a_missed_threshold_is_shown_with_its_waiver(office: Office) -> None:
    office.release(
        metrics={"accuracy": 0.8},
        thresholds=(Threshold("accuracy", minimum=0.9), Threshold("recall", minimum=0.5)),
        waivers=(Waiver("accuracy", "only for the trial"),),
    )

    thresholds = versions.show_version(office.context, "digits@1.0.0").version.thresholds

    assert [(one.metric, one.value, one.met, one.waiver) for one in thresholds] == [
        ("accuracy", 0.8, False, "only for the trial"),
        ("recall", None, False, ""),
    ]


def test_versions_are_found_by_name_and_by_digest(office: Office) -> None:
    digest = office.release().version.digest

    assert versions.show_version(office.context, digest).version.name == "digits@1.0.0"
    assert versions.show_version(office.context, "digits@1.0.0").version.digest == digest
    with pytest.raises(NotFoundError):
        versions.show_version(office.context, "digits@9.9.9")
    with pytest.raises(RequestError, match="model@version"):
        versions.show_version(office.context, "digits")


def test_stopping_a_model_is_an_order_that_can_be_lifted(office: Office) -> None:
    office.release()

    assert versions.stop_model(office.context, OPERATOR, "digits", "smoke").model.stop_ordered
    with pytest.raises(ConflictError):
        versions.stop_model(office.context, OPERATOR, "digits")
    assert not versions.start_model(office.context, OPERATOR, "digits").model.stop_ordered
    with pytest.raises(NotFoundError):
        versions.start_model(office.context, OPERATOR, "digits")
    with pytest.raises(NotFoundError):
        versions.stop_model(office.context, OPERATOR, "nothing")
