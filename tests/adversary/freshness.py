"""Fast-forward and indefinite freeze: making a device wait for ever, or believe that it has the newest."""

from adversary.scenario import DIRECTOR, MIRROR, ONLINE, After, Harmless, Kind, Limit, Play, Scenario
from adversary.world import DAY, World
from muster_models.errors import Reason
from muster_models.trust import publisher
from support.repository import make_signer

HUGE = 2**31 - 3


def expired(days: float, *, renew: bool = False) -> Play:
    """Freeze the repository until something expires."""

    def play(world: World) -> Reason | None:
        device = world.device
        world.pass_days(days, renew=renew)
        return device.install(world.order(world.new))

    return play


def within_the_timestamps_life(world: World) -> Reason | None:
    """Withhold a withdrawal from a device: bounded by the timestamp, which only the controller can renew."""
    old = world.repository.document("timestamp")
    device = world.device
    world.repository.withdraw("digits", "1.1.0")
    world.serve("metadata/timestamp.json", old)
    world.pass_days(6.9)
    assert device.install(world.order(world.new)) is None
    world.pass_days(0.2)
    assert device.install(world.order(world.weather)) is Reason.EXPIRED
    return None


def by_online_keys(world: World) -> Reason | None:
    """Renew the frozen state with stolen keys, until what only the release key can renew expires."""
    device = world.device
    old = {role: world.repository.document(role) for role in ("targets", "model-digits")}
    world.repository.withdraw("digits", "1.1.0")
    world.pass_days(179)
    world.publish(old)
    assert device.install(world.order(world.new)) is None
    world.pass_days(2)
    world.publish(old, change_snapshot=bump, change_timestamp=bump)
    assert device.install(world.order(world.weather)) is Reason.EXPIRED
    return None


def bump(signed: object) -> None:
    vars(signed)["version"] += 10


def one_model_only(world: World) -> Reason | None:
    """Let one model's role expire; another model goes on."""
    device = world.device
    world.pass_days(170)
    repository = world.repository
    role = publisher.renew(
        repository.document("model-weather"), signers=repository.release_keys["weather"], now=repository.now
    )
    repository.controller.accept("model-weather", role, repository.now)
    world.pass_days(11, renew=True)
    assert device.install(world.order(world.weather)) is None
    return device.install(world.order(world.new))


def director_after_expiry(world: World) -> Reason | None:
    """Nobody is obeyed once the delegation of the director has expired."""
    device = world.device
    device.refresh()
    world.pass_days(366)
    return device.obey(world.repository.envelope(world.repository.desired(world.new)))


def huge_timestamp(world: World) -> Reason | None:
    """Accept a huge version by the true key; lower ones count again once root names another key."""
    device = world.device
    world.publish({}, change_timestamp=lambda timestamp: vars(timestamp).update(version=HUGE))
    assert device.refresh() is None
    world.leave()
    assert device.refresh() is Reason.REPLAYED
    return None


def huge_snapshot(world: World) -> Reason | None:
    device = world.device
    world.publish({}, change_snapshot=lambda snapshot: vars(snapshot).update(version=HUGE))
    assert device.refresh() is None
    world.leave()
    assert device.refresh() is Reason.REPLAYED
    return None


def huge_role(world: World) -> Reason | None:
    """Name a version of an offline role that does not exist."""
    device = world.device

    def name_huge(snapshot: object) -> None:
        vars(snapshot)["meta"]["model-digits.json"].version = HUGE

    world.publish({}, change_snapshot=name_huge)
    assert device.install(world.order(world.new)) is Reason.DOWNLOAD_FAILED
    assert device.start(world.old.digest) is None
    return None


def huge_sequence(world: World) -> Reason | None:
    """Sign an order with the highest sequence, after which no honest one would be newer."""
    repository = world.repository
    device = world.device
    device.refresh()
    desired = repository.desired(world.new, sequence=2**53)
    refused = device.obey(repository.envelope(desired))
    assert device.obey(repository.envelope(repository.desired(world.new, sequence=1))) is None
    return refused


def huge_floor(world: World) -> Reason | None:
    """Raise the signed floor above every release: the model has nothing that may run."""
    repository = world.repository
    device = world.device
    role = publisher.withdraw(
        repository.document("model-digits"),
        "1.1.0",
        floor=10**9,
        signers=repository.release_keys["digits"],
        now=repository.now,
    )
    world.publish({"model-digits": role})
    device.refresh()
    assert device.start(world.old.digest) is Reason.BELOW_FLOOR
    assert device.install(world.order(world.weather)) is None
    return None


def many_rotations(count: int) -> Play:
    """Be away while every root key is replaced, again and again."""

    def play(world: World) -> Reason | None:
        device = world.device
        repository = world.repository
        root = repository.document("root")
        for version in range(2, count + 2):
            old, repository.roots = repository.roots[:2], [make_signer() for _ in range(3)]
            root = publisher.rotate_root(
                root, repository.root_keys(), signers=[*old, *repository.roots[:2]], now=repository.now
            )
            (repository.metadata / f"{version}.root.json").write_bytes(root)
        came = device.install(world.order(world.new))
        assert world.restart().start(world.new.digest) is None
        return came

    return play


