import datetime as dt
import gzip
import itertools
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api import exceptions as tuf

from muster_controller.pki import Authority
from muster_models.errors import Reason, TransferError, TrustError
from muster_models.trust.fetcher import Fetcher, Limits
from support.http_server import (
    Handler,
    LoopbackServer,
    Route,
    cut_short,
    dripping,
    endless,
    fixed,
    serving,
    with_ranges,
)
from support.repository import SignedRepository
from support.waiting import until

CONTENT = bytes(range(256)) * 1200  # several chunks, and every offset is recognised
PATIENT = Limits(silence=60.0, patience=60.0)
IMPATIENT = Limits(silence=60.0, patience=1.0, minimum_rate=1_000_000)


@pytest.fixture
def fetcher(request: pytest.FixtureRequest) -> Iterator[Fetcher]:
    fetcher = Fetcher(limits=getattr(request, "param", PATIENT))
    yield fetcher
    fetcher.close()


def url(server: LoopbackServer, path: str = "/file") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def fetch_range(
    fetcher: Fetcher, server: LoopbackServer, *, offset: int = 0, length: int = len(CONTENT)
) -> bytes:
    return b"".join(fetcher.fetch_range(url(server), offset=offset, length=length, limit=10**9))


def collect(chunks: Iterator[bytes], into: bytearray) -> None:
    for chunk in chunks:
        into += chunk


def silent(handler: Handler) -> None:
    handler.close_connection = True
    handler.server.stopping.wait(10)


def noise(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff" * 100)


@pytest.mark.parametrize("route", [with_ranges(CONTENT), fixed(200, CONTENT)], ids=["ranges", "whole file"])
@pytest.mark.parametrize("offset", [0, 1, 65_536, len(CONTENT) - 1])
def test_a_download_goes_on_where_it_stopped(fetcher: Fetcher, route: Route, offset: int) -> None:
    with serving({"/file": route}) as server:
        rest = fetch_range(fetcher, server, offset=offset, length=len(CONTENT) - offset)

    assert rest == CONTENT[offset:]
    assert server.requests == [("/file", f"bytes={offset}-{len(CONTENT) - 1}")]


def test_a_part_in_the_middle_is_exactly_that_part(fetcher: Fetcher) -> None:
    with serving({"/file": with_ranges(CONTENT)}) as server:
        assert fetch_range(fetcher, server, offset=100, length=50) == CONTENT[100:150]


def tagged(content: bytes, tag: str) -> Route:
    def route(handler: Handler) -> None:
        if handler.headers.get("If-None-Match") == tag:
            handler.answer(304, b"", ETag=tag)
        else:
            handler.answer(200, content, ETag=tag)

    return route


def test_a_file_that_is_known_is_not_sent_again_and_the_connection_is_kept(fetcher: Fetcher) -> None:
    with serving({"/file": tagged(CONTENT, '"one"')}) as server:
        first = fetcher.fetch_changed(url(server), tag=None, limit=len(CONTENT))
        again = [fetcher.fetch_changed(url(server), tag='"one"', limit=9) for _ in range(3)]
        other = fetcher.fetch_changed(url(server), tag='"two"', limit=len(CONTENT))

    assert first is not None
    assert (first.content, first.tag) == (CONTENT, '"one"')
    assert again == [None] * 3
    assert other == first
    assert server.connections == 1


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (fixed(304), "HTTP status 304"),
        (fixed(404), "HTTP status 404"),
        (fixed(302, Location="/elsewhere"), "HTTP status 302"),
        (fixed(200, CONTENT), "more than 100 bytes"),
        (endless(), "more than 100 bytes"),
        (fixed(200, gzip.compress(b"x"), Content_Encoding="gzip"), "no content encoding"),
    ],
)
def test_what_is_no_clear_answer_about_a_file_is_an_error(fetcher: Fetcher, route: Route, said: str) -> None:
    with serving({"/file": route}) as server, pytest.raises(TransferError, match=said):
        fetcher.fetch_changed(url(server), tag=None, limit=100)


