"""What the domain decides on, gathered from the tables."""

import logging
from collections.abc import Sequence

from sqlmodel import Session

from muster_controller.domain.facts import DeviceFacts, Facts, WindowFacts
from muster_controller.store import devices, running, windows
from muster_controller.store.baselines import Baselines
from muster_models.errors import MusterError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.codec import decode_all
from muster_models.sketch.window import Sketch

MAX_WINDOWS = 5_000  # in one tick; the next one takes the rest
_log = logging.getLogger(__name__)


def device_facts(session: Session, model: str) -> dict[str, DeviceFacts]:
    """Return what is known of every device that was not revoked, and of one model on it."""
    states = running.of_model(session, model)
    return {member.id: _device(member, states.get(member.id)) for member in devices.members(session)}


def rollout_facts(
    session: Session,
    model: str,
    *,
    upto: int,
    since: float,
    now: float,
    reachable_seconds: float,
    baselines: Baselines,
) -> Facts:
    """Return what a rollout of ``model`` sees.

    ``upto`` is the number of the newest window it has taken in; windows that ended before ``since`` (Unix
    seconds) do not matter to it.
    """
    found = windows.newer(session, model, upto=upto, limit=MAX_WINDOWS)
    fresh = [window for window in found if window.end >= since]
    return Facts(
        now=now,
        devices=device_facts(session, model),
        windows=window_facts(fresh, baselines),
        upto=found[-1].id if found else upto,
        reachable_seconds=reachable_seconds,
    )


def window_facts(stored: Sequence[windows.StoredWindow], baselines: Baselines) -> list[WindowFacts]:
    """Return windows with their sketches decoded; one that cannot be decoded is left out and logged."""
    encoded = [(window.baseline, window.sketch) for window in stored if window.sketch]
    read = iter(baselines.read_all(encoded, decode_all))
    facts: list[WindowFacts] = []
    for window in stored:
        sketch = next(read) if window.sketch else None
        try:
            facts.append(_window(window, sketch, baselines.get(window.baseline)))
        except MusterError as error:
            # Ingest decoded it once, so this means a lost baseline file: say so, and judge by the rest.
            _log.error("window %d of %s: %s", window.id, window.device, error)
    return facts


def _device(member: devices.Member, state: running.State | None) -> DeviceFacts:
    if state is None:
        return DeviceFacts(member.id, member.labels, member.last_seen)
    return DeviceFacts(
        device=member.id,
        labels=member.labels,
        seen=member.last_seen,
        current=state.current,
        target=state.target,
        phase=state.phase,
        reason=state.reason,
        detail=state.detail,
    )


def _window(
    window: windows.StoredWindow, sketch: Sketch | MusterError | None, baseline: Baseline
) -> WindowFacts:
    if isinstance(sketch, MusterError):
        raise sketch
    return WindowFacts(
        device=window.device,
        manifest=window.digest,
        start=window.start,
        end=window.end,
        calls=window.calls,
        errors=window.errors,
        latency=window.latency,
        sketch=sketch,
        baseline=baseline,
    )