def rotated_while_expired(world: World) -> Reason | None:
    """Be away until everything that the device holds has expired, while the fleet moved on."""
    device = world.device
    repository = world.repository
    repository.now += 731 * DAY
    root = publisher.rotate_root(
        repository.document("root"), repository.root_keys(), signers=repository.roots[:2], now=repository.now
    )
    targets = publisher.renew(
        repository.document("targets"), signers=[repository.targets_key], now=repository.now
    )
    role = publisher.renew(
        repository.document("model-digits"), signers=repository.release_keys["digits"], now=repository.now
    )
    repository.controller.accept_all({"root": root, "targets": targets, "model-digits": role}, repository.now)
    return device.install(world.order(world.new))


_FREEZE = Kind.FREEZE
_FAST = Kind.FAST_FORWARD
GONE = After.NOTHING
SCENARIOS = (
    Scenario(
        "freeze-timestamp",
        _FREEZE,
        MIRROR,
        "serves the same state for 8 days: the timestamp expires",
        Reason.EXPIRED,
        expired(8),
    ),
    Scenario(
        "freeze-snapshot",
        _FREEZE,
        MIRROR,
        "serves the same state for 31 days: the snapshot expires",
        Reason.EXPIRED,
        expired(31),
    ),
    Scenario(
        "freeze-role",
        _FREEZE,
        "the release key is lost",
        "does nothing for 181 days: the model's role expires",
        Reason.EXPIRED,
        expired(181, renew=True),
        after=GONE,
    ),
    Scenario(
        "freeze-targets",
        _FREEZE,
        "the targets key is lost",
        "does nothing for 366 days: targets expire",
        Reason.EXPIRED,
        expired(366, renew=True),
        after=GONE,
    ),
    Scenario(
        "freeze-root",
        _FREEZE,
        "the root keys are lost",
        "does nothing for 731 days: root expires",
        Reason.EXPIRED,
        expired(731, renew=True),
        after=GONE,
    ),
    Scenario(
        "freeze-one-model",
        _FREEZE,
        "the release key of one model is lost",
        "does nothing for 181 days: that model installs nothing, another one does",
        Reason.EXPIRED,
        one_model_only,
        after=GONE,
    ),
    Scenario(
        "freeze-director",
        _FREEZE,
        "the targets key is lost",
        "does nothing for 366 days, then orders",
        Reason.EXPIRED,
        director_after_expiry,
        after=GONE,
    ),
    Scenario(
        "freeze-for-a-week",
        _FREEZE,
        MIRROR,
        "hides a withdrawal",
        Limit("up to 7 days, until the timestamp expires; then nothing is installed"),
        within_the_timestamps_life,
        after=GONE,
    ),
    Scenario(
        "freeze-by-online-keys",
        _FREEZE,
        ONLINE,
        "hides a withdrawal and signs the old state again and again",
        Limit("up to 180 days, until the model's role expires; shorter once root names new online keys"),
        by_online_keys,
        after=GONE,
    ),
    Scenario(
        "fast-forward-timestamp",
        _FAST,
        ONLINE,
        "signs a timestamp of version 2147483645",
        Limit("lower versions are refused until root names another timestamp key"),
        huge_timestamp,
        after=After.NEW_ONLINE_KEYS,
    ),
    Scenario(
        "fast-forward-snapshot",
        _FAST,
        ONLINE,
        "signs a snapshot of version 2147483645",
        Limit("lower versions are refused until root names another snapshot key"),
        huge_snapshot,
        after=After.NEW_ONLINE_KEYS,
    ),
    Scenario(
        "fast-forward-role",
        _FAST,
        ONLINE,
        "names a version of a model's role that does not exist",
        Limit("the model installs nothing until root names new online keys; what runs goes on"),
        huge_role,
        after=After.NEW_ONLINE_KEYS,
    ),
    Scenario(
        "fast-forward-sequence",
        _FAST,
        DIRECTOR,
        "signs an order with the highest sequence there is",
        Reason.BAD_MESSAGE,
        huge_sequence,
    ),
    Scenario(
        "fast-forward-floor",
        _FAST,
        "the release key of the model, and the online keys",
        "raises the floor above every release",
        Limit(
            "this model stops on devices that look; its next release must have a higher number; others go on"
        ),
        huge_floor,
        runs=False,
        after=GONE,
    ),
    Scenario(
        "120-rotations",
        _FAST,
        "nothing: the device was away",
        "120 complete rotations of the root keys",
        Harmless("every root is followed from the pinned one"),
        many_rotations(120),
    ),
    Scenario(
        "away-for-two-years",
        _FREEZE,
        "nothing: the device was away",
        "everything that it holds has expired, and the fleet moved on",
        Harmless("a newer root, targets and role are enough"),
        rotated_while_expired,
    ),
)
