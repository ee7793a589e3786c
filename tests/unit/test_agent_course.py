"""What a device decides survives on disk before it is done; a disk that refuses changes only the pace."""

import errno
import random

import pytest

from muster_agent.store import Store
from muster_agent.update.course import Course
from muster_agent.update.state import ModelState
from muster_agent.update.steps import (
    Action,
    Activate,
    Activated,
    Configure,
    Download,
    Downloaded,
    PreflightPassed,
    RollBackOrdered,
    Verified,
    Verify,
    WorkerFailed,
)
from muster_models.errors import Reason, StorageError
from muster_models.wire import Desired, Phase, Reporting
from support.disk import Fault, SimulatedDisk
from support.versions import Version, make_version

FIRST, SECOND = make_version("1.0.0"), make_version("1.1.0")


class Device:
    """A course over a disk in memory; actions are remembered, not carried out."""

    def __init__(self, disk: SimulatedDisk, *, spread: float = 0.0) -> None:
        self.disk = disk
        self.now = 0.0
        self.actions: list[Action] = []
        self.course = Course(
            Store(disk),
            carry_out=lambda _, action: self.actions.append(action),
            clock=lambda: self.now,
            chance=random.Random(1),
            spread_seconds=spread,
        )

    @property
    def model(self) -> ModelState:
        return self.course.state.models["digits"]

    def saved(self) -> ModelState:
        return Store(self.disk.clone()).load().models["digits"]

    def accept(self, *versions: Version, sequence: int, stop: bool = False) -> None:
        models = tuple(version.desired(probation_seconds=10.0, stop=stop) for version in versions)
        self.course.accept(Desired("press-1", sequence, 0.0, 10.0, models, Reporting(window_seconds=2.0)))

    def install(self, version: Version, sequence: int) -> None:
        self.accept(version, sequence=sequence)
        for event in (Downloaded, Verified, PreflightPassed, Activated):
            self.course.handle("digits", event(now=self.now, digest=version.digest))
        self.now += 11.0
        self.course.tick()

    def refuse(self) -> None:
        self.disk.fault = Fault(self.disk.calls + 1, error=errno.ENOSPC, lasts=True)


@pytest.fixture
def device() -> Device:
    return Device(SimulatedDisk())


def test_a_desired_state_is_saved_whole_before_anything_begins(device: Device) -> None:
    device.accept(FIRST, sequence=3)

    state = Store(device.disk.clone()).load()
    assert (state.sequence, state.reporting.window_seconds) == (3, 2.0)
    assert state.models["digits"].phase is Phase.DOWNLOADING
    assert Download(FIRST.digest) in device.actions


def test_a_version_runs_its_course_to_the_end(device: Device) -> None:
    device.install(FIRST, sequence=1)
    device.install(SECOND, sequence=2)

    assert device.model.phase is Phase.COMMITTED
    assert device.model.current is not None
    assert device.model.previous is not None
    assert (device.model.current.version, device.model.previous.version) == ("1.1.0", "1.0.0")
    assert device.saved() == device.model


def test_the_same_desired_state_again_begins_nothing(device: Device) -> None:
    device.accept(FIRST, sequence=1)
    device.actions.clear()

    device.accept(FIRST, sequence=1)

    assert device.actions == []


def test_an_older_desired_state_changes_nothing(device: Device) -> None:
    device.accept(SECOND, sequence=2)
    before = device.course.state

    device.accept(FIRST, sequence=1)

    assert device.course.state == before


def test_a_fleet_does_not_begin_to_download_at_once() -> None:
    device = Device(SimulatedDisk(), spread=100.0)
    device.accept(FIRST, sequence=1)
    assert not any(isinstance(action, Download) for action in device.actions)

    device.now = 100.0
    device.course.tick()

    assert Download(FIRST.digest) in device.actions


def test_a_desired_state_that_cannot_be_saved_is_not_followed_and_may_come_again(device: Device) -> None:
    device.refuse()
    with pytest.raises(StorageError):
        device.accept(FIRST, sequence=1)
    assert (device.actions, device.course.state.sequence) == ([], 0)

    device.disk.fault = None
    device.accept(FIRST, sequence=1)

    assert device.saved().phase is Phase.DOWNLOADING


def stopping(device: Device) -> list[bool]:
    """Return every stop order that was carried out, in order, and forget it."""
    orders = [action.stop for action in device.actions if isinstance(action, Configure)]
    device.actions.clear()
    return orders


