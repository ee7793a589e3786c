"""The laws of the columns that a pass of the loop looks at: kept by change, they are what all of it says."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.fleet import Columns, Fleet, fleet_of
from muster_controller.domain.rollouts.admitting.admission import admit_due, is_due, is_paced
from muster_controller.domain.rollouts.admitting.pace import MaintenanceWindow, Pace, Ramp
from muster_controller.domain.rollouts.admitting.retry import Retry as Policy
from muster_controller.domain.rollouts.admitting.wall import is_open
from muster_controller.domain.rollouts.draw import CONTROL, line_of, place
from muster_controller.domain.rollouts.machine import (
    Decision,
    Event,
    Pause,
    Resume,
    Retry,
    RollBack,
    State,
    Tick,
    decide,
    from_json,
    to_json,
)
from muster_controller.domain.rollouts.members import Failure, Member
from muster_controller.domain.rollouts.outcome import Outcome, has_failed, has_returned, observe, outcome_of
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.roster import Crowd, Names, Roster
from muster_controller.domain.rollouts.states import RolloutPhase
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.rollouts import NEW, OLD, World, make_plan

NOW = 1_750_000_000.0
NAMES = tuple(f"device-{number}" for number in range(6))
OFFSETS = {"UTC": 0.0, "Europe/Oslo": 7200.0}
DAILY = (MaintenanceWindow("15:00", "16:00"), MaintenanceWindow("17:30", "18:00"))

names = st.sampled_from(NAMES)
instants = st.sampled_from([NOW - 1000.0, NOW - 10.0, NOW, NOW + 10.0])
versions = st.sampled_from([None, OLD, NEW, "c" * 64])
facts_of_one: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "seen": st.none() | instants,
        "current": versions,
        "target": versions,
        "phase": st.sampled_from(list(Phase)),
        "reason": st.sampled_from([None, Reason.CRASHED, Reason.NO_SPACE, Reason.ORDERED, Reason.SUPERSEDED]),
        "detail": st.sampled_from(["", "why"]),
        "zone": st.sampled_from(["UTC", "Europe/Oslo", "Nowhere/Much"]),
    }
)
members_of_one = st.builds(
    Member,
    arm=st.integers(-1, 2),
    given=st.none() | instants,
    tries=st.integers(0, 2),
    retry_at=st.none() | instants,
    failure=st.none() | st.builds(Failure, st.sampled_from(["crashed", "no-space"]), st.just("why")),
    acknowledged=st.booleans(),
    withdrawn=st.sampled_from(["", "sent back"]),
)
fleets = st.dictionaries(names, facts_of_one).map(
    lambda found: {name: DeviceFacts(name, **told) for name, told in found.items()}
)
rosters = st.dictionaries(names, members_of_one)
plans = st.sampled_from(
    [
        make_plan(),
        make_plan(retry=msgspec.to_builtins(Policy(tries=2))),
        make_plan(windows=msgspec.to_builtins(DAILY)),
        make_plan(ramp=msgspec.to_builtins(Ramp(2.0)), seed="other"),
    ]
)

masks = st.lists(st.booleans(), min_size=len(NAMES), max_size=len(NAMES))


def take(fleet: Fleet, devices: Mapping[str, DeviceFacts]) -> None:
    """Put what is newly known into a fleet, as a book does."""
    found = list(devices.values())
    fleet.take(
        Columns(
            list(devices),
            [-math.inf if one.seen is None else one.seen for one in found],
            [one.current for one in found],
            [one.target for one in found],
            [one.zone for one in found],
            [one.phase for one in found],
            [one.reason for one in found],
        ),
        found,
    )


def told(fleet: Fleet) -> dict[str, tuple[Any, ...]]:
    """Return what the columns of a fleet say, in words."""
    words = fleet.words()
    return {
        name: (float(row["seen"]), *(words[row[one]] for one in ("current", "target", "zone")),
               int(row["phase"]), int(row["reason"]))
        for name, row in zip(fleet.names(), fleet.table, strict=True)
        if row["is_known"]
    }  # fmt: skip


@given(steps=st.lists(st.tuples(fleets, st.lists(names)), max_size=8), most_words=st.sampled_from([1, 1024]))
def test_a_fleet_that_was_told_of_changes_is_the_one_that_is_told_all_at_once(
    steps: list[tuple[dict[str, DeviceFacts], list[str]]], most_words: int
) -> None:
    kept, plain = Fleet(lambda facts: facts), dict[str, DeviceFacts]()
    for news, gone in steps:
        kept._most_words = most_words
        take(kept, news)
        kept.drop(gone)
        plain = {name: one for name, one in (plain | news).items() if name not in gone}

        assert dict(kept) == plain
        assert len(kept) == len(plain)
        assert told(kept) == told(fleet_of(plain))
        assert kept.zones() == {one.zone for one in plain.values()}
        assert [name in kept for name in NAMES] == [name in plain for name in NAMES]


def test_digests_that_no_device_says_any_more_fill_no_memory() -> None:
    fleet = Fleet(lambda facts: facts)
    for number in range(20_000):
        take(fleet, {"liar": DeviceFacts("liar", current=f"{number:064}")})

    assert len(fleet.words()) < 2_000
    assert fleet.code(f"{19_999:064}") == fleet.table["current"][0]


@given(steps=st.lists(rosters, min_size=1, max_size=8))
def test_a_roster_that_was_changed_is_the_one_that_is_made_at_once(steps: list[dict[str, Member]]) -> None:
    kept, plain = Roster(steps[0]), dict(steps[0])
    for changed in steps[1:]:
        kept, plain = kept | changed, plain | changed
        anew = Roster(plain).columns

        assert kept == plain
        assert list(kept) == kept.columns.names.all == anew.names.all
        assert str(kept.columns.table.tolist()) == str(anew.table.tolist())  # what is no number equals itself


def test_a_roster_is_not_changed_in_place() -> None:
    roster = Roster({"oslo-1": Member(0)})

    with pytest.raises(TypeError, match="never changed in place"):
        roster["oslo-1"] = Member(1)
    with pytest.raises(TypeError, match="never changed in place"):
        roster |= {"oslo-1": Member(1)}
    assert roster == {"oslo-1": Member(0)}


@given(rows=masks, more=masks, others=st.sets(names | st.just("stranger")))
def test_a_crowd_is_the_set_of_its_names(rows: list[bool], more: list[bool], others: set[str]) -> None:
    drawn = Names(NAMES)
    crowds = [Crowd(drawn, np.array(mask)) for mask in (rows, more)]
    sets = [{name for name, is_in in zip(NAMES, mask, strict=True) if is_in} for mask in (rows, more)]

    assert set(crowds[0]) == sets[0]
    assert len(crowds[0]) == len(sets[0])
    assert crowds[0] & crowds[1] == sets[0] & sets[1]
    assert crowds[0] | crowds[1] == sets[0] | sets[1]
    assert crowds[0] & others == others & crowds[0] == sets[0] & others
    assert crowds[0] | others == others | crowds[0] == sets[0] | others
    assert crowds[0] - others == sets[0] - others
    assert [name in crowds[0] for name in (*NAMES, "stranger")] == [
        name in sets[0] for name in (*NAMES, "stranger")
    ]


@given(plan=plans, devices=fleets, members=rosters)
@settings(max_examples=200)
def test_what_became_of_all_devices_is_what_became_of_each(
    plan: Plan, devices: dict[str, DeviceFacts], members: dict[str, Member]
) -> None:
    facts = Facts(NOW, devices, offsets=OFFSETS)
    seen, changed = observe(plan, facts, members)
    counted: dict[str, Outcome] = {}
    for name, member in members.items():
        if name not in devices:
            continue
        following, device = changed.get(name, member), devices[name]
        outcome = outcome_of(NEW, device)
        if member.given is not None and following.given is None:
            assert outcome in {Outcome.FAULT, Outcome.HINDERED}
            assert plan.retry is not None
            counted[name] = Outcome.WAITING
        elif member.given is not None and (outcome is Outcome.RUNNING or not member.acknowledged):
            counted[name] = outcome
        elif member.given is None and member.retry_at is not None:
            counted[name] = Outcome.WAITING
        if member.given is not None and outcome is Outcome.RUNNING:
            is_marked = member.failure is not None or member.tries > 0 or member.acknowledged
            assert following == (Member(member.arm, member.given) if is_marked else member)
        if member.given is not None and has_failed(NEW, device):
            assert following.failure == Failure(str(device.reason or "unknown"), device.detail)

    assert {name: outcome for outcome in Outcome for name in seen.of(outcome)} == counted
    assert seen.outcomes == counted.keys()
    assert seen.reachable == {name for name in counted if facts.is_reachable(devices[name])}
    assert seen.control == sum(
        member.arm == CONTROL and member.given is None and name in devices for name, member in members.items()
    )
    assert seen.reasons.keys() == seen.of(Outcome.FAULT, Outcome.HINDERED)
    assert changed.keys() <= {name for name, member in members.items() if member.given is not None}


@given(
    plan=plans, devices=fleets, members=rosters, admitted=st.integers(0, 4), taken=st.lists(names, max_size=2)
)
@settings(max_examples=200)
def test_who_is_admitted_of_all_is_who_is_admitted_one_by_one(
    plan: Plan, devices: dict[str, DeviceFacts], members: dict[str, Member], admitted: int, taken: list[str]
) -> None:
    with_control = admitted > len(plan.stages)
    facts = Facts(NOW, devices, offsets=OFFSETS, elsewhere=dict.fromkeys(taken, 7))
    found = admit_due(
        plan, facts, members, admitted=admitted, with_control=with_control, pace=Pace(), running=0
    )
    ready, recalled, counts = [], set(), {"waiting": 0, "asleep": 0, "closed": 0}
    for name, member in members.items():
        device = devices.get(name)
        if device is None:
            continue
        opened = is_open(plan.windows, OFFSETS.get(device.zone), NOW)
        heard = facts.is_reachable(device)
        if member.given is not None:
            has_heard = device.seen is not None and device.seen > member.given
            if is_paced(plan) and not has_heard and not (heard and opened):
                recalled.add(name)
        elif is_due(member, admitted, with_control=with_control) and name not in taken:
            waits = member.retry_at is not None and (member.retry_at > NOW or has_failed(NEW, device))
            kind = "waiting" if waits else "asleep" if is_paced(plan) and not heard else "closed"
            if kind == "closed" and opened:
                ready.append(name)
            else:
                counts[kind] += 1
    most = 2 if plan.ramp is not None else len(ready)
    chosen = sorted(ready, key=lambda name: place(line_of(plan), name))[:most]

    assert found.changed == {
        **{name: replace(members[name], given=None) for name in recalled},
        **{name: replace(members[name], given=NOW, retry_at=None) for name in chosen},
    }
    assert (found.waiting, found.asleep, found.closed) == tuple(counts.values())
    assert found.rated == len(ready) - len(chosen)


@given(devices=fleets, members=rosters)
def test_who_has_to_go_back_is_told_of_each(
    devices: dict[str, DeviceFacts], members: dict[str, Member]
) -> None:
    state = State(phase=RolloutPhase.ROLLING_BACK, since=NOW - 10, deadline=NOW + 99, members=members)
    following = decide(make_plan(), state, Tick(Facts(NOW, devices))).state

    assert following.unreturned == tuple(
        sorted(
            name
            for name, member in members.items()
            if (member.given is not None or member.tries or member.failure is not None or member.withdrawn)
            and name in devices
            and not has_returned(NEW, devices[name], since=NOW - 10)
        )
    )


ORDERS: tuple[Callable[[float], Event], ...] = (
    lambda now: Pause("anna", "", now),
    lambda now: Resume("anna", "", now),
    lambda now: Retry("anna", "", now),
    lambda now: RollBack("anna", "", now, devices=("oslo-1",)),
    lambda now: RollBack("anna", "", now),
)
courses = st.lists(
    st.tuples(
        st.sampled_from([None, None, None, None, *ORDERS]),
        st.dictionaries(st.integers(0, 8), facts_of_one, max_size=3),
        st.lists(st.integers(0, 8), max_size=1),
        st.floats(0.1, 40.0),
    ),
    max_size=15,
)


CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"dynamic": True},
    {"ramp": {"per_minute": 2.0}},
    {"retry": {"backoff_seconds": 5.0}},
    {"previous": None},
    {"windows": msgspec.to_builtins(DAILY)},
)


@given(course=courses, changes=st.sampled_from(CHANGES))
@settings(max_examples=60, deadline=None)
def test_a_controller_that_was_started_anew_decides_what_the_one_that_went_on_decides(
    course: list[tuple[Callable[[float], Event] | None, dict[int, dict[str, Any]], list[int], float]],
    changes: dict[str, Any],
) -> None:
    """The one goes on with what it kept; the other has the stored document, and reads all again."""
    world = World(make_plan(**changes), answer=lambda *_: None)
    world.start()
    names = (*world.names, "late-1", "late-2")
    state, kept, plain = world.state, Fleet(lambda facts: facts), dict(world.devices)
    take(kept, plain)
    now = world.now
    for order, news, gone, seconds in course:
        now += seconds
        said = {names[at % len(names)]: facts for at, facts in news.items()}
        fresh = {
            name: DeviceFacts(name, {"site": "oslo"}, **{**facts, "seen": shifted(facts["seen"], now - NOW)})
            for name, facts in said.items()
        }
        left = [names[at % len(names)] for at in gone]
        take(kept, fresh)
        kept.drop(left)
        plain = {name: one for name, one in (plain | fresh).items() if name not in left}
        told = Facts(now, kept, reachable_seconds=50.0, offsets=OFFSETS)
        anew = dataclasses.replace(told, devices=plain)
        stored = from_json(msgspec.json.decode(msgspec.json.encode(to_json(state))), dict(state.members))
        went_on = decide(world.plan, state, Tick(told) if order is None else order(now))
        began = decide(world.plan, stored, Tick(anew) if order is None else order(now))

        assert plain_of(went_on) == plain_of(began)
        state = went_on.state


def shifted(seen: float | None, seconds: float) -> float | None:
    """Return an instant, if it is one, so much later."""
    return None if seen is None else seen + seconds


def plain_of(decision: Decision) -> Decision:
    """Return a decision whose members are no roster, so that nothing but what they say is compared."""
    return dataclasses.replace(decision, state=replace(decision.state, members=dict(decision.state.members)))
