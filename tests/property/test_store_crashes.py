"""The store on a disk that loses power: a device is always what it was or what it meant to be."""

from random import Random

import pytest

from support.device_course import DeviceCourse
from support.disk import Fault
from support.store_crashes import (
    REFUSALS,
    End,
    calls_of_a_life,
    cut,
    deaths,
    end_violation,
    kill,
    live_with_fault,
    new_life,
    second_deaths,
    violation,
)

POINTS = range(1, calls_of_a_life() + 1)


def test_no_power_cut_at_any_call_leaves_a_device_without_its_versions() -> None:
    states = list(deaths(DeviceCourse, POINTS, cut, outcomes=5, seed=1))

    assert len(states) >= 5 * 250
    assert [found for life in states if (found := violation(life, DeviceCourse))] == []


@pytest.mark.parametrize("end", [cut, kill], ids=["after a power cut", "after a kill"])
def test_a_second_power_cut_during_recovery_does_no_harm_either(end: End) -> None:
    states = [
        second
        for number, first in enumerate(deaths(DeviceCourse, POINTS, end, outcomes=1, seed=2))
        for second in second_deaths(first, DeviceCourse, outcomes=6, seed=f"2/{number}")
    ]

    assert len(states) >= 4 * 250
    assert [found for life in states if (found := violation(life, DeviceCourse))] == []


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "until repaired"])
@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_disk_that_refuses_at_any_call_delays_and_harms_nothing(error: int, lasts: bool) -> None:  # noqa: FBT001 - a parameter of the table
    found = []
    for point in POINTS:
        life = new_life()
        live_with_fault(life, DeviceCourse, Fault(point, error, lasts))
        found.append(end_violation(life, DeviceCourse))
        life.disk.cut_power(Random(point))
        found.append(violation(life, DeviceCourse))

    assert [one for one in found if one] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_violation_in_a_hundred_thousand_states() -> None:
    states = 0
    for seed in range(100, 140):
        for number, first in enumerate(deaths(DeviceCourse, POINTS, cut, outcomes=3, seed=seed)):
            for life in (
                first.clone(),
                *second_deaths(first, DeviceCourse, outcomes=3, seed=f"{seed}/{number}"),
            ):
                states += 1
                assert violation(life, DeviceCourse) is None

    assert states >= 100_000
