"""The device: every part of the real agent that judges what comes from outside, without its processes.

Real are the trust client, the fetcher, the downloader, the store, the verifier, the installer and the course.
Only what would load a model stands for the runner: the question here is what would be loaded.
"""

import random
import threading
from collections.abc import Callable
from pathlib import Path

from muster_agent.disk import RealDisk
from muster_agent.machine import Machine
from muster_agent.measure.recordings import Recordings
from muster_agent.runner import Runner, Serving
from muster_agent.store import Store
from muster_agent.update.course import Course
from muster_agent.update.download import Downloader
from muster_agent.update.installer import Installer, Parts
from muster_agent.update.steps import Downloaded, Verified
from muster_agent.update.verifier import Verifier
from muster_models.errors import MusterError, Reason
from muster_models.trust.client import TrustClient
from muster_models.trust.fetcher import Fetcher, Limits
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import DesiredModel
from support.repository import DEVICE

MACHINE = Machine("0.1.0", {"onnx": "1.0"}, "x86_64", 10**9, "UTC")


class Bench(Runner):
    """Loads nothing, and remembers what it was given to load."""

    def __init__(self) -> None:
        self.loaded: dict[str, VerifiedManifest] = {}

    def serving(self) -> dict[str, Serving]:
        return {
            model: Serving(held.manifest, held.digest, stopped=False, alive=True)
            for model, held in self.loaded.items()
        }

    def activate(self, verified: VerifiedManifest, folder: Path) -> None:
        assert all((folder / entry.name).is_file() for entry in verified.manifest.files)
        self.loaded[verified.manifest.model] = verified

    def commit(self, model: str) -> None:
        """End no trial."""

    def remove(self, model: str) -> None:
        self.loaded.pop(model, None)


class Device:
    """One device on one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        root: bytes,
        base_url: str,
        clock: Callable[[], float],
        elapsed: Callable[[], float],
        limits: Limits | None,
    ) -> None:
        self.folder = folder
        self.fetcher = Fetcher(limits=limits)
        self.client = TrustClient(
            folder / "trust", root=root, base_url=base_url, fetcher=self.fetcher, clock=clock
        )
        self.verifier = Verifier(self.client, DEVICE, clock=elapsed)
        self.store = Store(RealDisk(folder / "store"))
        self.course = Course(
            self.store,
            carry_out=lambda _state, _action: None,
            clock=lambda: 0.0,
            chance=random.Random(1),
            spread_seconds=0.0,
        )
        self._runner = Bench()
        self._recordings = Recordings(clock=clock, emit=lambda _part: None)
        downloader = Downloader(base_url, self.fetcher, self.store, chance=random.Random(1), pause=0.001)
        self._installer = Installer(
            Parts(
                verifier=self.verifier,
                store=self.store,
                downloader=downloader,
                runner=self._runner,
                recordings=self._recordings,
                machine=MACHINE,
                scratch=folder / "scratch",
                clock=lambda: 0.0,
                chance=random.Random(1),
            )
        )

    def install(self, wanted: DesiredModel) -> Reason | None:
        """Fetch, verify and start a version; return why not."""
        return self.fetch(wanted) or self.start(wanted.manifest, wanted.model)

    def fetch(self, wanted: DesiredModel) -> Reason | None:
        """Fetch a version as the agent does when it is ordered to; return why it does not."""
        came = self._installer.download(wanted, threading.Event())
        if not isinstance(came, Downloaded):
            assert came is not None
            return came.reason
        verified = self._installer.verify(wanted.manifest)
        return None if isinstance(verified, Verified) else verified.reason

    def start(self, digest: str, model: str = "digits") -> Reason | None:
        """Start a version that is on the disk, as after a restart or when going back; return why not."""
        self._runner.remove(model)
        came = self._installer.activate(model, digest, proven=True)
        return getattr(came, "reason", None)

    def refresh(self) -> Reason | None:
        """Look at the repository; return why what it holds is refused."""
        return told(self.verifier.refresh)

    def check(self) -> Reason | None:
        """Ask what is new as the agent does every hour; return why what the repository holds is refused."""
        return told(self.verifier.check)

    def obey(self, envelope: bytes) -> Reason | None:
        """Take an envelope as it comes from the broker; return why it is refused."""
        held = self.course.state.sequence
        try:
            self.course.accept(self.verifier.desired(envelope, held=held))
        except MusterError as error:
            return error.reason
        return None

    @property
    def wanted(self) -> dict[str, str]:
        """The version that the device works towards, by model."""
        models = self.course.state.models.items()
        return {name: model.wanted.version for name, model in models if model.wanted is not None}

    def close(self) -> None:
        self._recordings.close()
        self.fetcher.close()


def told(ask: Callable[[], object]) -> Reason | None:
    """Return the reason of a refusal, or None."""
    try:
        ask()
    except MusterError as error:
        return error.reason
    return None
