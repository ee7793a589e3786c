"""Time to restored after the verdict: 1,000 devices on the real store, loop and ingest, all in one process.

Every device runs the new version when a fifth of them report that it crashed. What is measured begins with
the pass that judges it: that pass signs and sends what each device should run again. Every device parses that
and reports, and the reports are stored; the next pass confirms that all are back. The network and the swap on
the device are not in it: a round trip here is the controller's part of one, and the devices' parsing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from figure import Figure, at_most, publish
from securesystemslib.signer import CryptoSigner

from muster_controller import intake
from muster_controller.config import Settings
from muster_controller.domain.rollouts.machine import RolloutPhase, Start, State, decide
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.ingest import Pace
from muster_controller.pki import Issued
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.stepping import Stepping
from muster_controller.store import assignments, enrolment, rollouts, versions
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.facts import start_facts
from muster_models import topics, wire
from muster_models.errors import Reason
from support.controller import NOW, Ground, device_report, lay_ground, make_hello, release_of

DEVICES = 1_000
FAULTY = 5  # of so many devices, one reports a crash
MOST_PASSES = 10


@dataclass
class Fleet:
    """Devices that run what they are told, and say so.

    Attributes:
        now: Unix seconds, for devices and controller; each time something happens it is a second later.
        running: Digest that each one runs, by device.
        told: What was sent and is not obeyed yet.
    """

    ground: Ground
    now: float = NOW
    running: dict[str, str] = field(default_factory=dict)
    told: list[wire.Desired] = field(default_factory=list)
    sequence: int = 0

    def later(self) -> float:
        """Let a second pass."""
        self.now += 1
        return self.now

    def publish(self, topic: str, payload: bytes, sent: Callable[[], None] | None = None) -> bool:
        """Take what is sent to a device."""
        del topic  # the document names the device
        envelope = msgspec.json.decode(payload)
        self.told.append(wire.decode_desired(msgspec.json.decode(f'"{envelope["payload"]}"', type=bytes)))
        if sent is not None:
            sent()
        return True

    def greet(self, devices: Sequence[str]) -> None:
        """Let devices say that they are there, and run nothing."""
        self._store([make_hello(device) for device in devices])

    def obey(self) -> int:
        """Let every device that was told something run it and report it; return how many that were."""
        self.running |= {told.device: told.models[0].manifest for told in self.told if told.models}
        devices = [told.device for told in self.told]
        self.told = []
        self._report([(device, device_report(self.running[device])) for device in devices])
        return len(devices)

    def crash(self, devices: Sequence[str], back_to: str, failed: str) -> None:
        """Let devices go back by themselves, because the version crashed."""
        said = device_report(back_to, phase=wire.Phase.FAILED, target=failed, reason=Reason.CRASHED)
        self._report([(device, said) for device in devices])

    def _report(self, reports: Sequence[tuple[str, wire.ModelReport]]) -> None:
        self.sequence += 1
        self._store([wire.Report(device, 1, self.sequence, self.now, (model,)) for device, model in reports])

    def _store(self, messages: Sequence[wire.Uplink]) -> None:
        size = Pace().size
        for start in range(0, len(messages), size):
            taken = [
                intake.read(topics.up(message.device, intake.KINDS[type(message)]), wire.encode(message))
                for message in messages[start : start + size]
            ]
            with Unit(self.ground.engine) as session:
                intake.store(session, taken, baselines=self.ground.baselines, now=self.later())


def enrol_all(ground: Ground, names: Sequence[str]) -> None:
    """Enrol the fleet in one transaction."""
    with Unit(ground.engine) as session:
        for name in names:
            permit = enrolment.Permit(name, {"site": "berlin"})
            enrolment.enrol(session, permit, Issued("", "1", int(NOW) + 86_400), NOW)


def start(ground: Ground, old: str, new: str, now: float) -> int:
    """Start a rollout to the whole fleet; without a control nothing but faults is judged."""
    plan = Plan("digits", new, old, stages=(Stage(percent=100, soak_seconds=86_400),), control=0.0)
    with Unit(ground.engine) as session:
        facts = start_facts(session, plan.model, plan.digest, number=None, now=now, reachable_seconds=900)
        decision = decide(plan, State(), Start("benchmark", "", facts))
        assert decision.refused is None, decision.refused
        return Stepping(Settings()).begin(session, plan, decision, by="benchmark", now=now).id


@dataclass(frozen=True)
class Restored:
    """How a fleet came back; seconds of CPU time, so that the load of the machine does not count.

    Attributes:
        passes: Of the loop, the one that judged included, until every device ran the old version.
        confirmed: Passes until the rollout said so.
        verdict, trip, confirm: Of the first pass, of all reports to it, and of the pass that confirmed.
    """

    passes: int
    confirmed: int
    verdict: float
    trip: float
    confirm: float


def restore(ground: Ground, names: Sequence[str]) -> Restored:
    """Bring a version to every device, let it crash on a fifth of them, and watch the fleet come back."""
    old, new = ground.release.digest, release_of(ground.baseline, version="1.1.0", release=2)
    with Unit(ground.engine) as session:
        versions.add(session, new, NOW)
        assignments.assign(
            session, "digits", dict.fromkeys(names, old), rollout=0, probation_seconds=5.0, now=NOW
        )
    fleet = Fleet(ground)
    loop = Reconcile(
        ground.engine,
        ground.baselines,
        Settings(),
        director=CryptoSigner.generate_ed25519(),
        outside=Outside(fleet.publish, lambda _: None, lambda _: None),
        clock=fleet.later,
    )
    fleet.greet(names)
    _settle(loop, fleet, old, len(names))
    number = start(ground, old, new.digest, fleet.later())
    _settle(loop, fleet, new.digest, len(names))
    fleet.crash(names[::FAULTY], old, new.digest)
    return _watch(loop, fleet, old, number)


def _settle(loop: Reconcile, fleet: Fleet, digest: str, devices: int) -> None:
    for _ in range(MOST_PASSES):
        loop.tick(fleet.later())
        fleet.obey()
        if list(fleet.running.values()).count(digest) == devices:
            return
    raise RuntimeError(f"expected {devices} devices on {digest[:12]}, got {fleet.running}"[:200])


def _watch(loop: Reconcile, fleet: Fleet, old: str, number: int) -> Restored:
    back, trip = 0, 0.0
    spent: list[float] = []
    for passed in range(1, MOST_PASSES + 1):
        began = time.process_time()
        loop.tick(fleet.later())
        spent.append(time.process_time() - began)
        began = time.process_time()
        fleet.obey()
        trip += time.process_time() - began
        back = back or (passed if set(fleet.running.values()) == {old} else 0)
        with Reading(fleet.ground.engine) as session:
            if rollouts.get(session, number).phase == RolloutPhase.ROLLED_BACK:
                return Restored(back, passed, spent[0], trip, spent[-1])
    raise RuntimeError(f"expected the rollout to be rolled back after {MOST_PASSES} passes")


def figures(restored: Restored) -> list[Figure]:
    """Return what the measurement says, held against the time between two passes."""
    between = Settings().tick_seconds
    peer = ("the goal", 1.0)
    return [
        at_most(
            f"restore of {DEVICES:,} devices: passes from the verdict, with one trip each",
            ours=float(restored.passes), peer=peer, unit="passes", ratio=1,
        ),
        at_most(
            "the same: pass that judges, signs and sends",
            ours=restored.verdict, peer=("time between passes", between), unit="s", ratio=1,
        ),
        at_most(
            "the same: reports of all devices stored",
            ours=restored.trip, peer=("time between passes", between), unit="s", ratio=1,
        ),
        at_most(
            "the same: passes until the rollout is known as rolled back",
            ours=float(restored.confirmed), peer=("the goal", 2.0), unit="passes", ratio=1,
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure, and print the figures."""
    with TemporaryDirectory() as scratch:
        ground = lay_ground(Path(scratch))
        names = tuple(f"device-{number:04d}" for number in range(DEVICES))
        enrol_all(ground, names)
        restored = restore(ground, names)
        ground.engine.dispose()
    publish(*figures(restored))


if __name__ == "__main__":
    main()
