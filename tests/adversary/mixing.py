"""Mix-and-match and rollback: genuine pieces that do not belong together, or not any more."""

from typing import Any

from adversary.scenario import MIRROR, ONLINE, After, Harmless, Kind, Limit, Play, Scenario
from adversary.world import DAY, World
from muster_models.errors import Reason
from muster_models.trust.roles import FIELD
from muster_models.wire import DesiredModel
from support.http_server import fixed
from support.repository import SignedRepository


def swapped_file(name: str) -> Play:
    """Serve a file of 1.0.0 where the same file of 1.1.0 belongs."""

    def play(world: World) -> Reason | None:
        old, new = (
            next(file for file in version.manifest.files if file.name == name)
            for version in (world.old, world.new)
        )
        content = (world.repository.folder / "blobs" / old.sha256).read_bytes()
        world.serve(f"blobs/{new.sha256}", content)
        return world.device.install(world.order(world.new))

    return play


def files_swapped_among_themselves(world: World) -> Reason | None:
    first, last = world.new.manifest.file("model"), world.new.manifest.file("golden")
    folder = world.repository.folder / "blobs"
    world.serve(f"blobs/{first.sha256}", (folder / last.sha256).read_bytes())
    world.serve(f"blobs/{last.sha256}", (folder / first.sha256).read_bytes())
    return world.device.install(world.order(world.new))


def old_manifest(world: World) -> Reason | None:
    world.serve(f"blobs/{world.new.digest}", world.old.document)
    return world.device.install(world.order(world.new))


def manifest_of_another_model(world: World) -> Reason | None:
    world.serve(f"blobs/{world.new.digest}", world.weather.document)
    return world.device.install(world.order(world.new))


def version_with_other_digest(world: World) -> Reason | None:
    return world.device.install(DesiredModel("digits", "1.1.0", world.old.digest))


def old_document(role: str, *, factory_new: bool = False) -> Play:
    """Keep a document, let the repository move on, and serve the old one in the new one's place."""

    def play(world: World) -> Reason | None:
        device = world.device
        old = world.repository.document(role)
        fresh = world.release("1.2.0", release=3)
        if role == "targets":
            world.repository.add_model("pumps")
        if role == "timestamp":
            device.refresh()
        world.serve(world.path(role), old)
        if factory_new:
            device = world.new_device()
        return device.refresh() or device.install(world.order(fresh))

    return play


def after_losing(pattern: str) -> Play:
    """Serve an old timestamp to a device that lost files of its trust folder."""

    def play(world: World) -> Reason | None:
        device = world.device
        old = world.repository.document("timestamp")
        world.release("1.2.0", release=3)
        device.refresh()
        for path in (device.folder / "trust").rglob(pattern):
            path.unlink()
        world.serve("metadata/timestamp.json", old)
        return world.restart().refresh()

    return play


def whole_old_repository(world: World) -> Reason | None:
    """Serve everything as it was before the newest release, to a device that has seen it."""
    device = world.device
    metadata = world.repository.metadata
    before = {path.name: path.read_bytes() for path in metadata.iterdir()}
    world.release("1.2.0", release=3)
    device.refresh()
    for path in metadata.iterdir():
        world.serve(f"metadata/{path.name}", fixed(404))
    for name, content in before.items():
        world.serve(f"metadata/{name}", content)
    return device.refresh()


def old_to_a_new_device(world: World) -> Reason | None:
    """A device that has seen nothing cannot know what is newer, until the timestamp expires."""
    old = world.repository.document("timestamp")
    world.repository.withdraw("digits", "1.1.0")
    world.serve("metadata/timestamp.json", old)
    fooled = world.new_device()
    assert fooled.install(world.order(world.new)) is None
    world.pass_days(8)
    return None if fooled.install(world.order(world.old)) is Reason.EXPIRED else Reason.HUNG


def older_under_new(role: str) -> Play:
    """With stolen online keys, name an older version of an offline role that devices have seen."""

    def play(world: World) -> Reason | None:
        device = world.device
        old = {role: world.repository.document(role)}
        world.release("1.2.0", release=3)
        world.repository.add_model("pumps")
        device.refresh()
        world.publish(old)
        return device.refresh()

    return play


