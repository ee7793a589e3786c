"""The windows of a model as plain counts, so that anybody can compute elsewhere what is computed here."""

from dataclasses import dataclass
from typing import Any

import msgspec

from muster_controller.service.context import Context
from muster_controller.store import windows
from muster_controller.store.baselines import Baselines
from muster_controller.store.facts import window_facts
from muster_controller.store.views.windows import list_baselines
from muster_models.errors import NotFoundError

MAX_WINDOWS = 500


@dataclass(frozen=True)
class ExportView:
    """One page.

    Attributes:
        baselines: By SHA-256, with the first page only; see docs/protocol.md for their form.
        windows: In the order of arrival; ``counts`` is one list per column of the baseline.
        upto: Number of the last window, which the next page begins behind; None when there are no more.
    """

    baselines: dict[str, Any]
    windows: tuple[dict[str, Any], ...]
    upto: int | None


def export(context: Context, model: str, *, after: int) -> ExportView:
    """Return the windows of a model behind a number.

    Raises:
        NotFoundError: No such model, or the file of a baseline is gone.
    """
    baselines = Baselines(context.blobs)
    with context.reading() as session:
        known = list_baselines(session, model)
        if not known:
            raise NotFoundError(f"no model {model!r}")
        held = windows.newer(session, model, upto=after, limit=MAX_WINDOWS)
    facts = {
        (fact.device, fact.manifest, fact.start, fact.end): fact for fact in window_facts(held, baselines)
    }
    told = []
    for one in held:
        fact = facts.get((one.device, one.digest, one.start, one.end))
        counts = (
            []
            if fact is None or fact.sketch is None
            else [held_in.tolist() for held_in in fact.sketch.counts]
        )
        told.append(
            {
                "window": one.id,
                "device": one.device,
                "version": one.digest,
                "baseline": one.baseline,
                "start": one.start,
                "end": one.end,
                "parts": one.parts,
                "rows": one.rows,
                "calls": one.calls,
                "errors": one.errors,
                "latency": list(one.latency),
                "counts": counts,
            }
        )
    first = {sha: msgspec.to_builtins(baselines.get(sha)) for sha in known} if after == 0 else {}
    return ExportView(first, tuple(told), held[-1].id if len(held) == MAX_WINDOWS else None)
