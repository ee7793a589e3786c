"""What holds for approvals whoever gives them, whenever and in whatever order."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_controller.domain.rollouts.judging.evidence import Denominators, Evidence, Gate, Verdict
from muster_controller.domain.rollouts.planning.approval import (
    Approval,
    Given,
    counting,
    digest_of,
    disowned,
    expires,
    is_enough,
    shortfall,
    why_void,
    why_weaker,
)
from support.rollouts import NEW, OLD, make_plan

AUTHOR = "anna"
PEOPLE = (AUTHOR, "bo", "carl", "dina")
THIS, OTHER = "a" * 64, "b" * 64
POLICIES = st.builds(
    Approval,
    needed=st.integers(1, 4),
    roles=st.sampled_from([("approver",), ("operator", "approver"), ("admin",)]),
    expires_seconds=st.sampled_from([10.0, 100.0]),
)
APPROVALS = st.lists(
    st.builds(
        Given,
        person=st.sampled_from(PEOPLE),
        role=st.sampled_from(["operator", "approver", "admin"]),
        reason=st.just("seen"),
        digest=st.sampled_from([THIS, OTHER]),
        at=st.integers(0, 200).map(float),
        void=st.sampled_from(["", "", "", "bo was revoked since"]),
    ),
    max_size=12,
)
NOWS = st.integers(0, 400).map(float)


def enough(policy: Approval, approvals: list[Given], now: float) -> bool:
    return is_enough(policy, approvals, digest=THIS, barred=(AUTHOR,), now=now)


@given(POLICIES, APPROVALS, NOWS)
def test_enough_is_so_many_different_people_each_with_one_that_is_good(
    policy: Approval, approvals: list[Given], now: float
) -> None:
    good = {
        one.person
        for one in approvals
        if one.person != AUTHOR
        and one.role in policy.roles
        and one.digest == THIS
        and now < one.at + policy.expires_seconds
        and not one.void
    }

    assert enough(policy, approvals, now) is (len(good) >= policy.needed)
    assert bool(shortfall(policy, approvals, digest=THIS, barred=(AUTHOR,), now=now)) is (
        len(good) < policy.needed
    )


@given(POLICIES, APPROVALS, NOWS, st.randoms())
def test_neither_order_nor_repetition_matters(
    policy: Approval, approvals: list[Given], now: float, chance: Any
) -> None:
    mixed = approvals * 2
    chance.shuffle(mixed)

    assert enough(policy, mixed, now) is enough(policy, approvals, now)


@given(POLICIES, APPROVALS, APPROVALS, NOWS)
def test_one_more_approval_never_takes_anything_away(
    policy: Approval, approvals: list[Given], more: list[Given], now: float
) -> None:
    def people(given: list[Given]) -> set[str]:
        return {one.person for one in counting(policy, given, digest=THIS, barred=(AUTHOR,), now=now)}

    assert people(approvals) <= people([*approvals, *more])


@given(POLICIES, APPROVALS, NOWS)
def test_the_author_alone_is_never_enough(policy: Approval, approvals: list[Given], now: float) -> None:
    own = [msgspec.structs.replace(one, person=AUTHOR) for one in approvals]

    assert not enough(policy, own, now)


@given(POLICIES, APPROVALS, NOWS)
def test_it_is_enough_exactly_until_it_expires(policy: Approval, approvals: list[Given], now: float) -> None:
    end = expires(policy, approvals, digest=THIS, barred=(AUTHOR,), now=now)

    assert (end is not None) is enough(policy, approvals, now)
    if end is not None:
        assert end > now
        assert enough(policy, approvals, end - 0.5)
        assert not enough(policy, approvals, end)


@given(POLICIES, APPROVALS, NOWS)
def test_what_was_approved_for_one_thing_is_nothing_for_another(
    policy: Approval, approvals: list[Given], now: float
) -> None:
    assert counting(policy, approvals, digest="c" * 64, barred=(), now=now) == ()


@given(POLICIES, APPROVALS, NOWS)
def test_what_does_not_count_says_why_and_what_counts_says_nothing(
    policy: Approval, approvals: list[Given], now: float
) -> None:
    counted = counting(policy, approvals, digest=THIS, barred=(AUTHOR,), now=now)

    assert all(not why_void(policy, one, digest=THIS, barred=(AUTHOR,), now=now) for one in counted)
    assert all(
        why_void(policy, one, digest=THIS, barred=(AUTHOR,), now=now)
        for one in approvals
        if one.person not in {held.person for held in counted}
    )


@given(
    POLICIES, APPROVALS, NOWS, st.sampled_from([(), ("auditor",), ("operator",), ("operator", "approver")])
)
def test_who_lost_a_role_counts_no_more_by_it_and_others_as_before(
    policy: Approval, approvals: list[Given], now: float, roles: tuple[str, ...]
) -> None:
    def people(given: list[Given]) -> set[str]:
        return {one.person for one in counting(policy, given, digest=THIS, barred=(AUTHOR,), now=now)}

    lost = [disowned(one, roles) if one.person == "bo" else one for one in approvals]
    back = [disowned(one, ("operator", "approver", "admin")) for one in lost]
    kept = [one for one in approvals if one.person != "bo" or one.role in roles]

    assert people(lost) == people(kept)
    assert people(back) == people(lost)


@given(POLICIES, APPROVALS, NOWS, st.sampled_from([("auditor",), ("operator", "approver", "admin")]))
def test_who_lost_the_model_counts_no_more_in_any_role_and_others_as_before(
    policy: Approval, approvals: list[Given], now: float, roles: tuple[str, ...]
) -> None:
    def people(given: list[Given]) -> set[str]:
        return {one.person for one in counting(policy, given, digest=THIS, barred=(AUTHOR,), now=now)}

    lost = [disowned(one, roles, elsewhere=("w",)) if one.person == "bo" else one for one in approvals]
    back = [disowned(one, ("operator", "approver", "admin")) for one in lost]

    assert people(lost) == people(approvals) - {"bo"}
    assert people(back) == people(lost)


@given(st.none() | POLICIES, st.none() | POLICIES, APPROVALS, NOWS)
def test_what_an_edit_may_make_of_a_policy_is_never_met_by_less(
    before: Approval | None, after: Approval | None, approvals: list[Given], now: float
) -> None:
    if why_weaker(before, after) or before is None:
        return
    assert after is not None
    assert enough(before, approvals, now) or not enough(after, approvals, now)


EDITS: list[dict[str, Any]] = [
    {"selector": "site = berlin"},
    {"control": 0.5},
    {"error_budget": 0.02},
    {"margins": {"errors": 0.5}},
    {"limits": {"failures": 1.0}},
    {"stages": [{"percent": 100}]},
    {"seed": "2"},
    {"probation_seconds": 0.0},
    {"approval": {"needed": 1, "roles": ["operator"]}},
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: next(iter(edit)))
def test_any_edit_of_the_plan_is_another_thing(edit: dict[str, Any]) -> None:
    before, after = make_plan(), make_plan(**edit)

    assert digest_of(before, NEW, None) != digest_of(after, NEW, None)


def make_evidence(**changes: Any) -> Evidence:
    gate = Gate("failures", Verdict.INCONCLUSIVE, 0.013, 0.1)
    values: dict[str, Any] = {
        "at": 1.0,
        "stage": 0,
        "step": "analyse",
        "verdict": Verdict.INCONCLUSIVE,
        "rounds": 4,
        "denominators": Denominators(1, 1, 1, 1, 1),
        "gates": (gate,),
    }
    return Evidence(**(values | changes))


def test_another_version_is_another_thing() -> None:
    assert digest_of(make_plan(), NEW, None) != digest_of(make_plan(), OLD, None)


@pytest.mark.parametrize(
    "change",
    [
        {"stage": 1},
        {"verdict": Verdict.HEALTHY},
        {"failed": ("berlin-1",)},
        {"gates": (Gate("failures", Verdict.UNHEALTHY, 0.013, 0.1),)},
        {"gates": ()},
    ],
    ids=str,
)
def test_other_evidence_is_another_thing(change: dict[str, Any]) -> None:
    seen = digest_of(make_plan(), NEW, make_evidence())

    assert seen != digest_of(make_plan(), NEW, make_evidence(**change))
    assert seen != digest_of(make_plan(), NEW, None)


@given(st.floats(0, 1e10), st.integers(0, 99), st.floats(-1, 1))
def test_time_rounds_and_decimals_alone_are_the_same_thing(at: float, rounds: int, effect: float) -> None:
    later = make_evidence(
        at=at, rounds=rounds, gates=(Gate("failures", Verdict.INCONCLUSIVE, effect, 0.1, samples=rounds),)
    )

    assert digest_of(make_plan(), NEW, make_evidence()) == digest_of(make_plan(), NEW, later)
