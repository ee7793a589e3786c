"""Endless data and slow retrieval: how long, and how much, a server can make a device take."""

import itertools
import threading

from adversary.mirrors import WHERE, path_of
from adversary.scenario import MIRROR, Harmless, Kind, Play, Scenario
from adversary.world import HASTY, World
from muster_models.errors import Reason
from muster_models.trust import publisher
from support.http_server import Handler, Route, dripping, endless, fixed


def endless_at(what: str) -> Play:
    def play(world: World) -> Reason | None:
        world.serve(path_of(world, what), endless())
        return world.new_device().install(world.order(world.new))

    return play


def oversized_at(what: str, length: int) -> Play:
    """Announce and send more than the largest document of a role may have."""

    def play(world: World) -> Reason | None:
        world.serve(path_of(world, what), fixed(200, b" " * length))
        return world.new_device().install(world.order(world.new))

    return play


def endless_root(world: World) -> Reason | None:
    world.serve("metadata/2.root.json", endless())
    return world.device.refresh()


def endless_roots(world: World) -> Reason | None:
    """Serve one genuine root after the other, as many as there are asked for."""
    device = world.device
    repository = world.repository
    root = repository.document("root")
    for version in range(2, 300):
        root = publisher.rotate_root(
            root, repository.root_keys(), signers=repository.roots[:2], now=repository.now
        )
        world.serve(f"metadata/{version}.root.json", root)
    return device.install(world.order(world.new))


def slow_at(what: str, route: Route) -> Play:
    """Let a server be slow to a device that has little patience."""

    def play(world: World) -> Reason | None:
        world.serve(path_of(world, what), route)
        return world.new_device(limits=HASTY).install(world.order(world.new))

    return play


def mute(handler: Handler) -> None:
    """Take the request and never answer."""
    handler.close_connection = True
    handler.server.stopping.wait(3.0)


def one_byte_a_request(world: World) -> Reason | None:
    """Send one byte per request: the device counts that as not getting on."""
    asked = threading.Semaphore(0)

    def route(handler: Handler) -> None:
        asked.release()
        first = int(handler.headers["Range"].removeprefix("bytes=").partition("-")[0])
        handler.answer(206, b"t", Content_Range=f"bytes {first}-900/901", Content_Length="901")
        handler.close_connection = True

    world.serve(path_of(world, "file"), route)
    came = world.device.install(world.order(world.new))
    assert asked._value <= 3
    return came


HEAD = b"HTTP/1.1 200 OK\r\n"
_ENDLESS = Kind.ENDLESS
_SLOW = Kind.SLOW
SCENARIOS = (
    *(
        Scenario(f"endless-{what}", _ENDLESS, MIRROR, f"sends a {what} without end", reason, endless_at(what))
        for what, reason in zip(
            WHERE, (Reason.TOO_LARGE, Reason.TOO_LARGE, Reason.TOO_LARGE, Reason.TAMPERED), strict=True
        )
    ),
    Scenario(
        "endless-root", _ENDLESS, MIRROR, "sends a next root without end", Reason.TOO_LARGE, endless_root
    ),
    Scenario(
        "endless-roots",
        _ENDLESS,
        "every root key, and the mirror",
        "serves 298 further roots at once",
        Harmless("at most 256 are followed in one look"),
        endless_roots,
        slow=True,
    ),
    Scenario(
        "large-timestamp",
        _ENDLESS,
        MIRROR,
        "sends a timestamp of 1 MiB",
        Reason.TOO_LARGE,
        oversized_at("timestamp", 1 << 20),
    ),
    Scenario(
        "large-snapshot",
        _ENDLESS,
        MIRROR,
        "sends a snapshot of 4 MiB",
        Reason.TOO_LARGE,
        oversized_at("snapshot", 4 << 20),
    ),
    Scenario(
        "large-targets",
        _ENDLESS,
        MIRROR,
        "sends targets of 8 MiB",
        Reason.TOO_LARGE,
        oversized_at("targets", 8 << 20),
    ),
    *(
        Scenario(
            f"slow-{what}",
            _SLOW,
            MIRROR,
            f"sends the {what} a byte at a time",
            Reason.DOWNLOAD_FAILED,
            slow_at(what, dripping(itertools.repeat(b"x"))),
        )
        for what in WHERE
    ),
    Scenario(
        "slow-headers",
        _SLOW,
        MIRROR,
        "sends headers a byte at a time",
        Reason.DOWNLOAD_FAILED,
        slow_at("timestamp", dripping(itertools.repeat(b"a"), head=HEAD + b"X-Slow: ")),
    ),
    Scenario(
        "slow-chunks",
        _SLOW,
        MIRROR,
        "sends chunks of one byte",
        Reason.DOWNLOAD_FAILED,
        slow_at(
            "model-digits",
            dripping(itertools.repeat(b"1\r\nx\r\n"), head=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        ),
    ),
    Scenario(
        "mute-timestamp",
        _SLOW,
        MIRROR,
        "takes the request and never answers",
        Reason.DOWNLOAD_FAILED,
        slow_at("timestamp", mute),
    ),
    Scenario(
        "mute-file",
        _SLOW,
        MIRROR,
        "takes the request for a file and never answers",
        Reason.DOWNLOAD_FAILED,
        slow_at("file", mute),
    ),
    Scenario(
        "byte-a-request",
        _SLOW,
        MIRROR,
        "sends one byte of a file per request",
        Reason.DOWNLOAD_FAILED,
        one_byte_a_request,
    ),
)
