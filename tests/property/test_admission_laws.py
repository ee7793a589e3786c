"""What holds for admission whatever the fleet does: windows, rate, byte budget, backoff."""

import datetime as dt
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.admitting.admission import admit_due, give, is_due
from muster_controller.domain.rollouts.admitting.pace import (
    FASTEST,
    GRAINS,
    WEEK,
    ByteBudget,
    MaintenanceWindow,
    Pace,
    Ramp,
    after_failure,
    rate_of,
    record,
)
from muster_controller.domain.rollouts.admitting.retry import Retry, wait_seconds
from muster_controller.domain.rollouts.admitting.wall import is_open, opens_in
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.outcome import observe
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.store.zones import offsets
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.rollouts import NEW, OLD, make_plan

NOW = 1_750_000_000.0
NAMES = tuple(f"device-{number}" for number in range(30))

gaps = st.lists(st.floats(0.1, 90.0), min_size=1, max_size=60)
ramps = st.builds(
    lambda rate, growth: Ramp(rate, *growth),
    st.floats(0.2, 12.0),
    st.sampled_from([(1.0, 0), (2.0, 3), (1.5, 5)]),
)
budgets = st.builds(ByteBudget, st.integers(100, 1000), st.floats(1.0, 500.0))


@dataclass
class Fleet:
    """Devices that run what they were given at once, and a rollout's memory of that."""

    plan: Plan
    members: dict[str, Member] = field(default_factory=lambda: {name: Member(0) for name in NAMES})
    pace: Pace = field(default_factory=Pace)
    gifts: list[tuple[float, int]] = field(default_factory=list)

    def admit(self, now: float, *, each: int = 0, running: int = 0) -> int:
        """Let the plan admit whom it will, and return how many that were."""
        devices = {name: DeviceFacts(name, seen=now) for name in self.members}
        admission = admit_due(
            self.plan,
            Facts(now, devices, download_bytes=each),
            self.members,
            admitted=1,
            with_control=False,
            pace=self.pace,
            running=running,
        )
        given = sum(member.given == now for member in admission.changed.values())
        self.members, self.pace = self.members | admission.changed, admission.pace
        self.gifts.append((now, given))
        return given


def most_in(gifts: Iterable[tuple[float, int]], span: float) -> int:
    """Return how many were given in the fullest span: half open, as a minute is."""
    known = list(gifts)
    return max((sum(n for at, n in known if end - span < at <= end) for end, _ in known), default=0)


@given(ramp=ramps, steps=gaps)
def test_the_rate_is_exceeded_in_no_minute(ramp: Ramp, steps: list[float]) -> None:
    steady = msgspec.structs.replace(ramp, growth=1.0, after=0)
    fleet = Fleet(msgspec.structs.replace(make_plan(), ramp=steady))
    for now in itertools.accumulate(steps, initial=NOW):
        fleet.admit(now)

    assert most_in(fleet.gifts, 60.0) <= max(1, math.floor(ramp.per_minute))
    if ramp.per_minute < 1:
        assert most_in(fleet.gifts, 60.0 / ramp.per_minute) <= 1


@given(ramp=ramps, steps=gaps, chance=st.randoms(use_true_random=False))
def test_a_growing_rate_is_never_above_what_the_devices_that_run_have_earned(
    ramp: Ramp, steps: list[float], chance: object
) -> None:
    fleet, running = Fleet(msgspec.structs.replace(make_plan(), ramp=ramp)), 0
    for now in itertools.accumulate(steps, initial=NOW):
        fleet.admit(now, running=running)
        allowed = rate_of(ramp, fleet.pace, running)

        assert most_in([g for g in fleet.gifts if g[0] > now - 60.0], 60.0) <= max(1, math.floor(allowed))
        running = sum(member.given is not None for member in fleet.members.values())


