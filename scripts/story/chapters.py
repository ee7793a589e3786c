"""The story that the README tells: every chapter ends with facts read back from the controller.

The demo shows it and the end-to-end test asserts it; nothing is shown that was not seen.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from muster_models.wire import DesiredModel
from story.attacks import StolenBroker, forge_desired, tamper
from story.errors import StoryError
from story.fleet import DEVICES, SITES, STATIONS, WINDOW_SECONDS, ZOO, Fleet

if TYPE_CHECKING:
    from story.api import Api

DRIFTED = SITES[0]
GAIN = 0.7  # of the lamp at the drifted site
# For something to become true, on a machine that does much else; on one that does not it takes a tenth.
WAIT_SECONDS = 120.0
ROLLOUT_SECONDS = 300.0
ALARM_SECONDS = 300.0
WAIVER = "accuracy=kept to show a canary that rolls itself back"
END_PHASES = frozenset({"completed", "rolled-back", "rollback-incomplete", "aborted"})
WORKERS = 3  # commands at a time: more only wait for the two cores


class Audience(Protocol):
    """Who watches the story."""

    def begin(self, title: str) -> None:
        """Hear that a chapter begins."""

    def tell(self, detail: str) -> None:
        """Hear what is seen now."""

    def end(self, fact: str) -> None:
        """Hear what the chapter has shown."""


@dataclass
class Facts:
    """What was read back from the controller.

    Attributes:
        digests: Manifest hash by ``model@version``.
        rollouts: The rollouts as the API gave them at their end, by ``model@version``.
        runs: Which device ran which version from when to when.
        refusals: The device's event about each attack, by attack.
        alarms: Every alarm that fired.
        fed: What the application asked for, and what it did not get.
    """

    digests: dict[str, str] = field(default_factory=dict)
    rollouts: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    fed: dict[str, Any] = field(default_factory=dict)


class Story:
    """The chapters, in order."""

    def __init__(self, fleet: Fleet, audience: Audience) -> None:
        self.fleet = fleet
        self.audience = audience
        self.facts = Facts()
        self.api: Api

    def tell(self) -> Facts:
        """Tell every chapter.

        Raises:
            StoryError: Something that should have happened did not, or the other way round.
        """
        self.start()
        with StolenBroker(self.fleet.controller, self.fleet.ports["mqtt"]) as attacker:
            self.enrol()
            self.install()
            self.promote()
            self.refuse_a_bad_version()
            self.roll_back()
            self.resist(attacker)
            self.notice_drift()
        self.facts.runs = self.api.items("/runs")
        self.facts.fed = self.fleet.read_fed()
        return self.facts

    def start(self) -> None:
        """Start a controller and make the offline keys."""
        self.audience.begin("controller, broker and keys")
        self.api = self.fleet.start_controller()
        self.fleet.run("muster", "keys", "init", self.fleet.keys, "--no-passphrase")
        health = self.api.get("/status")["health"]
        self.audience.end(f"{health['broker'].partition(' ')[0]} over mTLS; root keys 2 of 3, offline")

    def enrol(self) -> None:
        """Enrol every device by its one-time token, and start its agent."""
        self.audience.begin("enrol")
        with ThreadPoolExecutor(WORKERS) as pool:
            for number, _ in enumerate(pool.map(self.fleet.enrol, DEVICES), start=1):
                self.audience.tell(f"{number} of {len(DEVICES)} devices")
        for device in DEVICES:
            self.fleet.start_agent(device)
        self._wait("every device said hello", lambda: self._online() == len(DEVICES) or None)
        self.audience.end(f"{len(DEVICES)} devices, each with a certificate of its own")

    def install(self) -> None:
        """Publish the first versions and install them where nothing ran."""
        self.audience.begin("publish, sign, install")
        for name in ("digits@1.0.0", "weather@1.0.0"):
            self._publish(name)
        self.fleet.start_feeder()
        first = ("--stages", "100%", "--control", "0%", *QUICK)
        started = [
            self._start_rollout("digits@1.0.0", "all", first),
            self._start_rollout("weather@1.0.0", "role = station", first),
        ]
        for name, rollout in zip(("digits@1.0.0", "weather@1.0.0"), started, strict=True):
            self._finish_rollout(name, rollout, "completed")
        self.audience.end(f"{len(DEVICES)} run digits (ONNX), {len(STATIONS)} weather (TFLite), re-hashed")

    def promote(self) -> None:
        """Roll out a better version: canary, concurrent control, promotion."""
        self.audience.begin("canary → promote")
        self._publish("digits@1.1.0")
        rollout = self._start_rollout("digits@1.1.0", "all", CANARY)
        ended = self._finish_rollout("digits@1.1.0", rollout, "completed")
        self._wait("the control follows", lambda: self._running("digits@1.1.0") == len(DEVICES) or None)
        self.audience.end(f"digits@1.1.0 on {self._running('digits@1.1.0')} devices; {_judged(ended)}")

    def refuse_a_bad_version(self) -> None:
        """Try to publish a version that misses its threshold; publish it with a signed waiver."""
        self.audience.begin("publish gate")
        said = self.fleet.run(
            "muster", "publish", ZOO / "digits/1.2.0", "--keys", self.fleet.keys, succeed=False
        )
        if "accuracy" not in said:
            raise StoryError(f"the gate should name the missed threshold, it said: {said[-300:]}")
        self._publish("digits@1.2.0", "--waive", WAIVER)
        self.audience.end("digits@1.2.0 misses its accuracy threshold: refused, then released under a waiver")

    def roll_back(self) -> None:
        """Roll out the bad version and see it roll itself back."""
        self.audience.begin("canary → rolls itself back")
        rollout = self._start_rollout("digits@1.2.0", "all", CANARY)
        ended = self._finish_rollout("digits@1.2.0", rollout, "rolled-back")
        self._wait("the canary is back", lambda: self._running("digits@1.1.0") == len(DEVICES) or None)
        reached = sorted({run["device"] for run in self._runs("digits@1.2.0")})
        self.audience.end(f"only {', '.join(reached)} ever ran it; {_judged(ended)}")

    def resist(self, attacker: StolenBroker) -> None:
        """Attack: a tampered file, a replayed desired state, a desired state of a foreign key."""
        self.audience.begin("attacks")
        device = DEVICES[-1]
        attacker.send(device, attacker.heard[device][0])
        self._refused("replayed desired state", device, "replayed")
        digest = self.facts.digests["digits@1.0.0"]
        wanted = DesiredModel("digits", "1.0.0", digest)
        attacker.send(device, forge_desired(self.fleet.folder, device, wanted))
        self._refused("forged desired state", device, "wrong-key")
        self._tamper()
        reasons = ", ".join(f"{attack}: {event['reason']}" for attack, event in self.facts.refusals.items())
        self.audience.end(reasons)

    def notice_drift(self) -> None:
        """Let the lamp of one site age, and wait for the alarm that names it."""
        self.audience.begin("drift at one site")
        self._calibrate()
        self.fleet.write_feed({DRIFTED: GAIN})
        began = time.monotonic()
        self._wait("an alarm fires", lambda: self._firing(kind="data-drift") or None, seconds=ALARM_SECONDS)
        took = time.monotonic() - began
        # Long enough for a second, wrong alarm to show itself.
        self._pause("the fleet settles", SETTLE_WINDOWS * WINDOW_SECONDS)
        self.facts.alarms = self._firing()
        names = [f"{alarm['level']} {alarm['subject']}: {alarm['feature']}" for alarm in self.facts.alarms]
        self.audience.end(f"after {took:.0f} s, {len(names)} alarm: {'; '.join(names)}")

    def _calibrate(self) -> None:
        """Wait until every device has run its version long enough for the detector to know its own level."""
        self.audience.tell("the detector learns what is normal on each device")

        def is_calibrated() -> bool:
            return int(self.api.get("/models/digits/drift")["calibrated"]) == len(DEVICES)

        self._wait("every device is calibrated", lambda: is_calibrated() or None)

    def _pause(self, what: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._wait(what, lambda: time.monotonic() >= until or None, seconds=seconds + WAIT_SECONDS)

    def _tamper(self) -> None:
        """Change one bit of a file in the repository, and of patches to it, before the stations fetch it."""
        published = self._publish("weather@1.1.0")
        model = next(entry for entry in published["manifest"]["files"] if entry["role"] == "model")
        # A station may also make the file of its old one and a patch.
        ways = [model["sha256"], *(delta["sha256"] for delta in model.get("deltas", ()))]
        genuine = {blob: tamper(blob) for blob in (self.fleet.controller / "blobs" / way for way in ways)}
        rollout = self._start_rollout(
            "weather@1.1.0", "role = station", ("--stages", "100%", "--control", "0%", *QUICK)
        )
        self._refused("tampered file", None, "tampered")
        self.fleet.run("muster", "rollout", "abort", str(rollout), "--reason", "the mirror was tampered with")
        self._finish_rollout("weather@1.1.0", rollout, "aborted", "rolled-back")
        for blob, content in genuine.items():  # not before every station has given up
            blob.write_bytes(content)

    def _refused(self, attack: str, device: str | None, reason: str) -> None:
        def seen() -> dict[str, Any] | None:
            found = self.api.items("/events", kind="refused", reason=reason)
            return next((event for event in found if device in (None, event["device"])), None)

        self.facts.refusals[attack] = self._wait(f"{attack} is refused as {reason}", seen)

    def _publish(self, name: str, *options: str) -> dict[str, Any]:
        model, _, version = name.partition("@")
        source = ZOO / model / version
        said = self.fleet.run("muster", "publish", source, "--keys", self.fleet.keys, *options, "-o", "json")
        published: dict[str, Any] = json.loads(said)
        self.facts.digests[name] = published["version"]["digest"]
        self.audience.tell(f"{name} signed and published")
        return published

    def _start_rollout(self, name: str, where: str, options: Sequence[str]) -> int:
        command = ("muster", "rollout", "start", name, "--where", where, *options, "-o", "json")
        started: int = json.loads(self.fleet.run(*command))["rollout"]["id"]
        return started

    def _finish_rollout(self, name: str, rollout: int, *wanted: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            detail: dict[str, Any] = self.api.get(f"/rollouts/{rollout}")
            self.audience.tell(f"{name}: {_headline(detail)}")
            return detail if detail["rollout"]["phase"] in END_PHASES else None

        detail: dict[str, Any] = self._wait(f"the rollout of {name} ends", ended, seconds=ROLLOUT_SECONDS)
        self.facts.rollouts[name] = detail
        if detail["rollout"]["phase"] not in wanted:
            raise StoryError(f"the rollout of {name} should be {' or '.join(wanted)}: {_headline(detail)}")
        return detail

    def _wait(self, what: str, probe: Any, *, seconds: float = WAIT_SECONDS) -> Any:
        def checked() -> Any:
            self.fleet.check_children()
            return probe()

        return self.api.wait(what, checked, seconds=seconds)

    def _online(self) -> int:
        return sum(device["last_seen"] is not None for device in self.api.items("/devices"))

    def _running(self, name: str) -> int:
        return sum(run["until"] is None for run in self._runs(name))

    def _runs(self, name: str) -> list[dict[str, Any]]:
        return self.api.items("/runs", version=name)

    def _firing(self, **query: str) -> list[dict[str, Any]]:
        return self.api.items("/alarms", state="firing", **query)


# A quarter of the fleet first, a quarter as control; then everybody.
QUICK = ("--soak", "4", "--minimum-rounds", "4", "--before-rounds", "4", "--probation", "2")
CANARY = ("--stages", "25%,100%", "--control", "25%", *QUICK)
SETTLE_WINDOWS = 10


def _headline(detail: dict[str, Any]) -> str:
    rollout = detail["rollout"]
    stage = f"stage {rollout['stage'] + 1} of {rollout['stages']}, {rollout['step']}"
    said = rollout["reason"] or rollout["waiting"]
    return f"{rollout['phase']}, {stage}: {rollout['verdict']}; {said}"


def _judged(detail: dict[str, Any]) -> str:
    """Say by what the rollout was decided: the gate that saw most harm, or what assured all gates."""
    evidence = detail["history"][0]
    gates = [gate for gate in evidence["gates"] if gate["verdict"] == evidence["verdict"]]
    worst = max(gates, key=lambda gate: gate["evidence"] or 0.0, default=None)
    said = "" if worst is None else f": {worst['name']} {worst['effect']:+.3g} {worst['unit']}".rstrip()
    return f"{evidence['verdict']} after {evidence['rounds']} rounds{said}"
