"""Everything that one real agent talks to: broker, enrolment, signed files, and a controller with wishes.

The controller here has no database: it keeps what came up in lists and says at once that it is stored.
"""

import bisect
import datetime as dt
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from msgspec.structs import replace
from paho.mqtt.client import Client, MQTTMessage

from muster_agent.config import Folder, load_settings
from muster_agent.enroll import enrol, parse_token
from muster_controller.pki import Authority
from muster_models import toml_file, topics, wire
from muster_models.errors import Reason
from muster_models.golden import encode_golden
from muster_models.manifest import Budget, FeatureSpec, Setting, TensorSpec, ValueOutput
from muster_models.publish.build import build
from muster_models.publish.deltas import add_deltas
from muster_models.publish.source import read_source
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.features import column_kinds
from muster_models.trust.verified import VerifiedManifest
from support import device_side, mosquitto
from support.mosquitto import Mosquitto
from support.outboxes import stored_upto
from support.repository import SignedRepository
from support.small_models import WIDTH
from support.verified import answers

T = TypeVar("T")
Process = subprocess.Popen[bytes]
ROOT = Path(__file__).parents[2]
ZOO = ROOT / "models/zoo"
DEVICE = "press-1"
SECRET = "s" * 32
WAIT_SECONDS = 60.0
CREATED = "2026-01-01T00:00:00Z"


