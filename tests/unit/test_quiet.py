"""Devices that fall silent: one alarm per cause, and it ends when they are heard again."""

from dataclasses import dataclass, field, replace

import pytest

from muster_controller.domain.alarms.quiet import Hush, Watched, term, watch

TERM = term(60.0, missed=3.0, reachable=100.0)  # quiet after 216 s, held for 72 s
SITES = ("berlin", "lyon", "oslo", "porto")


@dataclass
class Fleet:
    """Four sites of five devices, each heard of once a minute unless it is off."""

    now: float = 100_000.0
    listening: float = 0.0
    off: set[str] = field(default_factory=set)
    seen: dict[str, float] = field(default_factory=dict)
    active: list[Hush] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = [f"{site}-{number}" for site in SITES for number in range(5)]
        self.seen = dict.fromkeys(self.names, self.now)

    def of(self, site: str) -> set[str]:
        return {name for name in self.names if name.startswith(site)}

    def run(self, seconds: float) -> None:
        for step in range(int(seconds / 10)):
            self.now += 10
            for index, name in enumerate(self.names):
                if name not in self.off and (step + index) % 6 == 0:
                    self.seen[name] = self.now
            self.look()

    def look(self) -> None:
        devices = [
            Watched(name, seen, (f"site={name.partition('-')[0]}",)) for name, seen in self.seen.items()
        ]
        found = watch(devices, self.active, TERM, listening=self.listening, now=self.now)
        self.active = []
        for one in found:
            known = replace(one, id=one.id or 1000 + len(self.told))
            if known.resolved_at is None:
                self.active.append(known)
            self._tell(known)

    def _tell(self, one: Hush) -> None:
        state = "resolved" if one.resolved_at else "firing" if one.fired_at else "pending"
        if one.fired_at is not None and (one.level, one.subject, state) not in self.told[-len(self.names) :]:
            self.told.append((one.level, one.subject, state))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_a_fleet_that_speaks_is_no_alarm(fleet: Fleet) -> None:
    fleet.run(3600)

    assert (fleet.told, fleet.active) == ([], [])


def test_one_device_that_falls_silent_is_one_alarm_until_it_is_heard(fleet: Fleet) -> None:
    fleet.off = {"oslo-2"}
    fleet.run(1200)
    assert fleet.told == [("device", "oslo-2", "firing")]

    fleet.off = set()
    fleet.run(120)

    assert fleet.told[-1] == ("device", "oslo-2", "resolved")
    assert fleet.active == []


def test_a_short_silence_is_pending_at_most(fleet: Fleet) -> None:
    fleet.off = {"oslo-2"}
    fleet.run(270)
    assert [one.level for one in fleet.active] == ["device"]

    fleet.off = set()
    fleet.run(120)

    assert (fleet.told, fleet.active) == ([], [])


def test_a_site_that_falls_silent_is_one_alarm(fleet: Fleet) -> None:
    fleet.off = fleet.of("lyon")

    fleet.run(1200)

    assert fleet.told == [("group", "site=lyon", "firing")]
    assert fleet.active[0].devices == tuple(sorted(fleet.of("lyon")))


def test_a_fleet_that_falls_silent_is_one_alarm_and_not_thousands(fleet: Fleet) -> None:
    fleet.off = set(fleet.names)
    fleet.run(3600)
    assert fleet.told == [("fleet", "all", "firing")]

    fleet.off = set()
    fleet.run(120)

    assert fleet.told[1:] == [("fleet", "all", "resolved")]
    assert fleet.active == []


def test_whoever_stays_silent_after_an_outage_has_an_alarm_of_its_own(fleet: Fleet) -> None:
    fleet.off = set(fleet.names)
    fleet.run(1200)
    fleet.off = {"porto-4"}

    fleet.run(1200)

    assert fleet.told == [
        ("fleet", "all", "firing"),
        ("fleet", "all", "resolved"),
        ("device", "porto-4", "firing"),
    ]


def test_devices_that_are_long_dead_do_not_make_an_outage(fleet: Fleet) -> None:
    """Seventeen of twenty die, one each hour: that is seventeen alarms, and the fleet has none."""
    dead = fleet.names[:17]
    for name in dead:
        fleet.off.add(name)
        fleet.run(3600)

    levels = [level for level, _, _ in fleet.told]
    assert "fleet" not in levels
    assert {subject for level, subject, _ in fleet.told if level == "device"} | {
        name for one in fleet.active if one.level == "group" for name in one.devices
    } == set(dead)


def test_a_start_of_the_controller_gives_everybody_time_to_speak(fleet: Fleet) -> None:
    fleet.now += 50_000  # it was off for as long
    fleet.listening = fleet.now

    fleet.run(600)

    assert fleet.told == []


def test_a_start_of_the_controller_does_not_resolve_what_is_still_silent(fleet: Fleet) -> None:
    fleet.off = {"oslo-2"}
    fleet.run(1200)
    fleet.listening = fleet.now

    fleet.run(100)

    assert fleet.told == [("device", "oslo-2", "firing")]
    assert len(fleet.active) == 1


def test_a_start_of_the_controller_does_not_forget_what_was_pending(fleet: Fleet) -> None:
    fleet.off = {"oslo-2"}
    fleet.run(250)
    (pending,) = fleet.active
    fleet.listening = fleet.now

    fleet.run(60)

    assert fleet.active[0].since == pending.since
    assert fleet.told == [("device", "oslo-2", "firing")]


def test_a_site_is_heard_of_again_when_less_than_half_of_it_is_silent(fleet: Fleet) -> None:
    fleet.off = fleet.of("lyon")
    fleet.run(1200)
    fleet.off = {"lyon-0", "lyon-1", "lyon-2"}
    fleet.run(600)
    assert fleet.told == [("group", "site=lyon", "firing")]
    assert fleet.active[0].devices == ("lyon-0", "lyon-1", "lyon-2")

    fleet.off = {"lyon-0", "lyon-1"}
    fleet.run(600)

    assert fleet.told[1:] == [
        ("group", "site=lyon", "resolved"),
        ("device", "lyon-0", "firing"),
        ("device", "lyon-1", "firing"),
    ]


def test_the_limit_is_never_below_what_counts_as_reachable() -> None:
    assert term(60.0, missed=3.0, reachable=900.0).limit == 900.0
