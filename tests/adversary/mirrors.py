"""A malicious mirror: redirects, encodings, lies about ranges, statuses, and files that change under way."""

import gzip
import threading
import zlib

from adversary.scenario import MIRROR, Harmless, Kind, Limit, Play, Scenario
from adversary.world import World
from muster_models.errors import Reason
from support.http_server import Handler, Route, cut_short, fixed

WHERE = ("timestamp", "model-digits", "manifest", "file")


def path_of(world: World, what: str) -> str:
    """Return the path of a metadata role, of the new version's manifest, or of its model file."""
    match what:
        case "manifest":
            return f"blobs/{world.new.digest}"
        case "file":
            return f"blobs/{world.new.manifest.file('model').sha256}"
        case role:
            return world.path(role)


def honest(world: World, what: str) -> bytes:
    return (world.repository.folder / path_of(world, what)).read_bytes()


def at(what: str, route: Route) -> Play:
    """Let one path misbehave, for a device that needs it."""

    def play(world: World) -> Reason | None:
        world.serve(path_of(world, what), route)
        return world.new_device().install(world.order(world.new))

    return play


def redirecting(what: str, *, elsewhere: bool) -> Play:
    """Send the device to the right bytes at another path, or to another host."""

    def play(world: World) -> Reason | None:
        world.serve("elsewhere", honest(world, what))
        to = "http://169.254.169.254/latest/" if elsewhere else f"{world.url}/elsewhere"
        world.serve(path_of(world, what), fixed(302, Location=to))
        came = world.new_device().install(world.order(world.new))
        assert "/elsewhere" not in {path for path, _ in world.server.requests}
        return came

    return play


def encoded(what: str, encoding: str, *, bomb: bool) -> Play:
    """Answer with a content encoding: the right bytes, or 64 MiB of zeros in few bytes."""

    def play(world: World) -> Reason | None:
        content = bytes(64 << 20) if bomb else honest(world, what)
        squeezed = gzip.compress(content, 6) if encoding == "gzip" else zlib.compress(content)
        world.serve(path_of(world, what), fixed(200, squeezed, Content_Encoding=encoding))
        return world.new_device().install(world.order(world.new))

    return play


def ranged(head: str, *, status: int = 206, extra: int = 0) -> Play:
    """Answer a request for a range with this ``Content-Range``, and with more or fewer bytes."""

    def play(world: World) -> Reason | None:
        content = honest(world, "file")
        body = content + b"x" * extra if extra >= 0 else content[:extra]
        said = head.format(last=len(content) - 1, length=len(content))
        route = fixed(status, body, **({"Content_Range": said} if head else {}))
        return at("file", route)(world)

    return play


def resumed(second: Route) -> Play:
    """Cut the first answer in its middle, and answer the request for the rest in another way."""

    def play(world: World) -> Reason | None:
        answers = iter([cut_short(honest(world, "file"), 100)])
        lock = threading.Lock()

        def route(handler: Handler) -> None:
            with lock:
                answer = next(answers, second)
            answer(handler)

        return at("file", route)(world)

    return play


def changed_between_ranges(handler: Handler) -> None:
    asked = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
    body = b"y" * (CUT_LENGTH - asked)
    handler.answer(206, body, Content_Range=f"bytes {asked}-{CUT_LENGTH - 1}/{CUT_LENGTH}")


def restarts_honestly(world: World) -> Reason | None:
    """Ignore the range of the second request: the whole file comes again, and its beginning is skipped."""
    content = honest(world, "file")
    return resumed(fixed(200, content))(world)


def cut_often(world: World) -> Reason | None:
    """Cut every answer after a few bytes, while the device gets on with it."""
    content = honest(world, "file")

    def route(handler: Handler) -> None:
        asked = handler.headers["Range"]
        first = int(asked.removeprefix("bytes=").partition("-")[0])
        handler.answer(
            206,
            content[first : first + 400],
            Content_Range=f"bytes {first}-{len(content) - 1}/{len(content)}",
            Content_Length=str(len(content) - first),
        )
        handler.close_connection = True

    world.serve(path_of(world, "file"), route)
    return world.device.install(world.order(world.new))


def poisoned_part(world: World) -> Reason | None:
    """Leave wrong bytes in the unfinished file, then let the honest mirror answer: the device begins anew."""
    content = honest(world, "file")
    world.serve(path_of(world, "file"), cut_short(b"z" * len(content), 500))
    first = world.device.install(world.order(world.new))
    assert first is Reason.DOWNLOAD_FAILED
    world.leave()
    device = world.restart()
    second = device.install(world.order(world.new))
    assert second is Reason.DOWNLOAD_FAILED
    return device.install(world.order(world.new))


