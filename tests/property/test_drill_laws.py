"""What holds for every drill, whatever devices do: it ends, orders back once, and never claims success."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muster_controller.domain.drills import Drill, DrillPhase, Trip, look
from muster_controller.domain.facts import DeviceFacts
from muster_models.wire import Phase

NEW, OLD = "b" * 64, "a" * 64
PATIENCE = 10.0
NAMES = ("berlin-1", "berlin-2", "oslo-1")


@st.composite
def worlds(draw: Any) -> dict[str, DeviceFacts]:
    """Return what may be known of the devices at one instant; some were revoked."""
    found = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        current = draw(st.sampled_from([NEW, OLD, None]))
        phase = draw(st.sampled_from(list(Phase)))
        seen = draw(st.sampled_from([None, 0.0, 1e9]))
        found[name] = DeviceFacts(name, {}, seen, current, current, phase)
    return found


STEPS = st.lists(st.tuples(worlds(), st.booleans(), st.integers(0, 7).map(float)), max_size=20)


def begin() -> Drill:
    return Drill(NEW, OLD, dict.fromkeys(NAMES, Trip()), 0.0, PATIENCE)


@given(STEPS)
def test_a_drill_orders_back_at_most_once_and_never_leaves_its_end(steps: Any) -> None:
    drill, now, orders = begin(), 0.0, 0
    for devices, moving, pause in steps:
        now += pause
        seen = look(drill, devices, moving=moving, now=now)
        orders += seen.order_back
        if drill.ended is not None:
            assert seen.drill == drill
        drill = seen.drill

    assert orders <= 1
    assert orders == 0 or drill.ordered is not None


@given(STEPS)
def test_a_drill_that_is_looked_at_ends_within_its_patience_on_both_ways(steps: Any) -> None:
    drill, now = begin(), 0.0
    for devices, moving, pause in steps:
        now += pause
        drill = look(drill, devices, moving=moving, now=now).drill
    for later in (PATIENCE, 2 * PATIENCE):
        drill = look(drill, {}, moving=True, now=now + later).drill

    assert drill.phase in {DrillPhase.DONE, DrillPhase.INCOMPLETE}
    assert drill.ended is not None


@given(STEPS)
def test_done_means_that_every_device_went_and_came_back_after_the_order(steps: Any) -> None:
    drill, now = begin(), 0.0
    for devices, moving, pause in steps:
        now += pause
        drill = look(drill, devices, moving=moving, now=now).drill

    done = drill.phase is DrillPhase.DONE
    assert (drill.seconds is not None) is done
    if done:
        assert drill.ordered is not None
        assert drill.why == ""
        for trip in drill.trips.values():
            assert trip.away is not None
            assert trip.back is not None
            assert trip.away <= drill.ordered < trip.back
        assert drill.seconds == max(trip.back or 0.0 for trip in drill.trips.values()) - drill.ordered
    elif drill.phase is DrillPhase.INCOMPLETE:
        assert drill.why != ""


@given(worlds())
def test_silence_is_never_a_return(devices: dict[str, DeviceFacts]) -> None:
    sent = Drill(NEW, OLD, dict.fromkeys(NAMES, Trip(1.0)), 0.0, PATIENCE, DrillPhase.BACK, ordered=2.0)
    silent = {name: DeviceFacts(name, {}, 1.5, NEW, NEW, Phase.COMMITTED) for name in devices}

    assert look(sent, silent, moving=True, now=3.0).drill == sent
