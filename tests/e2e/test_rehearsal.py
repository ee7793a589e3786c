"""A drill and an emergency stop with real processes: controller, broker, and the agents of two devices."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from story.api import Api
from story.errors import StoryError
from story.fleet import ZOO, Fleet

DEVICES = ("berlin-1", "berlin-2")
VERSIONS = ("1.0.0", "1.1.0")
SECONDS = 200.0  # for anything to become true, on a machine that does much else


@dataclass(frozen=True)
class Pair:
    """Two devices that run ``digits@1.1.0`` and ran ``digits@1.0.0`` before."""

    fleet: Fleet
    api: Api

    def muster(self, *arguments: str) -> Any:
        return json.loads(self.fleet.run("muster", *arguments, "-o", "json"))

    def model(self, device: str) -> dict[str, Any]:
        """Return what a device last said of the model."""
        found: dict[str, Any] = self.api.get(f"/devices/{device}")["device"]["models"][0]
        return found

    def wait(self, what: str, probe: Any) -> Any:
        return self.api.wait(what, lambda: probe() or None, seconds=SECONDS)

    def answering(self, device: str) -> dict[str, Any]:
        """Return what the agent itself says of the model."""
        said = self.fleet.run("muster-agent", "status", self.fleet.agent(device), "-o", "json")
        found: dict[str, Any] = json.loads(said)["answering"]["digits"]
        return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    fleet = Fleet(Path(tmp_path_factory.mktemp("pair")))
    try:
        made = Pair(fleet, fleet.start_controller())
        fleet.run("muster", "keys", "init", fleet.keys, "--no-passphrase")
        for device in DEVICES:
            fleet.enrol(device)
            fleet.start_agent(device)
        for version in VERSIONS:
            install(made, version)
        yield made
    finally:
        fleet.stop()


def install(pair: Pair, version: str) -> None:
    """Publish a version and bring it to both devices, whatever the gates think of two silent ones."""
    pair.muster("publish", str(ZOO / "digits" / version), "--keys", str(pair.fleet.keys))
    terms = ("--stages", "100%", "--control", "0%", "--soak", "0", "--probation", "0")
    number = pair.muster("rollout", "start", f"digits@{version}", *terms)["rollout"]["id"]
    pair.wait(f"both run {version}", lambda: all(runs(pair, device, version) for device in DEVICES))

    def is_over() -> bool:
        phase: str = pair.api.get(f"/rollouts/{number}")["rollout"]["phase"]
        if phase == "running":
            with contextlib.suppress(StoryError):  # it was over meanwhile
                pair.api.post(f"/rollouts/{number}/promote", {"reason": "nobody calls these devices"})
        return phase == "completed"

    pair.wait(f"the rollout of {version} is over", is_over)


def runs(pair: Pair, device: str, version: str) -> bool:
    current = pair.model(device)["current"]
    return current is not None and current["version"] == version


def test_a_drill_sends_real_devices_back_and_times_each(pair: Pair) -> None:
    drill = pair.muster("drill", "rollback", "digits", "--where", "site = berlin", "--timeout", str(SECONDS))

    assert (drill["phase"], drill["why"]) == ("done", "")
    assert [trip["device"] for trip in drill["devices"]] == list(DEVICES)
    assert all(0 < trip["back_seconds"] <= drill["seconds"] for trip in drill["devices"])
    assert all(runs(pair, device, "1.1.0") for device in DEVICES)
    went = [run["version"]["version"] for run in pair.api.items("/runs", device="berlin-1")]
    assert went[:3] == ["1.1.0", "1.0.0", "1.1.0"]
    assert pair.muster("drill", "list")[0]["id"] == drill["id"]


def test_an_emergency_stop_reaches_a_device_that_was_offline_and_needs_no_offline_key(pair: Pair) -> None:
    """The keys that release versions are out of reach while it is ordered, and lifted."""
    pair.fleet.children.stop("berlin-2")
    away = pair.fleet.keys.rename(pair.fleet.folder / "in-the-safe")
    try:
        pair.muster("stop", "digits", "--reason", "it burns parts")
        pair.wait("who is online obeys", lambda: pair.model("berlin-1")["stopped"])
        before = pair.model("berlin-2")["stopped"]
        attention = pair.api.get("/overview")["attention"]
        pair.fleet.start_agent("berlin-2")
        pair.wait("who was offline obeys", lambda: pair.model("berlin-2")["stopped"])
        stopped = [pair.answering(device)["stopped"] for device in DEVICES]
        pair.muster("start", "digits", "--reason", "repaired")
        pair.wait("both answer again", lambda: not any(pair.model(device)["stopped"] for device in DEVICES))
    finally:
        away.rename(pair.fleet.keys)

    assert before is False
    assert stopped == [True, True]
    told = [(one["what"], one["title"]) for one in attention if one["kind"] == "model"]
    assert told == [("stopped", "digits is stopped: 1 of 2 devices have said that they obey")]
    deeds = [(one["actor"], one["action"], one["reason"]) for one in pair.muster("audit", "list")[:2]]
    assert deeds == [("operator", "model.start", "repaired"), ("operator", "model.stop", "it burns parts")]
