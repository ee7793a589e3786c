"""The operating characteristics of rollouts: fleets, courses, figures, the command and the page."""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rollout_restore
from rollouts import __main__ as command
from rollouts import muster, page, staged
from rollouts.cases import CASES, NOISE, Case
from rollouts.drawing import CONTROL, drawn_by
from rollouts.fleet import NEW, OLD, Fleet, Plant, Setting, baseline
from rollouts.peers import PEERS
from rollouts.results import Result, middle, share, summary
from rollouts.runs import METHODS, Job, one, run
from rollouts.table import percent

from support.controller import lay_ground

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/operating-characteristics.md"
SMALL = Setting(devices=12, rows=200, offsets=0.2)
STAGES = {"control": 0.5, "stages": [{"count": 3}, {"percent": 100}], "margins": {"value": 0.1}}


def small(plant: Plant = Plant(), **changes: Any) -> Case:  # noqa: B008 - it is frozen
    case = Case("small", plant, SMALL, STAGES, rounds=3, windows=16)
    return dataclasses.replace(case, **changes)


def made(setting: Setting, plant: Plant = Plant(), *, seed: int = 1) -> Fleet:  # noqa: B008 - it is frozen
    return Fleet(setting, plant, tracked=range(setting.devices), seed=seed)


def means(values: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    edges = baseline().columns[0].edge_array()
    middles = np.concatenate([[edges[0]], (edges[1:] + edges[:-1]) / 2, [edges[-1]]])
    held = values[..., : len(middles)]
    return np.asarray(held @ middles / held.sum(axis=-1))


def test_a_fleet_is_the_same_for_a_seed_in_whatever_order_it_is_asked() -> None:
    first, again, other = made(NOISE["rough"]), made(NOISE["rough"]), made(NOISE["rough"], seed=2)
    again.window(5)
    spans = [fleet.window(3) for fleet in (first, again, other)]

    assert np.array_equal(spans[0].values, spans[1].values)
    assert np.array_equal(spans[0].errors, spans[1].errors)
    assert not np.array_equal(spans[0].values, spans[2].values)


def test_the_new_version_moves_predictions_by_what_was_planted_and_nothing_else() -> None:
    fleet = made(Setting(devices=40, rows=2000), Plant(shift=0.25))
    apart = means(fleet.window(0).values[NEW]) - means(fleet.window(0).values[OLD])

    assert math.isclose(apart.mean(), 0.25, abs_tol=0.02)


def test_a_common_shift_moves_both_versions_from_its_window_on() -> None:
    fleet = made(Setting(devices=40, rows=2000), Plant(common=0.5, since=2))
    level = [
        [means(fleet.window(index).values[version]).mean() for index in (1, 2)] for version in (OLD, NEW)
    ]

    # The middles of the outer bins make it a little more.
    assert all(math.isclose(late - early, 0.5, abs_tol=0.05) for early, late in level)


@pytest.mark.parametrize(("version", "expected"), [(OLD, 0.005), (NEW, 0.025)])
def test_calls_fail_as_often_as_was_planted(version: int, expected: float) -> None:
    span = made(Setting(devices=90, rows=2000), Plant(failing=0.02)).window(0)

    assert math.isclose(span.errors[version].sum() / span.rows.sum(), expected, rel_tol=0.1)


def test_rows_that_hang_together_say_as_little_as_fewer_independent_ones() -> None:
    spread = {
        memory: np.std(
            [means(made(Setting(devices=300, rows=300, correlation=memory)).window(0).values[OLD])]
        )
        for memory in (0.0, 0.8)
    }

    assert math.isclose(spread[0.8] / spread[0.0], math.sqrt(1.8 / 0.2), rel_tol=0.15)


def test_devices_are_as_far_apart_and_as_silent_as_was_asked_for() -> None:
    fleet = made(Setting(devices=2000, rows=300, offsets=0.3, silent=0.2))
    span = fleet.window(0)

    assert math.isclose(means(span.values[OLD]).std(), math.hypot(0.3, 1 / math.sqrt(300)), rel_tol=0.1)
    assert math.isclose(span.heard.mean(), 0.8, abs_tol=0.03)


def test_the_draw_of_the_standard_case_is_five_canaries_and_forty_five_controls() -> None:
    case = CASES[0]
    drawn = drawn_by(muster.make_plan(case.document, seed=3), case.setting.names())

    assert [drawn.arms.count(arm) for arm in (CONTROL, 0, 1, 2)] == [45, 5, 15, 25]
    assert len(drawn.tracked) == 90


def test_a_good_version_is_promoted_and_a_bad_one_stopped_by_the_real_code() -> None:
    good, bad, broken = (
        one(small(plant), 4, (muster.METHOD,))[0] for plant in (Plant(), Plant(shift=1.0), Plant(crash=1.0))
    )

    assert (good.ending, good.exposed) == ("promoted", 6)
    assert (bad.ending, bad.exposed, bad.restored) == ("stopped", 3, 1)
    assert (broken.ending, broken.windows, broken.exposed) == ("stopped", 1, 3)


def test_every_method_runs_on_the_same_fleet_and_ends() -> None:
    results = one(small(Plant(crash=1.0)), 1)

    assert [result.method for result in results] == list(METHODS)
    assert {r.method: r.ending for r in results if r.ending == "stopped"}.keys() >= {
        "Muster",
        "hawkBit",
    }
    assert all(result.exposed <= 6 for result in results)


def test_the_first_stage_of_a_peer_is_all_that_is_exposed_until_it_lets_go() -> None:
    case = small()
    drawn = drawn_by(muster.make_plan(case.document, seed=1), case.setting.names())
    course = staged.Course(made(SMALL), drawn)
    course.pass_window(muster.BEFORE)
    first = course.tried.sum()
    course.admit()
    course.pass_window(muster.BEFORE + 1)

    assert (first, course.tried.sum(), course.is_last) == (3, 6, True)


@pytest.mark.parametrize(
    ("hits", "trials", "expected"),
    [
        # Without any hit the upper end is 1 - 0.025^(1/n).
        (0, 500, [0.0, 0.0, 1 - 0.025 ** (1 / 500)]),
        (500, 500, [1.0, 0.025 ** (1 / 500), 1.0]),
        (2, 30, [2 / 30, 0.00818, 0.22073]),
    ],
)
def test_the_interval_of_a_share_is_exact(hits: int, trials: int, expected: list[float]) -> None:
    assert np.allclose(share(hits, trials), expected, atol=1e-5)


def test_a_median_counts_those_that_never_got_there_as_the_last() -> None:
    assert middle([1.0, 2.0, 3.0]) == [2.0, 1.0, 3.0]
    assert middle([1.0, math.inf, math.inf]) == [None, 1.0, None]
    assert middle([]) is None


def result(ending: Any, windows: int, **changes: Any) -> Result:
    held = Result("Muster", "case", 1, ending, windows, 5, 50)
    return dataclasses.replace(held, **changes)


def test_a_summary_counts_endings_and_their_windows() -> None:
    told = summary([
        result("stopped", 5, restored=1), result("stopped", 7, restored=2, exposed=9), result("promoted", 30),
    ])  # fmt: skip

    assert (told["runs"], told["stopped"], told["promoted"], told["restored"]) == (3, 2, 1, 2)
    assert told["windows_to_stop"][0] == 7
    assert told["windows_to_promote"][0] is None
    assert told["exposed_most"] == 9
    assert told["exposed_share"][0] == 0.1


def asked(*arguments: str) -> argparse.Namespace:
    return command.make_parser().parse_args([*arguments, "--jobs", "1"])


def test_a_run_is_reproducible_from_its_seeds_and_says_what_it_was_asked() -> None:
    arguments = (
        "--seeds",
        "1,2",
        "--effect",
        "1",
        "--devices",
        "12",
        "--windows",
        "8",
        "--method",
        "Muster;Flagger",
    )
    first, again = (json.dumps(command.measure(asked(*arguments))) for _ in range(2))
    document = json.loads(first)

    assert first == again
    assert (document["asked"]["seeds"], document["asked"]["effect"]) == ([1, 2], 1.0)
    assert [row["method"] for row in document["rows"]] == ["Muster", "Flagger"]
    assert [row["runs"] for row in document["rows"]] == [2, 2]
    assert document["cases"][0]["plant"]["shift"] == 1.0
    assert not document["cases"][0]["good"]


def test_effects_alone_make_a_case_and_with_a_case_they_change_it() -> None:
    (alone,) = command.cases_of(asked("--shift", "0.2", "--offsets", "0.4"))
    (named,) = command.cases_of(asked("--case", "no effect", "--devices", "30", "--noise", "quiet"))

    assert (alone.good, alone.plant.common, alone.setting.offsets) == (True, 0.2, 0.4)
    assert (named.setting.devices, named.setting.silent) == (30, 0.0)
    assert len(command.cases_of(asked())) == len(CASES)


@pytest.mark.parametrize("choice", [("--case", "odd"), ("--method", "nobody")])
def test_an_unknown_name_is_refused_with_those_there_are(choice: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match=r"scripts/bench rollouts: unknown .* '\w+', expected all or: "):
        command.measure(asked("--seeds", "1", *choice))


def test_processes_do_not_change_what_is_told() -> None:
    jobs = [Job(small(windows=4), (1, 2, 3))]

    assert list(run(jobs, processes=2)) == list(run(jobs, processes=1))


PROMOTED = summary([result("promoted", 38)] * 100)


def row(case: str, method: str, **changes: Any) -> dict[str, Any]:
    return PROMOTED | {"case": case, "method": method} | changes


def document(change: Callable[[str, str], dict[str, Any]] = lambda *_: {}) -> dict[str, Any]:
    """Return figures as ``page`` measures them: all promoted but for what a function says."""
    return {"machine": "a machine", "first_seed": 1001, "last_seed": 1100} | {
        part.name: [
            row(job.case.name, method, **change(job.case.name, method))
            for job in part.jobs
            for method in job.methods
        ]
        for part in page.parts()
    }


def test_the_page_says_which_goals_are_missed_and_where_it_does_not_hold() -> None:
    def change(case: str, method: str) -> dict[str, Any]:
        if method == "Muster" and case == "common shift +0.5 sd":
            return {"stopped": 3, "stopped_share": share(3, 100)}
        return {}

    text = page.render(document(change))
    goals, limits = (
        text.partition(f"## {name}")[2].partition("\n## ")[0] for name in ("The figures", "Where")
    )

    assert "| false stops: common shift +0.5 sd | at most 1 % | 3 (0.62 to 8.5) % | **no** |" in goals
    assert "| false stops: no effect | at most 1 % | 0 (0 to 3.6) % | so far |" in goals
    assert "**False stops above the budget of 1 %**: common shift +0.5 sd: 3 (0.62 to 8.5) %." in limits
    assert "**Missed**: +0.25 sd, margin 0.1: 0 of 100 caught, 100 promoted." in limits


def test_the_page_is_what_its_figures_say() -> None:
    figures = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))

    assert page.render(figures) == PAGE.read_text(encoding="utf-8")
    assert page.dump(figures) == PAGE.with_suffix(".json").read_text(encoding="utf-8")


