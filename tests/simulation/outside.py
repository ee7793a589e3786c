"""What a simulated device has instead of processes, sockets and signatures: the ports of the real installer.

Each class keeps the contract of the one that it stands for, as far as ``Installer`` and ``Executor`` use it.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tuf.api.metadata import Targets

from muster_agent.runner import Runner, Serving, Terms
from muster_agent.runner.job import Verdict
from muster_agent.update.lanes import Job, Lanes
from muster_agent.update.verifier import Verifier
from muster_models.errors import Reason, TransferError, TrustError
from muster_models.trust.director import open_envelope
from muster_models.trust.fetcher import Fetcher
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Desired, DesiredModel
from simulation.versions import Kind, Version
from simulation.world import World

PIECE_BYTES = 512  # so that a download takes several writes


@dataclass
class Catalogue:
    """What was released, and what the outside does to those that fetch it.

    Attributes:
        versions: Everything whose bytes exist, by digest.
        listed: Digests of the versions that the release key signed.
        targets: Says whose word devices obey.
    """

    targets: Targets
    versions: dict[str, Version] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    def release(self, version: Version) -> None:
        """Sign a version."""
        self.versions[version.digest] = version
        self.listed.add(version.digest)

    def blob(self, sha256: str) -> bytes:
        """Return the content of a file."""
        return next(v.blobs[sha256] for v in self.versions.values() if sha256 in v.blobs)


class SimulatedVerifier(Verifier):
    """Opens envelopes for real; which versions are listed is the catalogue's word."""

    def __init__(self, catalogue: Catalogue, device: str, *, wall: Callable[[], float]) -> None:
        self._catalogue = catalogue
        self._name = device
        self._wall = wall

    def refresh(self) -> None:
        """Know already what is new."""

    def installable(self, wanted: DesiredModel) -> VerifiedManifest:
        """Return a listed version."""
        if wanted.manifest not in self._catalogue.listed:
            raise TrustError(Reason.NOT_LISTED, f"{wanted.model}@{wanted.version} is not listed")
        return self._catalogue.versions[wanted.manifest].verified

    def reverify(self, document: bytes) -> VerifiedManifest:
        """Return a listed version by its manifest."""
        for digest in self._catalogue.listed:
            version = self._catalogue.versions[digest]
            if version.verified.document == document:
                return version.verified
        raise TrustError(Reason.NOT_LISTED, "the manifest is not listed")

    def desired(self, envelope: bytes, *, held: int) -> Desired:
        """Return what an envelope says, as the real one does."""
        return open_envelope(
            envelope,
            self._catalogue.targets,
            device=self._name,
            after=max(0, held - 1),
            now=self._wall(),
        )


class SimulatedFetcher(Fetcher):
    """Delivers files; some transfers end early, some bytes are others."""

    def __init__(
        self, world: World, catalogue: Catalogue, chance: Random, *, is_online: Callable[[], bool]
    ) -> None:
        self._world = world
        self._catalogue = catalogue
        self._luck = chance
        self._is_online = is_online

    def fetch_range(self, url: str, *, offset: int, length: int, limit: int) -> Generator[bytes, None, None]:
        """Yield the bytes of a file."""
        weather = self._world.weather
        content = self._catalogue.blob(url.rpartition("/")[2])[offset : offset + min(length, limit)]
        if not self._is_online():
            raise TransferError(f"{url}: no network")
        if self._luck.random() < weather.damaged:
            at = self._luck.randrange(len(content))
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        end = len(content)
        if self._luck.random() < weather.broken:
            end = self._luck.randrange(end)
        yield from (content[at : min(at + PIECE_BYTES, end)] for at in range(0, end, PIECE_BYTES))
        if end < len(content):
            raise TransferError(f"{url}: cut short")


@dataclass
class Answering:
    """A version that answers, or should.

    Attributes:
        since: When it was activated, Unix seconds.
        died: When its worker died of what is wrong with the version.
        stopped: The declared fallback answers in its place.
    """

    version: Version
    since: float
    proven: bool = False
    alive: bool = True
    died: float | None = None
    stopped: bool = False