def test_an_answer_without_a_body_that_has_an_endless_one_is_an_error(fetcher: Fetcher) -> None:
    def route(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not handler.server.stopping.is_set():
            try:
                handler.wfile.write(b"4\r\nabcd\r\n")
            except OSError:
                return

    with serving({"/file": route}) as server, pytest.raises(TransferError, match="expected no bytes"):
        fetcher.fetch_changed(url(server), tag='"one"', limit=100)


@pytest.mark.parametrize(
    ("tag", "kept"),
    [
        ('"a"', '"a"'),
        ('W/"a"', 'W/"a"'),
        ("a", None),
        ('"a b"', None),
        ('"' + "a" * 121 + '"', None),
        ('"a\u00fc"', None),
        ('"a", "b"', None),
    ],
)
def test_only_a_tag_of_a_harmless_form_is_kept(fetcher: Fetcher, tag: str, kept: str | None) -> None:
    with serving({"/file": fixed(200, b"x", ETag=tag)}) as server:
        found = fetcher.fetch_changed(url(server), tag=None, limit=1)

    assert found is not None
    assert found.tag == kept


def test_nothing_is_asked_for_when_nothing_is_wanted(fetcher: Fetcher) -> None:
    with serving() as server:
        assert fetch_range(fetcher, server, length=0) == b""

    assert server.requests == []


def test_what_arrived_before_the_connection_broke_is_kept(fetcher: Fetcher) -> None:
    arrived = bytearray()
    with serving({"/file": cut_short(CONTENT, 100_000)}) as server:
        chunks = fetcher.fetch_range(url(server), offset=0, length=len(CONTENT), limit=10**9)

        with pytest.raises(TransferError, match="/file: "):
            collect(chunks, arrived)

    assert arrived == CONTENT[:100_000]


WRONG: dict[str, tuple[Route, str]] = {
    "short body": (fixed(200, CONTENT[:-1]), "expected 307200 bytes, the connection ended after 307199"),
    "wrong range": (
        fixed(206, CONTENT, Content_Range="bytes 5-307204/400000"),
        "expected the range from 0, got 'bytes 5-",
    ),
    "no range": (fixed(206, CONTENT), "expected the range from 0, got ''"),
    "redirect": (fixed(302, b"", Location="/elsewhere"), "HTTP status 302"),
    "range beyond the end": (fixed(416), "HTTP status 416"),
    "missing": (fixed(404), "HTTP status 404"),
    "server error": (fixed(500), "HTTP status 500"),
    "encoded": (
        fixed(200, gzip.compress(bytes(10**7)), Content_Encoding="gzip"),
        "no content encoding, got 'gzip'",
    ),
}
SLOW: dict[str, tuple[Route, str]] = {
    "slow body": (dripping(itertools.repeat(b"x")), "the slowest allowed is 1000000 bytes/s"),
    "slow headers": (dripping(itertools.repeat(b"a"), head=b"HTTP/1.1 200 OK\r\nX-Slow: "), "/file: "),
    "not HTTP": (noise, "/file: "),
}


@pytest.mark.parametrize(
    ("route", "message", "fetcher"),
    [
        *[pytest.param(*wrong, PATIENT, id=name) for name, wrong in WRONG.items()],
        *[pytest.param(*slow, IMPATIENT, id=name) for name, slow in SLOW.items()],
    ],
    indirect=["fetcher"],
)
def test_a_server_that_misbehaves_is_a_transfer_error(fetcher: Fetcher, route: Route, message: str) -> None:
    with serving({"/file": route, "/elsewhere": fixed(200, CONTENT)}) as server:
        with pytest.raises(TransferError, match=message) as caught:
            fetch_range(fetcher, server)

        assert [path for path, _ in server.requests] == ["/file"]
    assert caught.value.reason is Reason.DOWNLOAD_FAILED


def test_a_silent_server_is_given_up() -> None:
    fetcher = Fetcher(limits=Limits(silence=0.3, patience=30))
    with (
        serving({"/file": silent}) as server,
        pytest.raises(TransferError, match="no answer in time"),
    ):
        fetch_range(fetcher, server)


def test_nobody_listening_is_a_transfer_error(fetcher: Fetcher) -> None:
    with serving() as server:
        pass

    with pytest.raises(TransferError, match="/file: "):
        fetch_range(fetcher, server)


def test_endless_data_is_taken_only_as_far_as_wanted(fetcher: Fetcher) -> None:
    with serving({"/file": endless()}) as server:
        assert fetch_range(fetcher, server, length=100_000) == b"x" * 100_000


def test_more_than_the_limit_is_not_even_asked_for(fetcher: Fetcher) -> None:
    with serving() as server, pytest.raises(TransferError, match="at most 10 allowed") as caught:
        list(fetcher.fetch_range(url(server), offset=0, length=11, limit=10))

    assert caught.value.reason is Reason.TOO_LARGE
    assert server.requests == []


def test_one_connection_serves_many_requests(fetcher: Fetcher) -> None:
    with serving({"/file": with_ranges(CONTENT)}) as server:
        for _ in range(5):
            fetch_range(fetcher, server)

    assert server.connections == 1


def test_idle_connections_are_closed_also_while_somebody_holds_an_error(fetcher: Fetcher) -> None:
    with serving({"/file": fixed(200, CONTENT[:-1])}) as server:
        with pytest.raises(TransferError) as caught:
            fetch_range(fetcher, server)
        fetcher.close()

        assert until(lambda: server.ended == server.connections == 1)
    assert "the connection ended after" in str(caught.value)


def test_a_slow_but_steady_server_is_given_its_time() -> None:
    fetcher = Fetcher(limits=Limits(silence=60, patience=60, minimum_rate=100))
    with serving({"/file": dripping(iter([b"ab"] * 20))}) as server:
        assert fetch_range(fetcher, server, length=40) == b"ab" * 20


# The side that python-tuf sees: its own errors, and ours once the client translates them.


def test_metadata_is_cut_at_the_length_that_was_asked_for(fetcher: Fetcher) -> None:
    with serving({"/file": endless()}) as server, pytest.raises(tuf.DownloadLengthMismatchError):
        fetcher.download_bytes(url(server), 16_384)


def test_a_missing_file_tells_python_tuf_its_status(fetcher: Fetcher) -> None:
    with serving() as server, pytest.raises(tuf.DownloadHTTPError) as caught:
        fetcher.download_bytes(url(server), 10)

    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("route", "fetcher"),
    [
        (dripping(itertools.repeat(b"x")), IMPATIENT),
        (cut_short(CONTENT, 10), PATIENT),
        (fixed(302, b"", Location="/elsewhere"), PATIENT),
        (fixed(200, gzip.compress(b"{}"), Content_Encoding="gzip"), PATIENT),
    ],
    ids=["slow", "short", "redirect", "encoded"],
    indirect=["fetcher"],
)
def test_other_trouble_is_python_tufs_download_error(fetcher: Fetcher, route: Route) -> None:
    with (
        serving({"/file": route, "/elsewhere": fixed(200, b"{}")}) as server,
        pytest.raises(tuf.DownloadError),
    ):
        fetcher.download_bytes(url(server), 10**6)


