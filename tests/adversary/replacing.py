"""Key compromise, afterwards: what a stolen key is worth once it was replaced, and root keys."""

import json

from securesystemslib.signer import Key, Signer

from adversary.scenario import After, Kind, Limit, Play, Scenario
from adversary.thieves import evil_release
from adversary.world import World
from muster_models.errors import Reason
from muster_models.trust import publisher
from muster_models.trust.publisher import RootKeys
from support.http_server import fixed
from support.repository import make_signer


def replaced_release_key(world: World) -> Reason | None:
    device = world.device
    stolen = world.repository.release_keys["digits"]
    world.replace_release_key()
    device.refresh()
    role, order = evil_release(world, signers=stolen)
    world.publish({"model-digits": role})
    return device.install(order)


def replaced_release_key_unseen(world: World) -> Reason | None:
    """The device has not heard of the new key, and the thief has no online key to hide it."""
    device = world.device
    stolen = world.repository.release_keys["digits"]
    world.replace_release_key()
    role, order = evil_release(world, signers=stolen)
    world.serve(world.path("model-digits"), role)
    return device.install(order)


def next_root(world: World, signers: list[Signer], keys: RootKeys | None = None) -> bytes:
    repository = world.repository
    return publisher.rotate_root(
        repository.document("root"), keys or repository.root_keys(), signers=signers, now=repository.now
    )


def root_keys_of(world: World, thief: Signer) -> RootKeys:
    key: Key = thief.public_key
    return RootKeys([key], 1, key, key, key)


def withheld_role(world: World) -> Reason | None:
    """Withhold the role that a new release key signed: what runs starts again, also much later."""
    device = world.device
    world.replace_release_key()
    world.serve(world.path("model-digits"), fixed(404))
    for _ in range(3):
        assert device.install(world.order(world.weather)) is None
        device = world.restart()
        assert device.start(world.old.digest) is None
    return device.install(world.order(world.new))


def roots_stolen(count: int) -> Play:
    """Serve a next root that gives everything to the thief, signed by some of the three root keys."""

    def play(world: World) -> Reason | None:
        device = world.device
        thief = make_signer()
        signers = [*world.repository.roots[:count], thief]
        world.serve("metadata/2.root.json", next_root(world, signers, root_keys_of(world, thief)))
        return device.refresh()

    return play


def one_root_key_three_times(world: World) -> Reason | None:
    document = json.loads(next_root(world, world.repository.roots[:1]))
    document["signatures"] *= 3
    world.serve("metadata/2.root.json", json.dumps(document).encode())
    return world.device.refresh()


def threshold_of_roots(world: World) -> Reason | None:
    """Two of three root keys are the fleet: the thief owns every device that asks him."""
    device = world.device
    thief = make_signer()
    signers = [*world.repository.roots[:2], thief]
    world.serve("metadata/2.root.json", next_root(world, signers, root_keys_of(world, thief)))
    assert device.refresh() is Reason.WRONG_KEY  # the honest timestamp is a stranger's now
    assert device.start(world.old.digest) is None
    return None


def replaced_root_keys(world: World) -> Reason | None:
    """Old root keys, a threshold of them, sign a root after they were replaced."""
    device = world.device
    repository = world.repository
    stolen = list(repository.roots)
    repository.roots = [make_signer() for _ in range(3)]
    repository.controller.accept(
        "root", next_root(world, [*stolen[:2], *repository.roots[:2]]), repository.now
    )
    assert device.refresh() is None
    world.serve("metadata/3.root.json", next_root(world, stolen))
    return device.refresh()


def replaced_online_keys(role: str) -> Play:
    """Use an online key after root has named another."""

    def play(world: World) -> Reason | None:
        device = world.device
        stolen = {"timestamp": world.repository.timestamp_key, "snapshot": world.repository.snapshot_key}[
            role
        ]
        world.replace_online_keys()
        assert device.refresh() is None
        if role == "timestamp":
            world.serve("metadata/timestamp.json", world.forge("timestamp", signers=[stolen]))
            return device.refresh()
        world.serve(world.path("snapshot"), world.forge("snapshot", signers=[stolen], bump=False))
        return world.new_device().refresh()

    return play