def raw(answer: bytes) -> Route:
    """Send these bytes as they are, and hang up."""

    def route(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(answer)

    return route


def withheld(world: World) -> Reason | None:
    """Withhold one model's files; another model is not held up."""
    device = world.device
    world.serve(path_of(world, "file"), fixed(404))
    assert device.install(world.order(world.weather)) is None
    return device.install(world.order(world.new))


def silence(world: World) -> Reason | None:
    world.serve("metadata/timestamp.json", fixed(404))
    assert world.device.install(world.order(world.new)) is FAILED
    assert world.device.start(world.old.digest) is None
    return None


CUT_LENGTH = len(b"the model of 1.1.0 " * 40)
_MIRROR = Kind.MIRROR
FAILED = Reason.DOWNLOAD_FAILED
SCENARIOS = (
    *(
        Scenario(
            f"redirect-{what}",
            _MIRROR,
            MIRROR,
            f"redirects the {what} to the right bytes elsewhere",
            FAILED,
            redirecting(what, elsewhere=False),
        )
        for what in WHERE
    ),
    Scenario(
        "redirect-to-metadata-service",
        _MIRROR,
        MIRROR,
        "redirects a file to an address inside the device's network",
        FAILED,
        redirecting("file", elsewhere=True),
    ),
    *(
        Scenario(
            f"{encoding}-{what}",
            _MIRROR,
            MIRROR,
            f"encodes the right {what} with {encoding}",
            FAILED,
            encoded(what, encoding, bomb=False),
        )
        for what in ("timestamp", "file")
        for encoding in ("gzip", "deflate")
    ),
    *(
        Scenario(
            f"bomb-as-{what}",
            _MIRROR,
            MIRROR,
            f"answers for the {what} with 64 MiB of zeros, squeezed",
            FAILED,
            encoded(what, "gzip", bomb=True),
        )
        for what in WHERE
    ),
    Scenario(
        "range-from-elsewhere",
        _MIRROR,
        MIRROR,
        "says that the bytes begin at 7",
        FAILED,
        ranged("bytes 7-{last}/{length}"),
    ),
    Scenario(
        "range-unsaid",
        _MIRROR,
        MIRROR,
        "answers with a part and says nothing of its range",
        FAILED,
        ranged(""),
    ),
    Scenario(
        "range-garbage", _MIRROR, MIRROR, "says garbage about the range", FAILED, ranged("bytes -1-x/*")
    ),
    Scenario(
        "range-and-more",
        _MIRROR,
        MIRROR,
        "sends more bytes than the range has",
        Harmless("only the signed length is read, and its hash is right"),
        ranged("bytes 0-{last}/{length}", extra=99),
    ),
    Scenario(
        "range-and-fewer",
        _MIRROR,
        MIRROR,
        "sends fewer bytes than the range has, every time",
        FAILED,
        ranged("bytes 0-{last}/{length}", extra=-99),
    ),
    Scenario(
        "whole-and-more",
        _MIRROR,
        MIRROR,
        "sends the whole file with more bytes behind it",
        Harmless("only the signed length is read, and its hash is right"),
        ranged("", status=200, extra=99),
    ),
    Scenario(
        "range-refused",
        _MIRROR,
        MIRROR,
        "refuses every range",
        FAILED,
        ranged("bytes */{length}", status=416),
    ),
    Scenario(
        "changed-between-ranges",
        _MIRROR,
        MIRROR,
        "cuts the file and continues with another one",
        Reason.TAMPERED,
        resumed(changed_between_ranges),
    ),
    Scenario(
        "shrunk-between-ranges",
        _MIRROR,
        MIRROR,
        "cuts the file, and then it is shorter",
        FAILED,
        resumed(fixed(416)),
    ),
    Scenario(
        "encoded-between-ranges",
        _MIRROR,
        MIRROR,
        "cuts the file and encodes the rest",
        FAILED,
        resumed(fixed(206, b"x", Content_Encoding="gzip")),
    ),
    Scenario(
        "range-ignored",
        _MIRROR,
        MIRROR,
        "cuts the file and ignores the range of the next request",
        Harmless("what is here already is skipped"),
        restarts_honestly,
    ),
    Scenario(
        "cut-often",
        _MIRROR,
        MIRROR,
        "cuts every answer after 400 bytes",
        Harmless("each request goes on where the last one stopped"),
        cut_often,
    ),
    Scenario(
        "poisoned-part",
        _MIRROR,
        MIRROR,
        "sends the beginning of another file and cuts it",
        Harmless("the hash of the whole is wrong once, the file is fetched anew"),
        poisoned_part,
    ),
    Scenario("withheld-file", _MIRROR, MIRROR, "withholds one model's file", FAILED, withheld),
    *(
        Scenario(
            f"status-{status}-{what}",
            _MIRROR,
            MIRROR,
            f"answers for the {what} with status {status}",
            FAILED,
            at(what, fixed(status, b"{}")),
        )
        for what, status in (
            ("timestamp", 500),
            ("timestamp", 204),
            ("model-digits", 404),
            ("manifest", 403),
            ("file", 503),
        )
    ),
    *(
        Scenario(
            f"truncated-{what}",
            _MIRROR,
            MIRROR,
            f"ends the {what} early",
            FAILED,
            at(what, cut_short(b"x" * 400, 100)),
        )
        for what in WHERE
    ),
    *(
        Scenario(f"http-{word}", _MIRROR, MIRROR, f"answers with {says}", FAILED, at("manifest", raw(answer)))
        for word, says, answer in (
            ("nothing", "a closed connection", b""),
            ("garbage", "something that is not HTTP", b"\x16\x03\x01\x02\x00" * 40),
            (
                "two-lengths",
                "two different lengths",
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
            ),
            (
                "bad-chunk",
                "a chunk of a length that is no number",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
            ),
            ("many-headers", "10,000 headers", b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n"),
            (
                "long-header",
                "a header of 1 MiB",
                b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * (1 << 20) + b"\r\n\r\n",
            ),
        )
    ),
    Scenario(
        "http-negative-length",
        _MIRROR,
        MIRROR,
        "answers with a negative length",
        Reason.TAMPERED,
        at("manifest", raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello")),
    ),
    Scenario(
        "withhold-everything",
        _MIRROR,
        MIRROR,
        "answers nothing but 404",
        Limit("the device runs on with what it has and installs nothing, for as long as this lasts"),
        silence,
    ),
)
