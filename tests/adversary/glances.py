"""The check that is mostly one small request: what a mirror gains by lying in its answer to it."""

from adversary.scenario import MIRROR, After, Harmless, Kind, Limit, Scenario
from adversary.world import World
from muster_models.errors import Reason
from support.http_server import Handler, Route, endless, fixed

TIMESTAMP = "metadata/timestamp.json"
HOURS = 1 / 24  # days


def tagged(document: bytes, tag: str = '"a"') -> Route:
    """Serve one document under one tag for ever, and say "unchanged" to whoever has seen it."""

    def route(handler: Handler) -> None:
        if handler.headers.get("If-None-Match") == tag:
            handler.answer(304, b"")
        else:
            handler.answer(200, document, ETag=tag)

    return route


def begun(world: World) -> bytes:
    """Let the device look in full and check once, at a mirror that tags what it serves: the timestamp."""
    world.pass_days(0, renew=True)
    timestamp = world.repository.document("timestamp")
    world.serve(TIMESTAMP, tagged(timestamp))
    assert world.device.refresh() is None
    assert world.device.check() is None
    world.server.requests.clear()
    return timestamp


def asked(world: World) -> list[str]:
    """Return what was asked for since the last call."""
    paths = [path for path, _ in world.server.requests]
    world.server.requests.clear()
    return paths


def hides_a_withdrawal(world: World) -> Reason | None:
    """Say "unchanged" for a week: every day there is a full look, and the timestamp still expires."""
    begun(world)
    world.repository.withdraw("digits", "1.1.0")
    world.pass_days(23 * HOURS)
    assert world.device.check() is None
    assert asked(world) == [f"/{TIMESTAMP}"]
    world.pass_days(1 * HOURS)
    assert world.device.check() is None
    assert "/metadata/2.root.json" in asked(world)
    world.pass_days(6.1)
    return world.device.check()


def withdrawal_before_an_order(world: World) -> Reason | None:
    """Say "unchanged" to checks; an order is never followed without a full look."""
    begun(world)
    world.repository.withdraw("digits", "1.1.0")
    assert world.device.check() is None
    world.leave()
    return world.device.install(world.order(world.new))


def hides_a_new_root(world: World) -> Reason | None:
    """Say "unchanged" after root took the timestamp key away, which a thief has."""
    begun(world)
    world.replace_online_keys()
    world.pass_days(23 * HOURS)
    assert world.device.check() is None
    world.pass_days(1 * HOURS)
    assert world.device.check() is Reason.WRONG_KEY
    return None


def hides_a_new_root_from_an_order(world: World) -> Reason | None:
    """The same, and the device is ordered to install: it looks for the root first."""
    begun(world)
    world.replace_online_keys()
    return world.device.install(world.order(world.new))


def unchanged_to_everything(world: World) -> Reason | None:
    """Answer 304 to every request, also to those that asked for no tag."""
    begun(world)
    for path in (TIMESTAMP, "metadata/2.root.json"):
        world.serve(path, fixed(304))
    assert world.device.check() is None
    assert world.device.install(world.order(world.new)) is Reason.DOWNLOAD_FAILED
    world.pass_days(1.01)
    return world.device.check()


def unchanged_to_a_stranger(world: World) -> Reason | None:
    """Answer 304 to a device that has no tag: that is no answer, and a full look follows."""
    world.serve(TIMESTAMP, fixed(304))
    assert world.device.refresh() is Reason.DOWNLOAD_FAILED
    return world.device.check()


def tag_of_something_else(world: World) -> Reason | None:
    """Tag a forged timestamp, then answer 304 to its tag: the tag is not that of what the device holds."""
    begun(world)
    world.serve(TIMESTAMP, tagged(world.forge("timestamp"), tag='"b"'))
    refused = world.device.check()
    assert refused is Reason.UNSIGNED
    world.leave()
    assert world.device.check() is None
    world.server.requests.clear()
    new = world.release("1.2.0", release=3)
    assert world.device.check() is None
    assert len(asked(world)) > 1, "a changed timestamp is followed by a full look"
    assert world.device.install(world.order(new)) is None
    return refused


def replayed_tag(world: World) -> Reason | None:
    """Answer 304 to a tag that was once right, after the repository changed and came back under another."""
    old = begun(world)
    world.release("1.2.0", release=3)
    world.leave()
    assert world.device.check() is None
    world.serve(TIMESTAMP, tagged(old))
    # What it holds now was never tagged "a", so it asks without a tag and gets what is older.
    return world.device.check()