def replaced_director(*, refreshed: bool) -> Play:
    """Order with a director key that targets no longer delegate."""

    def play(world: World) -> Reason | None:
        device = world.device
        device.refresh()
        repository = world.repository
        stolen, repository.director_key = repository.director_key, make_signer()
        targets = publisher.change_keys(
            repository.document("targets"),
            "director",
            keys=[repository.director_key.public_key],
            threshold=1,
            signer=repository.targets_key,
            now=repository.now,
        )
        repository.controller.accept("targets", targets, repository.now)
        theirs = repository.envelope(repository.desired(world.new, sequence=5), signer=stolen)
        ours = repository.envelope(repository.desired(world.new, sequence=6))
        if refreshed:
            device.refresh()
            assert device.obey(ours) is None
            return device.obey(theirs)
        assert device.obey(theirs) is None  # until it looks: at latest at its next refresh
        assert device.obey(ours) is None  # a signature that does not fit makes it look at once
        assert device.obey(theirs) is Reason.WRONG_KEY
        return None

    return play


_KEYS = Kind.KEYS
GONE = After.NOTHING
SCENARIOS = (
    Scenario(
        "new-role-withheld",
        _KEYS,
        "the mirror, while a release key is replaced",
        "withholds the role that the new key signed",
        Reason.DOWNLOAD_FAILED,
        withheld_role,
    ),
    Scenario(
        "replaced-release-key",
        _KEYS,
        "a release key that was replaced, and the online keys",
        "releases a version",
        Reason.WRONG_KEY,
        replaced_release_key,
        after=After.NEW_ONLINE_KEYS,
    ),
    Scenario(
        "replaced-release-key-unseen",
        _KEYS,
        "a release key that was replaced, and the mirror",
        "releases for a device that has not heard of it",
        Reason.WRONG_KEY,
        replaced_release_key_unseen,
    ),
    Scenario(
        "root-1-of-3", _KEYS, "one of three root keys", "signs a next root", Reason.UNSIGNED, roots_stolen(1)
    ),
    Scenario(
        "root-1-of-3-thrice",
        _KEYS,
        "one of three root keys",
        "repeats its signature three times",
        Reason.TAMPERED,
        one_root_key_three_times,
    ),
    Scenario(
        "root-0-of-3",
        _KEYS,
        "no root key",
        "signs a next root that names his own keys",
        Reason.WRONG_KEY,
        roots_stolen(0),
    ),
    Scenario(
        "root-2-of-3",
        _KEYS,
        "two of three root keys, and the mirror",
        "signs a next root",
        Limit("everything new; what runs goes on. Devices must be enrolled anew with another root"),
        threshold_of_roots,
        after=GONE,
    ),
    Scenario(
        "replaced-root-keys",
        _KEYS,
        "all root keys that were replaced",
        "sign the root after the next",
        Reason.WRONG_KEY,
        replaced_root_keys,
    ),
    *(
        Scenario(
            f"replaced-{role}-key",
            _KEYS,
            f"a {role} key that was replaced",
            f"signs a {role}",
            Reason.WRONG_KEY,
            replaced_online_keys(role),
        )
        for role in ("timestamp", "snapshot")
    ),
    Scenario(
        "replaced-director-key",
        _KEYS,
        "a director key that was replaced",
        "orders a version",
        Reason.WRONG_KEY,
        replaced_director(refreshed=True),
    ),
    Scenario(
        "replaced-director-key-unseen",
        _KEYS,
        "a director key that was replaced",
        "orders a version from a device that has not looked since",
        Limit("until the device's next look, or the first order by the new key"),
        replaced_director(refreshed=False),
    ),
)
