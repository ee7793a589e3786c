"""The file of a plan: how it reads, and that what is wrong in it is named with its line and expected form."""

import datetime as dt
import re
from pathlib import Path

import pytest

from muster_controller.domain.rollouts.planning.fields import fields_of
from muster_controller.domain.rollouts.planning.file import PlanFile, file_of, read_plan_file, write_plan_file
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_controller.domain.rollouts.planning.terms import (
    parse_duration,
    parse_instant,
    parse_size,
    write_duration,
    write_instant,
)
from muster_controller.web.plan_form import form_fields
from muster_models.errors import RequestError

FILE = """\
version: digits@1.2.0
previous: digits@1.1.0
selector: "site in (berlin, oslo)"
stages:
  - 1
  - {percent: 25, soak: 1h, minimum_rounds: 12}
  - 100%
control: 25%
error_budget: 0.5%
margins:
  errors: 1%
  counters:
    scrap: {margin: 0.1, direction: both}
probation: 90s
shadow: {for: 10m, share: 50%}
"""


def test_a_file_says_in_a_persons_words_what_the_plan_holds() -> None:
    assert read_plan_file(FILE) == PlanFile(
        "digits@1.2.0",
        "digits@1.1.0",
        {
            "selector": "site in (berlin, oslo)",
            "stages": [
                {"count": 1},
                {"percent": 25.0, "soak_seconds": 3600.0, "minimum_rounds": 12},
                {"percent": 100.0},
            ],
            "control": 0.25,
            "error_budget": 0.005,
            "margins": {"errors": 0.01, "counters": {"scrap": {"margin": 0.1, "direction": "both"}}},
            "probation_seconds": 90.0,
            "shadow": {"seconds": 600.0, "share": 0.5},
        },
    )


def test_the_form_of_a_plan_is_written_as_people_would() -> None:
    written = write_plan_file(read_plan_file(FILE))

    assert "stages:\n  - 1\n  - {percent: 25, soak: 1h, minimum_rounds: 12}\n  - 100%\n" in written
    assert "\ncontrol: 25%\n" in written
    assert "\nprobation: 90s\n" in written
    assert "\nselector: site in (berlin, oslo)\n" in written


