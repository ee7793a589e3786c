"""What holds for every draw: it depends on the seed and the devices, and on nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from muster_controller.domain.rollouts.draw import CONTROL, arms, draw, joiners, line_of, place
from support.rollouts import make_plan

names = st.sets(st.text("abcdefgh-123", min_size=1, max_size=12), min_size=1, max_size=60)
seeds = st.text("0123456789", min_size=1, max_size=8)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5])
stages = st.sampled_from(
    [
        [{"percent": 100}],
        [{"percent": 5}, {"percent": 25}, {"percent": 100}],
        [{"count": 1}, {"count": 4}, {"percent": 100}],
        [{"count": 50}, {"percent": 100}],
    ]
)


@given(devices=names, seed=seeds, control=shares, stages=stages, order=st.randoms(use_true_random=False))
def test_the_order_of_devices_does_not_matter(
    devices: set[str], seed: str, control: float, stages: list[dict[str, float]], order: object
) -> None:
    plan = make_plan(seed=seed, control=control, stages=stages)
    shuffled = sorted(devices)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random

    assert draw(plan, shuffled) == draw(plan, sorted(devices))


@given(devices=names, seed=seeds, control=shares, stages=stages)
def test_every_device_has_one_arm_and_a_stage_is_a_stretch_of_the_line(
    devices: set[str], seed: str, control: float, stages: list[dict[str, float]]
) -> None:
    plan = make_plan(seed=seed, control=control, stages=stages)
    drawn = arms(plan, draw(plan, devices), devices)
    along = [drawn[name] for name in sorted(devices, key=lambda name: place(line_of(plan), name))]

    assert drawn.keys() == devices
    assert along == sorted(along)
    assert set(along) <= {CONTROL, *range(len(stages))}
    assert (CONTROL in along) == (control > 0 and len(devices) > 1)
    assert any(arm != CONTROL for arm in along)


@given(devices=names, late=names, seed=seeds, stages=stages)
def test_joining_moves_nobody(
    devices: set[str], late: set[str], seed: str, stages: list[dict[str, float]]
) -> None:
    plan = make_plan(seed=seed, stages=stages)
    cuts = draw(plan, devices)
    joined = joiners(plan, cuts, devices, devices | late)

    assert joined.keys() == late - devices
    assert {name: member.arm for name, member in joined.items()} == arms(plan, cuts, late - devices)
    assert all(member.given is None for member in joined.values())