def dropped_role(world: World) -> Reason | None:
    device = world.device
    world.publish({}, change_snapshot=lambda snapshot: snapshot.meta.pop("model-digits.json"))
    return device.refresh()


def older_online(role: str) -> Play:
    """With stolen online keys, sign a lower version of an online role."""

    def play(world: World) -> Reason | None:
        device = world.device

        def lower(signed: Any) -> None:
            signed.version -= 2

        if role == "timestamp":
            world.publish({}, change_timestamp=lower)
        else:
            world.publish({}, change_timestamp=lambda timestamp: lower(timestamp.snapshot_meta))
        return device.refresh()

    return play


def old_root(world: World) -> Reason | None:
    world.serve("metadata/2.root.json", world.repository.root)
    return world.device.refresh()


def skipped_root(world: World) -> Reason | None:
    """Serve root 3 in the place of root 2."""
    repository = world.repository

    def skip(signed: Any) -> None:
        signed.version += 1

    world.serve("metadata/2.root.json", world.forge("root", skip, signers=repository.roots))
    return world.device.refresh()


def another_fleet(world: World) -> Reason | None:
    """Serve the repository of another customer whole."""
    other = SignedRepository(world.folder / "other", now=world.repository.now)
    for path in other.metadata.iterdir():
        world.serve(f"metadata/{path.name}", path.read_bytes())
    return world.device.refresh()


def half_published(world: World) -> Reason | None:
    """Show a new timestamp before the snapshot that it names."""
    device = world.device
    fresh = world.release("1.2.0", release=3)
    world.serve(world.path("snapshot"), fixed(404))
    return device.install(world.order(fresh))


def wrong_kind(role: str, served: str) -> Play:
    def play(world: World) -> Reason | None:
        world.serve(world.path(role), world.repository.document(served))
        return world.new_device().refresh() or world.new_device("third").install(world.order(world.new))

    return play


def stripped_facts(world: World) -> Reason | None:
    """With the release key, publish a role that no longer says what it was made for."""
    device = world.device

    def strip(signed: Any) -> None:
        signed.unrecognized_fields.pop(FIELD)
        signed.expires += DAY

    keys = world.repository.release_keys["digits"]
    world.publish({"model-digits": world.forge("model-digits", strip, signers=keys)})
    return device.install(world.order(world.new))


