import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from muster_controller.web import charts

SVG = "{http://www.w3.org/2000/svg}"


def parse(markup: Markup) -> ET.Element:
    return ET.fromstring(str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_a_strip_has_a_cell_per_known_value_and_hotter_cells_nearer_the_bound() -> None:
    cells = parse(charts.strip([0.0, None, 0.6, 1.0, 9.0], bound=1.0, label="PSI")).findall(f"{SVG}rect")

    assert [cell.get("class") for cell in cells] == ["h0", "h2", "h3", "h4"]
    assert [cell.get("x") for cell in cells] == ["0", "16", "24", "32"]


def test_a_histogram_draws_both_distributions_to_one_scale() -> None:
    bars = parse(charts.histogram([0.5, 0.5], [1.0, 0.0], label="x")).findall(f"{SVG}rect")
    heights = {(bar.get("class"), index): float(bar.get("height", "0")) for index, bar in enumerate(bars)}

    assert heights["reference", 0] == 2 * heights["mark", 2] == charts.HEIGHT - charts.BOTTOM
    assert heights["reference", 1] == 0


def test_a_line_is_broken_where_nothing_is_known() -> None:
    (path,) = parse(charts.lines({"mean": [1.0, 2.0, None, float("nan"), 3.0]}, label="x")).findall(
        f"{SVG}path"
    )

    assert (path.get("d") or "").count("M") == 2
    assert "nan" not in (path.get("d") or "")


@pytest.mark.parametrize("values", [[], [None], [float("nan")]])
def test_nothing_known_draws_nothing(values: list[float | None]) -> None:
    assert charts.lines({"mean": values}, label="x") == ""


def test_a_constant_line_and_an_empty_histogram_can_be_drawn() -> None:
    parse(charts.lines({"mean": [2.0, 2.0]}, label="x"))
    parse(charts.histogram([], [], label="x"))


def test_every_chart_tells_in_words_what_it_shows_and_escapes_it() -> None:
    label = 'a < "b"'
    drawn = (
        charts.strip([1.0], bound=1.0, label=label),
        charts.histogram([1.0], [1.0], label=label),
        charts.lines({"x": [1.0]}, label=label),
        charts.share_bar(0.5, label=label),
    )

    assert [parse(chart).get("aria-label") for chart in drawn] == [label] * 4
    assert {parse(chart).get("role") for chart in drawn} == {"img"}
