"""What a plan would do, as values: who is not reached, how long it takes, and what its gates could see."""

from typing import Any

import pytest

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.foreseeing.eligibility import HEADROOM_BYTES, Bar, Known, ineligible
from muster_controller.domain.rollouts.foreseeing.foresight import foresee
from muster_controller.domain.rollouts.foreseeing.preview import Preview, preview
from muster_controller.domain.rollouts.judging.ledger import Ledger, Track
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from support.manifests import file_entry, make_manifest

OLD, NEW = "a" * 64, "b" * 64
NOW = 1_800_000_000.0  # a Friday, 08:00 UTC
MB = 10**6
MANIFEST = make_manifest(
    hardware=("aarch64",),
    min_agent="1.2.0",
    files=tuple(
        file_entry(f"{role}.bin", role, sha256=digit * 64, length=length)
        for role, digit, length in (("model", "1", 3 * MB), ("baseline", "2", MB), ("golden", "3", MB))
    ),
)
KNOWN = Known(MANIFEST, NEW)


def plan_of(**fields: Any) -> Plan:
    document = {
        "model": "digits",
        "digest": NEW,
        "previous": OLD,
        "stages": [{"percent": 50, "soak_seconds": 600, "minimum_rounds": 6}, {"percent": 100}],
        "control": 0.2,
        "round_seconds": 60.0,
        "probation_seconds": 30.0,
    }
    return parse_plan({**document, **fields})


def device(name: str, **fields: Any) -> DeviceFacts:
    usual = {
        "seen": NOW - 5,
        "current": OLD,
        "hardware": "aarch64",
        "agent": "1.2.0",
        "runtimes": {"onnx": "onnxruntime 1.20.0"},
        "disk_free_bytes": 10**9,
    }
    return DeviceFacts(name, {}, **{**usual, **fields})


def fleet(count: int, **fields: Any) -> Facts:
    names = [f"berlin-{number:03}" for number in range(count)]
    return Facts(NOW, {name: device(name, **fields) for name in names}, download_bytes=5 * MB)


def known_before(facts: Facts, **spread: float) -> Ledger:
    """Return a ledger in which every device showed each gauge for 20 rounds of 100 rows."""
    tracks = {
        gauge: Track(rounds=20, rows=2000.0, mean=0.0, scatter=19 * value, variance=value)
        for gauge, value in spread.items()
    }
    return Ledger(before=dict.fromkeys(facts.devices, tracks))


def look(plan: Plan, facts: Facts, ledger: Ledger | None = None) -> Preview:
    return preview(plan, KNOWN, facts, known_before(facts, latency=0.01) if ledger is None else ledger)


@pytest.mark.parametrize(
    ("fields", "bar", "told"),
    [
        ({"hardware": "x86_64"}, Bar.WRONG_HARDWARE, "it is x86_64, the version is for aarch64"),
        ({"runtimes": {"tflite": "ai-edge-litert 2.3"}}, Bar.WRONG_RUNTIME, "the version needs the onnx"),
        ({"agent": "1.1.9"}, Bar.OLD_AGENT, "its agent is 1.1.9, the version needs 1.2.0"),
        (
            {"disk_free_bytes": 5 * MB},
            Bar.NO_SPACE,
            "805,696 bytes are free for it, the version takes 5,000,000",
        ),
        ({"seen": NOW - 7200}, Bar.SILENT, "last heard of 2 h ago"),
        ({"seen": None}, Bar.SILENT, "last heard of never"),
        ({"current": NEW}, Bar.RUNS_IT, "it counts as updated at once"),
    ],
)
def test_a_device_that_is_not_reached_is_named_with_what_is_asked_and_what_is_there(
    fields: dict[str, Any], bar: Bar, told: str
) -> None:
    held = device("oslo-1", **fields)

    (found,) = ineligible(KNOWN, Facts(NOW, {"oslo-1": held}), {"oslo-1": held}, zoned=False)

    assert (found.device, found.bar) == ("oslo-1", bar)
    assert told in found.detail


def test_what_a_device_never_said_is_not_held_against_it() -> None:
    silent = device("oslo-1", hardware="", agent="", runtimes={}, disk_free_bytes=0)

    assert ineligible(KNOWN, Facts(NOW, {"oslo-1": silent}), {"oslo-1": silent}, zoned=False) == []


