"""What a rollout demands of a version: margins beside the control, absolute limits, the least evidence."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster_models.wire import CounterName

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1e8)]
GateName = Annotated[str, Meta(min_length=1, max_length=80)]
Weight = Annotated[float, Meta(ge=0, le=1e6)]
MAX_COUNTERS = 16  # in one plan

# The gates that compare stage and control, in the order in which they are shown; those of counters follow.
ERRORS, MISSING, INVALID = "errors", "missing", "out of range"
LATENCY, SLOW, SLOWEST = "latency", "slow calls", "slowest calls"
CONFIDENCE, CLASS_MIX, VALUE = "confidence", "class mix", "value"
ESTIMATE, ACCURACY = "estimated accuracy", "labelled accuracy"
CRASHED = "crashed devices"
COMPARING = (
    ERRORS,
    MISSING,
    INVALID,
    LATENCY,
    SLOW,
    SLOWEST,
    CONFIDENCE,
    CLASS_MIX,
    VALUE,
    ESTIMATE,
    ACCURACY,
    CRASHED,
)
COUNTER_PREFIX = "counter "


class CounterMargin(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a counter of the application may move, per call.

    Attributes:
        margin: Absolute, in counts per call.
        direction: The way in which it must not move.
    """

    margin: Positive
    direction: Literal["up", "down", "both"] = "up"


class Margins(Struct, frozen=True, forbid_unknown_fields=True):
    """How much worse than the concurrent control a version may be: non-inferiority margins, absolute.

    Attributes:
        errors: Rise of the share of failed calls.
        missing: Rise of the share of missing values over all columns, predictions included.
        invalid: Rise of the share of values outside of what the version was evaluated on: beyond the
            extremes, or of no known category. None: not asked, because devices differ in this when the world
            changes for all of them, and a handful of devices cannot tell that from a worse version.
        latency: Rise of the mean of ln(1 + milliseconds / 5): 0.4 is half as slow again for slow calls, and
            about 2 ms for fast ones.
        slow: Rise of the share of calls at least twice as slow as the median of the device before, and slower
            than 5 ms.
        slowest: The same of its 95 % point.
        confidence: Fall of the mean confidence. A rise is never held against a version.
        classes: Change of the share of any one class, in either direction.
        value: Change of the mean and of the spread of a predicted number, in standard deviations of the
            incumbent's baseline, in either direction.
        estimate: Fall of the accuracy that the confidences promise, corrected by each version's own curve.
            None: not asked.
        accuracy: Fall of the share of right answers among labelled ones. None: not asked.
        crashes: How many times as frequent first crashes of devices may be. It only ever speaks against a
            version, and takes many devices to do so. None: not asked.
        counters: By name, what the application counts; each must be seen in both arms.
        required: Gates that must have evidence; without any they are inconclusive, and not left out.
        weights: How the error budget is split among the gates that apply; 1 for one not named, 0 for a gate
            that is not wanted.
    """

    errors: Positive = 0.02
    missing: Positive = 0.02
    invalid: Positive | None = None
    latency: Positive = 0.4
    slow: Positive = 0.1
    slowest: Positive = 0.05
    confidence: Positive = 0.05
    classes: Positive = 0.08
    value: Positive = 0.25
    estimate: Positive | None = None
    accuracy: Positive | None = None
    crashes: Annotated[float, Meta(ge=1, le=100)] | None = None
    counters: Annotated[dict[CounterName, CounterMargin], Meta(max_length=MAX_COUNTERS)] = {}
    required: tuple[GateName, ...] = ()
    weights: dict[GateName, Weight] = {}


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What is unhealthy whatever the control does.

    Attributes:
        failures: Largest share of the executed devices that may fail to install or run the version.
        errors: Largest share of failed calls, over all windows of the version.
        missing: Largest share of missing predictions.
        minimum_calls: Calls before ``errors``, ``missing`` and ``p95_ms`` are judged.
        crashes_per_device: Most crashes of the version on any one device; None for no limit.
        p95_ms: So many milliseconds at most for 95 % of the calls, over all windows of the version.
        agreement: Least share of rows on which the candidate in shadow and the current version agree.
        agreement_rows: Rows before ``agreement`` is judged.
        accuracy: Least share of right answers among labelled ones; judged from ``Minimums.labels`` on.
    """

    failures: Share = 0.1
    errors: Share = 0.1
    missing: Share = 0.1
    minimum_calls: Annotated[int, Meta(ge=1)] = 50
    crashes_per_device: Annotated[int, Meta(ge=0)] | None = 3
    p95_ms: Positive | None = None
    agreement: Share | None = None
    agreement_rows: Annotated[int, Meta(ge=1)] = 200
    accuracy: Share | None = None


class Minimum(Struct, frozen=True, forbid_unknown_fields=True):
    """The least that a gate must have seen in a stage before it can be healthy.

    Attributes:
        rounds: Compared rounds.
        samples: Rows, calls or labels of the version in them.
    """

    rounds: Annotated[int, Meta(ge=0)] = 0
    samples: Annotated[int, Meta(ge=0)] = 0


class Minimums(Struct, frozen=True, forbid_unknown_fields=True):
    """The least evidence, beside what the tests themselves need.

    Attributes:
        devices: In each arm of a round; a round with fewer is not compared.
        labels: Of the version, before its accuracy is judged.
        gates: More, by gate.
    """

    devices: Annotated[int, Meta(ge=1)] = 1
    labels: Annotated[int, Meta(ge=1)] = 100
    gates: dict[GateName, Minimum] = {}
