"""The controller's folder and its settings, read once at start from ``controller.toml``."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from muster_models import toml_file
from muster_models.wire import Reporting

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0)]


class DriftSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How drift is judged.

    Attributes:
        calibration_windows: Windows of a device that set its own level before it is judged.
        tolerance: δ: a change of a score mean, in standard deviations, that does not matter.
        run_length: Mean number of windows to the first false alarm of a model, over all its signals.
        minimum_rows: Windows with fewer rows are accumulated, not tested.
        group_label: The label whose values are watched as groups.
    """

    calibration_windows: Annotated[int, Meta(ge=2)] = 24
    tolerance: Positive = 0.05
    run_length: Positive = 2000.0
    minimum_rows: Annotated[int, Meta(ge=1)] = 30
    group_label: str = "site"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything an operator may set.

    Attributes:
        host: Where the operator's side listens; loopback unless a proxy with its own login stands before it.
        names: Host names and addresses under which devices reach this machine.
        enrol_on_request: Machines without a token may ask to be let in, and an operator decides by a code.
        broker: ``mosquitto``, or ``amqtt`` where Mosquitto cannot be had.
        tick_seconds: Time between two passes of the loop that decides.
        reachable_seconds: A device that was silent for longer does not count as reachable.
        desired_days: How long a desired state is valid; it is renewed after half of that.
        window_days: How long the windows of single devices are kept.
    """

    host: str = "127.0.0.1"
    port: Port = 8420
    device_host: str = "127.0.0.1"
    device_port: Port = 8421
    mqtt_port: Port = 8883
    broker: str = "auto"
    enrol_on_request: bool = False
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    tick_seconds: Positive = 5.0
    reachable_seconds: Positive = 900.0
    desired_days: Positive = 30.0
    window_days: Positive = 14.0
    reporting: Reporting = Reporting()
    drift: DriftSettings = DriftSettings()


class Folder:
    """Where each thing of one controller lives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "controller.toml"
        self.database = root / "database.sqlite"
        self.blobs = root / "blobs"
        self.tuf = root / "tuf"
        self.keys = root / "keys"
        self.pki = root / "pki"
        self.broker = root / "broker"
        self.token = root / "operator.token"


def load_settings(folder: Folder) -> Settings:
    """Read ``controller.toml``.

    Raises:
        InvalidInputError: The file is missing, is not TOML, or has a setting of the wrong form.
    """
    return toml_file.load(
        folder.settings, Settings, missing="make the folder with: muster-controller init FOLDER"
    )
