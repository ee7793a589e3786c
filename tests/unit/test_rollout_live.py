"""What a watched rollout looks like on a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from muster_controller.cli.rollout_live import BAR, bar, on_screen, render

GATE = {
    "name": "errors", "verdict": "inconclusive", "value": 0.021, "control": 0.013, "effect": 0.008,
    "low": -0.001, "high": 0.017, "margin": 0.02, "unit": "share", "bound": 900.0, "spent": 0.42,
    "share": 0.1, "samples": 400, "detail": "errors up: 3 more rounds",
}  # fmt: skip
LIMIT = {"name": "crashes", "verdict": "healthy", "value": 0, "margin": 3, "unit": "", "detail": "0 in all"}


def make_detail(**changes: Any) -> dict[str, Any]:
    rollout = {
        "id": 7, "version": {"name": "digits@1.2.0"}, "phase": "running", "step": "soak",
        "verdict": "inconclusive", "waiting": "its soak time", "reason": "", "stage": 1, "stages": 3,
        "denominators": {"targeted": 5, "reachable": 5, "executed": 4, "reporting": 4, "control": 6},
    }  # fmt: skip
    stages = [
        {"number": 1, "devices": 2, "total": 2},
        {"number": 2, "devices": 4, "total": 6},
        {"number": 3, "devices": 8, "total": 14},
    ]
    evidence = {
        "stage": 1, "rounds": 9, "verdict": "inconclusive", "gates": [GATE, LIMIT],
        "missing": ["errors: errors up: 3 more rounds"],
    }  # fmt: skip
    return {"rollout": rollout | changes, "stages": stages, "control": ["a"] * 6, "evidence": evidence}


def shown(detail: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(render(detail))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_bar_of_stages_says_which_are_done_and_how_far_the_present_one_is() -> None:
    lines = shown(make_detail()).splitlines()

    assert lines[0].rstrip() == "rollout 7  digits@1.2.0  running  soak  inconclusive  its soak time"
    assert lines[1].rstrip() == f"1 {bar(1)} 2  2 {bar(0.5)} 6  3 {bar(0)} 14  control 6"
    assert lines[2].rstrip() == "targeted 5  reachable 5  executed 4  reporting 4  control 6"


def test_each_gate_has_a_line_with_its_evidence_and_what_is_missing_stands_below() -> None:
    text = shown(make_detail())
    errors, crashes = (
        next(line for line in text.splitlines() if line.startswith(n)) for n in ("errors", "crashes")
    )

    assert "round 9 of stage 2: inconclusive" in text
    for part in ("inconclusive", "0.021", "0.013", "[-0.001, +0.017]", f"{bar(0.42)} 42%", "3 more rounds"):
        assert part in errors
    assert "█" not in crashes
    assert "still needed: errors: errors up: 3 more rounds" in text


@pytest.mark.parametrize("changes", [{"phase": "completed"}, {"step": "finish"}])
def test_when_every_stage_was_healthy_every_bar_is_full(changes: dict[str, Any]) -> None:
    assert shown(make_detail(**changes)).count("█" * BAR) == 3


def test_a_rollout_that_has_seen_nothing_has_no_gates() -> None:
    assert "gate" not in shown(make_detail() | {"evidence": None})


def test_a_bar_is_full_only_when_all_of_it_is_done() -> None:
    assert [bar(part) for part in (-1, 0, 1, 2)] == ["░" * BAR, "░" * BAR, "█" * BAR, "█" * BAR]
    assert bar(0.999) == "█" * (BAR - 1) + "░"
    assert bar(0.001) == "█" + "░" * (BAR - 1)


def test_what_was_shown_last_stays_on_the_screen() -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    with on_screen(console) as show:
        show(make_detail())
        show(make_detail(phase="completed", reason="every stage was healthy", waiting=""))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()

    assert text.count("rollout 7") >= 2
    assert text.rfind("every stage was healthy") > text.rfind("its soak time")
