"""What the domain decides on, gathered from the tables."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from sqlmodel import Session

from muster_controller.domain.facts import Facts, WindowFacts
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import State
from muster_controller.store import rollouts, versions, windows, zones
from muster_controller.store.baselines import Baselines
from muster_controller.store.device_facts import DeviceBook
from muster_controller.store.observed import observe
from muster_models.errors import MusterError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.window import Sketch

MAX_WINDOWS = 5_000  # in one tick; the next one takes the rest
_log = logging.getLogger(__name__)


def start_facts(
    session: Session,
    model: str,
    digest: str,
    *,
    number: int | None,
    now: float,
    reachable_seconds: float,
    book: DeviceBook | None = None,
) -> Facts:
    """Return what a rollout sees that has not begun: everything but windows.

    Args:
        digest: The version to roll out.
        number: Of the rollout; None for one that is not stored yet.
        book: Of whoever asks again and again.
    """
    known = (DeviceBook() if book is None else book).read(session, model)
    release = versions.get(session, digest)
    return Facts(
        now=now,
        devices=known,
        reachable_seconds=reachable_seconds,
        download_bytes=sum(entry.length for entry in release.manifest.files),
        elsewhere=rollouts.elsewhere(session, model, number),
        offsets=zones.offsets(known.zones(), now),
        withdrawn=release.withdrawn_at is not None,
    )


def rollout_facts(
    session: Session,
    plan: Plan,
    state: State,
    *,
    number: int,
    now: float,
    reachable_seconds: float,
    baselines: Baselines,
    book: DeviceBook,
) -> Facts:
    """Return what a rollout sees in one tick: windows are those that it has not taken in yet."""
    known = start_facts(
        session,
        plan.model,
        plan.digest,
        number=number,
        now=now,
        reachable_seconds=reachable_seconds,
        book=book,
    )
    if not state.started_at:
        return known
    found = windows.newer(session, plan.model, upto=state.upto, limit=MAX_WINDOWS)
    fresh = [window for window in found if window.end >= state.history_since]
    return replace(
        known,
        windows=window_facts(fresh, baselines),
        upto=found[-1].id if found else state.upto,
        observed=observe(session, plan, state),
    )


def window_facts(stored: Sequence[windows.StoredWindow], baselines: Baselines) -> list[WindowFacts]:
    """Return windows with their sketches decoded; one that cannot be decoded is left out and logged."""
    encoded = [(window.baseline, window.sketch) for window in stored if window.sketch]
    read = iter(baselines.sketches(encoded))
    facts: list[WindowFacts] = []
    for window in stored:
        sketch = next(read) if window.sketch else None
        try:
            facts.append(_window(window, sketch, baselines.get(window.baseline)))
        except MusterError as error:
            # Ingest decoded it once, so this means a lost baseline file: say so, and judge by the rest.
            _log.error("window %d of %s: %s", window.id, window.device, error)
    return facts


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
        counters=window.counters,
        sketch=sketch,
        baseline=baseline,
    )
