"""The controller's folder and its settings, read once at start from ``controller.toml``."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from muster_controller.domain import selector
from muster_controller.domain.alarms.alarm import KINDS, LEVELS
from muster_models import toml_file
from muster_models.errors import InvalidInputError, Reason, RequestError
from muster_models.wire import Reporting

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0)]
ROLLOUT = "rollout"  # the kind of what receivers are told of rollouts
MAX_ASCII = 0x7F
NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"


class DriftSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How drift is judged.

    Attributes:
        calibration_windows: Windows of a device that set its own level before it is judged.
        tolerance: δ: a change of a score mean, in standard deviations, that does not matter.
        run_length: Mean number of windows to the first false alarm of a model, over all its signals.
        minimum_rows: Windows with fewer rows are accumulated, not tested.
        group_labels: Labels whose values are watched as groups; each group more costs a little of the delay.
    """

    calibration_windows: Annotated[int, Meta(ge=2)] = 24
    tolerance: Positive = 0.05
    run_length: Positive = 2000.0
    minimum_rows: Annotated[int, Meta(ge=1)] = 30
    group_labels: Annotated[tuple[str, ...], Meta(max_length=8)] = ("site",)


class AlarmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How receivers are told of alarms.

    Attributes:
        group_seconds: Least time between two messages about one model, kind of alarm and change of state.
        repeat_seconds: An alarm that goes on firing, and that nobody acknowledged, is told again after that.
    """

    group_seconds: Annotated[float, Meta(ge=0)] = 300.0
    repeat_seconds: Positive = 14_400.0


class SilenceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """When devices that are not heard of become an alarm.

    Attributes:
        missed_heartbeats: So many in a row; never before ``reachable_seconds`` either.
        where: A selector of the devices that are expected to speak at all times; empty for none.
        group_labels: Labels whose values are judged as cohorts.
    """

    missed_heartbeats: Annotated[float, Meta(ge=1)] = 3.0
    where: str = "all"
    group_labels: Annotated[tuple[str, ...], Meta(max_length=8)] = ("site",)


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One receiver of webhooks.

    Attributes:
        url: ``https://…``; ``http://`` only to this machine itself. Redirects are not followed.
        secret_file: Holds one or two lines ``whsec_…``; a relative path begins at the controller's folder.
        ca_file: Certificates to trust instead of the machine's.
        kinds, levels, models: Of what the receiver is told; an empty list means any. The kind of a rollout's
            changes is ``rollout``.
        pending: Also tell of alarms before they fire.
        timeout_seconds: For one try, from the connection to the answer.
        max_age_seconds, max_waiting: What is older, or the oldest of more, is given up, and counted.
    """

    name: Annotated[str, Meta(pattern=NAME)]
    url: str
    secret_file: str
    ca_file: str | None = None
    kinds: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    pending: bool = False
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 15.0
    max_age_seconds: Positive = 259_200.0
    max_waiting: Annotated[int, Meta(ge=1, le=100_000)] = 1000


class JobSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which alarms start a retraining job, and what it is.

    Attributes:
        kinds, models, levels: Of the alarms; an empty list means any model, any level.
        command: Program and arguments, started without a shell in a folder of the job.
        webhook: Instead of a command: the name of the receiver that is asked.
        environment: Names of variables that the command inherits, besides ``PATH``.
        timeout_seconds: A job that has not ended by then has failed.
        cooldown_seconds: Least time between two jobs of one model.
        per_week: Most jobs in seven days.
    """

    name: Annotated[str, Meta(pattern=NAME)]
    kinds: Annotated[tuple[str, ...], Meta(min_length=1)]
    models: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    webhook: str = ""
    environment: tuple[str, ...] = ()
    timeout_seconds: Annotated[float, Meta(gt=0, le=7 * 86_400)] = 3600.0
    cooldown_seconds: Annotated[float, Meta(ge=0)] = 86_400.0
    per_week: Annotated[int, Meta(ge=1, le=1000)] = 3


class LabelSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of the truth that is pushed after predictions.

    Attributes:
        days: How long labels and their counts are kept, and how old a prediction may be that is labelled.
        accuracy_tolerance: What may be lost of a version's signed accuracy, 0..1, before it is an alarm.
        error_tolerance: By which share of itself a version's signed mean error may grow.
        run_length: Mean number of rounds to the first false alarm of a version; a round is what one push says
            about one window.
    """

    days: Positive = 180.0
    accuracy_tolerance: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    error_tolerance: Positive = 0.2
    run_length: Positive = 2000.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything an operator may set.

    Attributes:
        host: Where the operator's side listens; loopback unless a proxy with its own login stands before it.
        database: URL of a PostgreSQL database; empty for the SQLite file of the folder.
        names: Host names and addresses under which devices reach this machine.
        enrol_on_request: Machines without a token may ask to be let in, and an operator decides by a code.
        broker: ``mosquitto``, or ``amqtt`` where Mosquitto cannot be had.
        tick_seconds: Time between two passes of the loop that decides.
        reachable_seconds: A device that was silent for longer does not count as reachable.
        desired_days: How long a desired state is valid; it is renewed after half of that.
        window_days: How long the windows of single devices are kept.
        drill_days: A model whose rollback was not rehearsed for so long is a finding; 0 for never.
        webhooks, jobs: None for none.
    """

    host: str = "127.0.0.1"
    port: Port = 8420
    device_host: str = "127.0.0.1"
    device_port: Port = 8421
    mqtt_port: Port = 8883
    database: str = ""
    broker: str = "auto"
    enrol_on_request: bool = False
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    tick_seconds: Positive = 5.0
    reachable_seconds: Positive = 900.0
    desired_days: Positive = 30.0
    window_days: Positive = 14.0
    drill_days: Annotated[float, Meta(ge=0)] = 90.0
    reporting: Reporting = Reporting()
    drift: DriftSettings = DriftSettings()
    labels: LabelSettings = LabelSettings()
    alarms: AlarmSettings = AlarmSettings()
    silence: SilenceSettings = SilenceSettings()
    webhooks: tuple[WebhookSettings, ...] | None = None
    jobs: tuple[JobSettings, ...] | None = None

    def device_url(self, host: str = "") -> str:
        """Return where devices enrol and fetch files; without a host, by the first of ``names``."""
        reached = host or self.names[0]
        return f"https://{f'[{reached}]' if ':' in reached else reached}:{self.device_port}"


class Folder:
    """Where each thing of one controller lives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "controller.toml"
        self.database = root / "database.sqlite"  # unless the settings name another one
        self.blobs = root / "blobs"
        self.tuf = root / "tuf"
        self.keys = root / "keys"
        self.pki = root / "pki"
        self.broker = root / "broker"
        self.token = root / "operator.token"
        self.jobs = root / "jobs"


