"""What the pages about drift say in words."""

import dataclasses
import datetime as dt
from typing import Any

import pytest

from muster_controller.service.drift_views import ControlView, EvidenceView, FeatureView, HeatCell, Series
from muster_controller.store.views.alarms import AlarmView
from muster_controller.web import cost_words, drift_words

NOW = dt.datetime(2027, 1, 15, 12, 0, tzinfo=dt.UTC)
ALARM = AlarmView(
    id=1,
    model="press",
    baseline="0" * 64,
    kind="data-drift",
    level="group",
    subject="site=berlin",
    feature="brightness",
    state="firing",
    since=NOW,
    fired_at=NOW,
    resolved_at=None,
    effect=-0.8,
    unit="sd",
    evidence={"features": [{"feature": "brightness", "leg": "location", "evidence": 20.0}]},
    says="brightness fell",
)
CONTROL = ControlView(
    subject="all",
    level="fleet",
    leg="location",
    distance=(0.5, None, 2.0, 3.0, None),
    moved=(-0.1, None, -0.4, -0.6, None),
    allowed=(0.2, None, 0.2, 0.2, None),
    evidence=EvidenceView(6.0, 5.0),
    before=420.0,
    after=399.0,
)
SHARES = dataclasses.replace(CONTROL, leg="missing", before=0.0, after=0.125, distance=(0.9,), moved=(0.1,))
NUMERIC = FeatureView(
    name="brightness",
    kind="numeric",
    unit="lux",
    psi=0.1,
    ks=0.1,
    js=0.1,
    wasserstein=0.1,
    mean=1.0,
    sd=1.0,
    baseline_mean=1.0,
    baseline_sd=1.0,
    missing=0.0,
    outside=0.0,
    edges=(1.0, 2.0),
    counts=(5, 5, 0, 0, 0),
    reference=(0.4, 0.4, 0.1, 0.05, 0.05),
    labels=(),
    series=Series((), (), ()),
    alarm=None,
)


def alarm(**changes: Any) -> AlarmView:
    return dataclasses.replace(ALARM, **changes)


def states(*alarms: AlarmView) -> dict[str, str]:
    return {kind.name: kind.word for kind in drift_words.kinds(alarms, {}) if kind.word != "calm"}


def test_every_kind_is_calm_until_an_alarm_says_otherwise() -> None:
    assert states() == {}
    assert states(alarm(), alarm(state="pending")) == {"data-drift": "firing"}
    assert states(alarm(kind="performance", state="pending")) == {"performance": "pending"}
    assert states(alarm(kind="silence")) == {}


def test_a_kind_that_cannot_be_judged_is_not_called_calm() -> None:
    found = drift_words.kinds([], {"concept-drift": "no labels"})

    assert {kind.name: kind.word for kind in found}["concept-drift"] == "no labels"


def test_what_has_no_order_has_shares_and_no_level() -> None:
    assert [drift_words.leg("location", kind) for kind in ("numeric", "category")] == ["level", "shares"]
    assert drift_words.leg("missing", "category") == "missing values"


def test_answers_that_moved_with_the_inputs_are_said_to_have_moved_along() -> None:
    moved = {"features": [{"feature": "brightness"}, {"feature": "prediction:confidence"}]}

    assert states(alarm(evidence=moved)) == {"data-drift": "firing", "prediction-drift": "moved along"}


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(-0.6789, "sd", "-0.68 sd"), (0.277, "share", "+27.7 %"), (1.0, "", "+1")],
)
def test_a_change_has_its_sign_and_its_unit(value: float, unit: str, words: str) -> None:
    assert drift_words.effect(value, unit) == words


def test_where_a_column_is_now_is_said_in_its_own_unit() -> None:
    assert drift_words.now(NUMERIC, CONTROL) == ("Now at 399 lux, normally 420: -0.60 sd, outside its band.")
    assert drift_words.now(None, CONTROL).startswith("Now at 399 ms, normally 420")
    assert drift_words.now(NUMERIC, SHARES) == (
        "Now 12.5 % of the rows, normally \N{EN DASH}: within its band."
    )
    unsaid = dataclasses.replace(CONTROL, before=None, after=None)
    assert drift_words.now(NUMERIC, unsaid) == "Now: -0.60 sd, outside its band."


