"""Downloads from a real server that cuts, lies, dawdles and says too much: what counts is the disk."""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from muster_agent.disk import Disk, RealDisk
from muster_agent.store import HEADROOM_BYTES, Store
from muster_agent.update.download import FRUITLESS_REQUESTS, CancelledError, Downloader
from muster_models.errors import FitError, MusterError, Reason, StorageError, TransferError, TrustError
from muster_models.trust.fetcher import Fetcher, Limits
from support.disk import Fault, SimulatedDisk
from support.http_server import QuietServer
from support.versions import Version, make_version
from support.waiting import until

PATIENT = Limits(silence=60.0, patience=60.0)
IMPATIENT = Limits(silence=0.5, patience=0.5, minimum_rate=100_000.0)
MODEL = random.Random(1).randbytes(400_000)
VERSION = make_version("1.0.0", model=MODEL)


@dataclass
class Site:
    """A static server with ways to misbehave, each for the request it is set for.

    Attributes:
        files: What it serves, by name below ``blobs/``.
        asked: Name and first byte of each request.
        connections: How many are open.
        cut_after: Bytes of a body after which the connection is cut, per request in turn; None lets it end.
        ignores_ranges: It always sends the whole file.
        drip: It sends a byte at a time, ever.
        encoding: A content encoding that it claims.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    sent: int = 0
    connections: int = 0
    cut_after: list[int | None] = field(default_factory=list)
    ignores_ranges: bool = False
    drip: bool = False
    encoding: str = ""
    done: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site(files=dict(VERSION.blobs))

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.removeprefix("/repository/blobs/")
            asked = self.headers.get("Range", "bytes=0-")
            start = 0 if state.ignores_ranges else int(asked.removeprefix("bytes=").partition("-")[0])
            content = state.files.get(name)
            state.asked.append((name, start))
            if content is None:
                self.send_error(404)
                return
            body = content[start:]
            self.send_response(200 if state.ignores_ranges else 206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            if state.encoding:
                self.send_header("Content-Encoding", state.encoding)
            self.end_headers()
            self._send(body)

        def _send(self, body: bytes) -> None:
            cut = state.cut_after.pop(0) if state.cut_after else None
            if state.drip:
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if state.done.wait(0.02):
                        return
            state.sent += len(body[:cut])  # first: whoever has all of it may ask at once
            self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = Server(("127.0.0.1", 0), Requests)
    server.site = state
    state.url = f"http://127.0.0.1:{server.server_port}/repository"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    state.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Server(QuietServer):
    """Counts connections where they are accepted and where they end."""

    site: Site

    def process_request(self, request: object, client_address: object) -> None:
        self.site.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]  # passed through

    def shutdown_request(self, request: object) -> None:
        super().shutdown_request(request)  # type: ignore[arg-type]  # passed through
        self.site.connections -= 1


class Device:
    def __init__(self, site: Site, disk: Disk, limits: Limits = PATIENT) -> None:
        self.store = Store(disk)
        self.store.load()
        self.fetcher = Fetcher(limits=limits)
        self.downloader = Downloader(site.url, self.fetcher, self.store, chance=random.Random(1), pause=0.001)

    def fetch(self, version: Version = VERSION, cancelled: threading.Event | None = None) -> None:
        try:
            self.downloader.fetch(version.verified, cancelled or threading.Event())
        finally:
            self.fetcher.close()

    def holds(self, version: Version = VERSION) -> bool:
        try:
            self.store.verify(version.verified)
        except MusterError:
            return False
        return True


@pytest.fixture
def device(site: Site, tmp_path: Path) -> Device:
    return Device(site, RealDisk(tmp_path / "store"))


def test_every_file_of_a_version_arrives_once(site: Site, device: Device) -> None:
    device.fetch()

    assert device.holds()
    assert sorted(site.asked) == sorted((name, 0) for name in VERSION.blobs)


def test_what_is_here_already_is_not_asked_for(site: Site, device: Device) -> None:
    device.fetch()
    site.asked.clear()
    second = make_version("1.1.0", model=b"another model")
    site.files |= second.blobs

    device.fetch(second)

    assert [start for _, start in site.asked] == [0]
    assert device.holds(second)
    assert device.holds(VERSION)


def test_a_cut_connection_is_taken_up_where_it_was_cut(site: Site, device: Device) -> None:
    site.cut_after = [90_000] * 4

    device.fetch()

    model_starts = [start for name, start in site.asked if site.files[name] == MODEL]
    assert device.holds()
    assert model_starts == sorted(set(model_starts))
    assert site.sent == sum(map(len, VERSION.blobs.values()))


def test_a_restarted_agent_continues_the_part_that_is_on_the_disk(
    site: Site, device: Device, tmp_path: Path
) -> None:
    site.cut_after = [150_000, 0, 0, 0]
    with pytest.raises(TransferError):
        device.fetch()
    site.asked.clear()

    Device(site, RealDisk(tmp_path / "store")).fetch()

    assert device.holds()
    assert 150_000 in [start for _, start in site.asked]


def test_a_server_without_ranges_serves_as_well(site: Site, device: Device) -> None:
    site.ignores_ranges = True
    site.cut_after = [100_000]

    device.fetch()

    assert device.holds()


def test_a_server_that_does_not_get_on_is_given_up(site: Site, device: Device) -> None:
    site.cut_after = [0] * 10

    with pytest.raises(TransferError, match="0 bytes read"):
        device.fetch()

    assert len(site.asked) == FRUITLESS_REQUESTS


def test_wrong_bytes_are_refused_and_leave_nothing_behind(site: Site, device: Device, tmp_path: Path) -> None:
    site.files = {
        name: content[:-1] + bytes([content[-1] ^ 1]) if content == MODEL else content
        for name, content in site.files.items()
    }

    with pytest.raises(TrustError, match="expected sha256") as caught:
        device.fetch()

    assert caught.value.reason is Reason.TAMPERED
    assert not device.holds()
    assert [path.name for path in (tmp_path / "store/blobs").iterdir() if path.stat().st_size > 1000] == []


def test_a_file_longer_than_signed_is_not_read_to_its_end(site: Site, device: Device) -> None:
    longer = MODEL[::-1] + bytes(10**6)
    site.files = {name: longer if content == MODEL else content for name, content in site.files.items()}

    with pytest.raises(TrustError) as caught:
        device.fetch()

    assert caught.value.reason is Reason.TAMPERED


def test_a_file_shorter_than_signed_never_counts_as_whole(site: Site, device: Device) -> None:
    site.files = {
        name: content[:1000] if content == MODEL else content for name, content in site.files.items()
    }

    with pytest.raises(TransferError):
        device.fetch()

    assert not device.holds()


def test_a_missing_file_is_a_failed_transfer(site: Site, device: Device) -> None:
    site.files = {}

    with pytest.raises(TransferError, match="404") as caught:
        device.fetch()

    assert caught.value.reason is Reason.DOWNLOAD_FAILED


def test_a_server_that_dawdles_does_not_hold_the_device(site: Site, tmp_path: Path) -> None:
    site.drip = True
    device = Device(site, RealDisk(tmp_path / "store"), IMPATIENT)

    with pytest.raises(TransferError, match="slowest allowed"):
        device.fetch(make_version("1.0.0", model=MODEL))

    assert len(site.asked) == FRUITLESS_REQUESTS


def test_an_encoded_body_is_refused_before_it_is_unpacked(site: Site, device: Device) -> None:
    site.encoding = "gzip"

    with pytest.raises(TransferError, match="no content encoding"):
        device.fetch()


def test_a_download_that_is_not_wanted_any_more_ends_and_keeps_its_part(
    site: Site, device: Device, tmp_path: Path
) -> None:
    cancelled = threading.Event()
    site.cut_after = [150_000, 0, 0, 0]
    with pytest.raises(TransferError):
        device.fetch()
    cancelled.set()

    with pytest.raises(CancelledError):
        device.fetch(cancelled=cancelled)

    assert max(path.stat().st_size for path in (tmp_path / "store/blobs").glob("*.part")) >= 150_000


def test_nobody_at_the_address_is_a_failed_transfer(site: Site, tmp_path: Path) -> None:
    site.url = "http://127.0.0.1:1"

    with pytest.raises(TransferError):
        Device(site, RealDisk(tmp_path / "elsewhere")).fetch()


def test_what_does_not_fit_is_refused_before_the_first_byte(site: Site) -> None:
    device = Device(site, SimulatedDisk(capacity=HEADROOM_BYTES + len(MODEL) // 2))

    with pytest.raises(FitError, match="needs") as caught:
        device.fetch()

    assert caught.value.reason is Reason.NO_SPACE
    assert site.asked == []


def test_a_disk_that_fills_up_on_the_way_is_named_and_the_part_serves_later(site: Site) -> None:
    disk = SimulatedDisk()
    device = Device(site, disk)
    disk.fault = Fault(disk.calls + 12, error=28, lasts=True)

    with pytest.raises(StorageError) as caught:
        device.fetch()

    assert caught.value.reason is Reason.NO_SPACE
    assert until(lambda: site.connections == 0), "somebody who holds the error holds no connection"
    disk.fault = None
    device.fetch()
    assert device.holds()