@given(budget=budgets, each=st.integers(1, 400), steps=gaps)
def test_the_byte_budget_is_exceeded_in_no_span(budget: ByteBudget, each: int, steps: list[float]) -> None:
    fleet = Fleet(msgspec.structs.replace(make_plan(), byte_budget=budget))
    for now in itertools.accumulate(steps, initial=NOW):
        fleet.admit(now, each=each)

    assert most_in(fleet.gifts, budget.seconds) * each <= budget.bytes


@given(bytes_left=st.integers(3, 12), steps=st.lists(st.floats(0.0005, 0.01), min_size=60, max_size=120))
def test_what_was_given_within_one_grain_is_not_forgotten_early(bytes_left: int, steps: list[float]) -> None:
    """One device asks at a time, so that gifts lie closer together than a grain."""
    budget = ByteBudget(bytes_left, 0.4)
    fleet = Fleet(msgspec.structs.replace(make_plan(), byte_budget=budget), members={})
    for number, now in enumerate(itertools.accumulate(steps, initial=NOW)):
        fleet.members[f"late-{number}"] = Member(0)
        fleet.admit(now, each=1)

    assert most_in(fleet.gifts, budget.seconds) <= bytes_left


@given(ramp=ramps, steps=gaps)
def test_whoever_waits_for_the_rate_is_given_the_version_in_the_end(ramp: Ramp, steps: list[float]) -> None:
    fleet = Fleet(msgspec.structs.replace(make_plan(), ramp=ramp))
    for now in itertools.accumulate(steps, initial=NOW):
        fleet.admit(now)
    patience = 120.0 * max(1.0, 1 / ramp.per_minute)
    for _ in NAMES:
        now += patience
        fleet.admit(now)

    assert all(member.given is not None for member in fleet.members.values())


@given(
    ramp=st.none() | ramps,
    budget=st.none() | budgets,
    steps=st.lists(st.tuples(st.floats(0.0, 60.0), st.integers(0, 5)), max_size=600),
)
def test_what_is_remembered_is_bounded(
    ramp: Ramp | None, budget: ByteBudget | None, steps: list[tuple[float, int]]
) -> None:
    pace, now = Pace(), NOW
    for gap, devices in steps:
        now += gap
        pace = record(ramp, budget, pace, devices=devices, now=now)

        assert len(pace.gifts) <= GRAINS + 1
        assert [gift.until for gift in pace.gifts] == sorted(gift.until for gift in pace.gifts)


zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
clocks = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.integers(0, 59))
windows = st.builds(
    MaintenanceWindow,
    clocks,
    clocks | st.just("24:00"),
    st.sets(st.sampled_from(WEEK), min_size=1).map(tuple),
).filter(lambda window: window.start != window.end)
# Around both changes of the clock in Berlin in 2026, around New Year, and anywhere.
moments = st.one_of(
    st.floats(-7200, 7200).map(lambda seconds: 1_774_746_000.0 + seconds),
    st.floats(-7200, 7200).map(lambda seconds: 1_792_890_000.0 + seconds),
    st.floats(-90_000, 90_000).map(lambda seconds: 1_798_761_600.0 + seconds),
    st.floats(NOW, NOW + 400 * 86_400),
)


def is_inside(window: MaintenanceWindow, wall: dt.datetime) -> bool:
    """Tell the same from the calendar: is the wall inside a window that began today or yesterday?"""
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    for began in (midnight, midnight - dt.timedelta(days=1)):
        if WEEK[began.weekday()] in window.days:
            start, end = (began + _clock(text) for text in (window.start, window.end))
            if start <= wall < (end if end > start else end + dt.timedelta(days=1)):
                return True
    return False


def _clock(text: str) -> dt.timedelta:
    hours, minutes = text.split(":")
    return dt.timedelta(hours=int(hours), minutes=int(minutes))


@settings(max_examples=400)
@given(zone=zones, chosen=st.lists(windows, min_size=1, max_size=3), now=moments)
def test_windows_are_those_of_the_wall_also_around_midnight_and_summer_time(
    zone: str, chosen: list[MaintenanceWindow], now: float
) -> None:
    wall = dt.datetime.fromtimestamp(now, ZoneInfo(zone)).replace(tzinfo=None)

    expected = any(is_inside(window, wall) for window in chosen)

    assert is_open(chosen, offsets([zone], now)[zone], now) is expected