def test_a_strip_says_how_often_it_left_its_band() -> None:
    said = drift_words.strip_words("brightness", CONTROL, 0.1)
    psi = drift_words.strip_words("brightness", None, 0.1)

    assert said.endswith("outside its control band in 2 of 3 windows, now 3.0 times the band")
    assert psi.endswith("PSI, 0.1 over the whole period")


def test_a_control_chart_of_quality_is_shown_when_it_has_something_to_tell() -> None:
    calm = dataclasses.replace(NUMERIC, control=CONTROL, quality=SHARES)
    left = dataclasses.replace(calm, quality=dataclasses.replace(SHARES, distance=(0.9, 1.1)))

    assert drift_words.controls(calm) == [CONTROL]
    assert drift_words.controls(left) == [CONTROL, left.quality]
    assert drift_words.controls(NUMERIC) == []


@pytest.mark.parametrize(("bins", "names"), [(5, ["\N{INFINITY}", "missing"]), (4, ["missing"])])
def test_the_last_bins_of_a_number_have_names_in_either_format(bins: int, names: list[str]) -> None:
    feature = dataclasses.replace(NUMERIC, counts=(1,) * bins, reference=(1 / bins,) * bins)

    assert drift_words.ends_of(feature) == names


def category(count: int, **changes: Any) -> FeatureView:
    names = (*(f"value {at}" for at in range(count)), "other")
    shares = (1 / (count + 3),) * (count + 3)
    fields = {"kind": "category", "labels": names, "edges": (), "counts": (1,) * (count + 3)}
    return dataclasses.replace(NUMERIC, **(fields | {"reference": shares} | changes))


def test_a_category_has_a_bar_for_each_value_and_for_all_others() -> None:
    names = [name for name, *_ in drift_words.named_bars(category(2, missing=0.2, infinite=0.2))]

    assert names == ["value 0", "value 1", "other", "infinite", "missing"]


def test_of_many_values_the_smallest_are_added_up() -> None:
    rows = drift_words.named_bars(category(40))

    assert len(rows) == drift_words.MAX_BARS
    assert rows[-1][0] == "30 more"
    assert sum(share for _, share, _ in rows) == pytest.approx(41 / 43)


def test_a_class_is_named_by_its_label_and_its_bin_is_one_further() -> None:
    feature = dataclasses.replace(
        NUMERIC, kind="class", labels=("cat", "dog"), counts=(0, 3, 1, 0, 0), moved="1"
    )

    assert drift_words.named_bars(feature)[0][:2] == ("cat", 0.75)
    assert drift_words.bin_name(feature) == "dog"


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "\N{EN DASH}"), (0.0001, "< 0.1 %"), (0.125, "12.5 %")],
)
def test_a_share_is_a_percentage(share: float, words: str) -> None:
    assert drift_words.percent(share) == words


def test_a_latency_has_the_name_of_its_bin_and_the_empty_ends_are_left_out() -> None:
    assert drift_words.latency_bars([0, 0, 3, 0, 1, *[0] * 11]) == [
        ("≤ 0.2 ms", 0.75, None),
        ("≤ 0.5 ms", 0.0, None),
        ("≤ 1 ms", 0.25, None),
    ]


def test_a_cell_says_what_moved_by_how_much_and_how_unusual_that_is() -> None:
    assert drift_words.cell(HeatCell("missing", 0.277, "share", 22.8)) == (
        "missing values +27.7 %, 22.8 times what is normal for it"
    )


def test_an_alarm_is_told_by_its_sentence_or_else_by_its_headline() -> None:
    assert drift_words.sentence(ALARM) == "brightness fell"
    assert "brightness" in drift_words.sentence(alarm(says=""))


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0.005, "18 seconds"),
        (0.5, "30 minutes"),
        (1.5, "90 minutes"),
        (6.75, "6.8 hours"),
        (54.2, "2.3 days"),
    ],
)
def test_a_delay_is_told_in_the_unit_that_suits_it(count: float, words: str) -> None:
    assert cost_words.hours(count) == words


def test_who_notices_a_shift_is_said_with_how_many_they_are() -> None:
    said = [cost_words.catcher(level, 3) for level in ("device", "group", "fleet")]

    assert said == ["of one device", "of a group of 3", "of all 3"]
