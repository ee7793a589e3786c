"""Every scenario of the catalogue ends as it says, and the document says the same."""

from pathlib import Path

import pytest

from adversary.catalogue import SCENARIOS
from adversary.document import PATH, render
from adversary.scenario import After, Limit, Scenario
from adversary.world import World, playing

MARKS = [
    pytest.param(scenario, id=scenario.name, marks=[pytest.mark.slow] if scenario.slow else [])
    for scenario in SCENARIOS
]


@pytest.mark.parametrize("scenario", MARKS)
def test_an_attack_ends_as_the_table_says(scenario: Scenario, tmp_path: Path) -> None:
    with playing(tmp_path) as world:
        refusal = scenario.play(world)

        assert refusal == scenario.refusal
        world.check_store()
        assert not world.conceded or isinstance(scenario.outcome, Limit)
        if world.has_device:
            check_aftermath(world, scenario)


def check_aftermath(world: World, scenario: Scenario) -> None:
    """What ran goes on without a network, and when the attacker is gone the device follows again."""
    if scenario.runs:
        assert world.restart().start(world.old.digest) is None
    world.leave()
    if scenario.after is After.NOTHING:
        return
    if scenario.after is not After.INSTALLS:
        world.replace_online_keys()
    if scenario.after is After.NEW_RELEASE_KEY:
        world.replace_release_key()
    world.repository.controller.renew(world.repository.now)
    fresh = world.release("9.0.0", release=9)

    assert world.restart().install(world.order(fresh)) is None


def test_the_catalogue_is_large_and_every_name_is_used_once() -> None:
    names = [scenario.name for scenario in SCENARIOS]

    assert len(names) >= 100
    assert len(set(names)) == len(names)


def test_the_document_says_what_the_scenarios_say() -> None:
    assert PATH.read_text() == render(SCENARIOS), "run: python -m adversary > docs/adversary.md"
