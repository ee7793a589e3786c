"""What a device that is up to date pays to ask whether it still is, and what publishing one version costs it.

1,000 versions of 50 models, by the real publisher and the real repository, asked by the real device over
plain HTTP on the loopback interface. The peer lists the same versions in one targets file and is asked by
python-tuf's own client, over the same fetcher. While nothing changes its cache spares it as much as ours
spares us, so the bytes of a check stand beside two peers: it, and a client without a cache that fetches the
list.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from figure import Figure, at_most, interleave, publish
from rig.flat_repository import NAME, FlatRepository
from rig.static_server import Server, Traffic, running
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater

from muster_agent.update.verifier import Verifier
from muster_models.trust.fetcher import Fetcher
from muster_models.trust.roles import target_path
from muster_models.trust.verified import VerifiedManifest
from support.repository import DEVICE, FILES, SignedRepository

MODELS, VERSIONS = 50, 20
MODEL, NEWEST = "model-00", f"1.{VERSIONS}.0"  # what the device runs
ROUNDS = 40
CHECK_BYTES, RELEASE_BYTES = 500, 10_000


def fill(repository: SignedRepository) -> list[VerifiedManifest]:
    """Publish every version."""
    return [
        repository.release(FILES, model=f"model-{number:02}", version=f"1.{release}.0", release=release)
        for release in range(1, VERSIONS + 1)
        for number in range(MODELS)
    ]


def listed(version: VerifiedManifest) -> tuple[str, TargetFile]:
    """Return how the flat peer lists a version."""
    path = target_path(version.manifest.model, version.manifest.version)
    return path, TargetFile(len(version.document), {"sha256": version.digest}, path)


class Device:
    """Ours: one client that is kept from check to check, as the agent keeps it; it runs one model."""

    def __init__(
        self, repository: SignedRepository, server: Server, folder: Path, *, fetcher: Fetcher
    ) -> None:
        client = repository.client(folder, fetcher=fetcher, base_url=server.url)
        client.manifest(MODEL, NEWEST, repository.controller.listed(MODEL)[NEWEST])
        self._verifier = Verifier(client, DEVICE)
        self.check()  # in full, as after each start
        self.check()  # the first one that the full look does not answer brings the tag

    def check(self) -> None:
        """Ask what is new."""
        self._verifier.check()


class FlatDevice:
    """The peer: python-tuf's client, whose cache is kept; it takes a new one for each check."""

    def __init__(self, repository: FlatRepository, server: Server, folder: Path, *, fetcher: Fetcher) -> None:
        self._folder = folder
        self._url = f"{server.url}/metadata/"
        self._fetcher = fetcher
        self._root = repository.root
        folder.mkdir()
        self.check()

    def check(self) -> None:
        """Ask what is new."""
        Updater(str(self._folder), self._url, fetcher=self._fetcher, bootstrap=self._root).refresh()


def traffic(server: Server, check: Callable[[], object]) -> Traffic:
    """Return what one check sends and gets."""
    server.take()
    check()
    return server.take()


def measure(folder: Path) -> list[Figure]:
    """Fill both repositories and ask them."""
    ours = SignedRepository(folder / "ours")
    flat = FlatRepository(folder / "flat", dict(map(listed, fill(ours))))
    fetcher = Fetcher()
    with ExitStack() as stack:
        stack.callback(fetcher.close)
        our_server = stack.enter_context(running(folder / "ours"))
        flat_server = stack.enter_context(running(folder / "flat"))
        device = Device(ours, our_server, folder / "device", fetcher=fetcher)
        peer = FlatDevice(flat, flat_server, folder / "peer", fetcher=fetcher)
        # The thread that asks, alone: the servers are threads of this process.
        cpu = interleave({"ours": device.check, "peer": peer.check}, rounds=ROUNDS, clock=time.thread_time_ns)
        idle = traffic(our_server, device.check), traffic(flat_server, peer.check)
        version = ours.release(FILES, model=MODEL, version=f"1.{VERSIONS + 1}.0", release=VERSIONS + 1)
        flat.release(*listed(version))
        news = traffic(our_server, device.check), traffic(flat_server, peer.check)
    whole = (folder / "flat/metadata/1.targets.json").stat().st_size
    return [*_checks(*idle, whole=whole), _cpu(cpu), _release(*news)]


def _checks(ours: Traffic, flat: Traffic, *, whole: int) -> list[Figure]:
    again = "the flat targets file, fetched again"
    return [
        _capped(
            "check, nothing new: requests", ours.requests, (NAME, flat.requests), unit="requests", most=1
        ),
        _capped("  bytes of files", ours.file_bytes, (NAME, flat.file_bytes), unit="B", most=CHECK_BYTES),
        _capped("  all bytes, no TLS", ours.wire_bytes, (NAME, flat.wire_bytes), unit="B", most=CHECK_BYTES),
        _capped("  all bytes, no TLS", ours.wire_bytes, (again, whole), unit="B", most=CHECK_BYTES),
    ]


def _capped(name: str, ours: float, peer: tuple[str, float], *, unit: str, most: float) -> Figure:
    words, value = peer
    return Figure(name, ours, value, words, unit, ours / value, f"<= {most:,g} {unit}", ours <= most)


def _cpu(seconds: dict[str, float]) -> Figure:
    ours, peer = (seconds[who] * 1000 for who in ("ours", "peer"))
    return at_most("check, nothing new: CPU", ours=ours, peer=(NAME, peer), unit="ms", ratio=1)


def _release(ours: Traffic, flat: Traffic) -> Figure:
    name = "one version published: metadata to a device of that model"
    return _capped(name, ours.file_bytes, (NAME, flat.file_bytes), unit="B", most=RELEASE_BYTES)


def main() -> None:
    """Measure, and print six figures."""
    with TemporaryDirectory() as scratch:
        publish(*measure(Path(scratch)))


if __name__ == "__main__":
    main()
