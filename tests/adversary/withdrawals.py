"""Withdrawn versions and the floor: nothing brings them back, not even the device's own way back."""

from adversary.scenario import DIRECTOR, MIRROR, After, Kind, Play, Scenario
from adversary.world import World
from muster_models.errors import Reason


def withdrawn(world: World) -> Reason | None:
    """Order a version that was withdrawn."""
    device = world.device
    world.repository.withdraw("digits", "1.1.0")
    return device.install(world.order(world.new))


def withdrawn_in_the_middle(world: World) -> Reason | None:
    """Withdraw a version between its download and its start."""
    device = world.device
    assert device.fetch(world.order(world.new)) is None
    world.repository.withdraw("digits", "1.1.0")
    device.refresh()
    return device.start(world.new.digest)


def going_back(*, floor: int | None, restart: bool) -> Play:
    """Let the device go back to its version before, which may not run any more."""

    def play(world: World) -> Reason | None:
        device = world.device
        assert device.install(world.order(world.new)) is None
        third = world.release("1.2.0", release=3)
        assert device.install(world.order(third)) is None
        if floor is None:
            world.repository.withdraw("digits", "1.1.0")
        else:
            world.repository.withdraw("digits", "1.0.0", floor=floor)
        device.refresh()
        if restart:
            device = world.restart()
        return device.start(world.new.digest)

    return play


def below_floor(world: World) -> Reason | None:
    """Order a listed version below the floor."""
    device = world.device
    world.release("1.2.0", release=3)
    world.repository.withdraw("digits", "1.1.0", floor=3)
    return device.install(world.order(world.old))


def hidden_after_seen(world: World) -> Reason | None:
    """Hide a withdrawal that the device has seen by serving the whole old state."""
    device = world.device
    assert device.install(world.order(world.new)) is None
    before = {path.name: path.read_bytes() for path in world.repository.metadata.iterdir()}
    world.repository.withdraw("digits", "1.1.0")
    device.refresh()
    for name, content in before.items():
        world.serve(f"metadata/{name}", content)
    return device.start(world.new.digest) or device.install(world.order(world.new))


def listed_again(world: World) -> Reason | None:
    """Withdraw a version, then order it by the digest and under another number."""
    device = world.device
    world.repository.withdraw("digits", "1.1.0")
    order = world.order(world.new)
    return device.install(type(order)("digits", "1.2.0", order.manifest))


def running_withdrawn(world: World) -> Reason | None:
    """Withdraw what runs: at its next start it is refused, without a network."""
    device = world.device
    world.repository.withdraw("digits", "1.0.0")
    device.refresh()
    return world.restart().start(world.old.digest)


def other_models_floor(world: World) -> Reason | None:
    """A high floor of one model is nothing to another."""
    device = world.device
    world.repository.withdraw("digits", "1.0.0", floor=2)
    device.refresh()
    assert device.install(world.order(world.weather)) is None
    return device.start(world.old.digest)


_OUT = Kind.WITHDRAWN
SCENARIOS = (
    Scenario(
        "withdrawn-ordered",
        _OUT,
        DIRECTOR,
        "orders a version that was withdrawn",
        Reason.NOT_LISTED,
        withdrawn,
    ),
    Scenario(
        "withdrawn-in-the-middle",
        _OUT,
        DIRECTOR,
        "a version is withdrawn between download and start",
        Reason.NOT_LISTED,
        withdrawn_in_the_middle,
    ),
    Scenario(
        "withdrawn-under-another-number",
        _OUT,
        DIRECTOR,
        "orders the withdrawn bytes as another version",
        Reason.NOT_LISTED,
        listed_again,
    ),
    Scenario(
        "withdrawal-hidden",
        _OUT,
        MIRROR,
        "serves the state before a withdrawal to a device that has seen it",
        Reason.NOT_LISTED,
        hidden_after_seen,
    ),
    Scenario(
        "below-floor-ordered",
        _OUT,
        DIRECTOR,
        "orders a listed version below the floor",
        Reason.BELOW_FLOOR,
        below_floor,
        runs=False,
    ),
    Scenario(
        "back-to-withdrawn",
        _OUT,
        "a way to crash the running version",
        "makes the device go back to a withdrawn version",
        Reason.NOT_LISTED,
        going_back(floor=None, restart=False),
    ),
    Scenario(
        "back-to-withdrawn-after-restart",
        _OUT,
        "a way to crash the running version, and the power switch",
        "the same after a restart without a network",
        Reason.NOT_LISTED,
        going_back(floor=None, restart=True),
    ),
    Scenario(
        "back-below-floor",
        _OUT,
        "a way to crash the running version",
        "makes the device go back below the floor",
        Reason.BELOW_FLOOR,
        going_back(floor=3, restart=False),
        runs=False,
    ),
    Scenario(
        "back-below-floor-after-restart",
        _OUT,
        "a way to crash the running version, and the power switch",
        "the same after a restart without a network",
        Reason.BELOW_FLOOR,
        going_back(floor=3, restart=True),
        runs=False,
    ),
    Scenario(
        "running-version-withdrawn",
        _OUT,
        "the network, which he cuts",
        "keeps a withdrawn version running over a restart",
        Reason.NOT_LISTED,
        running_withdrawn,
        runs=False,
    ),
    Scenario(
        "floor-of-another-model",
        _OUT,
        "the release key of one model",
        "raises its floor to stop another model; only his own is stopped",
        Reason.NOT_LISTED,
        other_models_floor,
        runs=False,
        after=After.INSTALLS,
    ),
)