def test_a_device_follows_a_repository_over_real_http(fetcher: Fetcher, tmp_path: Path) -> None:
    repository = SignedRepository(tmp_path / "repository")
    released = repository.release()
    with serving(folder=repository.folder) as server:
        client = repository.client(
            tmp_path / "trust", fetcher=fetcher, base_url=f"http://127.0.0.1:{server.port}/"
        )
        verified = client.manifest("digits", "1.0.0", released.digest)
        server.requests.clear()
        client.refresh()

    assert verified.document == released.document
    assert [path for path, _ in server.requests] == ["/metadata/2.root.json", "/metadata/timestamp.json"]


@pytest.mark.parametrize(
    ("path", "route", "error", "fetcher"),
    [
        ("/metadata/timestamp.json", endless(), TransferError, PATIENT),
        ("/metadata/timestamp.json", dripping(itertools.repeat(b" ")), TransferError, IMPATIENT),
        ("/metadata/timestamp.json", fixed(503), TransferError, PATIENT),
        ("/metadata/timestamp.json", fixed(200, b"<html>log in</html>"), TrustError, PATIENT),
        ("/metadata/2.root.json", fixed(500), TransferError, PATIENT),
        ("/metadata/2.root.json", fixed(200, b"<html>log in</html>"), TrustError, PATIENT),
    ],
    ids=["endless", "slow", "unavailable", "a captive portal", "root unavailable", "a portal as root"],
    indirect=["fetcher"],
)
def test_a_hostile_mirror_only_delays(
    fetcher: Fetcher, tmp_path: Path, path: str, route: Route, error: type[Exception]
) -> None:
    repository = SignedRepository(tmp_path / "repository")
    released = repository.release()
    with serving({path: route}, folder=repository.folder) as server:
        client = repository.client(
            tmp_path / "trust", fetcher=fetcher, base_url=f"http://127.0.0.1:{server.port}"
        )

        with pytest.raises(error):
            client.refresh()

        server.routes = {}
        assert client.manifest("digits", "1.0.0", released.digest).digest == released.digest


def test_tls_is_held_to_the_pinned_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki", dt.datetime.now(dt.UTC))
    authority.issue_server("server", ["127.0.0.1"], dt.datetime.now(dt.UTC))
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(tmp_path / "pki/server.pem", tmp_path / "pki/server.key")
    pinned = ssl.create_default_context(cafile=str(tmp_path / "pki/ca.pem"))
    slow = dripping(itertools.repeat(b"a"), head=b"HTTP/1.1 200 OK\r\nX-Slow: ")
    with serving({"/file": with_ranges(CONTENT), "/slow": slow}, context=own) as server:
        base = f"https://127.0.0.1:{server.port}"

        good, hasty, trusting = (
            Fetcher(pinned, limits=PATIENT),
            Fetcher(pinned, limits=IMPATIENT),
            Fetcher(limits=PATIENT),
        )
        content = b"".join(good.fetch_range(f"{base}/file", offset=7, length=100, limit=100))
        with pytest.raises(TransferError, match="/slow: "):
            list(hasty.fetch_range(f"{base}/slow", offset=0, length=100, limit=100))
        with pytest.raises(TransferError, match="it comes from another authority"):
            list(trusting.fetch_range(f"{base}/file", offset=0, length=100, limit=100))
        for one in (good, hasty, trusting):
            one.close()

    assert content == CONTENT[7:107]