_MIX = Kind.MIX
_BACK = Kind.ROLLBACK
_STOLEN = After.NEW_ONLINE_KEYS
SCENARIOS = (
    *(
        Scenario(
            f"old-{name.partition('.')[0]}-as-new",
            _MIX,
            MIRROR,
            f"serves {name} of 1.0.0 where that of 1.1.0 belongs",
            Reason.TAMPERED,
            swapped_file(name),
        )
        for name in ("model.onnx", "baseline.bin", "golden.bin")
    ),
    Scenario(
        "files-swapped",
        _MIX,
        MIRROR,
        "exchanges two files of one version",
        Reason.TAMPERED,
        files_swapped_among_themselves,
    ),
    Scenario(
        "old-manifest-as-new",
        _MIX,
        MIRROR,
        "serves the manifest of 1.0.0 where that of 1.1.0 belongs",
        Reason.TAMPERED,
        old_manifest,
    ),
    Scenario(
        "weather-manifest-as-digits",
        _MIX,
        MIRROR,
        "serves the longer manifest of another model",
        Reason.TOO_LARGE,
        manifest_of_another_model,
    ),
    Scenario(
        "version-with-other-digest",
        _MIX,
        "the director key",
        "orders version 1.1.0 with the digest of 1.0.0",
        Reason.NOT_LISTED,
        version_with_other_digest,
    ),
    *(
        Scenario(
            f"old-{role}-under-new-name",
            _MIX,
            MIRROR,
            f"serves an older {role} as the one that the new metadata names",
            Reason.REPLAYED,
            old_document(role),
        )
        for role in ("snapshot", "targets", "model-digits")
    ),
    *(
        Scenario(
            f"old-{role}-to-a-new-device",
            _MIX,
            MIRROR,
            f"shows a new device an older {role} within newer metadata",
            Reason.REPLAYED,
            old_document(role, factory_new=True),
        )
        for role in ("snapshot", "targets", "model-digits")
    ),
    Scenario(
        "half-published",
        _MIX,
        MIRROR,
        "shows a new timestamp and withholds its snapshot",
        Reason.DOWNLOAD_FAILED,
        half_published,
    ),
    Scenario(
        "another-fleet",
        _MIX,
        MIRROR,
        "serves the whole repository of another fleet",
        Reason.WRONG_KEY,
        another_fleet,
    ),
    Scenario(
        "snapshot-as-timestamp",
        _MIX,
        MIRROR,
        "serves the snapshot as the timestamp",
        Reason.TAMPERED,
        wrong_kind("timestamp", "snapshot"),
    ),
    Scenario(
        "targets-as-role",
        _MIX,
        MIRROR,
        "serves the top targets as a model's role",
        Reason.WRONG_KEY,
        wrong_kind("model-digits", "targets"),
    ),
    Scenario(
        "role-without-facts",
        _MIX,
        "the release key, and the online keys",
        "removes from a role what it was made for",
        Reason.TAMPERED,
        stripped_facts,
        after=After.NEW_RELEASE_KEY,
    ),
    Scenario(
        "old-timestamp",
        _BACK,
        MIRROR,
        "serves an older timestamp",
        Reason.REPLAYED,
        old_document("timestamp"),
    ),
    Scenario(
        "old-timestamp-after-lost-cache",
        _BACK,
        "the mirror, and a power cut at the right moment",
        "serves an older timestamp to a device that lost its cache",
        Reason.REPLAYED,
        after_losing("*.json"),
    ),
    Scenario(
        "old-repository",
        _BACK,
        MIRROR,
        "serves the whole repository as it was before",
        Reason.REPLAYED,
        whole_old_repository,
    ),
    Scenario(
        "old-repository-to-a-new-device",
        _BACK,
        MIRROR,
        "shows a new device a repository in which a withdrawn version is still listed",
        Limit("a device that has seen nothing newer believes it until the timestamp expires (7 days)"),
        old_to_a_new_device,
        after=After.NOTHING,
    ),
    *(
        Scenario(
            f"older-{role}-by-online-keys",
            _BACK,
            ONLINE,
            f"signs a snapshot that names an older {role}",
            Reason.REPLAYED,
            older_under_new(role),
            after=_STOLEN,
        )
        for role in ("targets", "model-digits")
    ),
    Scenario(
        "role-dropped",
        _BACK,
        ONLINE,
        "signs a snapshot without the model's role",
        Reason.TAMPERED,
        dropped_role,
        after=_STOLEN,
    ),
    Scenario(
        "lower-timestamp",
        _BACK,
        ONLINE,
        "signs a timestamp with a lower version",
        Reason.REPLAYED,
        older_online("timestamp"),
        after=_STOLEN,
    ),
    Scenario(
        "lower-snapshot",
        _BACK,
        ONLINE,
        "signs a timestamp that names a lower snapshot",
        Reason.REPLAYED,
        older_online("snapshot"),
        after=_STOLEN,
    ),
    Scenario("old-root", _BACK, MIRROR, "serves root 1 as root 2", Reason.REPLAYED, old_root),
    Scenario(
        "skipped-root",
        _BACK,
        "every root key, and the mirror",
        "serves root 3 where root 2 belongs",
        Reason.REPLAYED,
        skipped_root,
    ),
    Scenario(
        "installed-version-back",
        _BACK,
        "the director key",
        "orders an older version that is listed and not below the floor",
        Harmless("going back is what operators do; nothing unlisted or below the floor runs"),
        lambda world: (
            world.device.install(world.order(world.new)) or world.device.install(world.order(world.old))
        ),
    ),
)
