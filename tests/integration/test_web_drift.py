"""The pages about drift without a browser: what they say of a fleet in which three things went wrong."""

import gzip
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from muster_controller.domain.drift.signals import Signal
from muster_controller.store import drift as drift_store
from muster_controller.web.app import make_dashboard
from muster_controller.web.render import STATIC
from support.drifting import BROKEN, DRIFTED, SLOW, Fleet, drifted_fleet, open_fleet, push_truth
from support.testclient import TestClient

TOKEN = "operator-token"
BUDGET = 30_000  # bytes of a page with all that it needs, over the wire
ABOUT = {DRIFTED: f"site={DRIFTED}", BROKEN: BROKEN, SLOW: SLOW}
KINDS = ("data-quality", "data-drift", "prediction-drift", "concept-drift", "performance")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = drifted_fleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.office.opened.close()


@pytest.fixture(scope="module")
def browser(fleet: Fleet) -> Iterator[TestClient]:
    with TestClient(make_dashboard(fleet.office.context, TOKEN), follow_redirects=False) as client:
        assert client.post("/login", data={"token": TOKEN}).status_code == 303
        yield client


def read(browser: TestClient, path: str) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def said(page: str) -> str:
    """Return what a person reads."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def part(page: str, name: str) -> str:
    """Return one section of a page."""
    found = re.search(rf'<(section|nav)[^>]* id="{name}".*?</\1>', page, re.DOTALL)
    assert found is not None, name
    return found[0]


@pytest.mark.parametrize("path", ["/models/press", "/models/press/drift"])
def test_what_went_wrong_stands_at_the_top_in_one_sentence_each(browser: TestClient, path: str) -> None:
    incidents = said(part(read(browser, path), "incidents"))

    assert "brightness fell by 0." in incidents
    assert re.search(r"\(from 4\d\d to 3\d\d|\(from 4\d\d to 40\d lux\)", incidents)
    assert f"on 3 devices of site {DRIFTED} since" in incidents
    assert "predictions moved with it" in incidents
    assert re.search(rf"missing values of humidity rose by \d+ % of the rows on {BROKEN} since", incidents)
    assert f"on {SLOW} since" in incidents


@pytest.mark.parametrize("path", ["/models/press", "/models/press/drift"])
def test_the_kinds_of_drift_are_kept_apart(browser: TestClient, path: str) -> None:
    tiles = re.findall(r'<a class="tile" href="[^"#]*#([a-z-]+)">(.*?)</a>', read(browser, path), re.DOTALL)
    states = {name: said(tile).rpartition("? ")[2].strip() for name, tile in tiles}

    assert tuple(states) == KINDS
    assert [states[name] for name in ("data-quality", "data-drift", "performance")] == ["1 firing"] * 3
    assert states["prediction-drift"] == "moved along"
    # Another test lets the truth become known.
    assert states["concept-drift"] in {"no labels", "calm"}


def test_every_kind_has_a_section_of_its_own(browser: TestClient) -> None:
    page = read(browser, "/models/press/drift")

    assert [name for name in KINDS if f'id="{name}"' not in page] == []


def test_features_are_ranked_by_evidence(browser: TestClient) -> None:
    page = read(browser, "/models/press/drift")
    drift, quality = (
        re.findall(r"feature=([a-z]+)", part(page, name)) for name in ("data-drift", "data-quality")
    )

    assert (drift[0], quality[0]) == ("brightness", "humidity")


def test_a_strip_says_in_words_how_often_a_feature_left_its_band(browser: TestClient) -> None:
    drift = part(read(browser, f"/models/press/drift?subject=site%3D{DRIFTED}"), "data-drift")
    labels = re.findall(r'aria-label="(\w+ by window[^"]*)"', drift)
    by_name = {label.split()[0]: label for label in labels}

    assert "outside its control band in 14 of 59 windows, now" in by_name["brightness"]
    assert "outside its control band in 0 of 59 windows" in by_name["temperature"]


def test_a_feature_is_shown_beside_its_baseline_and_within_its_control_band(browser: TestClient) -> None:
    chosen = part(read(browser, f"/models/press/drift?subject=site%3D{DRIFTED}&feature=brightness"), "chosen")

    for kind in ("mark", "outline", "band", "trend", "since", "out"):
        assert f'class="{kind}"' in chosen, kind
    assert re.search(r"Now at 3\d\d lux, normally 4\d\d: -0\.\d+ sd, outside its band\.", said(chosen))
    assert chosen.count("<tr>") == 60  # the windows as a table, and its head


def test_a_category_is_shown_by_the_names_of_its_values(browser: TestClient) -> None:
    chosen = said(part(read(browser, "/models/press/drift?feature=material"), "chosen"))

    assert [name for name in ("steel", "brass", "copper", "zinc") if name not in chosen] == []


def test_classes_are_shown_by_their_labels(browser: TestClient) -> None:
    chosen = said(part(read(browser, "/models/press/drift?feature=prediction%3Aclass"), "chosen"))

    assert [name for name in ("fine", "scratch", "dent", "stain") if name not in chosen] == []


def test_missing_values_have_a_control_chart_of_their_own(browser: TestClient) -> None:
    chosen = said(part(read(browser, f"/models/press/drift?subject={BROKEN}&feature=humidity"), "chosen"))

    assert f"Missing values of {BROKEN}" in chosen
    assert re.search(r"Now [23]\d\.\d % of the rows, normally .: outside its band\.", chosen)


def test_the_heat_map_can_be_read_without_colour(browser: TestClient) -> None:
    heat = part(read(browser, "/models/press/drift"), "heat")
    rows = {
        said(who).strip(): said(cells)
        for who, cells in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', heat, re.DOTALL)
    }

    assert re.search(r"-0\.\d+", rows[f"{DRIFTED}-1"])
    assert "%" in rows[BROKEN]
    assert set(rows["porto-2"].split()) == {"·"}
    assert 'tabindex="0"' in heat  # it scrolls, and not for the mouse alone


def test_who_is_not_concerned_is_not_troubled(browser: TestClient) -> None:
    page = read(browser, "/models/press/drift?subject=site%3Dporto")

    assert "Nothing has drifted: 3 devices are within what is normal for each of them." in said(page)
    assert "firing" not in page


def test_the_model_page_says_what_watching_costs_and_buys(browser: TestClient) -> None:
    cost = said(part(read(browser, "/models/press"), "cost"))

    assert re.search(r"\d+ kB a day and device, measured over the last day", cost)
    assert "0.25 sd" in cost
    assert "of a group of 3" in cost
    assert "false alarm of the whole model comes once in 6.9 days or more rarely" in cost


def test_without_labels_there_is_an_estimate_with_what_it_assumes(browser: TestClient) -> None:
    truth = said(part(read(browser, "/models/press/drift?subject=site%3Dlyon"), "concept-drift"))

    assert "No label has come" in truth
    assert re.search(r"Without labels: \d\d\.\d % ± \d\.\d % is estimated", truth)
    assert "no concept drift: what is right for an input has not changed" in truth


def test_an_accuracy_has_an_interval_and_a_number(fleet: Fleet, browser: TestClient) -> None:
    push_truth(fleet)

    page = read(browser, "/models/press/drift?subject=porto-1")
    truth = part(page, "concept-drift")
    assert "90.0 % accuracy of 400 labelled predictions" in said(truth)
    assert re.search(r"it lies between 8\d\.\d % and 9\d\.\d %, however often one looks", said(truth))
    assert 'class="whisker"' in truth
    assert "90.0 % accuracy of 400 labelled" in said(part(read(browser, "/models/press"), "truth"))


def test_an_alarm_can_be_computed_again_on_a_page(browser: TestClient) -> None:
    number = re.findall(r"/alarms/(\d+)/explain", read(browser, f"/models/press/drift?subject={BROKEN}"))[0]
    page = read(browser, f"/alarms/{number}/explain")

    assert "What is stored is what the windows say." in said(page)
    assert "720 windows were judged again" in said(page)
    assert page.count("firing") > 5
    assert "data-live" not in page  # what is computed once is not computed again each second


@pytest.mark.parametrize(
    "path",
    [
        "/models/press",
        "/models/press/drift",
        f"/models/press/drift?subject={BROKEN}&feature=humidity",
        "/alarms/1/explain",
    ],
)
def test_a_page_with_all_that_it_needs_is_small(browser: TestClient, path: str) -> None:
    files = sum(len(gzip.compress(file.read_bytes())) for file in STATIC.iterdir())

    assert len(gzip.compress(read(browser, path).encode())) + files < BUDGET


def test_nothing_on_a_page_needs_an_inline_style_or_script(browser: TestClient) -> None:
    for path in ("/models/press", "/models/press/drift", "/alarms/1/explain"):
        page = read(browser, path)

        assert re.findall(r"\sstyle=|<style|\son\w+=|<script(?! type=\"module\" src=)", page) == []


def test_whoever_is_asked_for_is_shown_escaped(browser: TestClient) -> None:
    answer = browser.get("/models/press/drift", params={"subject": "<script>alert(1)</script>"})

    assert answer.status_code == 404
    assert "<script>alert" not in answer.text


def test_an_alarm_of_the_truth_leads_to_its_section_and_is_not_computed_from_windows(tmp_path: Path) -> None:
    made = open_fleet(tmp_path / "wrong")
    moved = {"feature": "accuracy", "leg": "location", "effect": -0.2, "unit": "share", "evidence": 12.0}
    signal = Signal(
        "concept-drift",
        "group",
        "site=lyon",
        "accuracy",
        "firing",
        since=made.office.clock.now,
        fired_at=made.office.clock.now,
        resolved_at=None,
        effect=-0.2,
        unit="share",
        evidence={"features": [moved], "devices": ["lyon-1", "lyon-2"], "said": "accuracy is 0.7 of late"},
    )
    with made.office.context.unit() as session:
        drift_store.save_alarm(session, "press", made.baseline.digest, signal=signal)
    with TestClient(make_dashboard(made.office.context, TOKEN)) as client:
        client.post("/login", data={"token": TOKEN})
        page = read(client, "/models/press/drift")
        elsewhere = read(client, "/models/press/drift?subject=site%3Doslo")
    made.office.opened.close()

    assert "accuracy is 0.7 of late" in said(part(page, "incidents"))
    assert "#concept-drift" in part(page, "incidents")
    assert "/explain" not in page
    assert "1 firing" in said(part(page, "kinds"))
    assert "firing" not in elsewhere


def test_a_baseline_that_was_bootstrapped_from_the_fleet_is_marked_as_such(tmp_path: Path) -> None:
    made = open_fleet(tmp_path / "bootstrapped", origin="fleet")
    with TestClient(make_dashboard(made.office.context, TOKEN)) as client:
        client.post("/login", data={"token": TOKEN})
        pages = [said(read(client, path)) for path in ("/models/press/drift", "/models/press")]
    made.office.opened.close()

    assert ["bootstrapped from the fleet" in page for page in pages] == [True, True]


def test_before_it_has_calibrated_a_fleet_is_told_to_be_unjudged(tmp_path: Path) -> None:
    made = open_fleet(tmp_path / "young")
    made.report(3)
    with TestClient(make_dashboard(made.office.context, TOKEN)) as client:
        client.post("/login", data={"token": TOKEN})
        page = said(read(client, "/models/press/drift"))
        model = said(read(client, "/models/press"))
    made.office.opened.close()

    assert "Nothing is judged yet: 12 devices are still calibrating." in page
    assert "No control band yet" in page
    assert "not judged yet" in model
    assert "calm" not in model


def test_without_a_threshold_the_page_says_that_none_is_needed(browser: TestClient) -> None:
    page = read(browser, "/models/press/drift")

    assert "never thresholded, unless you name one here" in said(page)
    assert "False alarms of this choice" not in page


def test_a_threshold_that_is_named_is_shown_beside_its_false_alarms(browser: TestClient) -> None:
    page = read(
        browser, f"/models/press/drift?subject=site={DRIFTED}&feature=humidity&statistic=psi&above=0.2"
    )
    shown = browser.get(f"/models/press/drift?subject=site={DRIFTED}&statistic=ks&above=0.99").text
    text = said(page)
    rows = text[text.index("False alarms of this choice") :]
    brightness = re.search(r"brightness (\d+) (\d+\.\d) % (\S+)", rows)
    assert brightness is not None, rows[:400]

    assert re.search(rf"PSI above 0\.2, in 1[5-8]\d windows of site={DRIFTED}, the middle one of", text)
    assert float(brightness[2]) > 20  # it has drifted
    assert brightness[3] == "\N{EN DASH}"  # and without that, no window of so many rows would lie above
    assert '<input type="hidden" name="feature" value="humidity">' in page
    assert '<option value="psi" selected>' in page
    assert "KS above 0.99" in said(shown)


@pytest.mark.parametrize(
    "query", ["statistic=mean&above=0.2", "statistic=psi&above=-1", "statistic=psi&above=x"]
)
def test_a_threshold_that_is_none_is_a_page_that_says_so(browser: TestClient, query: str) -> None:
    answer = browser.get(f"/models/press/drift?{query}")

    assert answer.status_code == 400
    assert "Not understood" in answer.text
