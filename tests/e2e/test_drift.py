"""Three things that really go wrong, each one incident of its kind, and a model with which all is well.

Controller, broker, database and agents are real, and so are rows and models. One site's images darken, one
device's sensor has gaps, and labels that come late say that at one site digits go by other names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from story.fleet import DEVICES
from support import ailing
from support.ailing import Ailing
from support.feeding import (
    CALM,
    DARK,
    DARK_SITE,
    GAP_SHARE,
    GAPS,
    GAPS_DEVICE,
    MODELS,
    RENAMED,
    RENAMED_SITE,
    SENSOR,
)

CALM_WINDOWS = 6
SETTLE_WINDOWS = 8  # long enough for a second, wrong alarm to show itself
LABELLED_MODELS = (RENAMED, CALM)
Found = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """What was read back from the controller.

    Attributes:
        early: Every alarm, of whatever state, before anything went wrong.
        alarms: Every alarm at the end, but of latency.
        explained: The alarm about the darker site, computed again from stored windows.
        pushed: What became of each push of labels.
        errors: Calls without an answer, but for those of the broken sensor, which are ``unanswered``.
        ended: Processes that ended by themselves.
    """

    early: list[Found]
    alarms: list[Found]
    explained: Found
    pushed: list[Found]
    errors: list[str]
    unanswered: int
    ended: list[str]

    def fired(self, model: str) -> list[Found]:
        """Return the alarms of a model that were ever told to anybody."""
        return [alarm for alarm in self.alarms if alarm["model"] == model and alarm["fired_at"]]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    with ailing.running(tmp_path_factory.mktemp("drift")) as fleet:
        yield follow(fleet)


def follow(fleet: Ailing) -> Course:
    """Let the fleet be well, then ill, and return what the controller said."""
    for model in MODELS:
        fleet.wait(f"{model} has a level on every device", partial(fleet.is_calibrated, model))
    fleet.run_for(CALM_WINDOWS)
    pushed = [fleet.push(model) for model in LABELLED_MODELS]
    early = but_of_latency(fleet.alarms())
    fleet.feeder.fall_ill()
    for model in (DARK, GAPS):
        fleet.wait(f"an alarm about {model} fires", partial(fires, fleet, model))
    pushed += [fleet.push(model) for model in LABELLED_MODELS]
    fleet.wait(f"an alarm about {RENAMED} fires", partial(fires, fleet, RENAMED))
    fleet.run_for(SETTLE_WINDOWS)
    pushed += [fleet.push(model) for model in LABELLED_MODELS]
    fleet.feeder.stop()
    explained = explain_when_settled(fleet)
    alarms = but_of_latency(fleet.alarms())
    feeder = fleet.feeder
    died = fleet.fleet.children.died()
    return Course(early, alarms, explained, pushed, feeder.errors, feeder.unanswered, died)


def but_of_latency(alarms: list[Found]) -> list[Found]:
    """Leave out what is told of slow calls: a machine that is busy with something else is slow in truth."""
    return [alarm for alarm in alarms if alarm["feature"] != "latency"]


def fires(fleet: Ailing, model: str) -> bool:
    return len(fleet.alarms(model=model, state="firing")) > 0


def explain_when_settled(fleet: Ailing) -> Found:
    """Explain the alarm once the last windows are judged: until then one more may be judged in between."""
    (alarm,) = fleet.alarms(model=DARK, state="firing")

    def is_settled() -> bool:
        steps = fleet.api.get(f"/alarms/{alarm['id']}/explain", rounds=3)["steps"]
        return all(step["effect"] is None for step in steps)

    fleet.wait("the last windows are judged", is_settled)
    return fleet.explain(alarm["id"])


def named(alarm: Found) -> tuple[str, ...]:
    return alarm["kind"], alarm["level"], alarm["subject"], alarm["state"]


def test_while_nothing_was_wrong_there_was_no_alarm(course: Course) -> None:
    assert course.early == []


def test_a_site_whose_images_darken_is_one_incident_of_data_drift(course: Course) -> None:
    (alarm,) = course.fired(DARK)
    features = {one["feature"]: one for one in alarm["evidence"]["features"]}

    assert named(alarm) == ("data-drift", "group", f"site={DARK_SITE}", "firing")
    assert sorted(alarm["evidence"]["devices"]) == [name for name in DEVICES if name.startswith(DARK_SITE)]
    assert features["brightness"]["after"] < features["brightness"]["before"]


def test_a_sensor_with_gaps_is_one_incident_of_data_quality_on_its_device(course: Course) -> None:
    (alarm,) = course.fired(GAPS)

    assert named(alarm) == ("data-quality", "device", GAPS_DEVICE, "firing")
    assert (alarm["feature"], alarm["unit"]) == (SENSOR, "share")
    assert alarm["effect"] == pytest.approx(GAP_SHARE, abs=0.1)
    assert alarm["says"].endswith("calls failed with it")


def test_the_calls_that_fail_for_want_of_that_sensor_are_no_incident_beside_it(course: Course) -> None:
    assert course.unanswered > 0
    assert {alarm["kind"] for alarm in course.alarms if alarm["model"] == GAPS} == {"data-quality"}


def test_labels_that_got_worse_at_one_site_are_one_incident_of_concept_drift(course: Course) -> None:
    (alarm,) = course.fired(RENAMED)

    assert named(alarm) == ("concept-drift", "group", f"site={RENAMED_SITE}", "firing")
    assert alarm["feature"] == "accuracy"
    assert alarm["evidence"]["now"] < alarm["evidence"]["allowed"] < alarm["evidence"]["signed"]


def test_the_model_with_which_all_was_well_had_no_alarm_of_any_state(course: Course) -> None:
    assert [alarm for alarm in course.alarms if alarm["model"] == CALM] == []


def test_nothing_else_was_ever_told_and_nothing_is_pending(course: Course) -> None:
    told = [alarm for alarm in course.alarms if alarm["fired_at"] or alarm["state"] == "pending"]

    assert sorted(alarm["model"] for alarm in told) == sorted((DARK, GAPS, RENAMED))


def test_the_stored_windows_raise_the_alarm_about_the_site_again(course: Course) -> None:
    (alarm,) = course.fired(DARK)
    explained = course.explained
    last = explained["steps"][-1]

    assert explained["differences"] == []
    assert explained["complete"] is True
    assert [explained[key] for key in ("kind", "level", "subject", "feature", "says")] == [
        alarm[key] for key in ("kind", "level", "subject", "feature", "says")
    ]
    assert explained["devices"] == alarm["evidence"]["devices"]
    assert last["state"] == "firing"
    assert last["value"] == pytest.approx(alarm["evidence"]["value"], abs=0.05)
    assert last["recent"] == pytest.approx(alarm["effect"], abs=0.01)


def test_before_the_images_darkened_the_replay_is_quiet(course: Course) -> None:
    states = [step["state"] for step in course.explained["steps"]]

    assert states[0] == "quiet"
    assert states.count("resolved") == 0
    assert states == sorted(states, key=("quiet", "pending", "firing").index)


def test_every_label_was_taken_once(course: Course) -> None:
    for pushed in course.pushed:
        assert pushed["lines"] > 0
        assert (pushed["taken"], pushed["refused"], pushed["repeated"]) == (pushed["lines"], 0, 0)


def test_no_call_went_without_an_answer_and_every_process_still_runs(course: Course) -> None:
    assert course.errors == []
    assert course.ended == []