def database_of(folder: Folder, settings: Settings) -> Path | str:
    """Return where the database is: a file, or a URL."""
    return settings.database or folder.database


def load_settings(folder: Folder) -> Settings:
    """Read ``controller.toml``.

    Raises:
        InvalidInputError: The file is missing, is not TOML, or has a setting of the wrong form.
    """
    settings = toml_file.load(
        folder.settings, Settings, missing="make the folder with: muster-controller init FOLDER"
    )
    check_receivers(settings)
    return settings


def check_receivers(settings: Settings) -> None:
    """Hold together what is said about webhooks, jobs and silence.

    Raises:
        InvalidInputError: A name is there twice, a URL is not allowed, a selector does not parse, a kind or a
            level is unknown, a job has no way to run or has two, or asks a receiver that there is not.
    """
    webhooks, jobs = settings.webhooks or (), settings.jobs or ()
    for table, names in (("webhooks", [one.name for one in webhooks]), ("jobs", [one.name for one in jobs])):
        if len(set(names)) < len(names):
            raise _wrong(f"two of [[{table}]] have one name: {', '.join(names)}")
    for webhook in webhooks:
        _check_url(webhook)
        _check_choice(f"webhook {webhook.name}", webhook.kinds, webhook.levels, (*KINDS, ROLLOUT))
    for job in jobs:
        _check_choice(f"job {job.name}", job.kinds, job.levels, KINDS)
        if bool(job.command) == bool(job.webhook):
            raise _wrong(f"job {job.name}: expected a command or a webhook, one of the two")
        if job.webhook and job.webhook not in {webhook.name for webhook in webhooks}:
            raise _wrong(f"job {job.name}: there is no webhook {job.webhook!r}")
    if settings.silence.where:
        try:
            selector.parse(settings.silence.where)
        except RequestError as error:
            raise _wrong(f"silence.where: {error}") from error


def _check_url(webhook: WebhookSettings) -> None:
    try:
        parts = urlsplit(webhook.url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(f"webhook {webhook.name}: {error}") from error
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None or parts.fragment:
        raise _wrong(f"webhook {webhook.name}: expected https://HOST/PATH without a user's name")
    if parts.scheme == "http" and host not in {"127.0.0.1", "::1", "localhost"}:
        raise _wrong(f"webhook {webhook.name}: http only to this machine itself, else https, got {host}")
    if any(ord(sign) <= ord(" ") or ord(sign) >= MAX_ASCII for sign in webhook.url):
        raise _wrong(f"webhook {webhook.name}: a URL has no spaces and only ASCII signs")


def _check_choice(who: str, kinds: tuple[str, ...], levels: tuple[str, ...], known: tuple[str, ...]) -> None:
    for what, named, allowed in (("kind", kinds, known), ("level", levels, LEVELS)):
        for one in named:
            if one not in allowed:
                raise _wrong(f"{who}: expected a {what} out of {', '.join(allowed)}, got {one!r}")


def _wrong(message: str) -> InvalidInputError:
    return InvalidInputError(Reason.BAD_SETTING, f"controller.toml: {message}")
