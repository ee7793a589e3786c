"""The device's clock: set back, set forward, never set, and times that stolen keys sign."""

from typing import Any

from adversary.scenario import ONLINE, After, Harmless, Kind, Limit, Play, Scenario
from adversary.world import DAY, World
from muster_models.errors import Reason
from muster_models.trust.roles import Facts, stamp
from support.repository import NOW

YEAR = 365 * 86_400.0


def set_back(seconds: float) -> Play:
    """Freeze the mirror for eight days, tell the device the time, and set its clock back."""

    def play(world: World) -> Reason | None:
        repository = world.repository
        device = world.device
        world.pass_days(8)
        assert device.obey(repository.envelope(repository.desired(world.old))) is None
        world.device_time = seconds
        return device.install(world.order(world.new))

    return play


def set_back_over_a_restart(world: World) -> Reason | None:
    set_back(0.0)(world)
    return world.restart().install(world.order(world.new))


def expired_order_again(world: World) -> Reason | None:
    """Set the clock back to make an expired order valid."""
    repository = world.repository
    device = world.device
    device.refresh()
    stale = repository.envelope(repository.desired(world.new, sequence=1, days=1))
    world.pass_days(3, renew=True)
    assert device.refresh() is None
    world.device_time = NOW.timestamp()
    return device.obey(stale)


def set_forward(years: float) -> Play:
    def play(world: World) -> Reason | None:
        world.serve("unused", b"")
        world.device_time = world.repository.time() + years * YEAR
        came = world.device.install(world.order(world.new))
        assert world.device.client.time_floor <= world.repository.time() + 1
        return came

    return play


def never_set(world: World) -> Reason | None:
    """Start at 1970: the time is taken from what was signed."""
    device = world.device
    world.device_time = 0.0
    return device.install(world.order(world.new))


def new_and_never_set(world: World) -> Reason | None:
    """A new device with a clock at 1970 meets a frozen mirror; its pinned root is older still."""
    world.serve("unused", b"")
    repository = world.repository
    world.pass_days(8)
    world.device_time = 0.0
    fooled = world.new_device()
    assert fooled.obey(repository.envelope(repository.desired(world.old))) is None
    assert fooled.client.time_floor == repository.time()
    return fooled.install(world.order(world.new))


def far_future(role: str) -> Play:
    """Sign a time ten years ahead with stolen online keys: it counts up to a day."""

    def play(world: World) -> Reason | None:
        device = world.device

        def ahead(signed: Any) -> None:
            stamp(signed, Facts(role, int(world.repository.time() + 10 * YEAR)))

        world.publish({}, **{f"change_{role}": ahead})
        came = device.install(world.order(world.new))
        assert device.client.time_floor <= world.repository.time() + 86_400
        return came

    return play


def far_future_order(world: World) -> Reason | None:
    repository = world.repository
    device = world.device
    device.refresh()
    ahead = repository.time() + 10 * YEAR
    desired = repository.desired(world.new, days=9999)
    stolen = type(desired)(desired.device, 1, ahead, ahead + YEAR, desired.models)
    came = device.obey(repository.envelope(stolen))
    assert device.client.time_floor <= repository.time() + 86_400
    return came


def far_future_targets(world: World) -> Reason | None:
    """Sign a time ten years ahead with the targets key, which is offline: devices believe it for ever."""
    device = world.device

    def ahead(signed: Any) -> None:
        stamp(signed, Facts("targets", int(world.repository.time() + 10 * YEAR)))

    targets = world.forge("targets", ahead, signers=[world.repository.targets_key])
    world.publish({"targets": targets})
    device.refresh()
    assert device.start(world.old.digest) is None
    assert device.install(world.order(world.new)) is Reason.EXPIRED
    return None


def endless_life(world: World) -> Reason | None:
    """Sign a timestamp that is valid for a thousand years."""
    device = world.device

    def long(signed: Any) -> None:
        signed.expires += 300_000 * DAY

    world.publish({}, change_timestamp=long, change_snapshot=long)
    assert device.refresh() is None
    world.pass_days(181)
    assert device.install(world.order(world.new)) is Reason.EXPIRED
    return None


_CLOCK = Kind.CLOCK
SCENARIOS = (
    Scenario(
        "clock-to-1970",
        _CLOCK,
        "the mirror, and the device's clock",
        "freezes the repository for 8 days, then sets the clock to 1970",
        Reason.EXPIRED,
        set_back(0.0),
    ),
    Scenario(
        "clock-back-a-week",
        _CLOCK,
        "the mirror, and the device's clock",
        "freezes the repository for 8 days, then sets the clock back by them",
        Reason.EXPIRED,
        set_back(NOW.timestamp()),
    ),
    Scenario(
        "clock-back-and-restart",
        _CLOCK,
        "the mirror, the device's clock and its power switch",
        "the same, and restarts the device",
        Reason.EXPIRED,
        set_back_over_a_restart,
    ),
    Scenario(
        "clock-back-for-an-order",
        _CLOCK,
        "the broker, and the device's clock",
        "sets the clock back to make an expired order valid",
        Reason.EXPIRED,
        expired_order_again,
    ),
    Scenario(
        "clock-forward-a-year",
        _CLOCK,
        "the device's clock",
        "sets it a year ahead",
        Reason.EXPIRED,
        set_forward(1),
    ),
    Scenario(
        "clock-forward-a-century",
        _CLOCK,
        "the device's clock",
        "sets it a hundred years ahead",
        Reason.EXPIRED,
        set_forward(100),
    ),
    Scenario(
        "clock-never-set",
        _CLOCK,
        "nothing: there is no battery",
        "the clock begins at 1970",
        Harmless("the time is at least the newest that was signed"),
        never_set,
    ),
    Scenario(
        "clock-never-set-on-a-new-device",
        _CLOCK,
        "the mirror, and no battery in a new device",
        "serves an expired state to a device that heard its controller once",
        Reason.EXPIRED,
        new_and_never_set,
    ),
    *(
        Scenario(
            f"future-{role}",
            _CLOCK,
            ONLINE,
            f"signs a {role} of a time ten years ahead",
            Harmless("a time by an online key counts up to a day ahead of the clock"),
            far_future(role),
            after=After.NEW_ONLINE_KEYS,
        )
        for role in ("timestamp", "snapshot")
    ),
    Scenario(
        "future-order",
        _CLOCK,
        "the director key",
        "signs an order of a time ten years ahead",
        Harmless("a time by an online key counts up to a day ahead of the clock"),
        far_future_order,
    ),
    Scenario(
        "future-targets",
        _CLOCK,
        "the targets key, and the online keys",
        "signs targets of a time ten years ahead",
        Limit("the device installs nothing until that time or until it is enrolled anew; what runs goes on"),
        far_future_targets,
        after=After.NOTHING,
    ),
    Scenario(
        "thousand-years",
        _CLOCK,
        ONLINE,
        "signs a timestamp and a snapshot that do not expire",
        Limit("a freeze of up to 180 days, until the model's role expires"),
        endless_life,
        after=After.NOTHING,
    ),
)
