"""The folder of one device and its settings, read once at start from ``agent.toml``."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster_models import toml_file
from muster_models.engine import CPU_ALONE, EngineOptions
from muster_models.wire import DeviceId

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0)]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:%-]{1,253}\Z")]
Url = Annotated[str, Meta(pattern=r"^https?://[A-Za-z0-9._:%\[\]-]{1,253}(/[A-Za-z0-9._~%/-]{0,400})?\Z")]
DAY_SECONDS = 86_400.0  # what settings in days are counted in


class Broker(Struct, frozen=True, forbid_unknown_fields=True):
    """Where MQTT is spoken, always over TLS with the device's certificate.

    Attributes:
        keepalive_seconds: A connection that is silent for longer is given up.
        retry_seconds: A lost connection is tried again after a random time below a bound that grows to this.
    """

    host: Host
    port: Port
    keepalive_seconds: Annotated[int, Meta(ge=5, le=3600)] = 60
    retry_seconds: Positive = 120.0


class Privacy(Struct, frozen=True, forbid_unknown_fields=True):
    """What this device allows whatever the controller orders.

    Attributes:
        samples: Rows of its models may leave it, for an operator who orders them.
    """

    samples: bool = False


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that may be set on a device; enrolment writes the first four.

    Attributes:
        controller: Where certificates are renewed.
        repository: Base URL of the static files: metadata and blobs.
        isolation: ``process`` runs each model in a worker of its own, ``inline`` in the application.
        refresh_seconds: Time between two looks at the signed repository when nothing else asks for one.
        hello_seconds: Time between two greetings while the connection stands; each also follows a connect.
        tick_seconds: Time between two looks at deadlines.
        spread_seconds: A download begins at a random time up to this after it was asked for.
        serve_port: A loopback TCP port for applications that cannot use the Unix socket; 0 for none.
        outbox_bytes: What waits for the controller may take this much of the disk.
        outbox_days: What waits for longer is dropped, oldest windows first.
        engine: What models run on beside the CPU, which answers wherever that cannot be had.
        privacy: What may leave the device; nobody but its owner can widen it.
    """

    device: DeviceId
    controller: Url
    repository: Url
    mqtt: Broker
    isolation: Literal["process", "inline"] = "process"
    refresh_seconds: Positive = 3600.0
    hello_seconds: Positive = 21_600.0
    tick_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.0
    spread_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 2.0
    serve_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    outbox_bytes: Annotated[int, Meta(ge=65_536)] = 64 * 1024 * 1024
    outbox_days: Positive = 30.0
    engine: EngineOptions = CPU_ALONE
    privacy: Privacy = Privacy()


class Folder:
    """Where each thing of one device lives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "agent.toml"
        self.identity = root / "identity"
        self.pinned_root = root / "root.json"
        self.trust = root / "trust"
        self.store = root / "store"
        self.outbox = root / "outbox.sqlite"
        self.socket = root / "agent.sock"
        self.lock = root / "agent.lock"
        self.run = root / "run"


def load_settings(folder: Folder) -> Settings:
    """Read ``agent.toml``.

    Raises:
        InvalidInputError: The file is missing, is not TOML, or has a setting of the wrong form.
    """
    return toml_file.load(
        folder.settings,
        Settings,
        missing=f"make the folder with: muster-agent enrol URL TOKEN --folder {folder.root}",
    )
