"""Laws of everything that crosses the wire: what is encoded is decoded, and garbage ends in one error."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_models import topics, wire
from muster_models.errors import MessageError, Reason

devices = st.from_regex(topics.DEVICE_PATTERN, fullmatch=True)
numbers = st.integers(0, 2**53)
seconds = st.floats(0, 2**39)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
models = st.builds(
    wire.ModelReport,
    model=st.just("digits"),
    phase=st.sampled_from(wire.Phase),
    current=st.none() | st.builds(wire.SlotReport, manifest=digests, version=st.just("1.0.0")),
    reason=st.none() | st.sampled_from(Reason),
    detail=st.text(max_size=100),
)
shadows = st.builds(
    wire.ShadowCounts,
    candidate=digests,
    calls=numbers,
    rows=numbers,
    agreed=numbers,
    errors=numbers,
    dropped=numbers,
    latency=st.lists(numbers, max_size=16).map(tuple),
    difference=st.floats(0, 1e300),
)
names = st.from_regex(r"[a-z][a-z0-9_.-]{0,31}", fullmatch=True)
counters = st.dictionaries(names, numbers, max_size=wire.MAX_COUNTERS)
windows = st.builds(
    wire.Window,
    device=devices,
    epoch=numbers,
    sequence=numbers,
    model=st.just("digits"),
    manifest=digests,
    baseline=digests,
    start=seconds,
    end=seconds,
    calls=numbers,
    errors=numbers,
    latency=st.lists(numbers, max_size=16).map(tuple),
    sketch=st.binary(max_size=200),
    shadow=st.none() | shadows,
    counters=counters,
)
reports = st.builds(
    wire.Report,
    device=devices,
    epoch=numbers,
    sequence=numbers,
    at=seconds,
    models=st.lists(models, max_size=2).map(tuple),
)
events = st.builds(
    wire.Event,
    device=devices,
    epoch=numbers,
    sequence=numbers,
    at=seconds,
    kind=st.just("refused"),
    reason=st.sampled_from(Reason),
)
samples = st.builds(
    wire.Sample,
    device=devices,
    epoch=numbers,
    sequence=numbers,
    at=seconds,
    order=numbers,
    model=st.just("digits"),
    manifest=digests,
    rows=st.integers(0, wire.MAX_SAMPLE_ROWS),
    inputs=st.binary(max_size=200),
    outputs=st.binary(max_size=200),
    reason=st.none() | st.sampled_from(Reason),
)


@given(windows | reports | events | samples)
def test_a_message_survives_its_encoding(message: wire.Outboxed) -> None:
    assert wire.decode_uplink(wire.encode(message)) == message


@given(st.builds(wire.Stored, epoch=numbers, upto=numbers))
def test_a_watermark_survives_its_encoding(stored: wire.Stored) -> None:
    assert wire.decode_stored(wire.encode(stored)) == stored


@given(st.binary(max_size=300))
def test_garbage_ends_in_a_message_error_and_nothing_else(payload: bytes) -> None:
    for decode in (wire.decode_uplink, wire.decode_stored, wire.decode_desired):
        with pytest.raises(MessageError):
            decode(payload)


@given(windows, st.randoms(use_true_random=False))
def test_a_damaged_message_is_refused_or_still_well_formed(
    window: wire.Window, chance: random.Random
) -> None:
    damaged = bytearray(wire.encode(window))
    for _ in range(chance.randint(1, 4)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    try:
        message = wire.decode_uplink(bytes(damaged))
    except MessageError:
        return

    # By bytes, because a damaged float may be a NaN, which equals nothing.
    assert wire.encode(wire.decode_uplink(wire.encode(message))) == wire.encode(message)


@pytest.mark.parametrize(
    "changes",
    [{"rows": wire.MAX_SAMPLE_ROWS + 1}, {"inputs": bytes(wire.MAX_SAMPLE_BYTES + 1)}, {"rows": -1}],
    ids=["rows", "bytes", "negative"],
)
def test_a_sample_beyond_its_bounds_is_refused(changes: dict[str, object]) -> None:
    sample = msgspec.structs.replace(wire.Sample("press-1", 1, 1, 0.0, 1, "digits", rows=1), **changes)

    with pytest.raises(MessageError):
        wire.decode_uplink(wire.encode(sample))


@given(st.integers(0, 2**53), st.integers(1, wire.MAX_SAMPLE_ROWS), seconds)
def test_an_order_for_rows_survives_signing(number: int, rows: int, expires: float) -> None:
    order = wire.SampleOrder(number, "digits", rows, expires)
    desired = wire.Desired("press-1", 1, 0.0, 1.0, (), samples=(order,))

    assert wire.decode_desired(wire.encode_desired(desired)) == desired


def test_a_message_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MessageError, match="at most") as caught:
        wire.decode_uplink(bytes(wire.MAX_BYTES + 1))

    assert caught.value.reason is Reason.TOO_LARGE


def test_deep_nesting_ends_in_a_message_error() -> None:
    with pytest.raises(MessageError):
        wire.decode_uplink(b"\x91" * 100_000)
    with pytest.raises(MessageError):
        wire.decode_desired(b"[" * 100_000)


def test_an_unknown_field_in_a_desired_state_is_refused() -> None:
    desired = wire.Desired("press-1", 1, 0.0, 1.0, ())
    document = msgspec.json.decode(wire.encode_desired(desired)) | {"shell": "rm"}

    with pytest.raises(MessageError, match="unknown field `shell`"):
        wire.decode_desired(msgspec.json.encode(document))


@given(devices, st.sampled_from(("hello", "report", "window", "event", "sample")))
def test_an_uplink_topic_is_parsed_to_what_it_was_built_from(device: str, kind: topics.Up) -> None:
    assert topics.parse_up(topics.up(device, kind)) == topics.UpTopic(device, kind)


@given(devices)
def test_a_topic_in_a_foreign_shard_is_refused(device: str) -> None:
    foreign = f"{(int(topics.shard(device), 16) + 1) % 256:02x}"

    with pytest.raises(MessageError, match="shard must be"):
        topics.parse_up(f"muster/v1/{foreign}/{device}/up/window")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "muster/v1/00/press-1/up",
        "muster/v1/00/press-1/down/desired",
        "muster/v2/00/press-1/up/hello",
        "muster/v1/00/+/up/hello",
        "muster/v1/00/../up/hello",
        "muster/v1/00/press-1/up/hello/more",
    ],
)
def test_a_topic_of_another_form_is_refused(topic: str) -> None:
    with pytest.raises(MessageError):
        topics.parse_up(topic)