@given(zone=zones, chosen=st.lists(windows, min_size=1, max_size=3), now=moments)
def test_a_window_opens_when_it_was_said_to(zone: str, chosen: list[MaintenanceWindow], now: float) -> None:
    offset = offsets([zone], now)[zone]
    wait = opens_in(chosen, offset, now)

    assert wait is not None
    assert 0 < wait <= 7 * 86_400
    assume(offsets([zone], now + wait)[zone] == offset)
    assert is_open(chosen, offset, now + wait + 0.001)


@given(
    zone_of=st.lists(st.sampled_from(["UTC", "Europe/Berlin", "Nowhere/Much"]), min_size=8, max_size=8),
    silent=st.sets(st.integers(0, 7)),
    window=windows,
    now=moments,
)
def test_nobody_is_given_the_version_outside_a_window_or_asleep(
    zone_of: list[str], silent: set[int], window: MaintenanceWindow, now: float
) -> None:
    plan = msgspec.structs.replace(make_plan(), windows=(window,))
    known = offsets(zone_of, now)
    devices = {
        NAMES[index]: DeviceFacts(NAMES[index], seen=now - (5000 if index in silent else 1), zone=zone)
        for index, zone in enumerate(zone_of)
    }
    members = {name: Member(0) for name in devices}
    admission = admit_due(
        plan,
        Facts(now, devices, offsets=known),
        members,
        admitted=1,
        with_control=False,
        pace=Pace(),
        running=0,
    )
    ready = {
        device.device
        for index, device in enumerate(devices.values())
        if index not in silent and is_open((window,), known.get(device.zone), now)
    }

    assert admission.changed.keys() == ready
    assert admission.asleep == len(silent)
    assert admission.closed == len(devices) - len(silent) - len(ready)


def test_what_a_device_has_not_heard_of_is_taken_back_when_its_window_closes() -> None:
    """It fell asleep before it was told: when it wakes it gets that day's decision, not this one's."""
    window = MaintenanceWindow("10:00", "11:00")
    plan = msgspec.structs.replace(make_plan(), windows=(window,))
    day = 1_750_032_000.0  # midnight, UTC
    given_at, later = day + 10 * 3600 + 60, day + 11 * 3600 + 60
    members = {"heard": Member(0, given_at), "asleep": Member(0, given_at), "due": Member(0)}
    devices = {
        "heard": DeviceFacts("heard", seen=given_at + 5),
        "asleep": DeviceFacts("asleep", seen=given_at - 5),
        "due": DeviceFacts("due", seen=later),
    }

    def admit(now: float) -> dict[str, float | None]:
        changed = admit_due(
            plan, Facts(now, devices, reachable_seconds=1e9), members,
            admitted=1, with_control=False, pace=Pace(), running=0,
        ).changed  # fmt: skip
        return {name: member.given for name, member in changed.items()}

    assert admit(given_at + 10) == {"due": given_at + 10}
    assert admit(later) == {"asleep": None}


policies = st.builds(
    Retry,
    st.just((Reason.NO_SPACE, Reason.DOWNLOAD_FAILED)),
    st.integers(1, 6),
    st.floats(1.0, 600.0),
    st.floats(1.0, 4.0),
    st.floats(0.0, 0.9),
)


