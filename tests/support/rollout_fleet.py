"""A real fleet of eight sorters at four sites that may be told to change versions, and its operator.

The keys that release versions are put away before anything is rolled out: what follows needs none of them.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muster_agent import Client
from story.api import Api
from story.fleet import DEVICES, Fleet
from support.digit_versions import MODEL, write_version
from support.processes import children
from support.sorting import Sorter, Sorting

SECONDS = 200.0  # for anything to become true, on a machine that does much else
WORKERS = 3  # commands at a time

FIRST, GOOD, WORSE, NEXT = "1.0.0", "2.0.0", "3.0.0", "4.0.0"
# Wrong for one part in twenty more than the others: 91 % right where they have 96 %, see ``sorting.BATCH``.
SLIPS_ON = 15
SHARPNESS = {FIRST: 1.0, GOOD: 1.02, WORSE: 1.03, NEXT: 1.04}


@dataclass(frozen=True)
class RolloutFleet:
    """Controller, broker, agents, the application, and what an operator does."""

    fleet: Fleet
    api: Api
    sorting: Sorting

    def muster(self, *arguments: str | Path) -> Any:
        """Return what a command says."""
        return json.loads(self.fleet.run("muster", *arguments, "-o", "json"))

    def start(self, plan: Path) -> int:
        """Start what a plan's file says, and return the rollout's number."""
        number: int = self.muster("rollout", "start", plan)["rollout"]["id"]
        return number

    def watch(self, rollout: int, *options: str) -> int:
        """Follow a rollout as a user or a job of CI would, and return how the command ended."""
        options = ("--timeout", str(SECONDS), *options)
        done = self.fleet.call("muster", "rollout", "watch", str(rollout), *options, seconds=2 * SECONDS)
        self.fleet.check_children()
        return done.returncode

    def show(self, rollout: int) -> dict[str, Any]:
        """Return a rollout, its devices among it."""
        found: dict[str, Any] = self.muster("rollout", "show", str(rollout))
        return found

    def runs(self, version: str) -> list[dict[str, Any]]:
        """Return which device ran a version, from when to when."""
        return self.api.items("/runs", version=f"{MODEL}@{version}")

    def running(self, version: str) -> set[str]:
        """Return the devices that run a version now."""
        return {run["device"] for run in self.runs(version) if run["until"] is None}

    def wait(self, what: str, probe: Callable[[], bool]) -> None:
        """Wait until ``probe`` says yes; a process that ended is an error at once."""

        def checked() -> bool | None:
            self.fleet.check_children()
            return probe() or None

        self.api.wait(what, checked, seconds=SECONDS)

    @contextmanager
    def broker_outage(self) -> Iterator[None]:
        """Let the broker stand still meanwhile, its connections open: nobody is told that it is gone."""
        controller = self.fleet.children.running["controller"].pid
        (broker,) = [pid for pid in children(controller) if _name(pid) == "mosquitto"]
        os.kill(broker, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(broker, signal.SIGCONT)


@contextmanager
def running(folder: Path) -> Iterator[RolloutFleet]:
    """Run everything, until every device sorts by the first version; the others are published."""
    fleet, sorting = Fleet(folder), None
    try:
        api = fleet.start_controller()
        fleet.run("muster", "keys", "init", fleet.keys, "--no-passphrase")
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(fleet.enrol, DEVICES))
        for device in DEVICES:
            fleet.start_agent(device)
        _publish(fleet)
        fleet.keys.rename(folder / "in-the-safe")
        sorting = Sorting(_sorters(fleet))
        made = RolloutFleet(fleet, api, sorting)
        _install(made)
        yield made
    finally:
        if sorting is not None:
            sorting.stop()
        fleet.stop()


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _publish(fleet: Fleet) -> None:
    for version, sharpness in SHARPNESS.items():
        slips_on = SLIPS_ON if version == WORSE else None
        source = write_version(fleet.folder / "sources", version, sharpness=sharpness, slips_on=slips_on)
        fleet.run("muster", "publish", source, "--keys", fleet.keys)


def _sorters(fleet: Fleet) -> list[Sorter]:
    return [
        Sorter(device, Client(fleet.agent(device)), np.random.default_rng(seed))
        for seed, device in enumerate(DEVICES)
    ]


def _install(made: RolloutFleet) -> None:
    terms = (
        "--stages",
        "100%",
        "--control",
        "0%",
        "--soak",
        "0",
        "--minimum-rounds",
        "2",
        "--probation",
        "1",
    )
    said = made.muster("rollout", "start", f"{MODEL}@{FIRST}", *terms)
    assert made.watch(said["rollout"]["id"]) == 0
    made.wait("every device runs the first version", lambda: made.running(FIRST) == set(DEVICES))
