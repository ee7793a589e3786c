"""What a device is told, and when it is told again."""

import pytest

from muster_controller.domain.desired import Held, content, following
from muster_models.wire import DesiredModel, Reporting

DAY = 86_400.0
DIGITS = DesiredModel("digits", "1.0.0", "a" * 64)
WEATHER = DesiredModel("weather", "1.0.0", "b" * 64)
SAID = content([DIGITS, WEATHER], Reporting())


def held(*, sequence: int = 7, issued: float = 0.0) -> Held:
    return Held(sequence, SAID.digest, issued, issued + 30 * DAY)


def test_the_first_desired_state_has_sequence_one() -> None:
    desired = following("berlin-1", SAID, None, now=100.0, lifetime=30 * DAY)

    assert desired is not None
    assert (desired.sequence, desired.issued, desired.expires) == (1, 100.0, 100.0 + 30 * DAY)
    assert (desired.device, desired.models) == ("berlin-1", (DIGITS, WEATHER))


def test_the_same_content_is_not_sent_again() -> None:
    other_order = content([WEATHER, DIGITS], Reporting())

    assert following("berlin-1", other_order, held(), now=DAY, lifetime=30 * DAY) is None


@pytest.mark.parametrize(
    "changed",
    [
        content([DIGITS], Reporting()),
        content([DIGITS, WEATHER], Reporting(window_seconds=60)),
        content([DesiredModel("digits", "1.0.0", "a" * 64, stop=True), WEATHER], Reporting()),
        content([DesiredModel("digits", "1.0.0", "a" * 64, settings={"level": 0.5}), WEATHER], Reporting()),
        content([], Reporting()),
    ],
)
def test_any_change_makes_the_next_sequence(changed: object) -> None:
    assert isinstance(changed, type(SAID))
    desired = following("berlin-1", changed, held(), now=DAY, lifetime=30 * DAY)

    assert desired is not None
    assert desired.sequence == 8


def test_it_is_renewed_after_half_of_its_life() -> None:
    early = following("berlin-1", SAID, held(), now=15 * DAY - 1, lifetime=30 * DAY)
    late = following("berlin-1", SAID, held(), now=15 * DAY, lifetime=30 * DAY)

    assert early is None
    assert late is not None
    assert (late.sequence, late.expires) == (8, 45 * DAY)


def test_a_model_is_named_once() -> None:
    with pytest.raises(ValueError, match="each model once"):
        content([DIGITS, DIGITS], Reporting())