def another_timestamp_each_time(world: World) -> Reason | None:
    """Answer each check with garbage that grows: each costs one full look and no more."""
    begun(world)
    timestamp = world.repository.document("timestamp")
    answers = iter((timestamp + b" ", timestamp, timestamp + b"  ", timestamp))

    def route(handler: Handler) -> None:
        handler.answer(200, next(answers))

    world.serve(TIMESTAMP, route)
    assert world.device.check() is None
    assert asked(world) == [f"/{TIMESTAMP}", "/metadata/2.root.json", f"/{TIMESTAMP}"]
    return world.device.check()


def without_end(world: World) -> Reason | None:
    """Send a timestamp without end."""
    begun(world)
    world.serve(TIMESTAMP, endless())
    return world.device.check()


def expiry_is_near(world: World) -> Reason | None:
    """Say "unchanged" on the timestamp's last day: only full looks count then."""
    begun(world)
    world.pass_days(6.5)
    assert world.device.check() is None
    asked(world)
    assert world.device.check() is None
    assert len(asked(world)) > 1
    world.pass_days(0.6)
    return world.device.check()


def after_a_restart(world: World) -> Reason | None:
    """Say "unchanged" to a process that has just started: it looks for a new root first."""
    begun(world)
    world.replace_online_keys()
    return world.restart().check()


_FREEZE = Kind.FREEZE
GONE = After.NOTHING
SCENARIOS = (
    Scenario(
        "unchanged-withdrawal",
        _FREEZE,
        MIRROR,
        'answers "unchanged" to every check for a week',
        Reason.EXPIRED,
        hides_a_withdrawal,
    ),
    Scenario(
        "unchanged-before-an-order",
        _FREEZE,
        MIRROR,
        'answers "unchanged" to checks after a withdrawal; then the withdrawn version is ordered',
        Reason.NOT_LISTED,
        withdrawal_before_an_order,
        after=GONE,
    ),
    Scenario(
        "unchanged-new-root",
        _FREEZE,
        "the mirror and the old timestamp key",
        'answers "unchanged" after root took that key away',
        Limit("noticed by the first check that is a day after the last full look, and at once by an order"),
        hides_a_new_root,
        after=GONE,
    ),
    Scenario(
        "unchanged-new-root-order",
        _FREEZE,
        "the mirror and the old timestamp key",
        "the same, and a version is ordered",
        Reason.WRONG_KEY,
        hides_a_new_root_from_an_order,
        after=GONE,
    ),
    Scenario(
        "unchanged-always",
        _FREEZE,
        MIRROR,
        "answers 304 to every request",
        Reason.DOWNLOAD_FAILED,
        unchanged_to_everything,
    ),
    Scenario(
        "unchanged-unasked",
        _FREEZE,
        MIRROR,
        "answers 304 where nobody named a tag",
        Reason.DOWNLOAD_FAILED,
        unchanged_to_a_stranger,
    ),
    Scenario(
        "tag-of-something-else",
        _FREEZE,
        MIRROR,
        'tags a forged timestamp, to answer "unchanged" to that tag',
        Reason.UNSIGNED,
        tag_of_something_else,
    ),
    Scenario(
        "tag-replayed",
        _FREEZE,
        MIRROR,
        'answers "unchanged" to a tag that was right before the last release',
        Reason.REPLAYED,
        replayed_tag,
    ),
    Scenario(
        "check-garbage",
        _FREEZE,
        MIRROR,
        "answers each check with another timestamp",
        Harmless("each costs one full look, which finds nothing new"),
        another_timestamp_each_time,
    ),
    Scenario(
        "check-endless",
        Kind.ENDLESS,
        MIRROR,
        "answers a check without end",
        Reason.TOO_LARGE,
        without_end,
    ),
    Scenario(
        "unchanged-on-the-last-day",
        _FREEZE,
        MIRROR,
        'answers "unchanged" while the timestamp is about to expire',
        Reason.EXPIRED,
        expiry_is_near,
    ),
    Scenario(
        "unchanged-after-a-restart",
        _FREEZE,
        MIRROR,
        'answers "unchanged" to an agent that was started again after root took the timestamp key away',
        Reason.WRONG_KEY,
        after_a_restart,
        after=GONE,
    ),
)
