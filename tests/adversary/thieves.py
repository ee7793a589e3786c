"""Key compromise: what a stolen key is worth alone, below its threshold, and above it."""

from collections.abc import Callable
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Targets

from adversary.scenario import DIRECTOR, ONLINE, After, Harmless, Kind, Limit, Play, Scenario
from adversary.world import World, contents
from muster_models.errors import Reason
from muster_models.manifest import encode
from muster_models.trust import publisher
from muster_models.wire import DesiredModel
from support.repository import SignedRepository, make_signer


def evil_release(world: World, *, signers: list[Signer], model: str = "digits") -> tuple[bytes, DesiredModel]:
    """Return a role document that lists a version of the thief's making, and an order for it."""
    files = contents("evil")
    manifest = world.repository.manifest(files, model=model, version="6.6.6", release=6)
    for content in files.values():
        world.repository.put_blob(content)
    return world.forge_release(encode(manifest), signers=signers, model=model)


def timestamp_key_alone(world: World) -> Reason | None:
    """Name a snapshot of the thief's own, which he cannot sign."""
    device = world.device
    snapshot = world.forge("snapshot", signers=[make_signer()])
    world.publish({})
    version = world.version("snapshot") + 1
    world.serve(f"metadata/{version}.snapshot.json", snapshot)
    return device.refresh()


def snapshot_key_alone(world: World) -> Reason | None:
    """Serve a snapshot of the thief's own under the name of the present one."""
    document = world.forge("snapshot", signers=[world.repository.snapshot_key])
    world.serve(world.path("snapshot"), document)
    return world.new_device().refresh()


def targets_key_alone(world: World) -> Reason | None:
    """Serve targets of the thief's own under the name of the present ones."""
    document = world.forge("targets", signers=[world.repository.targets_key])
    world.serve(world.path("targets"), document)
    return world.new_device().refresh()


def release_key_alone(world: World) -> Reason | None:
    """Serve a role of the thief's own under the name of the present one."""
    role, order = evil_release(world, signers=world.repository.release_keys["digits"])
    world.serve(world.path("model-digits"), role)
    return world.new_device().install(order)


def one_of_two_releases(world: World) -> Reason | None:
    pair = [make_signer(), make_signer()]
    world.repository.add_model("pumps", signers=pair, threshold=2)
    world.repository.release(contents("pumps"), model="pumps")
    device = world.device
    role, order = evil_release(world, signers=pair[:1], model="pumps")
    world.publish({"model-pumps": role})
    return device.install(order)


def one_of_two_and_a_strangers(world: World) -> Reason | None:
    pair = [make_signer(), make_signer()]
    world.repository.add_model("pumps", signers=pair, threshold=2)
    world.repository.release(contents("pumps"), model="pumps")
    device = world.device
    role, order = evil_release(world, signers=[pair[0], make_signer()], model="pumps")
    world.publish({"model-pumps": role})
    return device.install(order)


def release_key_with_online(world: World) -> Reason | None:
    """Release for the model whose key was stolen, and for no other; then the key is replaced."""
    device = world.device
    keys = world.repository.release_keys["digits"]
    role, order = evil_release(world, signers=keys)
    _, other = evil_release(world, signers=keys, model="weather")
    world.publish({"model-digits": role})
    world.conceded.add(order.manifest)
    assert device.install(order) is None
    assert device.install(other) is Reason.NOT_LISTED
    world.leave()
    world.replace_online_keys()
    world.replace_release_key()
    assert device.refresh() is None
    assert device.start(order.manifest) is Reason.NOT_LISTED
    return None


def targets_key_with_online(world: World) -> Reason | None:
    """Give a model to the thief's own key, and release; root then names other keys, and it is refused."""
    device = world.device
    repository = world.repository
    mine = make_signer()
    targets = publisher.change_keys(
        repository.document("targets"),
        "model-digits",
        keys=[mine.public_key],
        threshold=1,
        signer=repository.targets_key,
        now=repository.now,
    )
    role, order = evil_release(world, signers=[mine])
    world.publish({"targets": targets, "model-digits": role})
    world.conceded.add(order.manifest)
    assert device.install(order) is None
    world.leave()
    replace_targets_key(world)
    assert device.refresh() is None
    assert device.start(order.manifest) is Reason.NOT_LISTED
    assert device.start(world.old.digest) is None
    return None