def test_the_engine_the_zone_and_other_rollouts_are_looked_at_too() -> None:
    held = {name: device(name, zone="Mars/Olympus") for name in ("bergen-1", "oslo-1")}
    known = Known(MANIFEST, NEW, lack=lambda engine: f"{engine[-6:]} is too old", revoked=("lyon-1",))
    facts = Facts(NOW, held, elsewhere={"oslo-1": 4})

    found = {one.device: one.bar for one in ineligible(known, facts, held, zoned=True)}
    fit = {one.device: one.bar for one in ineligible(KNOWN, facts, held, zoned=True)}

    assert found == {"bergen-1": Bar.OLD_RUNTIME, "lyon-1": Bar.REVOKED, "oslo-1": Bar.ELSEWHERE}
    assert fit["bergen-1"] is Bar.NO_ZONE


def test_files_that_a_device_holds_already_are_not_fetched_again() -> None:
    known = Known(MANIFEST, NEW, held={OLD: 2 * MB})
    facts = fleet(10, disk_free_bytes=3 * MB + HEADROOM_BYTES)

    seen = preview(plan_of(), known, facts, Ledger())

    assert (seen.bytes_each, seen.bytes_total) == (5 * MB, 30 * MB)
    assert seen.ineligible == ()


def test_a_stage_takes_trial_soak_and_the_rounds_that_evidence_needs() -> None:
    seen = look(plan_of(), fleet(10))

    first, last = seen.times
    assert (first.trial, first.soak) == (30.0, 600.0)
    assert first.rounds is not None
    assert last.soak == max(600.0, (max(last.rounds or 0, 6) + 2) * 60.0)
    assert seen.before == 0.0
    assert seen.finish == NOW + first.seconds + last.seconds


def test_a_ramp_and_a_byte_budget_make_a_stage_longer() -> None:
    steady = look(plan_of(ramp={"per_minute": 1}), fleet(100)).times[0]
    growing = look(plan_of(ramp={"per_minute": 1, "growth": 2, "after": 10}), fleet(100)).times[0]
    # 50 devices of 5 MB each, 20 MB in ten minutes: the last of 13 portions comes after 12 of them.
    narrow = look(plan_of(byte_budget={"bytes": 20 * MB, "seconds": 600}), fleet(100)).times[0]

    assert steady.pace == pytest.approx(49 * 60.0)
    assert growing.pace < steady.pace / 2
    assert narrow.pace == 12 * 600.0


def test_a_stage_waits_until_the_windows_of_all_its_zones_were_open() -> None:
    facts = fleet(10)
    moved = {
        name: device(name, zone="Asia/Tokyo" if index % 2 else "UTC")
        for index, name in enumerate(facts.devices)
    }
    there = Facts(NOW, moved, offsets={"UTC": 0.0, "Asia/Tokyo": 9 * 3600.0})

    seen = look(plan_of(windows=[{"start": "22:00", "end": "23:00"}]), there)

    # It is 08:00 in UTC and 17:00 in Tokyo: the last of both opens after 14 hours.
    assert seen.times[0].windows == 14 * 3600.0


def test_a_start_that_lies_ahead_and_a_time_before_that_was_not_seen_are_waited_for() -> None:
    facts = fleet(10)
    ahead = look(plan_of(start_at=NOW + 3600), facts)
    unseen = look(plan_of(), facts, Ledger())

    assert (ahead.starts, ahead.before) == (NOW + 3600, 0.0)
    assert unseen.before == 7 * 60.0
    assert unseen.powers == ()


def test_a_gate_that_so_few_devices_cannot_pass_means_that_the_rollout_would_hold() -> None:
    facts = fleet(4)
    noisy = known_before(facts, latency=500.0)

    seen = look(plan_of(), facts, noisy)

    assert seen.finish is None
    assert {one.healthy_after for one in seen.powers} == {None}


def test_a_gate_sees_more_with_every_stage_and_without_a_control_nothing_is_promised() -> None:
    facts = fleet(40)
    ledger = known_before(facts, latency=0.05, errors=0.01, confidence=0.02)
    drawn = {name: (CONTROL, 0, 1, 1)[index % 4] for index, name in enumerate(facts.devices)}

    powers = foresee(plan_of(), ledger, drawn)
    alone = foresee(plan_of(), ledger, dict.fromkeys(facts.devices, 0))

    assert alone == ()
    by_gate = {name: [p for p in powers if p.gate == name] for name in ("latency", "errors", "confidence")}
    for first, second in by_gate.values():
        assert (first.devices, second.devices, first.control) == (10, 30, 10)
        assert first.smallest is not None
        assert second.smallest is not None
        assert first.margin < second.smallest < first.smallest
