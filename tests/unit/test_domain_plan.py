"""Plans, and the draw of control and stages."""

from typing import Any

import pytest

from muster_controller.domain.rollouts.draw import CONTROL, WITNESSES, arms, draw, witnesses
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_models.errors import RequestError
from support.rollouts import NEW, OLD, make_plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "x"}, r"\$\.digest"),
        ({"digest": OLD}, "must differ"),
        ({"control": 0.9}, r"\$\.control"),
        ({"stages": []}, r"\$\.stages"),
        ({"stages": [{"percent": 50}]}, "last stage must be 100"),
        ({"stages": [{"percent": 50, "count": 2}, {"percent": 100}]}, "stage 1 must have either"),
        ({"stages": [{}, {"percent": 100}]}, "stage 1 must have either"),
        ({"stages": [{"percent": 50}, {"percent": 25}, {"percent": 100}]}, "stages must grow"),
        ({"error_budget": 0}, r"\$\.error_budget"),
        ({"margins": {"confidence": -1}}, r"\$\.margins\.confidence"),
        ({"selector": "site ="}, "column 7"),
        ({"speed": 3}, "speed"),
    ],
)
def test_a_wrong_plan_is_refused_and_the_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_plan(**changes)


def test_a_plan_needs_only_model_and_versions() -> None:
    plan = parse_plan({"model": "digits", "digest": NEW, "previous": None})

    assert plan.stages[-1].percent == 100


def sizes(plan: Plan, count: int) -> dict[int, int]:
    names = [f"device-{i}" for i in range(count)]
    drawn = arms(plan, draw(plan, names), names)
    return {arm: list(drawn.values()).count(arm) for arm in set(drawn.values())}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (8, {CONTROL: 2, 0: 2, 1: 4}),
        (1, {0: 1}),
        (2, {CONTROL: 1, 0: 1}),
        (3, {CONTROL: 1, 0: 1, 1: 1}),
        (1000, {CONTROL: 250, 0: 250, 1: 500}),
    ],
)
def test_control_and_stages_have_the_planned_sizes(count: int, expected: dict[int, int]) -> None:
    assert sizes(make_plan(), count) == expected


def test_a_first_install_has_no_control() -> None:
    assert sizes(make_plan(previous=None), 8) == {0: 2, 1: 6}


def test_stages_may_be_counted() -> None:
    assert sizes(make_plan(stages=[{"count": 1}, {"count": 3}, {"percent": 100}]), 8) == {
        CONTROL: 2,
        0: 1,
        1: 2,
        2: 3,
    }


def test_two_models_with_one_seed_do_not_begin_with_the_same_devices() -> None:
    names = [f"device-{i}" for i in range(400)]
    plans = make_plan(model="digits"), make_plan(model="faces")
    first, other = (arms(plan, draw(plan, names), names) for plan in plans)
    begun = [{name for name in names if drawn[name] == 0} for drawn in (first, other)]

    assert [len(one) for one in begun] == [100, 100]
    assert len(begun[0] & begun[1]) < 50  # 25 are expected of two draws that know nothing of each other


def test_the_draw_depends_on_model_and_seed_and_on_nothing_else() -> None:
    names = [f"device-{i}" for i in range(40)]
    first, again, other = (
        arms(plan, draw(plan, chosen), chosen)
        for plan, chosen in (
            (make_plan(seed="1"), names),
            (make_plan(seed="1"), names[::-1]),
            (make_plan(seed="2"), names),
        )
    )

    assert first == again
    assert first != other


def test_joining_and_leaving_moves_no_other_device() -> None:
    plan = make_plan()
    names = [f"device-{i}" for i in range(40)]
    cuts = draw(plan, names)
    before = arms(plan, cuts, names)

    after = arms(plan, cuts, [*names[10:], *(f"late-{i}" for i in range(40))])

    assert {name: after[name] for name in names[10:]} == {name: before[name] for name in names[10:]}
    assert set(after.values()) == {CONTROL, 0, 1}


def test_witnesses_are_a_bounded_part_of_each_arm() -> None:
    plan = make_plan()
    names = [f"device-{i}" for i in range(1000)]
    chosen = witnesses(plan, arms(plan, draw(plan, names), names))

    assert sorted(list(chosen.values()).count(arm) for arm in (CONTROL, 0, 1)) == [WITNESSES] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": [{"start": "25:00", "end": "03:00"}]}, r"\$\.windows\[0\]\.start"),
        (
            {"windows": [{"start": "02:00", "end": "02:00"}]},
            r"windows\[1\] never opens.*expected two different",
        ),
        (
            {"windows": [{"start": "02:00", "end": "03:00", "days": []}]},
            r"windows\[1\]\.days must name a day",
        ),
        ({"windows": [{"start": "02:00", "end": "03:00", "days": ["mon", "mon"]}]}, "each day once"),
        ({"windows": [{"start": "02:00", "end": "03:00", "days": ["monday"]}]}, r"\$\.windows\[0\]\.days"),
        ({"windows": [{"start": "02:00"}]}, "missing required field `end`"),
        ({"ramp": {"per_minute": 0}}, r"\$\.ramp\.per_minute"),
        (
            {"ramp": {"per_minute": 5, "growth": 2}},
            "ramp.growth above 1 and ramp.after above 0 belong together",
        ),
        ({"ramp": {"per_minute": 5, "after": 2}}, "got growth 1 and after 2"),
        ({"byte_budget": {"bytes": 0, "seconds": 60}}, r"\$\.byte_budget\.bytes"),
        ({"retry": {"reasons": ["bad luck"]}}, r"\$\.retry\.reasons"),
        ({"retry": {"reasons": []}}, r"\$\.retry\.reasons"),
        ({"retry": {"jitter": 1}}, r"\$\.retry\.jitter"),
        ({"abort": "explode"}, r"\$\.abort"),
        ({"approval": {"needed": 0}}, r"\$\.approval\.needed"),
        ({"start_at": -1}, r"\$\.start_at"),
        ({"stages": [{"percent": 50}, {"percent": 60}]}, "of all stages so far together"),
        ({"stages": [{"percent": 150}]}, r"\$\.stages\[0\]\.percent"),
    ],
)
def test_a_wrong_pace_is_refused_and_the_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_plan(**changes)


def test_a_window_may_last_the_whole_day_or_pass_midnight() -> None:
    plan = make_plan(
        windows=[
            {"start": "00:00", "end": "24:00", "days": ["sat", "sun"]},
            {"start": "22:30", "end": "04:00"},
        ]
    )

    assert [window.days[0] for window in plan.windows] == ["sat", "mon"]


def test_witnesses_that_are_watched_stay_so_when_others_join() -> None:
    plan = make_plan()
    names = [f"device-{i}" for i in range(100)]
    drawn = arms(plan, draw(plan, names), names)
    watched = witnesses(plan, dict(list(drawn.items())[:60]))
    more = witnesses(plan, dict(list(drawn.items())[60:]), watched)

    assert not watched.keys() & more.keys()
    assert max(list((watched | more).values()).count(arm) for arm in (CONTROL, 0, 1)) <= WITNESSES
