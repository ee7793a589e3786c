"""The benchmark command: how it is asked, and how it lays out what was measured. Nothing is timed here."""

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = runpy.run_path(str(ROOT / "benchmarks/__main__.py"), run_name="command")
FIGURE = runpy.run_path(str(ROOT / "benchmarks/figure.py"), run_name="figure")
ROWS: list[dict[str, Any]] = [
    {
        "name": "sketch CPU per value",
        "ours": 14.25,
        "peer": 57.0,
        "peer_name": "DataSketches",
        "unit": "ns",
        "ratio": 0.25,
        "goal": "2 x less",
        "met": True,
    },
    {
        "name": "agent",
        "ours": 100.0,
        "peer": 80.0,
        "peer_name": "a bare engine",
        "unit": "MB",
        "ratio": 1.25,
        "goal": "<= 0.5 x",
        "met": False,
    },
]
TABLE = """\
name                  ours      peer                   ratio  goal      met
sketch CPU per value  14.25 ns  57 ns (DataSketches)   0.25   2 x less  yes
agent                 100 MB    80 MB (a bare engine)  1.25   <= 0.5 x  NO"""


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "scripts/bench", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_names_every_benchmark_and_installs_nothing() -> None:
    done = bench("--help")

    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__main__", "figure", "machine"}
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in names)
    assert {"sketch_cost", "predict_overhead", "ingest_rate"} <= names


def test_an_unknown_name_is_one_line_and_exit_status_2() -> None:
    done = bench("sketch_cost", "nothing")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("scripts/bench: unknown benchmark 'nothing', expected one of: ")
    assert done.stderr.count("\n") == 1


def test_the_table_has_a_line_for_each_figure() -> None:
    assert COMMAND["table"](ROWS) == TABLE


def test_figures_come_with_the_machine_that_they_belong_to() -> None:
    machine = COMMAND["describe"]()
    shown = COMMAND["render"](ROWS, machine, "table")

    assert set(machine) == {"processor", "memory", "system", "python", "load"}
    assert shown.startswith(TABLE)
    assert all(f"{key}: {value}" in shown for key, value in machine.items())
    assert json.loads(COMMAND["render"](ROWS, machine, "json")) == {"machine": machine, "figures": ROWS}


def test_a_benchmark_hands_over_rows_of_that_form(capsys: pytest.CaptureFixture[str]) -> None:
    figure = FIGURE["at_most"](
        "sketch CPU per value", ours=14.25, peer=("DataSketches", 57.0), unit="ns", ratio=0.5
    )

    FIGURE["publish"](figure)

    assert json.loads(capsys.readouterr().out) == ROWS[:1]


@pytest.mark.parametrize(
    ("ours", "ratio", "goal", "met"),
    [(60.0, 1.2, "<= 1.2 x", True), (61.0, 1.2, "<= 1.2 x", False), (12.5, 0.25, "4 x less", True)],
)
def test_a_ratio_is_held_against_its_goal(ours: float, ratio: float, goal: str, met: bool) -> None:  # noqa: FBT001
    figure = FIGURE["at_most"]("call", ours=ours, peer=("bare", 50.0), unit="us", ratio=ratio)

    assert (figure.goal, figure.met, figure.ratio) == (goal, met, ours / 50.0)


@pytest.mark.parametrize(("ours", "met"), [(10_000.0, True), (9_999.0, False)])
def test_a_rate_is_held_against_a_value(ours: float, met: bool) -> None:  # noqa: FBT001
    figure = FIGURE["at_least"]("ingest", ours=ours, peer=("naive", 500.0), unit="/s", least=10_000)

    assert (figure.goal, figure.met, figure.ratio) == (">= 10,000 /s", met, ours / 500.0)