def test_the_figures_are_of_all_cases_and_of_held_out_seeds() -> None:
    figures = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    seeds = range(figures["first_seed"], figures["last_seed"] + 1)
    wanted = {
        part.name: {(job.case.name, method, len(job.seeds)) for job in part.jobs for method in job.methods}
        for part in page.parts(seeds)
    }
    told = {
        name: {(held["case"], held["method"], held["seeds"]) for held in figures[name]} for name in wanted
    }

    assert told == wanted
    assert set(seeds) <= set(page.HELD_OUT)
    assert not set(page.HELD_OUT) & set(page.DEVELOPMENT)


def test_small_parts_of_the_page_can_be_measured() -> None:
    part = page.Part("main", (Job(small(windows=4), (1,), ("Muster", "hawkBit")),))
    figures = page.measured([part], (1,), processes=1)

    assert [(held["case"], held["method"]) for held in figures["main"]] == [
        ("small", "Muster"),
        ("small", "hawkBit"),
    ]


def test_what_was_measured_on_as_many_seeds_is_not_measured_again() -> None:
    part = page.Part("main", (Job(small(windows=4), (1, 2), ("Muster", "hawkBit")),))
    first = page.measured([part], (1, 2), processes=1)
    kept = {**first, "main": [{**held, "promoted": 77} for held in first["main"]]}
    fewer = {**kept, "main": [kept["main"][0], {**kept["main"][1], "runs": 1}]}

    assert page.measured([part], (1, 2), processes=1, known=kept) == kept
    assert page.measured([part], (1, 2), processes=1, known=fewer) == first
    with pytest.raises(SystemExit, match=r"is of the seeds 1\.\.2: name them"):
        page.measured([part], (1, 3), processes=1, known=kept)


def test_the_page_names_every_peer_with_its_source() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert all(f"| {peer.name} | {peer.rule} | {peer.source} |" in text for peer in PEERS)
    assert percent([0.0, 0.0, 0.0074]) == "0 (0 to 0.74)"


def test_a_fleet_on_the_real_store_is_restored_in_one_pass_and_known_to_be_in_two(tmp_path: Path) -> None:
    names = tuple(f"device-{number}" for number in range(20))
    ground = lay_ground(tmp_path)
    rollout_restore.enrol_all(ground, names)
    restored = rollout_restore.restore(ground, names)
    ground.engine.dispose()

    assert (restored.passes, restored.confirmed) == (1, 2)