def test_a_stop_order_that_cannot_be_saved_holds_in_memory_and_is_asked_for_again(device: Device) -> None:
    device.install(FIRST, sequence=1)
    device.actions.clear()
    device.refuse()
    before = device.course.state

    for _ in range(2):  # the loop tries again at each tick
        with pytest.raises(StorageError):
            device.accept(FIRST, sequence=2, stop=True)

    assert stopping(device) == [True]
    assert device.course.reports()[0].stopped
    assert device.course.state == before

    again = Device(device.disk)

    assert again.course.state.sequence == 1  # which its hello says, so that the controller sends it again
    assert not again.course.reports()[0].stopped


def test_only_a_newer_order_lifts_one_that_holds_in_memory(device: Device) -> None:
    device.install(FIRST, sequence=1)
    device.refuse()
    with pytest.raises(StorageError):
        device.accept(FIRST, sequence=3, stop=True)
    device.actions.clear()

    device.accept(FIRST, sequence=2)
    assert stopping(device) == []
    with pytest.raises(StorageError):
        device.accept(SECOND, sequence=4)

    assert stopping(device) == [False]
    assert not device.course.reports()[0].stopped
    assert not any(isinstance(action, Download) for action in device.actions)


def test_an_order_that_was_saved_is_not_lifted_in_memory(device: Device) -> None:
    device.install(FIRST, sequence=1)
    device.accept(FIRST, sequence=2, stop=True)
    device.actions.clear()
    device.refuse()

    with pytest.raises(StorageError):
        device.accept(FIRST, sequence=3)

    assert stopping(device) == []
    assert device.course.reports()[0].stopped


@pytest.mark.parametrize("stop", [True, False], ids=["stopped", "started"])
def test_what_is_saved_later_holds_in_place_of_what_was_followed_in_memory(
    device: Device,
    stop: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    device.install(FIRST, sequence=1)
    device.refuse()
    with pytest.raises(StorageError):
        device.accept(FIRST, sequence=2, stop=True)
    device.actions.clear()

    device.disk.fault = None
    device.accept(FIRST, sequence=3, stop=stop)

    assert stopping(device)[-1:] == [stop]
    assert device.course.reports()[0].stopped == stop
    assert device.saved().stopped == stop


def test_an_event_that_cannot_be_saved_comes_again_at_the_next_tick(device: Device) -> None:
    device.accept(FIRST, sequence=1)
    device.refuse()
    device.actions.clear()
    device.course.handle("digits", Downloaded(now=0.0, digest=FIRST.digest))
    device.course.tick()
    assert (device.actions, device.model.phase) == ([], Phase.DOWNLOADING)

    device.disk.fault = None
    device.course.tick()

    assert Verify(FIRST.digest) in device.actions
    assert device.saved().phase is Phase.VERIFYING


@pytest.mark.parametrize(
    "event", [WorkerFailed(now=0.0, digest=SECOND.digest, reason=Reason.CRASHED), RollBackOrdered(now=0.0)]
)
def test_going_back_does_not_wait_for_the_disk_and_is_saved_later(
    device: Device, event: WorkerFailed | RollBackOrdered
) -> None:
    device.install(FIRST, sequence=1)
    device.accept(SECOND, sequence=2)
    for prepared in (Downloaded, Verified, PreflightPassed, Activated):
        device.course.handle("digits", prepared(now=device.now, digest=SECOND.digest))
    device.refuse()

    assert device.course.handle("digits", event)

    assert Activate(FIRST.digest) in device.actions
    assert device.model.phase is Phase.ROLLED_BACK
    device.disk.fault = None
    device.course.tick()
    assert device.saved() == device.model


def test_a_restart_takes_up_what_was_going_on(device: Device) -> None:
    device.install(FIRST, sequence=1)
    device.accept(SECOND, sequence=2)
    device.disk.kill()

    again = Device(device.disk)
    again.course.start()
    again.course.tick()

    assert Activate(FIRST.digest) in again.actions
    assert Download(SECOND.digest) in again.actions
    assert again.course.reports()[0].target == SECOND.digest


def test_what_proved_itself_answers_after_a_restart_whose_disk_refuses(device: Device) -> None:
    device.install(FIRST, sequence=1)
    device.accept(SECOND, sequence=2)
    again = Device(device.disk)
    again.refuse()

    again.course.start()

    assert [action for action in again.actions if not isinstance(action, Configure)] == [
        Activate(FIRST.digest)
    ]
    assert again.model == device.model

    again.disk.fault = None
    again.course.tick()

    assert again.model.phase is Phase.DOWNLOADING


def test_an_order_to_go_back_where_there_is_nothing_says_so(device: Device) -> None:
    assert not device.course.handle("digits", RollBackOrdered(now=0.0))
