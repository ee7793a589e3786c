"""Charts: from values to the shapes of an SVG."""

import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from muster_controller.web import charts

SVG = "{http://www.w3.org/2000/svg}"
BASE = charts.HEIGHT - charts.BOTTOM


def parse(markup: Markup) -> ET.Element:
    return ET.fromstring(str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def paths(markup: Markup, kind: str) -> list[str]:
    found = parse(markup).findall(f"{SVG}path")
    return [path.get("d", "") for path in found if path.get("class") == kind]


def words(markup: Markup) -> list[str]:
    return [text.text or "" for text in parse(markup).findall(f"{SVG}text")]


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[0-9.]+", path)]


def test_a_strip_has_a_bar_per_known_value_and_hotter_ones_nearer_the_bound() -> None:
    drawn = charts.strip([0.0, None, 0.6, 1.0, 9.0], bound=1.0, label="distance")

    (cold,), (warm,), (outside,), (far,) = (paths(drawn, f"h{level}") for level in (0, 2, 3, 4))
    assert [numbers(path)[0] for path in (cold, warm, outside, far)] == [0, 16, 24, 32]
    assert paths(drawn, "h1") == []


def test_a_strip_says_without_colour_what_is_outside_its_bound() -> None:
    """What is outside is taller than the line, what is inside is not."""
    (line,) = paths(charts.strip([1.0], bound=1.0, label="x"), "axis")
    inside, outside = charts.CELL_HEIGHTS[:3], charts.CELL_HEIGHTS[3:]

    assert charts.STRIP_HEIGHT - numbers(line)[1] == charts.BOUND_HEIGHT
    assert max(inside) < charts.BOUND_HEIGHT < min(outside)
    assert [charts.heat(value) for value in (0.99, 1.0)] == [2, 3]


def test_a_histogram_draws_both_distributions_to_one_scale() -> None:
    drawn = charts.histogram([0.5, 0.5], [1.0, 0.0], label="x")
    (bars,), (outline,) = paths(drawn, "mark"), paths(drawn, "outline")

    assert re.findall(r"v-([0-9.]+)", bars) == [f"{BASE / 2:.1f}"] * 2
    assert outline.startswith(f"M0.0 {BASE}V0.0")
    assert f"L{charts.WIDTH / 2:.1f} {BASE:.1f}" in outline


def test_an_empty_bin_has_no_bar() -> None:
    (bars,) = paths(charts.histogram([0.0, 1.0], [0.5, 0.5], label="x"), "mark")

    assert bars.count("M") == 1


def test_missing_values_stand_apart_from_the_ordinary_bins_and_have_a_name() -> None:
    drawn = charts.histogram([0.5, 0.4, 0.1], [0.6, 0.4, 0.0], label="x", names=["missing"], edges=[7.5])
    (bars,), (outline,) = paths(drawn, "mark"), paths(drawn, "outline")

    assert words(drawn) == ["7.5", "missing"]
    assert numbers(bars.split("M")[3])[0] > charts.WIDTH - charts.SLOT
    assert outline.count("M") == 2  # it is broken between them


def test_names_of_edges_stay_within_the_chart() -> None:
    drawn = parse(
        charts.histogram([0.02] * 50, [0.02] * 50, label="x", edges=[float(at) for at in range(49)])
    )
    places = [float(text.get("x", "")) for text in drawn.findall(f"{SVG}text")]

    assert len(places) == len(charts.TICKS)
    assert min(places) >= 14
    assert max(places) <= charts.WIDTH - 14


def test_named_bars_show_both_shares_as_shapes_and_as_words() -> None:
    drawn = charts.bars([("berlin", 0.25, 0.5), ("a very long name of a value", 0.125, None)], label="x")
    widths = {
        (bar.get("class"), bar.get("y")): float(bar.get("width", ""))
        for bar in parse(drawn).findall(f"{SVG}rect")
    }

    assert widths["outline", "2.0"] == 2 * widths["mark", "5.0"] == 4 * widths["mark", f"{charts.ROW + 5.0}"]
    assert words(drawn) == ["berlin", "25.0% · 50.0%", "a very long na…", "12.5%"]


def control(moved: list[float | None], allowed: list[float | None], since: int | None = None) -> Markup:
    return charts.control(moved, allowed, label="x", unit="sd", since=since, ends=("5 h ago", "now"))


def test_what_is_outside_its_band_is_a_dot() -> None:
    drawn = control([0.05, -0.2, 0.3, None], [0.1, 0.1, None, None])
    dots = parse(drawn).findall(f"{SVG}circle")

    assert [float(dot.get("cx", "")) for dot in dots] == [pytest.approx(charts.WIDTH / 3, abs=0.1)]
    assert {dot.get("class") for dot in dots} == {"out"}


def test_the_band_lies_alike_on_both_sides_of_the_level() -> None:
    drawn = control([0.0, 0.0], [0.1, 0.1])
    (zero,), (band,) = paths(drawn, "zero"), paths(drawn, "band")
    heights = {float(point.split()[1]) for point in band.strip("Mz").split("L")}

    assert sum(heights) / 2 == pytest.approx(numbers(zero)[1], abs=0.1)


def test_a_line_and_its_band_are_broken_where_nothing_is_known() -> None:
    drawn = control([0.1, 0.2, None, 0.3], [0.1, 0.1, None, 0.1])
    (line,), (band,) = paths(drawn, "trend"), paths(drawn, "band")

    assert line.count("M") == band.count("M") == band.count("z") == 2


def test_the_beginning_of_an_alarm_is_a_line_of_its_own() -> None:
    (since,) = paths(control([0.0, 0.0, 0.0], [0.1, 0.1, 0.1], since=1), "since")

    assert numbers(since)[0] == charts.WIDTH / 2
    assert paths(control([0.0], [0.1]), "since") == []


def test_the_ends_of_time_and_of_the_scale_are_written() -> None:
    assert words(control([0.25, -0.5], [0.1, 0.1])) == ["+0.25 sd", "-0.5", "5 h ago", "now"]


def test_an_accuracy_is_a_dot_on_its_interval_beside_what_was_signed() -> None:
    drawn = charts.intervals([(0.9, 0.8, 1.0), None], label="x", bound=0.95)
    (whisker,), (bound,) = paths(drawn, "whisker"), paths(drawn, "bound")
    (dot,) = parse(drawn).findall(f"{SVG}circle")

    assert numbers(whisker)[1:] == [BASE, 0]
    assert float(dot.get("cy", "")) == BASE / 2
    assert numbers(bound)[1] == BASE / 4


def test_evidence_climbs_towards_what_it_has_to_reach() -> None:
    drawn = charts.climb([0.0, 5.0, 20.0], [10.0, 10.0, 10.0], label="x")
    (line,), (bound,) = paths(drawn, "trend"), paths(drawn, "bound")

    assert [float(y) for _, y in re.findall(r"[ML]([0-9.]+) ([0-9.]+)", line)] == [BASE, BASE * 0.75, 0]
    assert set(re.findall(r" ([0-9.]+)", bound)) == {f"{BASE / 2:.1f}"}
    assert charts.climb([], [], label="x") == ""


@pytest.mark.parametrize("values", [[], [None]])
def test_nothing_known_draws_nothing(values: list[float | None]) -> None:
    assert control(values, values) == ""
    assert charts.intervals([None for _ in values], label="x", bound=1.0) == ""


def test_constant_values_and_empty_charts_can_be_drawn() -> None:
    for drawn in (
        control([0.0, 0.0], [0.0, 0.0]),
        charts.intervals([(2.0, 2.0, 2.0)], label="x"),
        charts.histogram([], [], label="x"),
        charts.bars([], label="x"),
        charts.bars([("nobody", 0.0, 0.0)], label="x"),
        charts.strip([], bound=1.0, label="x"),
    ):
        parse(drawn)


def test_every_chart_tells_in_words_what_it_shows_and_escapes_it() -> None:
    label = 'a < "b"'
    drawn = (
        charts.strip([1.0], bound=1.0, label=label),
        charts.histogram([1.0], [1.0], label=label, names=["<b>"]),
        charts.bars([("<b>", 0.5, 0.5)], label=label),
        charts.control([1.0], [1.0], label=label, unit="<i>"),
        charts.intervals([(1.0, 1.0, 1.0)], label=label),
        charts.share_bar(0.5, label=label),
    )

    assert [parse(chart).get("aria-label") for chart in drawn] == [label] * len(drawn)
    assert {parse(chart).get("role") for chart in drawn} == {"img"}


def test_a_difference_lies_with_its_interval_over_the_band_that_is_tolerated() -> None:
    drawn = charts.difference(0.01, (-0.01, 0.03), (None, 0.02), label="up by 0.01")

    (band,) = parse(drawn).findall(f"{SVG}rect")
    (dot,) = parse(drawn).findall(f"{SVG}circle")
    line, *stops = paths(drawn, "whisker")
    (middle, _) = numbers(paths(drawn, "zero")[0])[:2]
    right = float(band.get("x", "")) + float(band.get("width", ""))
    # One side is tolerated without end: the band begins at the edge, and ends right of zero.
    assert float(band.get("x", "")) == 0
    assert middle == charts.SPAN / 2
    assert middle < float(dot.get("cx", "")) < right < numbers(line)[2]
    assert len(stops) == 2
    assert parse(drawn).get("aria-label") == "up by 0.01"


def test_an_interval_that_is_wider_than_the_chart_has_no_stop_there() -> None:
    drawn = charts.difference(0.0, (-0.01, 9.0), (-0.02, 0.02), label="")

    assert len(paths(drawn, "whisker")) == 2


@pytest.mark.parametrize("effect", [0.0, -5.0, 1e-12])
def test_a_difference_without_any_margin_is_drawn_all_the_same(effect: float) -> None:
    assert "circle" in charts.difference(effect, (effect, effect), (None, None), label="")


def test_a_budget_has_a_part_per_gate_as_wide_as_its_share_and_filled_as_it_is_spent() -> None:
    drawn = charts.budget([("errors", 0.25, 0.5), ("latency", 0.75, 1.0)], label="spent")

    shapes = [(r.get("class"), float(r.get("width", ""))) for r in parse(drawn).findall(f"{SVG}rect")]
    quarter = charts.WIDTH * 0.25 - 1
    rest = charts.WIDTH * 0.75 - 1
    assert shapes == [("h0", quarter), ("mark", quarter / 2), ("h0", rest), ("h4", rest)]