@dataclass
class AgentSite:
    """The world of one device.

    Attributes:
        reports, events, windows, samples: What came up, in order, each once.
        hellos: Greetings.
    """

    folder: Path
    authority: Authority
    broker: Mosquitto
    side: device_side.DeviceSide
    repository: SignedRepository
    device: Folder
    sequence: int = 0
    reports: list[wire.Report] = field(default_factory=list)
    events: list[wire.Event] = field(default_factory=list)
    windows: list[wire.Window] = field(default_factory=list)
    samples: list[wire.Sample] = field(default_factory=list)
    hellos: list[wire.Hello] = field(default_factory=list)
    newest: bytes | None = None
    _seen: set[tuple[int, int]] = field(default_factory=set)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _client: Client | None = None

    # The controller

    def connect(self) -> None:
        """Begin to hear and answer the device."""
        self._client = mosquitto.connect_controller(self.broker, self._on_message)

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def want(
        self,
        *versions: VerifiedManifest,
        probation: float = 0.2,
        window_seconds: float = 0.5,
        heartbeat_seconds: float = 60.0,
        save_seconds: float = 600.0,
        samples: tuple[wire.SampleOrder, ...] = (),
        **changes: object,
    ) -> wire.Desired:
        """Sign and send the desired state that names ``versions``; ``changes`` apply to each of them."""
        self.sequence += 1
        now = time.time()
        models = tuple(
            wire.DesiredModel(
                version.manifest.model,
                version.manifest.version,
                version.digest,
                probation_seconds=probation,
                **changes,  # type: ignore[arg-type]  # fields of the struct, by name
            )
            for version in versions
        )
        reporting = wire.Reporting(
            window_seconds=window_seconds, heartbeat_seconds=heartbeat_seconds, save_seconds=save_seconds
        )
        desired = wire.Desired(DEVICE, self.sequence, now, now + 3600, models, reporting, samples)
        self.newest = self.repository.envelope(desired)
        self.send(self.newest)
        return desired

    def send(self, envelope: bytes) -> None:
        """Publish an envelope as it is; nothing while the broker is away."""
        if self._client is not None:
            self._client.publish(topics.down(DEVICE, "desired"), envelope, qos=1)

    def until(self, what: Callable[[], T | None], seconds: float = WAIT_SECONDS) -> T:
        """Return the first true value of ``what``, asked whenever something came up."""
        end = time.monotonic() + seconds
        with self._news:
            while not (found := what()):
                left = end - time.monotonic()
                assert left > 0, self.story()
                self._news.wait(min(left, 0.1))
        return found

    def until_committed(self, version: VerifiedManifest) -> wire.ModelReport:
        return self.until(
            lambda: self.model_report(
                lambda model: (
                    model.phase is wire.Phase.COMMITTED
                    and model.current is not None
                    and model.current.manifest == version.digest
                )
            )
        )

    def until_phase(self, phase: wire.Phase, target: VerifiedManifest) -> wire.ModelReport:
        return self.until(
            lambda: self.model_report(lambda model: model.phase is phase and model.target == target.digest)
        )

    def until_event(self, kind: str, reason: Reason | None = None) -> wire.Event:
        return self.until(
            lambda: next(
                (event for event in self.events if event.kind == kind and event.reason is reason), None
            )
        )

    def model_report(self, suits: Callable[[wire.ModelReport], bool]) -> wire.ModelReport | None:
        """Return the newest report of a model if it suits."""
        models = self.reports[-1].models if self.reports else ()
        return next((model for model in models if suits(model)), None)

    def numbers(self) -> dict[int, list[int]]:
        """Return the sequence numbers that came up, in order, by epoch."""
        seen: dict[int, list[int]] = {}
        for epoch, sequence in sorted(self._seen.copy()):  # more may come meanwhile
            seen.setdefault(epoch, []).append(sequence)
        return seen

    def story(self) -> str:
        """Return what happened, for a test that fails."""
        log = self.folder / "agent.log"
        lines = [str(event) for event in self.events] + [str(report) for report in self.reports[-3:]]
        return "\n".join([*lines, log.read_text() if log.exists() else ""])

    def _on_message(self, client: Client, message: MQTTMessage) -> None:
        came = wire.decode_uplink(bytes(message.payload))
        with self._news:
            match came:
                case wire.Hello():
                    self.hellos.append(came)
                    if self.newest is not None and came.desired < self.sequence:
                        client.publish(topics.down(DEVICE, "desired"), self.newest, qos=1)
                case wire.Report() | wire.Event() | wire.Window() | wire.Sample():
                    self._keep(came)
                    stored = stored_upto(self._seen, came.epoch)
                    client.publish(topics.down(DEVICE, "stored"), wire.encode(stored), qos=1)
            self._news.notify_all()

    def _keep(self, message: wire.Outboxed) -> None:
        if (message.epoch, message.sequence) in self._seen:
            return
        self._seen.add((message.epoch, message.sequence))
        match message:
            case wire.Report():
                bisect.insort(self.reports, message, key=lambda report: report.sequence)
            case wire.Event():
                self.events.append(message)
            case wire.Window():
                self.windows.append(message)
            case wire.Sample():
                self.samples.append(message)

    # The publisher

    def release_digits(self, version: str, *patched_from: VerifiedManifest) -> VerifiedManifest:
        """Release a version of the zoo's digits, with patches from earlier ones."""
        source = read_source(ZOO / "digits" / version)
        release = int(version.replace(".", ""))
        built = build(source, release=release, created=CREATED, output=self.folder / "built")
        blobs = self.repository.folder / "blobs"
        earlier = [before.manifest for before in patched_from]
        built, _ = add_deltas(
            built,
            earlier,
            read=lambda entry: (blobs / entry.sha256).read_bytes(),
            output=self.folder / "built",
        )
        contents = {path.name: path.read_bytes() for path in built.files.values()}
        return self.repository.release(contents, manifest=built.manifest)

    def release_small(
        self,
        version: str,
        model: bytes,
        *,
        answer: float,
        asked: float = 1.0,
        load_seconds: float = 60.0,
        settings: tuple[Setting, ...] = (),
        swap: Literal["beside", "stop-then-load"] = "beside",
    ) -> VerifiedManifest:
        """Release a version of ``small``, said to answer a row of ``asked`` with a row of ``answer``."""
        features = (FeatureSpec("first", "x", column=0),)
        prediction = ValueOutput("y")
        rows = np.random.default_rng(1).normal(size=(500, 2))
        files = {
            "model.onnx": model,
            "golden.bin": encode_golden(answers(asked, answer)),
            "baseline.bin": make_baseline(rows, column_kinds(features, prediction)).encode(),
        }
        return self.repository.release(
            files,
            model="small",
            version=version,
            release=int(version.replace(".", "")),
            inputs=(TensorSpec("x", "float32", (None, WIDTH)),),
            outputs=(TensorSpec("y", "float32", (None, WIDTH)),),
            features=features,
            prediction=prediction,
            budget=Budget(load_seconds=load_seconds, swap=swap),
            settings=settings,
            fallback=-1.0,
        )

    # The device

    def enrol(self) -> None:
        """Enrol the device over the real protocol, and make a story of hours one of a second."""
        token = parse_token(f"mst1.{DEVICE}.{SECRET}.{self.authority.fingerprint}")
        enrol(self.side.url, token, self.device)
        settings = load_settings(self.device)
        quick = replace(
            settings, tick_seconds=0.05, spread_seconds=0.0, mqtt=replace(settings.mqtt, retry_seconds=0.2)
        )
        self.device.settings.write_text(toml_file.render(quick))

    def start_agent(self, *options: str) -> Process:
        """Start the agent as a process that writes to ``agent.log``."""
        with (self.folder / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "muster_agent", "run", self.device.root, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )

    def command(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command of ``muster-agent``."""
        return subprocess.run(
            [sys.executable, "-m", "muster_agent", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def status(self) -> dict[str, Any]:
        done = self.command("status", self.device.root, "-o", "json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _answer_enrol(self, body: Mapping[str, Any], _peer: str | None) -> device_side.Answer:
        content = {
            "device": DEVICE,
            "certificate": device_side.sign(self.authority, DEVICE, body["csr"]),
            "ca": self.authority.pem,
            "root": self.repository.root.decode(),
            "mqtt": {"host": "127.0.0.1", "port": self.broker.port},
            "repository": f"{self.side.url}/repository",
        }
        return 200, json.dumps(content).encode()


@contextmanager
def running(folder: Path) -> Iterator[AgentSite]:
    """Run everything but the agent; the device is enrolled."""
    repository = SignedRepository(folder / "repository", now=dt.datetime.now(dt.UTC))
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto.running(folder))
        side = stack.enter_context(device_side.serving(broker.authority))
        side.files = repository.folder
        site = AgentSite(folder, broker.authority, broker, side, repository, Folder(folder / "device"))
        side.handlers["/enrol"] = site._answer_enrol
        site.enrol()
        site.connect()
        stack.callback(site.disconnect)
        yield site
