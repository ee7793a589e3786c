"""The agent as a whole: builds every part, starts them, and stops them in order.

Threads: the loop decides and saves; the link talks to the broker; two lanes per model prepare and answer;
errands need the network; the server and the recorders have their own. They speak to the loop by one queue.
"""

import contextlib
import functools
import logging
import random
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_agent import sandbox
from muster_agent.config import DAY_SECONDS, Folder, load_settings
from muster_agent.control import controls
from muster_agent.disk import RealDisk
from muster_agent.enroll import renew
from muster_agent.errands import Errands, Outside
from muster_agent.health import measure
from muster_agent.identity import certificate_life, read_pinned_root, tls_context
from muster_agent.link import Link, Pace
from muster_agent.loop import Loop, Outlets
from muster_agent.machine import this_machine, told_runtimes
from muster_agent.measure.outbox import Outbox, Place, WindowPart
from muster_agent.measure.outbox_place import begin_somewhere, settle
from muster_agent.measure.recordings import Recordings
from muster_agent.measure.sampling import Sampling
from muster_agent.notices import Notice, Notices
from muster_agent.notify import Notifier
from muster_agent.ownership import own
from muster_agent.prediction_ids import Answer, IdMaker, predict_with_ids
from muster_agent.runner import Isolation, Runner, Serving, Zygote
from muster_agent.runner.real_numbers import predict_real
from muster_agent.serving.inference_api import being_loaded
from muster_agent.serving.server import Server
from muster_agent.spare import is_writable, make_spare, place_of
from muster_agent.starting import Starting
from muster_agent.status import Status, answering_of
from muster_agent.store import Store
from muster_agent.update.course import Course
from muster_agent.update.download import Downloader
from muster_agent.update.executor import Executor
from muster_agent.update.installer import Installer, Parts
from muster_agent.update.lanes import Lanes
from muster_agent.update.steps import AnyEvent, ShadowFailed, WorkerFailed
from muster_agent.update.verifier import Verifier
from muster_models.errors import NotFoundError, PredictionError, Reason, StorageError
from muster_models.known_types import know_types
from muster_models.trust.client import TrustClient
from muster_models.trust.fetcher import Fetcher
from muster_models.wire import Health, Hello, ModelReport

Array = NDArray[np.generic]
log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
ORDER_SECONDS = 10.0


