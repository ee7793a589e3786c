"""Two windows of one version as one: what makes room in a full outbox. Merging is addition."""

from msgspec.structs import replace

from muster_models.agreement import add
from muster_models.counters import add_counts
from muster_models.errors import MessageError, SketchError
from muster_models.sketch import codec
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.window import merge
from muster_models.wire import ShadowCounts, Window


def merge_windows(first: Window, second: Window, baseline: Baseline | None) -> Window | None:
    """Return two windows of one version as one, which keeps the later one's place; None when that cannot be.

    Windows in which two candidates were in shadow stay apart: their counts are about different things. So do
    windows that have more counters together than one may have.

    Args:
        baseline: What both were sketched over; None when it is not on the device any more.
    """
    if baseline is None or len(first.latency) != len(second.latency):
        return None
    try:
        sketches = [codec.decode(window.sketch, baseline) for window in (first, second) if window.sketch]
        sketch = (
            codec.encode(merge(*sketches), baseline) if len(sketches) > 1 else first.sketch or second.sketch
        )
        shadow = _merge_shadows(first.shadow, second.shadow)
        counters = add_counts(first.counters, second.counters)
    except (SketchError, MessageError, ValueError):
        return None
    return replace(
        second,
        start=min(first.start, second.start),
        end=max(first.end, second.end),
        calls=first.calls + second.calls,
        errors=first.errors + second.errors,
        latency=tuple(a + b for a, b in zip(first.latency, second.latency, strict=True)),
        sketch=sketch,
        parts=first.parts + second.parts,
        shadow=shadow,
        counters=counters,
    )


def _merge_shadows(first: ShadowCounts | None, second: ShadowCounts | None) -> ShadowCounts | None:
    return add(first, second) if first is not None and second is not None else first or second
