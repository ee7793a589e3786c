"""The small real fleet: a controller with its broker, an agent per device, and one feeder of real rows."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from story.api import Api
from story.errors import StoryError
from story.ports import free_port
from story.processes import Children

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "models/zoo"
BIN = Path(sys.executable).parent
SITES = ("berlin", "lyon", "oslo", "porto")
DEVICES = tuple(f"{site}-{number}" for site in SITES for number in (1, 2))
# Weather stations run the TFLite model beside the ONNX one.
STATIONS = ("oslo-1", "oslo-2")
START_SECONDS = 120.0


@dataclass
class Fleet:
    """Folders, ports and processes of one run of the story.

    Attributes:
        folder: Holds everything that the run writes.
    """

    folder: Path
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("web", "device", "mqtt")}
    )
    children: Children = field(init=False)
    api: Api | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.children = Children(self.folder / "logs")

    @property
    def controller(self) -> Path:
        """The controller's folder."""
        return self.folder / "controller"

    @property
    def keys(self) -> Path:
        """The publisher's offline keys."""
        return self.folder / "keys"

    @property
    def url(self) -> str:
        """The operator's side: API and dashboard."""
        return f"http://127.0.0.1:{self.ports['web']}"

    @property
    def token(self) -> str:
        """The operator's token."""
        return (self.controller / "operator.token").read_text().strip()

    def agent(self, device: str) -> Path:
        """Return the folder of one device."""
        return self.folder / "devices" / device

    def call(self, *command: str | Path, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command of Muster as a user would, however it ends."""
        return subprocess.run(
            [str(BIN / command[0]), *(str(part) for part in command[1:])],
            env={
                **os.environ,
                "MUSTER_URL": self.url,
                "MUSTER_TOKEN_FILE": str(self.controller / "operator.token"),
            },
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )

    def run(self, *command: str | Path, succeed: bool = True) -> str:
        """Run a command of Muster as a user would, and return what it printed.

        Raises:
            StoryError: Its exit status was not as wanted; the message holds what it said.
        """
        done = self.call(*command)
        if (done.returncode == 0) != succeed:
            wanted = "succeed" if succeed else "be refused"
            said = (done.stderr or done.stdout).strip()
            raise StoryError(
                f"{' '.join(map(str, command))} should {wanted}, status {done.returncode}: {said[-600:]}"
            )
        return done.stdout if succeed else done.stderr

    def start_controller(self) -> Api:
        """Make the controller's folder at the first start, run it, and return its API once it answers.

        Raises:
            StoryError: It did not start.
        """
        if not self.controller.exists():
            ports = (
                "--port",
                self.ports["web"],
                "--device-port",
                self.ports["device"],
                "--mqtt-port",
                self.ports["mqtt"],
            )
            self.run("muster-controller", "init", self.controller, *map(str, ports))
            self._quicken()
        self.children.start("controller", [BIN / "muster-controller", "run", self.controller])
        api = self.api = Api(self.url, self.token)

        def answers() -> bool | None:
            if "controller" in self.children.died():
                raise StoryError(f"the controller ended: {self.children.last_words('controller')}")
            return api.ready() or None

        api.wait("the controller answers", answers, seconds=START_SECONDS)
        return api

    def stop(self) -> None:
        """Stop every process of the fleet, and close what was open to it."""
        self.children.stop()
        if self.api is not None:
            self.api.close()

    def _quicken(self) -> None:
        """Shorten windows and ticks, so that a story of minutes shows what takes a fleet hours."""
        path = self.controller / "controller.toml"
        text = path.read_text()
        for old, new in QUICK.items():
            if old not in text:
                raise StoryError(f"{path}: expected the line {old!r}")
            text = text.replace(old, new)
        path.write_text(text)

    def enrol(self, device: str) -> None:
        """Enrol one device with a one-time token."""
        site = device.rpartition("-")[0]
        labels = [f"site={site}", f"role={'station' if device in STATIONS else 'press'}"]
        answer = json.loads(
            self.run(
                "muster", "device", "token", device, *(f"--label={label}" for label in labels), "-o", "json"
            )
        )
        self.run(
            "muster-agent", "enrol", f"https://127.0.0.1:{self.ports['device']}", answer["token"],
            "--folder", self.agent(device),
        )  # fmt: skip

    def start_agent(self, device: str) -> None:
        """Run the agent of one device."""
        self.children.start(device, [BIN / "muster-agent", "run", self.agent(device)])

    def start_feeder(self) -> None:
        """Run the application that gives every device real rows to predict on."""
        self.write_feed({})
        self.children.start(
            "feeder",
            [sys.executable, "-m", "story.feeder", self.folder],
            environment={"PYTHONPATH": str(ROOT / "scripts")},
        )

    def check_children(self) -> None:
        """Notice a process that ended by itself.

        Raises:
            StoryError: One did; the message holds its last line.
        """
        for name in self.children.died():
            raise StoryError(
                f"{name} ended: {self.children.last_words(name)} (see {self.folder / 'logs' / name}.log)"
            )

    def read_fed(self) -> dict[str, Any]:
        """Return what the feeder asked for so far, and what it did not get."""
        fed: dict[str, Any] = json.loads((self.folder / "fed.json").read_text())
        return fed

    def write_feed(self, feed: dict[str, float]) -> None:
        """Tell the feeder what each site's instrument does to brightness, in one atomic step."""
        temporary = self.folder / "feed.json.new"
        temporary.write_text(json.dumps(feed))
        temporary.rename(self.folder / "feed.json")


# Lines of controller.toml as ``muster-controller init`` writes them, and what the story makes of them. In a
# minute of it there are as many windows as else in five hours, so that false alarms have to be rarer.
WINDOW_SECONDS = 1.0
QUICK = {
    "tick_seconds = 5.0": "tick_seconds = 0.5",
    "window_seconds = 300.0": f"window_seconds = {WINDOW_SECONDS}",
    "heartbeat_seconds = 300.0": "heartbeat_seconds = 5.0",
    "calibration_windows = 24": "calibration_windows = 12",
    "run_length = 2000.0": "run_length = 200000.0",
}
