"""What candidates answered in shadow: the counts of all windows of one device, added up as they come in."""

from collections.abc import Iterable
from typing import Any

from sqlmodel import Session

from muster_controller.store.engine import upsert
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import ShadowRecord
from muster_models.wire import ShadowCounts, Window

_MOST = 2**53  # what every reader of a document holds exactly


def add(session: Session, windows: Iterable[Window]) -> None:
    """Add the counts of windows in which a candidate was asked; that they are new is for ``inbox`` to say."""
    sums: dict[tuple[str, str, str], dict[str, Any]] = {}
    for window in windows:
        if window.shadow is not None:
            key = (window.device, window.manifest, window.shadow.candidate)
            sums[key] = _sum(sums.get(key) or _held(session, key), _row(window, window.shadow))
    upsert(session, ShadowRecord, list(sums.values()))


def _row(window: Window, shadow: ShadowCounts) -> dict[str, Any]:
    return {
        "device": window.device,
        "digest": window.manifest,
        "candidate": shadow.candidate,
        "model": window.model,
        "calls": shadow.calls,
        "rows": shadow.rows,
        "agreed": shadow.agreed,
        "errors": shadow.errors,
        "dropped": shadow.dropped,
        "difference": shadow.difference,
        "latency": list(shadow.latency),
        "beside_calls": window.calls,
        "beside_errors": window.errors,
        "beside_latency": list(window.latency),
        "since": milliseconds(window.start),
        "until": milliseconds(window.end),
    }


def _held(session: Session, key: tuple[str, str, str]) -> dict[str, Any] | None:
    row = session.get(ShadowRecord, key)
    return None if row is None else row.model_dump()


def _sum(held: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    if held is None:
        return more
    added = {
        name: min(held[name] + more[name], _MOST)
        for name in ("calls", "rows", "agreed", "errors", "dropped", "difference", *_BESIDE)
    }
    latencies = {
        name: [min(a + b, _MOST) for a, b in zip(held[name], more[name], strict=True)]
        for name in ("latency", "beside_latency")
    }
    ends = {"since": min(held["since"], more["since"]), "until": max(held["until"], more["until"])}
    return {**more, **added, **latencies, **ends}


_BESIDE = ("beside_calls", "beside_errors")