class Agent:
    """The agent of one device in this process.

    Enrol the folder first. An application that wants predictions without another process keeps one of these::

        with Agent("/var/lib/muster") as agent:
            agent.predict("digits", {"image": rows})

    Args:
        folder: Of the device; one agent at a time runs from it.
        isolation: Where models run: ``inline`` in this process, ``process`` in workers of their own, None as
            the folder's settings say.
        zygote: Where children come from, closed with the agent; None starts one. One that was started before
            this module was imported is smaller.
        notifier: Told when the agent is up, and again and again while it makes progress.

    Raises:
        InvalidInputError: The folder is not that of an enrolled device, or a setting has a wrong form.
        StorageError: Another agent runs from the folder, or the disk refuses.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        isolation: Literal["process", "inline"] | None = "inline",
        zygote: Zygote | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._notifier = notifier or Notifier(None)
        self._closing = contextlib.ExitStack()
        self._thread: threading.Thread | None = None
        try:
            zygote = zygote or Zygote.start()  # while this process has one thread and little memory
            self._defer(zygote.close)
            know_types()
            self.folder = Folder(Path(folder))
            self.settings = load_settings(self.folder)
            self.isolation = Isolation(isolation or self.settings.isolation)
            self._build(zygote)
        except BaseException:
            self._closing.close()
            raise

    @property
    def is_online(self) -> bool:
        """Whether the device has a session with the broker."""
        return self._link.is_online

    def run(self) -> None:
        """Work in this thread until ``stop`` is called in another one, or in a signal handler."""
        log.info("%s starts, agent %s", self.settings.device, self._machine.agent)
        self._link.start()
        self._errands.start()
        self._notifier.ready()
        self._loop.run(self._course)

    def start(self) -> None:
        """Work in a thread of its own; returns at once."""
        self._thread = threading.Thread(target=self.run, name="agent", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make ``run`` return; safe in a signal handler."""
        self._loop.stop()

    def close(self) -> None:
        """Stop, hand what was measured to the outbox, and release everything."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self._closing.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def predict(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return every output of ``model`` by name.

        Raises:
            PredictionError: No version of it runs, the inputs do not fit, or the model failed.
        """
        try:
            return self._runner.predict(model, {name: np.asarray(array) for name, array in inputs.items()})
        except PredictionError as error:
            if model in self._loading() and model not in self._runner.serving():
                raise being_loaded(model) from error
            raise

    def predict_real(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return every output as real numbers; see ``Client.predict_real``."""
        return predict_real(self, model, inputs)

    def answer(self, model: str, inputs: Mapping[str, ArrayLike]) -> Answer:
        """Return every output with an id for each row; see ``Model.answer``."""
        return predict_with_ids(self, model, inputs, self._ids)

    def count(self, model: str, counts: Mapping[str, int]) -> None:
        """Add to counters of the application; see ``Model.count``."""
        self._recordings.count(model, counts)

    def serving(self) -> dict[str, Serving]:
        """Return what answers now, by model."""
        return self._runner.serving()

    def roll_back(self, model: str) -> None:
        """Go back to the version before; needs no network.

        Raises:
            NotFoundError: There is none.
            StorageError: The agent is too busy, or its disk too slow, to answer.
        """
        try:
            done = self._loop.roll_back(model, seconds=ORDER_SECONDS)
        except TimeoutError as error:
            raise StorageError(f"the agent did not answer within {ORDER_SECONDS:.0f} s") from error
        if not done:
            held = sorted(self._course.state.models)
            if model not in held:
                here = f"here are {', '.join(held)}" if held else "none is here"
                raise NotFoundError(f"there is no model {model[:64]!r}; {here}", Reason.NOT_LISTED)
            raise NotFoundError(f"{model[:64]!r} has no version before the present one", Reason.NOT_LISTED)

    def status(self) -> Status:
        """Return the state of this device."""
        return Status(
            device=self.settings.device,
            agent=self._machine.agent,
            running=True,
            online=self._link.is_online,
            isolation=self._isolation_level(),
            desired=self._course.state.sequence,
            models=self._course.reports(),
            answering=answering_of(self._runner.serving()),
            outbox=self._outbox.status(),
            certificate_ends=certificate_life(self.folder)[1].isoformat(),
            read_only=self._outbox.place is Place.MEMORY or not is_writable(self.folder.root),
            offline=self._link.trouble,
        )

    # Building, in the order in which the parts need each other

    def _build(self, zygote: Zygote) -> None:
        chance = random.Random()  # noqa: S311 - it spreads a fleet and keeps no secret
        self._defer(own(self.folder.lock))
        self._machine = this_machine()
        self._disk = RealDisk(self.folder.store)
        store = Store(self._disk)
        self._build_reporting()
        self._loop = Loop(
            Outlets(self._report, self._recordings.configure, self._sampling.follow, self._between),
            tick_seconds=self.settings.tick_seconds,
            chance=chance,
        )
        self._build_link(chance)
        self._runner = Runner(
            zygote,
            on_failure=self._worker_failed,
            on_restart=self._worker_restarted,
            on_call=self._sampling.beside(self._recordings.observe),
            on_compared=self._recordings.compared,
            on_shadow_failure=self._shadow_failed,
            isolation=self.isolation,
            engine=self.settings.engine,
        )
        self._defer(self._runner.close)
        self._build_updating(store, chance)
        self._ids = IdMaker(self.settings.device, clock=time.time, first=secrets.randbits(32))
        server = Server(
            self._runner,
            place_of(self.folder.socket),
            port=self.settings.serve_port or None,
            control=controls(self.status, self.roll_back),
            loading=self._loading,
            ids=self._ids,
            count=self._recordings.count,
        )
        self._defer(server.close)

    def _build_reporting(self) -> None:
        settings = self.settings
        self._recordings = Recordings(clock=time.time, emit=self._emit, journal=lambda: self._outbox)
        begin = functools.partial(
            Outbox,
            self.folder.outbox,
            device=settings.device,
            max_bytes=settings.outbox_bytes,
            max_age=settings.outbox_days * DAY_SECONDS,
            merge=self._recordings.merge,
        )
        self._outbox = begin_somewhere(begin)
        self._defer(self._outbox.close)
        self._sampling = Sampling(
            settings.privacy,
            lambda: self._outbox,
            device=settings.device,
            wake=self._wake_link,
            clock=lambda: max(time.time(), self._verifier.time_floor),
        )
        self._notices = Notices(self._outbox, wake=self._wake_link, clock=time.monotonic)

    def _build_link(self, chance: random.Random) -> None:
        broker = self.settings.mqtt
        self._link = Link(
            self.settings.device,
            broker,
            context=lambda: tls_context(self.folder),
            outbox=self._outbox,
            hello=self._hello,
            on_desired=self._open_envelope,
            chance=chance,
            pace=Pace(last_retry=broker.retry_seconds, hello=self.settings.hello_seconds),
        )
        self._defer(self._link.stop)
        self._defer(self._recordings.close)  # which fills the outbox once more, while the link still stands

    def _build_updating(self, store: Store, chance: random.Random) -> None:
        settings = self.settings
        context = tls_context(self.folder)
        fetcher = Fetcher(context)
        self._defer(fetcher.close)
        client = TrustClient(
            self.folder.trust,
            root=read_pinned_root(self.folder),
            base_url=settings.repository,
            fetcher=fetcher,
            clock=time.time,
        )
        self._verifier = verifier = Verifier(client, settings.device)
        parts = Parts(
            verifier=verifier,
            store=store,
            downloader=Downloader(
                settings.repository,
                fetcher,
                store,
                chance=chance,
                memory_bytes=self._machine.memory_bytes,
                on_failed_patch=self._notices.tell_failed_patch,
            ),
            runner=self._runner,
            recordings=self._recordings,
            machine=self._machine,
            scratch=self.folder.run,
            clock=time.monotonic,
            chance=chance,
            spare=lambda: make_spare(self.folder.root) / self.folder.run.name,
        )
        lanes = Lanes()
        executor = Executor(
            Installer(parts),
            lanes=lanes,
            notices=self._notices,
            post=self._happened,
            report=self._loop.report_soon,
            collect=lambda: _collect(store),
        )
        self._course = Course(
            store,
            carry_out=executor.carry_out,
            clock=time.monotonic,
            chance=chance,
            spread_seconds=settings.spread_seconds,
        )
        self._starting = Starting(self._course.state.models.values())
        if store.mishap:
            self._notices.tell(Notice("dropped", reason=Reason.STORAGE_FAILED, detail=store.mishap))
        self._errands = Errands(
            verifier,
            self._notices,
            Outside(
                held=lambda: self._course.state.sequence,
                agree=self._loop.agree,
                greet=self._link.greet,
                life=lambda: certificate_life(self.folder),
                renew=lambda: self._renew(context),
            ),
            refresh_seconds=settings.refresh_seconds,
            chance=chance,
        )
        self._defer(lambda: self._end_work(executor, lanes))

    def _defer(self, close: Callable[[], object]) -> None:
        self._closing.callback(close)

    def _end_work(self, executor: Executor, lanes: Lanes) -> None:
        executor.cancel_all()
        self._errands.stop(STOP_SECONDS)
        lanes.close(STOP_SECONDS)

    # What the parts tell each other

    def _hello(self) -> Hello:
        return Hello(
            device=self.settings.device,
            desired=self._course.state.sequence,
            agent=self._machine.agent,
            runtimes=told_runtimes(self._machine.runtimes, self._runner.lacking()),
            hardware=self._machine.hardware,
            memory_bytes=self._machine.memory_bytes,
            disk_free_bytes=self._disk.free_bytes(),
            time_zone=self._machine.time_zone,
            isolation=self._isolation_level(),
            models=self._course.reports(),
            outbox=self._outbox.status(),
            health=self._health(),
        )

    def _health(self) -> Health:
        waiting = self._outbox.status().waiting
        return measure(now=time.time(), time_floor=self._verifier.time_floor, waiting=waiting)

    def _between(self) -> None:
        if settle(self._outbox):
            self._link.begin_again()
        self._notices.retry()
        self._sampling.work()
        self._notifier.alive()  # here, because nothing but the loop that decides comes here

    # These name parts that are built later than those that call them.

    def _happened(self, model: str, event: AnyEvent) -> None:
        self._starting.take(self._course.state.models.get(model), event)
        self._loop.post(model, event)

    def _loading(self) -> frozenset[str]:
        return self._starting.among(self._course.state.models)

    def _wake_link(self) -> None:
        self._link.wake()

    def _open_envelope(self, envelope: bytes) -> None:
        self._errands.open(envelope)

    def _isolation_level(self) -> str:
        return f"{self.isolation}/{sandbox.level()}" if self.isolation is Isolation.PROCESS else "inline"

    def _report(self, models: tuple[ModelReport, ...]) -> None:
        try:
            self._outbox.add_report(models, self._health())
        except StorageError as error:
            log.warning("a report is lost: %s", error)  # the next one says more
        self._link.wake()

    def _emit(self, part: WindowPart) -> None:
        try:
            self._outbox.add_window(part)
        except StorageError as error:
            self._notices.lose(part.model, part.manifest, calls=part.calls, reason=error.reason)
            raise
        self._link.wake()

    def _worker_failed(self, model: str, digest: str, reason: Reason, detail: str) -> None:
        now, jitter = time.monotonic(), random.random()  # noqa: S311 - it spreads a fleet
        failed = WorkerFailed(digest=digest, reason=reason, detail=detail, now=now, jitter=jitter)
        self._loop.post(model, failed)

    def _shadow_failed(self, model: str, digest: str, reason: Reason, detail: str) -> None:
        failed = ShadowFailed(digest=digest, reason=reason, detail=detail, now=time.monotonic())
        self._loop.post(model, failed)

    def _worker_restarted(self, model: str, digest: str, reason: Reason, detail: str) -> None:
        self._notices.tell_rarely(Notice("crashed", model, digest, reason, f"{detail}; it was started again"))

    def _renew(self, context: ssl.SSLContext) -> None:
        renew(self.settings, self.folder)
        # Connections that are made from here on show the new certificate.
        context.load_cert_chain(self.folder.identity / "device.pem", self.folder.identity / "device.key")


def _collect(store: Store) -> None:
    try:
        store.collect()
    except StorageError as error:
        log.warning("old files are left over: %s", error)  # they go the next time