def replace_targets_key(world: World) -> None:
    """Let root name a new targets key and new online keys; targets and role are signed again."""
    repository = world.repository
    present = Metadata[Targets].from_bytes(repository.document("targets"))
    repository.targets_key = make_signer()
    present.signed.version += 1
    present.sign(repository.targets_key)
    (repository.metadata / f"{present.signed.version}.targets.json").write_bytes(present.to_bytes())
    old_snapshot = repository.document("snapshot")
    snapshot: Metadata[Any] = Metadata.from_bytes(old_snapshot)
    snapshot.signed.meta["targets.json"].version = present.signed.version
    (repository.metadata / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
    root = repository.metadata / f"{world.version('root') + 1}.root.json"
    repository.timestamp_key, repository.snapshot_key = make_signer(), make_signer()
    root.write_bytes(
        publisher.rotate_root(
            repository.document("root"),
            repository.root_keys(),
            signers=repository.roots[:2],
            now=repository.now,
        )
    )
    reopened = type(repository.controller)(
        repository.folder, repository.snapshot_key, repository.timestamp_key
    )
    assert reopened.renew(repository.now)
    repository.controller = reopened


def director_key_alone(world: World) -> Reason | None:
    """Choose among what is listed, and nothing else."""
    device = world.device
    repository = world.repository
    unlisted = encode(repository.manifest(version="6.6.6", release=6))
    order = DesiredModel("digits", "6.6.6", repository.put_blob(unlisted).name)
    assert device.install(world.order(world.new)) is None
    assert device.obey(repository.envelope(repository.desired(world.old, sequence=1))) is None
    assert device.install(world.order(world.old)) is None
    assert device.install(order) is Reason.NOT_LISTED
    return None


def signing_what_is_genuine(world: World) -> Reason | None:
    world.publish({})
    return world.device.install(world.order(world.new))


def wrong_role(role: str, key: Callable[[SignedRepository], Signer]) -> Play:
    """Sign one role with the key of another."""

    def play(world: World) -> Reason | None:
        document = world.forge(role, signers=[key(world.repository)], bump=False)
        world.serve(world.path(role), document)
        return world.new_device().refresh()

    return play


_KEYS = Kind.KEYS
GONE = After.NOTHING
SCENARIOS = (
    Scenario(
        "timestamp-key",
        _KEYS,
        "the timestamp key",
        "names a snapshot that he cannot sign",
        Reason.WRONG_KEY,
        timestamp_key_alone,
        after=After.NEW_ONLINE_KEYS,
    ),
    Scenario(
        "snapshot-key",
        _KEYS,
        "the snapshot key, and the mirror",
        "serves a snapshot that no timestamp names",
        Reason.REPLAYED,
        snapshot_key_alone,
    ),
    Scenario(
        "targets-key",
        _KEYS,
        "the targets key, and the mirror",
        "serves targets that no snapshot names",
        Reason.REPLAYED,
        targets_key_alone,
    ),
    Scenario(
        "release-key",
        _KEYS,
        "the release key of the model, and the mirror",
        "serves a role that no snapshot names",
        Reason.REPLAYED,
        release_key_alone,
    ),
    *(
        Scenario(
            f"{word}-key-signs-{role}",
            _KEYS,
            f"the {word} key, and the mirror",
            f"signs {role}",
            Reason.WRONG_KEY,
            wrong_role(role, key),
        )
        for role, word, key in (
            ("timestamp", "snapshot", lambda r: r.snapshot_key),
            ("snapshot", "timestamp", lambda r: r.timestamp_key),
            ("targets", "director", lambda r: r.director_key),
            ("targets", "release", lambda r: r.release_keys["digits"][0]),
        )
    ),
    Scenario(
        "release-1-of-2",
        _KEYS,
        "one of two release keys, and the online keys",
        "signs a release alone",
        Reason.UNSIGNED,
        one_of_two_releases,
        after=After.NEW_ONLINE_KEYS,
    ),
    Scenario(
        "release-1-of-2-and-a-stranger",
        _KEYS,
        "one of two release keys, and the online keys",
        "adds a signature of his own",
        Reason.UNSIGNED,
        one_of_two_and_a_strangers,
        after=After.NEW_ONLINE_KEYS,
    ),
    Scenario(
        "release-key-and-online",
        _KEYS,
        "the release key of the model, and the online keys",
        "releases a version",
        Limit("this model alone, until targets give it another key; then the version no longer starts"),
        release_key_with_online,
        after=GONE,
    ),
    Scenario(
        "targets-key-and-online",
        _KEYS,
        "the targets key, and the online keys",
        "gives a model to a key of his own",
        Limit("every model, until root names another targets key; then the version no longer starts"),
        targets_key_with_online,
        after=GONE,
    ),
    Scenario(
        "director-key",
        _KEYS,
        DIRECTOR,
        "orders one version after the other",
        Limit(
            "any listed version at or above the floor, for any device, until targets name another director"
        ),
        director_key_alone,
    ),
    Scenario(
        "online-keys",
        _KEYS,
        ONLINE,
        "sign what is genuine again",
        Harmless("they list nothing that release keys did not sign"),
        signing_what_is_genuine,
        after=After.NEW_ONLINE_KEYS,
    ),
)