@given(
    policy=policies,
    reason=st.sampled_from([Reason.NO_SPACE, Reason.CRASHED, None]),
    seed=st.text("ab", max_size=4),
)
def test_a_device_is_tried_so_often_and_no_sooner_than_the_policy_says(
    policy: Retry, reason: Reason | None, seed: str
) -> None:
    plan = msgspec.structs.replace(make_plan(), retry=policy, seed=seed or "1")
    device = NAMES[0]
    members, now, given_at = {device: Member(0, NOW)}, NOW, [NOW]
    for _ in range(40):
        now += 1.0
        failed = DeviceFacts(device, seen=now, current=OLD, target=NEW, phase=Phase.FAILED, reason=reason)
        members |= observe(plan, Facts(now, {device: failed}), members)[1]
        due = members[device].retry_at
        if due is None:
            break
        for instant, clear in ((now + (due - now) / 2, True), (due + 1, False), (due + 1, True)):
            seen = DeviceFacts(device, seen=instant, current=OLD) if clear else failed
            admission = admit_due(
                plan, Facts(instant, {device: seen}), members,
                admitted=1, with_control=False, pace=Pace(), running=0,
            )  # fmt: skip
            # Neither before its time, nor while the device still says that it gave the version up.
            assert (device in admission.changed) is (clear and instant > due)
            members |= admission.changed
        now = due + 1
        given_at.append(now)

    again = len(given_at) - 1
    assert again == (policy.tries if reason is Reason.NO_SPACE else 0)
    assert members[device].failure is not None
    for tries, (first, second) in enumerate(itertools.pairwise(given_at)):
        plain = min(policy.backoff_seconds * policy.growth**tries, 7 * 86_400.0)
        assert abs((second - first - 2.0) - plain) <= policy.jitter * plain + 1e-6 * plain


@given(policy=policies, seed=st.text(max_size=8), tries=st.integers(0, 100))
def test_backoff_is_the_same_for_the_same_seed_and_differs_between_devices(
    policy: Retry, seed: str, tries: int
) -> None:
    waits = [wait_seconds(policy, seed=seed, device=name, tries=tries) for name in NAMES]

    assert waits == [wait_seconds(policy, seed=seed, device=name, tries=tries) for name in NAMES]
    assert all(0 < wait < math.inf for wait in waits)
    assert policy.jitter < 0.01 or len(set(waits)) > 1


@given(
    arms=st.lists(st.integers(CONTROL, 2), min_size=1, max_size=30),
    admitted=st.integers(0, 3),
    with_control=st.booleans(),
)
def test_nobody_beyond_the_admitted_stages_is_given_the_version(
    arms: list[int], admitted: int, *, with_control: bool
) -> None:
    members = {
        name: Member(arm, withdrawn="sent back" if index % 7 == 6 else "")
        for index, (name, arm) in enumerate(zip(NAMES, arms, strict=False))
    }
    given_now = give(members, admitted, NOW, with_control=with_control)

    assert {name: member.arm for name, member in given_now.items()} == {
        name: member.arm
        for name, member in members.items()
        if not member.withdrawn and (0 <= member.arm < admitted or (member.arm == CONTROL and with_control))
    }
    assert not any(is_due(member, admitted, with_control=with_control) for member in given_now.values())


@given(ramp=ramps, running=st.integers(0, 100), since=st.integers(0, 100), later=st.integers(0, 50))
def test_the_rate_grows_with_success_and_a_failure_brings_it_back(
    ramp: Ramp, running: int, since: int, later: int
) -> None:
    pace = Pace(grown_from=since)
    fallen = after_failure(pace, running)

    assert ramp.per_minute <= rate_of(ramp, pace, running) <= rate_of(ramp, pace, running + later)
    assert rate_of(ramp, fallen, running) == ramp.per_minute
    if ramp.after:
        steps = later // ramp.after
        assert math.isclose(rate_of(ramp, fallen, running + later), ramp.per_minute * ramp.growth**steps)


def test_a_growth_without_bound_is_bounded() -> None:
    assert rate_of(Ramp(1e6, 100.0, 1), Pace(), 10**9) == FASTEST


def test_the_rate_takes_devices_in_the_order_of_the_draw() -> None:
    plan = msgspec.structs.replace(make_plan(), ramp=Ramp(3.0))
    first, again = Fleet(plan), Fleet(plan, members={name: Member(0) for name in NAMES[::-1]})
    for fleet in (first, again):
        fleet.admit(NOW)
    chosen = [{n for n, m in fleet.members.items() if m.given is not None} for fleet in (first, again)]

    assert chosen[0] == chosen[1]
    assert Counter(map(len, chosen)) == {3: 2}
