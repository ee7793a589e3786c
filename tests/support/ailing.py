"""A real fleet of eight devices at four sites, all of which run the same four models, and an operator.

``feeding`` says what goes wrong on it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from muster_agent import Client
from story.api import Api
from story.fleet import BIN, DEVICES, ZOO, Fleet
from support.feeding import GAPS, MODELS, PERIOD_SECONDS, Feeder, Stream

WINDOW_SECONDS = 2.0
SETTINGS = {
    "tick_seconds = 5.0": "tick_seconds = 0.5",
    "window_seconds = 300.0": f"window_seconds = {WINDOW_SECONDS}",
    "heartbeat_seconds = 300.0": "heartbeat_seconds = 5.0",
    "calibration_windows = 24": "calibration_windows = 8",
    # Of drift and of labels: fifty rounds of four models then hold a false alarm in one run of a thousand.
    "run_length = 2000.0": "run_length = 200000.0",
}
# Of the feeder in a window. With four calls it is minutes until latency has a level of its own, so that how
# busy this machine is raises no alarm about performance, which would be a true one.
TURNS = round(WINDOW_SECONDS / PERIOD_SECONDS)
FIRST = ("--stages", "100%", "--control", "0%")
QUICK = ("--soak", "4", "--minimum-rounds", "2", "--before-rounds", "2", "--probation", "2")


@dataclass(frozen=True)
class Ailing:
    """The fleet, its application, and the operator's API."""

    fleet: Fleet
    api: Api
    feeder: Feeder

    def wait(self, what: str, probe: Callable[[], bool], *, seconds: float = 200.0) -> None:
        """Wait until ``probe`` says yes; a process that ended is an error at once."""

        def checked() -> bool | None:
            self.fleet.check_children()
            return probe() or None

        self.api.wait(what, checked, seconds=seconds)

    def run_for(self, windows: int) -> None:
        """Let the application go on for some windows."""
        until = self.feeder.turns + windows * TURNS
        self.wait(f"{windows} windows more", lambda: self.feeder.turns >= until)

    def alarms(self, **query: str) -> list[dict[str, Any]]:
        """Return alarms, of whatever state."""
        return self.api.items("/alarms", **query)

    def is_completed(self, rollout: int) -> bool:
        """Tell whether every device runs what a rollout brought."""
        return bool(self.api.get(f"/rollouts/{rollout}")["rollout"]["phase"] == "completed")

    def is_calibrated(self, model: str) -> bool:
        """Tell whether every device has a level of its own, from which it may move."""
        return int(self.api.get(f"/models/{model}/drift")["calibrated"]) == len(DEVICES)

    def push(self, model: str) -> dict[str, Any]:
        """Push what became true of a model's predictions, as a user would."""
        file = self.fleet.folder / f"truth-of-{model}.csv"
        lines = [f"{one},{label}" for one, label in self.feeder.truths(model)]
        file.write_text("\n".join(("id,label", *lines)))
        pushed: dict[str, Any] = json.loads(self.fleet.run("muster", "labels", "push", file, "-o", "json"))
        return {"lines": len(lines), **pushed}

    def explain(self, alarm: int) -> dict[str, Any]:
        """Return what ``muster drift explain`` says of an alarm."""
        said = self.fleet.run("muster", "drift", "explain", str(alarm), "--rounds", "1000", "-o", "json")
        found: dict[str, Any] = json.loads(said)
        return found


@contextmanager
def running(folder: Path) -> Iterator[Ailing]:
    """Run everything, until every model answers on every device; nothing is wrong yet."""
    fleet, feeder = Fleet(folder), None
    try:
        api = _start(fleet)
        feeder = Feeder(_streams(fleet))
        ailing = Ailing(fleet, api, feeder)
        rollouts = [_install(fleet, model) for model in MODELS]
        for number in rollouts:
            ailing.wait(f"rollout {number} is completed", partial(ailing.is_completed, number))
        yield ailing
    finally:
        if feeder is not None:
            feeder.stop()
        fleet.stop()


def _start(fleet: Fleet) -> Api:
    ports = ("--port", "web"), ("--device-port", "device"), ("--mqtt-port", "mqtt")
    options = [part for option, name in ports for part in (option, str(fleet.ports[name]))]
    fleet.run("muster-controller", "init", fleet.controller, *options)
    settings = fleet.controller / "controller.toml"
    text = settings.read_text()
    for old, new in SETTINGS.items():
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)
    api = fleet.start_controller()
    fleet.run("muster", "keys", "init", fleet.keys, "--no-passphrase")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fleet.enrol, DEVICES))
    for device in DEVICES:
        # Four models in one process of each device: what is tested here is not the sandbox.
        fleet.children.start(device, [BIN / "muster-agent", "run", fleet.agent(device), "--inline"])
    return api


def _streams(fleet: Fleet) -> list[Stream]:
    return [
        Stream(device, model, Client(fleet.agent(device)), np.random.default_rng([seed, at]))
        for seed, device in enumerate(DEVICES)
        for at, model in enumerate(MODELS)
    ]


def _install(fleet: Fleet, model: str) -> int:
    """Publish a model, order it on every device, and return the rollout's number."""
    source = fleet.folder / "sources" / model
    if model == GAPS:
        # It is linear, so that it answers NaN where a value is missing.
        shutil.copytree(ZOO / "weather/1.0.0", source)
    else:
        _copy(source, ZOO / "digits/1.1.0", {'model = "digits"': f'model = "{model}"'})
    fleet.run("muster", "publish", source, "--keys", fleet.keys)
    version = "1.0.0" if model == GAPS else "1.1.0"
    said = fleet.run("muster", "rollout", "start", f"{model}@{version}", *FIRST, *QUICK, "-o", "json")
    number: int = json.loads(said)["rollout"]["id"]
    return number


def _copy(source: Path, origin: Path, changes: dict[str, str]) -> None:
    shutil.copytree(origin, source)
    text = (source / "model.toml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (source / "model.toml").write_text(text)