class SimulatedRunner(Runner):
    """Answers with versions that exist by their outputs alone.

    Args:
        activated: Told about every version before it answers.
        dies: Called with a version that answers from now on, and whose worker is to die some time.
        fails: Called when a version in shadow is to fail in a while.
        now: Unix seconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        now: Callable[[], float],
        activated: Callable[[Version], None],
        dies: Callable[["Answering"], None],
        fails: Callable[[Version], None],
    ) -> None:
        self._catalogue = catalogue
        self._now = now
        self._activated = activated
        self._dies = dies
        self._fails = fails
        self.answering: dict[str, Answering] = {}
        self.in_shadow: dict[str, tuple[Version, Terms, Callable[[], None]]] = {}

    def preflight(self, verified: VerifiedManifest, folder: Path) -> Verdict:
        """Return whether a version answers its golden vectors."""
        self._check(verified, folder)
        if self._catalogue.versions[verified.digest].kind is Kind.REFUSED:
            return Verdict(accepted=False, reason=Reason.WRONG_OUTPUT, detail="as it was made")
        return Verdict(accepted=True, seconds=0.1)

    def activate(self, verified: VerifiedManifest, folder: Path) -> None:
        """Let a version answer."""
        self._check(verified, folder)
        version = self._catalogue.versions[verified.digest]
        self._activated(version)
        self.answering[verified.manifest.model] = answering = Answering(version, self._now())
        if version.kind is Kind.CRASHES or version.death is not None:
            self._dies(answering)

    def begin_shadow(
        self, verified: VerifiedManifest, folder: Path, terms: Terms, *, ended: Callable[[], None]
    ) -> None:
        """Ask a version what the one that answers is asked."""
        self._check(verified, folder)
        self.end_shadow(verified.manifest.model)
        version = self._catalogue.versions[verified.digest]
        self.in_shadow[verified.manifest.model] = version, terms, ended
        if version.kind is Kind.CRASHES:
            self._fails(version)

    def end_shadow(self, model: str) -> None:
        """Ask it no more."""
        if model in self.in_shadow:
            *_, ended = self.in_shadow.pop(model)
            ended()

    def beside(self, model: str, digest: str) -> str | None:
        """Return which version is in shadow beside one; None where none is."""
        _, terms, _ = self.in_shadow.get(model, (None, None, None))
        return terms.digest if terms is not None and terms.beside == digest else None

    def commit(self, model: str) -> None:
        """End the trial of what answers."""
        if model in self.answering:
            self.answering[model].proven = True

    def stop(self, verified: VerifiedManifest) -> None:
        """Let the fallback answer that a version declares."""
        version = self._catalogue.versions[verified.digest]
        self.answering[verified.manifest.model] = Answering(version, self._now(), stopped=True)

    def remove(self, model: str) -> None:
        """Let nothing answer."""
        self.end_shadow(model)
        self.answering.pop(model, None)

    def serving(self) -> dict[str, Serving]:
        """Return what answers."""
        return {
            model: Serving(
                held.version.verified.manifest,
                held.version.digest,
                stopped=held.stopped,
                alive=held.alive,
            )
            for model, held in self.answering.items()
        }

    def _check(self, verified: VerifiedManifest, folder: Path) -> None:
        for entry in verified.manifest.files:
            content = (folder / entry.name).read_bytes()
            assert content == self._catalogue.blob(entry.sha256), f"{entry.name} is not what was signed"


class SimulatedLanes(Lanes):
    """Does what has one name in turn, each job at once or after a while.

    Args:
        live: Runs something as a part of the agent's life, if that still lasts.
    """

    def __init__(
        self, world: World, live: Callable[[Callable[[], None]], None], chance: random.Random
    ) -> None:
        self._world = world
        self._live = live
        self._luck = chance
        self._free: dict[str, float] = {}

    def submit(self, lane: str, job: Job) -> None:
        """Do a job when its turn comes; answering may happen before the caller goes on, as with threads."""
        free = self._free.get(lane, 0.0)
        is_first = free <= self._world.now
        if is_first and lane.startswith("answer") and self._luck.random() < 0.5:
            job()
            return
        at = max(self._world.now, free) + self._luck.expovariate(1 / (0.1 if is_first else 0.01))
        if lane.startswith("prepare"):
            at += self._luck.uniform(0, 3)
        self._free[lane] = at
        self._world.after(at - self._world.now, lambda: self._live(job))

    def close(self, seconds: float) -> bool:
        """Nothing to wait for."""
        return seconds >= 0


class Epochs:
    """Numbers for outboxes, each once.

    Attributes:
        last: The last one that was given.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def __call__(self) -> int:
        self.last += 1
        return self.last
