"""The real updater over the real store on a disk that fails; the rest of the device is only verdicts."""

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from muster_agent.disk import Disk
from muster_agent.store import Store
from muster_agent.update.download import Downloader
from muster_agent.update.state import AgentState, ModelState
from muster_agent.update.steps import (
    Abandon,
    Action,
    Activate,
    Activated,
    ActivationFailed,
    AnyEvent,
    BeginShadow,
    Collect,
    Configure,
    Deactivate,
    Download,
    Downloaded,
    DownloadFailed,
    Emit,
    EndShadow,
    Preflight,
    PreflightFailed,
    PreflightPassed,
    Report,
    Restarted,
    ShadowBegan,
    Tick,
    Verified,
    Verify,
    Wanted,
    WorkerFailed,
)
from muster_agent.update.updater import step
from muster_models.errors import MusterError, Reason, StorageError, TrustError
from muster_models.trust.fetcher import Fetcher
from muster_models.wire import Phase, Shadow
from support.versions import Version

MODEL = "digits"
SHADOW = Shadow(seconds=600.0)
PIECE_BYTES = 20  # so that a download takes several writes


class Network(Fetcher):
    """Delivers files piece by piece."""

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self._blobs = blobs

    def fetch_range(self, url: str, *, offset: int, length: int, limit: int) -> Generator[bytes, None, None]:
        content = self._blobs[url.rpartition("/")[2]][: min(offset + length, limit)]
        return (content[at : at + PIECE_BYTES] for at in range(offset, len(content), PIECE_BYTES))


@dataclass(frozen=True)
class World:
    """What a device meets.

    Attributes:
        orders: The versions that are asked for, one after the other.
        refused: Versions that do not pass the preflight.
        crashing: Versions that crash in probation.
        shadowed: Versions that are to answer in shadow first.
    """

    orders: tuple[Version, ...]
    refused: frozenset[str] = frozenset()
    crashing: frozenset[str] = frozenset()
    shadowed: frozenset[str] = frozenset()

    @property
    def versions(self) -> dict[str, Version]:
        return {version.digest: version for version in self.orders}


@dataclass
class Ledger:
    """What the outside knows, whatever happens to the process."""

    saved: AgentState = field(default_factory=AgentState)  # the last save that returned
    saving: AgentState | None = None  # one that was begun since
    done: int = 0  # orders that were carried out


class DeviceCourse:
    """One life of the process, from a start to a power cut. Its clock starts anew, as after a boot."""

    store_type = Store

    def __init__(
        self, disk: Disk, world: World, ledger: Ledger, repair: Callable[[], None] = lambda: None
    ) -> None:
        self.world = world
        self.ledger = ledger
        self.repair = repair  # called when the disk refused to save, before that is tried again
        self.now = 0.0
        self.answering: str | None = None
        self.in_shadow: str | None = None
        self.store = self.store_type(disk)
        self.state = self.store.load()
        ledger.saved, ledger.saving = self.state, None  # whoever was told this may count on it

    @property
    def model(self) -> ModelState:
        return self.state.models.get(MODEL, ModelState(MODEL))

    def follow(self) -> None:
        """Start, and carry out what has not been carried out yet."""
        self.handle(Restarted(now=self.now))
        self.settle()
        for sequence, version in enumerate(self.world.orders, 1):
            if sequence > self.ledger.done:
                shadow = SHADOW if version.digest in self.world.shadowed else None
                self.handle(Wanted(now=self.now, model=version.desired(shadow=shadow), sequence=sequence))
                self.settle()
                self.ledger.done = sequence

    def settle(self) -> None:
        """Let time pass until nothing is on its way any more."""
        for _ in range(200):
            model = self.model
            if model.deadline is None:
                return
            if model.phase is Phase.PROBATION and model.target in self.world.crashing:
                self.handle(WorkerFailed(now=self.now, digest=str(model.target), reason=Reason.CRASHED))
            else:
                self.now = max(self.now, model.deadline)
                self.handle(Tick(now=self.now))
        raise AssertionError(f"the update does not come to rest: {self.model}")

    def handle(self, event: AnyEvent) -> None:
        """Take an event and everything that follows from it at once: decide, save, act."""
        events = [event]
        while events:
            model, actions = step(self.model, events.pop(0))
            try:
                self._save(model)
            except StorageError:
                self.repair()
                self._save(model)
            events += [follows for action in actions for follows in self._act(action)]

    def _save(self, model: ModelState) -> None:
        after = replace(
            self.state,
            sequence=max(self.state.sequence, model.sequence),
            models={**self.state.models, MODEL: model},
        )
        if after == self.state:
            return
        self.ledger.saving = after
        self.store.save(after)
        self.ledger.saved, self.ledger.saving = after, None
        self.state = after

    def _act(self, action: Action) -> list[AnyEvent]:
        match action:
            case Download(digest=digest):
                return [self._download(digest)]
            case Verify(digest=digest):
                return [self._verify(digest)]
            case Preflight(digest=digest):
                return [self._preflight(digest)]
            case BeginShadow(digest=digest):
                return [self._begin_shadow(digest)]
            case EndShadow(digest=digest):
                assert self.in_shadow in {digest, None}
                self.in_shadow = None
            case Activate(digest=digest):
                return [self._activate(digest)]
            case Deactivate():
                self.answering = None
            case Collect():
                with contextlib.suppress(StorageError):  # what is left over goes the next time
                    self.store.collect()
            case Abandon() | Configure() | Emit() | Report():
                pass
        return []

    def _download(self, digest: str) -> AnyEvent:
        version = self.world.versions[digest]
        downloader = Downloader("", Network(version.blobs), self.store, chance=Random(1), pause=0.0)
        try:
            downloader.fetch(version.verified, threading.Event())
        except MusterError as error:
            return DownloadFailed(now=self.now, digest=digest, reason=error.reason, detail=str(error))
        return Downloaded(now=self.now, digest=digest)

    def _verify(self, digest: str) -> AnyEvent:
        try:
            self.store.verify(self.world.versions[digest].verified)
        except (TrustError, StorageError) as error:
            return DownloadFailed(now=self.now, digest=digest, reason=error.reason, detail=str(error))
        return Verified(now=self.now, digest=digest)

    def _preflight(self, digest: str) -> AnyEvent:
        if digest in self.world.refused:
            return PreflightFailed(now=self.now, digest=digest, reason=Reason.WRONG_OUTPUT)
        return PreflightPassed(now=self.now, digest=digest)

    def _begin_shadow(self, digest: str) -> AnyEvent:
        assert self.answering == (self.model.current.manifest if self.model.current else None) != digest
        try:
            self.store.verify(self.world.versions[digest].verified)
        except (TrustError, StorageError) as error:
            return DownloadFailed(now=self.now, digest=digest, reason=error.reason, detail=str(error))
        self.in_shadow = digest
        return ShadowBegan(now=self.now, digest=digest)

    def _activate(self, digest: str) -> AnyEvent:
        try:
            self.store.verify(self.world.versions[digest].verified)
        except (TrustError, StorageError) as error:
            return ActivationFailed(now=self.now, digest=digest, reason=error.reason, detail=str(error))
        assert self.in_shadow != digest  # whatever leads out of the shadow has ended it
        self.answering = digest
        return Activated(now=self.now, digest=digest)
