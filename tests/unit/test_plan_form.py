"""The form of a plan says what its file says, and the other way round."""

from typing import Any

import pytest
from hypothesis import given, settings

from muster_controller.domain.rollouts.planning.fields import fields_of
from muster_controller.domain.rollouts.planning.file import PlanFile, read_plan_file, write_plan_file
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_controller.web.plan_form import PlanForm, form_fields, read_form, values_of
from muster_controller.web.plan_words import GROUPS
from muster_models.errors import RequestError
from support.plans import plan_fields

VERSIONS = {"model": "digits", "digest": "b" * 64, "previous": "a" * 64}
FILE = """\
version: digits@1.2.0
previous: digits@1.1.0
selector: site = berlin
stages:
  - {count: 1, soak: 1h}
  - {percent: 25, soak: 10m}
  - {percent: 100, soak: 10m}
control: 20%
margins:
  latency: 0.5
  counters:
    scrap:
      margin: 0.1
limits:
  crashes_per_device: null
windows:
  - {start: "22:00", end: "05:00", days: [mon, tue]}
ramp:
  per_minute: 10
"""


def test_a_file_fills_the_form_with_the_texts_that_a_person_would_type() -> None:
    values = values_of(read_plan_file(FILE))

    assert values == {
        "version": "digits@1.2.0",
        "previous": "digits@1.1.0",
        "selector": "site = berlin",
        "stages": "1, 25%, 100%",
        "soak": "1h, 10m, 10m",
        "control": "20%",
        "margins.latency": "0.5",
        "margins.counters": "scrap:\n  margin: 0.1\n",
        "limits.crashes_per_device": "null",
        "windows": '- {start: "22:00", end: "05:00", days: [mon, tue]}\n',
        "ramp.per_minute": "10",
    }
    assert PlanForm(values).plan().fields == read_plan_file(FILE).fields


@given(plan_fields())
@settings(max_examples=100, deadline=None)
def test_whatever_a_file_says_its_form_says_too(fields: dict[str, Any]) -> None:
    file = read_plan_file(write_plan_file(PlanFile("digits@1.2.0", None, fields)))

    again = PlanForm(values_of(file)).plan()

    assert values_of(again) == values_of(file)
    # A list without items and one that was left out are the same plan.
    assert parse_plan({**again.fields, **VERSIONS}) == parse_plan({**fields, **VERSIONS})


def test_every_field_of_a_plan_has_an_input_with_words() -> None:
    paths = [one.path for fields in form_fields().values() for one in fields]
    tops = {path.partition(".")[0] for path in paths}

    assert len(paths) == len(set(paths))
    assert tops - {"version", "previous", "soak", "minimum_rounds"} == set(fields_of(Plan))
    assert all(label and hint for fields in GROUPS.values() for label, hint in fields.values())


def test_an_input_shows_what_holds_when_it_is_empty() -> None:
    defaults = {one.path: one.default for fields in form_fields().values() for one in fields}

    assert (defaults["stages"], defaults["soak"], defaults["control"]) == ("5%, 25%, 100%", "10m", "25%")
    assert (defaults["abort"], defaults["rollback_window"]) == ("revert", "30d")


def test_the_form_and_its_file_settle_to_the_same() -> None:
    typed = read_form({"version": "digits@1.2.0", "soak": " 1h ", "control": "", "mode": "form", "evil": "x"})

    settled = typed.settled()

    assert settled.file == (
        "version: digits@1.2.0\n"
        "stages:\n"
        "  - {percent: 5, soak: 1h}\n"
        "  - {percent: 25, soak: 1h}\n"
        "  - {percent: 100, soak: 1h}\n"
    )
    back = read_form({"file": settled.file, "mode": "file"}).settled()
    assert (back.values, back.problem) == (settled.values, "")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"control": "60%"}, "control: expected a share such as 25%"),
        ({"soak": "1h, 2h"}, "soak: expected one for all stages, or one for each of the 3, got 2"),
        ({"windows": "- {start: 22:00"}, "windows: line 1: not YAML"),
        ({"margins.latency": "slow"}, "margins.latency: expected a number"),
        ({"ramp.growth": "2"}, "ramp.per_minute: missing, expected a number"),
    ],
)
def test_what_is_wrong_in_the_form_is_told_by_its_field(values: dict[str, str], told: str) -> None:
    form = read_form({"version": "digits@1.2.0", **values})

    with pytest.raises(RequestError, match=r"expected|YAML") as refused:
        form.plan()
    assert told in str(refused.value)
    assert told in form.settled().problem
    assert form.settled().values == form.values
