"""The law of what the loop keeps of devices: whatever became known in whatever order, the tables agree."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from muster_controller import intake
from muster_controller.domain.drift.groups import groups_of
from muster_controller.store import devices, enrolment
from muster_controller.store.device_facts import DeviceBook, GroupBook, device_facts
from muster_controller.store.engine import Reading, Unit
from muster_models import topics, wire
from muster_models.wire import Phase
from support.controller import NOW, device_report, enrol, lay_ground, make_hello

NAMES = ("berlin-1", "lyon-1", "oslo-1", "porto-1")
MODELS = ("digits", "weather")


class DevicesAndBook(RuleBasedStateMachine):
    """A fleet about which ever more becomes known, and a book that is read after each step."""

    names = st.sampled_from(NAMES)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.book, self.groups = DeviceBook(), GroupBook(("site",))
        self.now = NOW
        self.sequence = 0

    @initialize()
    def begin(self) -> None:
        self.ground = lay_ground(Path(self.folder.name), *NAMES[:2])

    def teardown(self) -> None:
        self.ground.engine.dispose()
        self.folder.cleanup()

    @rule(name=names)
    def join(self, name: str) -> None:
        enrol(self.ground, name)

    @rule(name=names, site=st.sampled_from(["berlin", "oslo"]))
    def label(self, name: str, site: str) -> None:
        with Unit(self.ground.engine) as session:
            if name in devices.known(session, NAMES):
                devices.set_labels(session, name, {"site": site})

    @rule(name=names)
    def revoke(self, name: str) -> None:
        with Unit(self.ground.engine) as session:
            if name in devices.known(session, NAMES):
                enrolment.revoke(session, name, self.now)

    @rule(name=names, zone=st.sampled_from(["UTC", "Europe/Oslo"]))
    def greet(self, name: str, zone: str) -> None:
        self._say(make_hello(name, time_zone=zone))

    @rule(name=names, model=st.sampled_from(MODELS), phase=st.sampled_from(list(Phase)))
    def report(self, name: str, model: str, phase: Phase) -> None:
        self.sequence += 1
        told = device_report(self.ground.release.digest, model=model, phase=phase)
        self._say(wire.Report(device=name, epoch=1, sequence=self.sequence, at=self.now, models=(told,)))

    @invariant()
    def the_book_holds_what_the_tables_hold(self) -> None:
        with Reading(self.ground.engine) as session:
            read = {model: dict(self.book.read(session, model)) for model in MODELS}
            held = {model: device_facts(session, model) for model in MODELS}
            groups = dict(self.groups.read(session))
            members = {one.id: groups_of(one.labels, ("site",)) for one in devices.members(session)}

        assert read == held
        assert groups == members

    def _say(self, message: wire.Uplink) -> None:
        self.now += 1.0
        taken = intake.read(topics.up(message.device, intake.KINDS[type(message)]), wire.encode(message))
        with Unit(self.ground.engine) as session:
            intake.store(session, [taken], baselines=self.ground.baselines, now=self.now)


DevicesAndBook.TestCase.settings = settings(max_examples=8, stateful_step_count=20)
TestDeviceBook = DevicesAndBook.TestCase
