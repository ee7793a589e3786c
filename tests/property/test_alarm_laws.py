"""Laws of silences, acknowledgements, grouping and devices that fall silent."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from muster_controller.domain.alarms.alarm import KINDS, LEVELS, Alarm, AlarmState, Care, due
from muster_controller.domain.alarms.notices import Join, Notice, Send, Told, place
from muster_controller.domain.alarms.quiet import Watched, term, watch
from muster_controller.domain.alarms.silences import Matcher, Silence, silenced_by

EVERY_STATE: tuple[AlarmState, ...] = ("pending", "firing", "resolved")
STATES = st.sampled_from(EVERY_STATE)
MODELS = st.sampled_from(["digits", "weather"])
SITES = st.sampled_from(["berlin", "oslo"])
NOW = 1000.0


@st.composite
def alarms(draw: st.DrawFn) -> Alarm:
    level = draw(st.sampled_from(LEVELS))
    site = draw(SITES)
    subject = {"device": f"{site}-1", "group": f"site={site}", "fleet": "all"}[level]
    return Alarm(1, draw(MODELS), draw(st.sampled_from(KINDS)), level, subject, draw(STATES), since=0.0)


MATCHERS = st.builds(
    Matcher,
    st.none() | MODELS,
    st.none() | st.sampled_from(KINDS),
    st.none() | st.sampled_from(LEVELS),
    st.none() | st.sampled_from(["all", "site = berlin", "not site = oslo", "device = oslo-1"]),
)
SILENCES = st.lists(
    st.builds(
        Silence,
        st.integers(1, 99),
        MATCHERS,
        st.just("why"),
        st.just("anna"),
        st.floats(0, 2000),
        st.floats(0, 2000),
    ),
    max_size=5,
)
CARES = st.builds(
    Care, st.none() | STATES, st.floats(0, NOW), st.none() | st.floats(0, NOW), st.just("anna"), st.just("")
)


def labels_of(alarm: Alarm) -> dict[str, str]:
    return {"site": alarm.subject.partition("-")[0]} if alarm.level == "device" else {}


@given(alarms(), CARES, SILENCES, st.floats(1, 5000))
def test_a_silenced_alarm_is_never_told_and_no_silence_changes_what_it_is(
    alarm: Alarm, care: Care, silences: list[Silence], repeat: float
) -> None:
    before = replace(alarm)
    hidden = silenced_by(alarm, silences, labels_of(alarm), NOW)

    news = due(alarm, care, is_silenced=hidden is not None, now=NOW, repeat_seconds=repeat)

    assert alarm == before
    assert hidden is None or news is None
    assert hidden is None or hidden.is_active(NOW)


@given(alarms(), SILENCES)
def test_more_silences_hide_no_less_and_ended_ones_hide_nothing(
    alarm: Alarm, silences: list[Silence]
) -> None:
    labels = labels_of(alarm)
    all_of_them = silenced_by(alarm, silences, labels, NOW) is not None
    one_by_one = [silenced_by(alarm, [one], labels, NOW) is not None for one in silences]
    ended = [replace(one, until=min(one.until, NOW)) for one in silences]

    assert all_of_them == any(one_by_one)
    assert silenced_by(alarm, ended, labels, NOW) is None


@given(alarms(), MATCHERS, MODELS)
def test_a_narrower_matcher_hides_no_more(alarm: Alarm, matcher: Matcher, model: str) -> None:
    narrower = replace(matcher, model=matcher.model or model)
    labels = labels_of(alarm)

    assert not narrower.matches(alarm, labels) or matcher.matches(alarm, labels)


@given(alarms(), CARES, st.floats(1, 5000))
def test_an_acknowledgement_stops_repeats_and_nothing_else(alarm: Alarm, care: Care, repeat: float) -> None:
    free = replace(care, acknowledged_at=None)
    taken = replace(care, acknowledged_at=NOW)

    told = due(alarm, free, is_silenced=False, now=NOW, repeat_seconds=repeat)
    after = due(alarm, taken, is_silenced=False, now=NOW, repeat_seconds=repeat)

    is_repeat = told == free.told == "firing"
    assert after == (None if is_repeat else told)


@given(st.lists(STATES, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_what_is_told_ends_in_what_is_so(states: list[AlarmState], silenced: list[bool]) -> None:
    """Whatever was hidden: once nothing hides it, receivers know the state, or never heard of it."""
    care, last = Care(), Alarm(1, "digits", "data-drift", "fleet", "all", "pending", since=0.0)
    for state, hides in zip(states, silenced, strict=False):
        last = replace(last, state=state)
        news = due(last, care, is_silenced=hides, now=NOW, repeat_seconds=60.0)
        care = care if news is None else replace(care, told=news, told_at=NOW)

    news = due(last, care, is_silenced=False, now=NOW, repeat_seconds=60.0)

    known = care.told if news is None else news
    assert known == last.state or (last.state == "resolved" and known is None) or last.state == "pending"


TYPES = st.sampled_from(["alarm.firing", "alarm.resolved", "alarm.acknowledged"])


@given(st.lists(st.tuples(TYPES, st.floats(0, 400), st.booleans()), max_size=30), st.floats(0, 600))
def test_a_group_is_told_in_order_and_not_more_often_than_its_interval(
    steps: Sequence[tuple[str, float, bool]], interval: float
) -> None:
    now, messages = 0.0, list[Told]()
    for kind, pause, is_sent in steps:
        now += pause
        if is_sent:
            messages = [replace(one, is_open=one.is_open and one.due > now) for one in messages]
        newest = {one.type: one for one in messages}
        where = place(Notice(kind, "alarm/1", "data-drift", group="g"), list(newest.values()), now=now,
                      interval=interval)  # fmt: skip
        match where:
            case Send(due_at):
                messages.append(Told(len(messages), kind, due_at, is_open=True))
            case Join(number):
                assert messages[number].is_open
                assert messages[number].type == kind

    dues = [one.due for one in messages]
    assert dues == sorted(dues)
    for kind in {one.type for one in messages}:
        times = [one.due for one in messages if one.type == kind]
        assert all(later - sooner >= interval - 1e-6 for sooner, later in pairwise(times))


@given(st.lists(st.tuples(SITES, st.floats(0, 2000)), min_size=1, max_size=30))
def test_every_silent_device_is_in_exactly_one_alarm_and_nobody_else_is(
    fleet: list[tuple[str, float]],
) -> None:
    config = term(60.0, missed=3.0, reachable=0.0)
    now = 10_000.0
    devices = [
        Watched(f"{site}-{number}", now - ago, (f"site={site}",)) for number, (site, ago) in enumerate(fleet)
    ]
    quiet = sorted(one.device for one in devices if now - one.seen > config.limit)

    found = watch(devices, [], config, listening=0.0, now=now)
    again = watch(devices, found, config, listening=0.0, now=now)

    assert sorted(device for one in found for device in one.devices) == quiet
    assert again == found
