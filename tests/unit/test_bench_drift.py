"""The evaluation of drift detection: its data, what it plants, how it counts, what a seed decides."""

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drift import __main__ as command
from drift import page, sources
from drift.beside import PEERS, Peer, Sample, environment, judge_flags, sample
from drift.cases import CASES, ONSET, prepare
from drift.fleet import Block, Fleet, Setting, describe
from drift.judge import Alarm, Truth, judge, poisson, wilson
from drift.natural import Replay
from drift.planting import FAR, RAMP, Course, Form, Plant
from drift.streams import FORMS
from drift.table import document, median_delay

from muster_controller.domain.drift.detector import DriftConfig

ROOT = Path(__file__).parents[2]
# The others ship with packages that only the benchmark's own environment has.
HERE = ("weather", "flights", "breast-cancer", "digits")
SMALL = Setting(devices=6, rows=400, columns=4, windows=12, calibration=4, reference_rows=2000)
SET = "breast-cancer"  # continuous, and nothing is missing
NOTHING = Plant()


def blocks(plant: Plant = NOTHING, *, setting: Setting = SMALL, seed: int = 1) -> list[Block]:
    fleet = Fleet(sources.load(SET), setting, plant, columns=(0, 1, 2, 3), seed=seed)
    return list(fleet.windows())


def planted(form: Form, size: float, course: Course = "abrupt") -> Plant:
    return Plant(form, size, (2,), (0,), onset=3, course=course, scales=((10.0, 2.0),))


@pytest.mark.parametrize("name", HERE)
def test_a_data_set_comes_from_its_package_in_the_known_size(name: str) -> None:
    source = sources.load(name)

    assert source.table.shape == sources.SIZES[name]
    assert source.table.shape[1] == len(source.columns)
    assert source.licence
    assert len(describe(source).steady) >= 2


def test_at_least_five_sets_of_five_packages_are_named_with_a_size() -> None:
    assert set(sources.SIZES) == set(sources.NAMES)
    assert len(sources.NAMES) >= 5


def test_a_package_that_ships_another_table_is_refused() -> None:
    source = sources.load("digits")
    shorter = dataclasses.replace(source, table=source.table[:100])

    with pytest.raises(ValueError, match=r"digits: expected a table of \(1797, 16\), got \(100, 16\)"):
        sources.checked(shorter)


def test_a_device_without_offset_has_the_marginal_distribution_of_the_set() -> None:
    source = sources.load("weather")
    setting = dataclasses.replace(SMALL, offsets=0.0, reference_rows=20_000)
    precip = source.columns.index("precip")
    rows = Fleet(source, setting, Plant(), columns=(0, precip), seed=3).reference()

    assert np.isclose(rows[:, 0].mean(), np.nanmean(source.table[:, 0]), atol=0.4)
    assert np.isclose(rows[:, 0].std(), np.nanstd(source.table[:, 0]), atol=0.3)
    assert np.isclose((rows[:, 1] == 0).mean(), (source.table[:, precip] == 0).mean(), atol=0.01)


def test_values_are_missing_as_often_as_in_the_set() -> None:
    source = sources.load("flights")
    column = source.columns.index("arr_delay")
    setting = dataclasses.replace(SMALL, reference_rows=20_000)
    rows = Fleet(source, setting, Plant(), columns=(column,), seed=3).reference()

    assert np.isclose(np.isnan(rows).mean(), np.isnan(source.table[:, column]).mean(), atol=0.005)


def test_rows_hang_together_as_much_as_was_asked_for() -> None:
    setting = dataclasses.replace(SMALL, rows=4000, windows=1, calibration=0, autocorrelation=0.7)
    values = blocks(setting=setting)[0][:, :, 0]
    centred = values - values.mean(axis=1, keepdims=True)
    lag = (centred[:, 1:] * centred[:, :-1]).sum() / (centred**2).sum()

    # Values are a monotone function of the scores, so their correlation is a little less.
    assert 0.6 < lag < 0.72


def test_rows_hang_together_over_the_end_of_a_window_too() -> None:
    setting = dataclasses.replace(
        SMALL, rows=2, windows=400, calibration=0, autocorrelation=0.95, offsets=0.0
    )
    series = np.stack([block[0, :, 0] for block in blocks(setting=setting)])

    assert np.corrcoef(series[:-1, 1], series[1:, 0])[0, 1] > 0.8


def test_offsets_are_as_far_apart_as_was_asked_for() -> None:
    setting = dataclasses.replace(SMALL, devices=200, rows=1000, windows=1, calibration=0, offsets=0.3)
    (block,) = blocks(setting=setting)
    spread = block[:, :, 0].mean(axis=1).std() / np.std(sources.load(SET).table[:, 0])

    assert 0.25 < spread < 0.35


