"""Which models are still being loaded after a start of the agent."""

from muster_agent.starting import Starting
from muster_agent.update.state import ModelState
from muster_agent.update.steps import Activated, ActivationFailed, AnyEvent, Downloaded
from muster_models.errors import Reason
from muster_models.wire import Phase, SlotReport

OLD, NEW = SlotReport("a" * 64, "1.0.0"), SlotReport("b" * 64, "1.1.0")
RUNNING = ModelState("digits", current=OLD, phase=Phase.COMMITTED)
ON_TRIAL = ModelState("digits", current=OLD, candidate=NEW, phase=Phase.PROBATION)
FIRST_TRIAL = ModelState("digits", candidate=NEW, phase=Phase.PROBATION)
DOWNLOADING = ModelState("digits", candidate=NEW, phase=Phase.DOWNLOADING)


def failed(slot: SlotReport) -> AnyEvent:
    return ActivationFailed(now=0.0, digest=slot.manifest, reason=Reason.LOAD_FAILED)


def activated(slot: SlotReport) -> AnyEvent:
    return Activated(now=0.0, digest=slot.manifest)


def waiting(state: ModelState, *events: AnyEvent) -> frozenset[str]:
    starting = Starting([state])
    for event in events:
        starting.take(state, event)
    return starting.among({"digits": state})


def test_what_answered_before_is_being_loaded_until_it_answers_again() -> None:
    assert waiting(RUNNING) == {"digits"}
    assert waiting(RUNNING, Downloaded(now=0.0, digest=NEW.manifest)) == {"digits"}
    assert waiting(RUNNING, activated(OLD)) == frozenset()


def test_what_does_not_load_is_not_waited_for() -> None:
    assert waiting(RUNNING, failed(OLD)) == frozenset()
    assert waiting(FIRST_TRIAL, failed(NEW)) == frozenset()


def test_a_version_on_trial_that_does_not_load_makes_way_for_the_current_one() -> None:
    assert waiting(ON_TRIAL, failed(NEW)) == {"digits"}
    assert waiting(ON_TRIAL, failed(NEW), activated(OLD)) == frozenset()


def test_what_never_answered_is_not_being_loaded() -> None:
    assert waiting(DOWNLOADING) == frozenset()


def test_what_is_not_wanted_any_more_is_not_waited_for() -> None:
    starting = Starting([RUNNING])

    assert starting.among({"digits": ModelState("digits")}) == frozenset()
    assert starting.among({}) == frozenset()
