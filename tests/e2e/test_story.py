"""The README's story, with real processes: what was shown is what happened."""

import itertools

import pytest

from story.chapters import DRIFTED
from story.fleet import DEVICES, STATIONS
from support.told import Told


def runs_of(told: Told, name: str) -> list[dict[str, object]]:
    return [run for run in told.facts.runs if run["version"]["name"] == name]


def devices_of(told: Told, name: str) -> set[object]:
    return {run["device"] for run in runs_of(told, name)}


def test_every_device_ran_the_first_version_by_its_hash(told: Told) -> None:
    assert devices_of(told, "digits@1.0.0") == set(DEVICES)
    assert devices_of(told, "weather@1.0.0") == set(STATIONS)


def test_every_run_is_of_a_signed_version(told: Told) -> None:
    signed = set(told.facts.digests.values())

    assert {run["version"]["digest"] for run in told.facts.runs} <= signed


def test_the_runs_of_a_device_follow_each_other_without_overlap(told: Told) -> None:
    for device in DEVICES:
        runs = sorted(
            (run["since"], run["until"] or "9")
            for run in told.facts.runs
            if run["device"] == device and run["model"] == "digits"
        )

        assert all(before[1] <= after[0] for before, after in itertools.pairwise(runs))


def test_the_better_version_was_promoted_to_every_device(told: Told) -> None:
    assert told.facts.rollouts["digits@1.1.0"]["rollout"]["phase"] == "completed"
    assert devices_of(told, "digits@1.1.0") == set(DEVICES)


def test_the_control_kept_the_old_version_while_the_canary_was_judged(told: Told) -> None:
    rollout = told.facts.rollouts["digits@1.1.0"]
    canary = set(rollout["stages"][0]["names"])
    started = {run["device"]: run["since"] for run in runs_of(told, "digits@1.1.0")}
    last_canary = max(str(started[device]) for device in canary)

    assert len(canary) == 2
    assert all(str(started[device]) > last_canary for device in rollout["control"])


def test_the_bad_version_reached_only_the_canary_stage(told: Told) -> None:
    rollout = told.facts.rollouts["digits@1.2.0"]

    assert rollout["rollout"]["phase"] == "rolled-back"
    assert devices_of(told, "digits@1.2.0") <= set(rollout["stages"][0]["names"])
    assert len(devices_of(told, "digits@1.2.0")) > 0


def test_the_bad_version_was_undone_by_a_gate_against_the_control(told: Told) -> None:
    gates = told.facts.rollouts["digits@1.2.0"]["history"][0]["gates"]
    harm = {gate["name"]: gate for gate in gates if gate["verdict"] == "unhealthy"}

    assert len(harm) > 0
    assert all(gate["evidence"] >= gate["bound"] for gate in harm.values())


def test_every_device_runs_the_good_version_at_the_end(told: Told) -> None:
    now = {run["device"] for run in runs_of(told, "digits@1.1.0") if run["until"] is None}

    assert now == set(DEVICES)


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("replayed desired state", "replayed"),
        ("forged desired state", "wrong-key"),
        ("tampered file", "tampered"),
    ],
)
def test_every_attack_was_refused_with_its_reason(told: Told, attack: str, reason: str) -> None:
    assert told.facts.refusals[attack]["reason"] == reason


def test_the_tampered_version_never_ran(told: Told) -> None:
    assert devices_of(told, "weather@1.1.0") == set()


def test_one_alarm_names_the_drifted_site_and_no_other(told: Told) -> None:
    # A machine that is busy with something else is slow in truth: what is told of that is not of this story.
    of_data = [alarm for alarm in told.facts.alarms if alarm["kind"] != "performance"]

    assert [(alarm["model"], alarm["level"], alarm["subject"], alarm["effect"] < 0) for alarm in of_data] == [
        ("digits", "group", f"site={DRIFTED}", True)
    ]


def test_no_prediction_went_without_an_answer(told: Told) -> None:
    assert told.facts.fed["errors"] == []
    assert told.facts.fed["failed"] == 0
    assert told.facts.fed["answered"] > 1000


def test_every_process_that_was_started_still_runs(told: Told) -> None:
    assert told.fleet.children.died() == []