def test_a_fleet_is_the_same_for_a_seed_and_another_for_another() -> None:
    first, again, other = blocks(seed=5), blocks(seed=5), blocks(seed=6)

    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_a_shift_moves_one_column_of_one_device_from_its_onset_on() -> None:
    quiet, moved = blocks(), blocks(planted("shift", 0.5))
    differs = np.array([(a != b).any(axis=1) for a, b in zip(quiet, moved, strict=True)])
    sd = np.std(sources.load(SET).table[:, 0])

    assert not differs[: SMALL.calibration + 3].any()
    assert {tuple(at) for at in np.argwhere(differs[SMALL.calibration + 3 :].all(axis=0))} == {(2, 0)}
    assert 0.3 < (moved[-1][2, :, 0] - quiet[-1][2, :, 0]).mean() / sd < 0.7


@pytest.mark.parametrize(
    ("course", "shares"),
    [
        ("abrupt", [0.0, 1.0, 1.0, 1.0]),
        ("incremental", [0.0, 1 / RAMP, 0.5, 1.0]),
        ("gradual", [0.0, 1 / RAMP, 0.5, 1.0]),
        ("recurring", [0.0, 1.0, 1.0, 0.0]),
    ],
)
def test_a_course_says_how_much_of_a_drift_is_there(course: Course, shares: list[float]) -> None:
    plant = planted("shift", 1.0, course)

    assert [plant.share(since) for since in (-1, 0, 9, 19)] == shares