def test_the_file_of_a_plan_leaves_defaults_out_and_gives_the_same_plan_back() -> None:
    versions = {"model": "digits", "digest": "b" * 64, "previous": "a" * 64}
    plan = parse_plan({**versions, "stages": [{"percent": 100}], "margins": {"latency": 0.5}})
    file = file_of(plan, version="digits@2.0.0", previous="digits@1.0.0")
    back = read_plan_file(write_plan_file(file))

    assert "limits" not in file.fields
    assert file.fields["margins"] == {"latency": 0.5}
    assert parse_plan({**back.fields, **versions}) == plan


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stagess: [100%]", "line 2: stagess: no such field, did you mean 'stages'?"),
        ("probation_seconds: 60", "line 2: probation_seconds: no such field, did you mean 'probation'?"),
        ("soak: 10m", "line 2: soak: no such field: it belongs to a stage"),
        ("flavour: mint", "line 2: flavour: no such field; a plan has selector, stages, control"),
        (
            "control: 60%",
            "line 2: control: expected a share such as 25%, at least 0% and at most 50%, got '60%'",
        ),
        ("control: half", "line 2: control: expected a number, or a share such as 25%, got 'half'"),
        ("probation: 60", "line 2: probation: expected a duration such as 90s, 10m or 24h, got '60'"),
        (
            "stages: [1, 25%, many]",
            "line 2: stages[3]: a stage is a share such as 25%, at most 100%, or a number of devices",
        ),
        (
            "stages:\n  - {percent: 25, soack: 1h}",
            "line 3: stages[1].soack: no such field, did you mean 'soak'?",
        ),
        ("stages: [50%, 25%, 100%]", "line 2: stages: stages must grow, got percent [50.0, 25.0, 100.0]"),
        ("stages: [25%]", "line 2: stages: the last stage must be 100 percent"),
        ("stages: []", "line 2: stages: expected 1 to 20 of them, got 0"),
        ("margins: 5%", "line 2: margins: expected fields of its own, got '5%'"),
        ("margins:\n  erors: 1%", "line 3: margins.erors: no such field, did you mean 'errors'?"),
        ("margins:\n  counters: {Scrap: {margin: 1}}", "line 3: margins.counters.Scrap: expected the form"),
        ("margins: {counters: {scrap: {direction: sideways, margin: 1}}}", "expected one of both, down, up"),
        ("selector: site in", "line 2: selector: selector, column 8: expected '(', got the end"),
        ("before_rounds: 1", "line 2: before_rounds: expected a whole number, at least 2, got '1'"),
        ("before_rounds: 6.5", "line 2: before_rounds: expected a whole number, got '6.5'"),
        ("limits: {failures: NaN}", "line 2: limits.failures: expected a number"),
        ("shadow: {share: 1}", "line 2: shadow.for: missing, expected a duration"),
        ("control: [1, 2]", "line 2: control: expected a share such as 25%"),
        ("control: 10%\ncontrol: 20%", "line 3: 'control' stands twice, first in line 2"),
        ("stages: [1, 25%", "not YAML: expected ',' or ']'"),
        ("stages: [25%, 150%]", "line 2: stages[2]: a stage is a share such as 25%, at most 100%"),
        (
            "margins:\n  errors: 1%\n  required: [class mx]",
            "line 4: margins.required: no gate is called 'class mx', did you mean 'class mix'?",
        ),
        (
            "margins:\n  weights:\n    counter scrap: 2",
            "line 4: margins.weights: no gate is called 'counter scrap'; there are class mix, confidence,",
        ),
        (
            "minimums: {gates: {eror: {rounds: 3}}}",
            "line 2: minimums.gates: no gate is called 'eror', did you mean 'errors'?",
        ),
        ("previous: digits", "line 2: previous: expected model@version or a digest, got 'digits'"),
        ("previous: digits@1.2.0", "line 2: previous: expected another version than 'digits@1.2.0'"),
        ("seed: !!python/object:x 1", "line 2: a plan has no tags"),
        ("seed: &a 1", "line 2: a plan has no anchors and no aliases"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_its_field_and_the_expected_form(text: str, told: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_plan_file(f"version: digits@1.2.0\n{text}\n")

    assert told in str(refused.value)


def test_every_problem_of_a_file_is_told_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(RequestError) as refused:
        read_plan_file("control: x\nversion: a@1\nmargins:\n  errors: y\nseed: 1\nprobation: z\n")

    assert [told.split(":")[0] for told in str(refused.value).split("; ")] == ["line 1", "line 4", "line 6"]


def test_a_file_without_a_version_says_so() -> None:
    for text in ("", "control: 25%"):
        with pytest.raises(RequestError, match="version: missing, expected model@version or a digest"):
            read_plan_file(text)


def test_a_file_that_names_no_version_but_a_model_says_so() -> None:
    with pytest.raises(RequestError, match="line 1: version: expected model@version or a digest, got 'digi"):
        read_plan_file("version: digits\nstages: [100%]\n")


def test_the_gates_of_counters_that_a_file_compares_can_be_named_in_it() -> None:
    file = read_plan_file(
        "version: a@1\nmargins:\n  counters: {scrap: {margin: 1}}\n  required: [counter scrap]\n"
    )

    assert file.fields["margins"]["required"] == ["counter scrap"]


def test_words_that_other_readers_take_for_numbers_and_truths_are_what_they_say() -> None:
    file = read_plan_file("version: a@1\nseed: 22:00\nselector: site = no\nprevious: ~\n")

    assert file == PlanFile("a@1", None, {"seed": "22:00", "selector": "site = no"})


def test_every_field_of_a_plan_stands_in_a_file_except_what_follows_from_the_version() -> None:
    written = {one.name for one in fields_of(Plan).values()}

    assert set(Plan.__struct_fields__) - written == {"model", "digest", "previous"}
    assert len(fields_of(Plan)) == len(written)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("10 min", 600),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("0", 0),
    ],
)
def test_a_duration_has_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_durations_are_written_in_the_unit_that_people_would_choose() -> None:
    assert [write_duration(s) for s in (0, 0.5, 90, 600, 5400, 86_400, 2_592_000)] == [
        "0s", "0.5s", "90s", "10m", "90m", "24h", "30d"
    ]  # fmt: skip


def test_a_size_counts_in_decimal_and_in_binary_prefixes() -> None:
    assert [parse_size(text) for text in ("200 MB", "1.5kB", "64 MiB", "7 B")] == [
        200_000_000,
        1500,
        2**26,
        7,
    ]
    with pytest.raises(RequestError, match="expected a size such as 200 MB"):
        parse_size("200")


@pytest.mark.parametrize(
    "text",
    ["2027-01-15T08:00:00Z", "2028-02-29T23:59:59.25Z", "2000-03-01T00:00:00Z", "2100-12-31T12:30:00Z"],
)
def test_an_instant_is_the_one_of_the_calendar(text: str) -> None:
    seconds = parse_instant(text)

    assert seconds == dt.datetime.fromisoformat(text).timestamp()
    assert write_instant(seconds) == text


def test_an_instant_counts_from_its_offset() -> None:
    assert parse_instant("2027-01-15 09:00+01:00") == parse_instant("2027-01-15T08:00:00Z")
    for text in ("2027-01-15T08:00:00", "2027-02-29T08:00:00Z", "2027-01-15T24:00:00Z", "tomorrow"):
        with pytest.raises(RequestError, match="expected an instant such as"):
            parse_instant(text)


DOCUMENT = (Path(__file__).parents[2] / "docs/rollouts.md").read_text()


def test_the_document_names_every_field_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([\w.\[\]]+)` \| ([^|]*?) ?\|", DOCUMENT, flags=re.MULTILINE))
    for group in form_fields().values():
        for one in group:
            path = f"stages[].{one.path}" if one.path in {"soak", "minimum_rounds"} else one.path
            assert path in rows, path
            written = rows[path].startswith("`")
            assert not written or rows[path] == f"`{one.default}`", path


def test_the_plans_of_the_document_can_be_read() -> None:
    plans = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)

    assert len(plans) > 0
    for text in plans:
        file = read_plan_file(text)
        assert read_plan_file(write_plan_file(file)) == file