def test_a_gradual_drift_takes_a_growing_part_of_the_rows() -> None:
    scores = np.zeros((3, 100, 1), dtype=np.float32)

    planted("shift", 1.0, "gradual").move(scores, RAMP // 2 - 1)

    assert scores[2, :, 0].sum() == 50
    assert set(scores[2, :, 0].tolist()) == {0.0, 1.0}


def test_a_scale_stretches_scores_and_an_incremental_one_by_a_part() -> None:
    scores = np.ones((3, 10, 1), dtype=np.float32)

    planted("scale", 2.0, "incremental").move(scores, RAMP // 2 - 1)

    assert np.allclose(scores[2], 1.5)
    assert np.allclose(scores[:2], 1.0)


@pytest.mark.parametrize(("form", "size"), [("outliers", 0.02), ("missing", 0.1)])
def test_a_share_of_rows_is_spoilt(form: Form, size: float) -> None:
    block = np.ones((3, 20_000, 1), dtype=np.float32)

    planted(form, size).spoil(block, 0, np.random.default_rng(1))
    spoilt = ~(block == 1.0)

    assert math.isclose(spoilt[2].mean(), size, rel_tol=0.1)
    assert not spoilt[:2].any()
    assert set(np.nan_to_num(block[2][spoilt[2]], nan=-1.0)) == {10 + FAR * 2 if form == "outliers" else -1.0}


def test_a_stuck_sensor_repeats_one_value() -> None:
    block = np.arange(30, dtype=np.float32).reshape(3, 10, 1)

    planted("stuck", 1.0).spoil(block, 0, np.random.default_rng(1))

    assert set(block[2, :, 0].tolist()) == {20.0}
    assert len(set(block[1, :, 0].tolist())) == 10


def test_the_drifted_feature_of_a_case_is_among_its_columns() -> None:
    for case in CASES:
        fleet, truth = prepare(case, sources.load("breast-cancer"), Setting(columns=3), seed=4)

        assert len(fleet.columns) == 3
        assert truth.columns <= {0, 1, 2}
        assert fleet.plant.devices == tuple(sorted(truth.devices))


def test_five_of_fifty_are_of_five_sites() -> None:
    (case,) = [case for case in CASES if case.who == "five"]
    setting = Setting()
    _, truth = prepare(case, sources.load("digits"), setting, seed=9)
    sites = {setting.groups()[setting.names()[device]] for device in truth.devices}

    assert (len(truth.devices), len(sites)) == (5, 5)


def alarm(window: int, level: str, devices: set[int], columns: set[int]) -> Alarm:
    return Alarm(window, level, frozenset(devices), frozenset(columns))


DEVICE_TRUTH = Truth("device", frozenset({1, 2}), frozenset({0}), onset=5)


@pytest.mark.parametrize(
    ("told", "counts", "delays"),
    [
        (alarm(7, "device", {1}, {0}), (0, 1, 0), (3,)),
        (alarm(7, "device", {1}, {0, 3}), (0, 1, 0), (3,)),  # it names the drifted feature among others
        (alarm(4, "device", {1}, {0}), (1, 0, 0), ()),  # before anything drifted
        (alarm(7, "device", {3}, {0}), (1, 0, 0), ()),  # another device
        (alarm(7, "device", {1}, {2}), (1, 0, 0), ()),  # another feature
        (alarm(7, "fleet", set(range(9)), {0}), (1, 0, 0), ()),  # everybody, because of two
        (alarm(8, "group", {1, 2}, {0}), (0, 1, 0), (4, 4)),  # both together, and nobody else
    ],
)
def test_an_incident_is_judged_by_when_whom_and_what(
    told: Alarm, counts: tuple[int, int, int], delays: tuple[int, ...]
) -> None:
    score = judge([told], DEVICE_TRUTH, feature_windows=100)

    assert (score.false, score.true, score.parts) == counts
    assert (score.delays, score.subjects) == (delays, 2)


def test_a_fleet_that_drifts_is_one_incident_and_its_devices_are_parts_of_it() -> None:
    truth = Truth("fleet", frozenset(range(4)), frozenset({0}), onset=5)
    told = [
        alarm(9, "device", {1}, {0}),
        alarm(6, "fleet", {0, 1, 2, 3}, {0}),
        alarm(30, "fleet", {0, 1, 2, 3}, {0}),
    ]

    score = judge(told, truth, feature_windows=100)

    assert (score.false, score.true, score.parts, score.subjects, score.delays) == (0, 2, 1, 1, (2,))


def test_without_drift_every_incident_is_false() -> None:
    score = judge(
        [alarm(3, "device", {1}, {0}), alarm(9, "fleet", {0, 1}, {1})], Truth("none"), feature_windows=100
    )

    assert (score.false, score.true, score.subjects) == (2, 0, 0)


def test_flags_in_a_row_are_one_incident_and_a_subject_is_found_by_its_first() -> None:
    flags = {(1, 3, 0), (1, 6, 0), (1, 7, 0), (1, 9, 0), (2, 6, 1), (4, 6, 0), (4, 7, 0)}

    score = judge_flags(flags, DEVICE_TRUTH, among=(1, 2, 4), feature_windows=100)

    # False: device 1 before the onset, column 1 of device 2, and device 4 once.
    assert (score.false, score.true, score.subjects, score.delays) == (3, 2, 2, (2,))
    # Device 4 in two windows.
    assert score.flagged == 4


def test_a_peer_is_given_the_drifted_device_and_feature_and_the_windows_around_the_onset() -> None:
    case = next(case for case in CASES if case.name == "shift 0.5")
    fleet, truth = prepare(case, sources.load("breast-cancer"), dataclasses.replace(SMALL, columns=5), seed=2)
    given = sample(fleet, truth)
    part: Sample = given.cut(Peer("kind", (), devices=2, columns=1, before=2, after=3), truth)

    assert truth.devices <= set(given.devices)
    assert set(part.columns) == set(truth.columns)
    assert len(part.devices) == 2
    assert part.blocks.shape == (2, 2 + 2 + 3, 400, 1)
    assert (part.first, part.offset) == (2, ONSET - 2)


def test_intervals_are_the_known_ones() -> None:
    assert [round(end, 3) for end in (*poisson(0), *poisson(3))] == [0.0, 3.689, 0.619, 8.767]
    assert [round(end, 4) for end in wilson(0, 100)] == [0.0, 0.037]
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("delays", "subjects", "expected"), [([2, 4], 2, 3.0), ([2, 4], 3, 4.0), ([2], 2, None), ([], 0, None)]
)
def test_who_was_not_found_delays_the_median(
    delays: list[int], subjects: int, expected: float | None
) -> None:
    assert median_delay(delays, subjects) == expected


def test_natural_drift_is_replayed_in_the_order_of_time() -> None:
    replay = Replay(sources.load("weather"))
    blocks = replay.windows()

    assert replay.names == ("EWR", "JFK", "LGA")
    assert (len(blocks) - 24, blocks[0].shape) == (replay.setting.windows, (3, 120, 7))
    # January to March are the reference; summer is warmer.
    assert np.nanmean(blocks[len(blocks) // 3][:, :, 0]) > np.nanmean(replay.reference()[:, 0]) + 20


def asked(**changes: Any) -> argparse.Namespace:
    settings = dict.fromkeys(command.SETTINGS) | {
        "devices": 6,
        "rows": 60,
        "columns": 2,
        "windows": 12,
    }
    choice = {"seeds": [1, 2], "dataset": "digits", "case": "shift 0.5,none: offsets 0.25", "peers": "none"}
    rest = {"streams": "none", "natural": "none", "peer_seeds": 2, "wire": 1}
    return argparse.Namespace(**{**settings, **choice, **rest, **changes})


def told(namespace: argparse.Namespace) -> str:
    made = document(command.measure(namespace), vars(namespace))
    del made["cost"]  # times
    return json.dumps(made)


def test_a_run_is_reproducible_byte_for_byte_from_its_seeds() -> None:
    first = told(asked())

    assert first == told(asked())
    assert first != told(asked(seeds=[3, 4]))


def test_the_document_says_every_setting_and_seed() -> None:
    made = json.loads(told(asked()))

    assert made["detector"] == dataclasses.asdict(DriftConfig())
    assert (made["asked"]["devices"], made["asked"]["seeds"]) == (6, [1, 2])
    assert [(run["case"], run["seed"]) for run in made["runs"]] == [
        ("shift 0.5", 1), ("shift 0.5", 2), ("none: offsets 0.25", 1), ("none: offsets 0.25", 2),
    ]  # fmt: skip
    assert {row["feature_windows"] for row in made["rows"]} == {2 * 6 * 2 * 12}


def test_help_names_every_set_case_and_peer() -> None:
    text = " ".join(command.make_parser().format_help().split())

    assert all(name in text for name in (*sources.NAMES, *command.CASE_NAMES, *PEERS))


def test_seeds_are_a_range_or_a_list() -> None:
    assert command.seeds_of("3..6") == [3, 4, 5, 6]
    assert command.seeds_of("1,7") == [1, 7]


@pytest.mark.parametrize(
    "choice", [{"peers": "nobody"}, {"dataset": "mine"}, {"case": "odd"}, {"natural": "shuttle"}]
)
def test_an_unknown_name_is_refused_with_those_there_are(choice: dict[str, str]) -> None:
    with pytest.raises(SystemExit, match=r"scripts/bench drift: unknown .* '\w+', expected all, none or: "):
        command.measure(asked(**choice))


def test_a_peer_that_cannot_be_installed_is_an_error_that_says_how_to_see_why() -> None:
    with pytest.raises(SystemExit, match=r"cannot be installed here; see `scripts/drift_peers bench-nobody`"):
        environment("bench-nobody")


def cell(rows: int, effect: float, **said: Any) -> page.Cell:
    known: dict[str, Any] = {
        "runs": 20, "false": 0, "feature_windows": 1000, "false_per_1000": 0.0, "false_low": 0.0,
        "false_high": 3.7, "stated_per_1000": 0.5, "found": 4, "subjects": 5, "delay": 3.0,
    }  # fmt: skip
    return page.Cell(rows, effect, page.QUIET[3], known | said)


def test_the_page_says_where_it_does_not_hold() -> None:
    quiet = [cell(1000, 0.0), cell(100, 0.0, false=9, false_per_1000=9.0, false_low=4.1, false_high=17.0)]
    drifting = [cell(1000, 0.5), cell(100, 0.25, found=1, delay=None)]
    text = page.render(quiet, drifting, "a machine")
    limits = text.partition("## Where it does not hold")[2]

    assert "All rows together: 9 false incidents in 4,000 rounds" in text
    assert "(95 %); the stated one, one in 2,000, is broken." in text
    assert limits.count("above the stated rate") == 1
    assert "at 100 rows (worth 18 independent ones), offsets 0.1, correlation 0.7: 9 per 1,000" in limits
    assert limits.count("not found") == 1
    assert (
        "**Shifts of 0.25 sd are not found** by half of the devices within 40 windows at 100 rows" in limits
    )


def test_the_page_states_the_settings_of_the_code() -> None:
    text = (ROOT / "docs/drift-operating-characteristics.md").read_text(encoding="utf-8")
    table = text.partition("| setting | value |\n| --- | --- |\n")[2].partition("\n\n")[0]
    stated = dict(line.strip("| ").split(" | ") for line in table.splitlines())

    assert stated == {f"`{name}`": str(value) for name, value in page.settings().items()}
    assert f"({page.HELD_OUT[0]} to {page.HELD_OUT[-1]} for false incidents" in text
    assert f"Made by `{page.COMMAND}`" in text
    assert min(page.HELD_OUT) > 1000


def test_the_table_has_every_case_for_muster_and_every_peer_beside_it() -> None:
    text = (ROOT / "docs/drift-evaluation.md").read_text(encoding="utf-8")
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    ours = {row[0] for row in cells if row[2] == "Muster"}
    methods = {row[2].split()[0] for row in cells[2:]}

    assert set(command.CASE_NAMES) | {f"River {form}" for form in FORMS} <= ours
    assert methods == {"Muster", "Evidently", "NannyML", "River", "whylogs"}
