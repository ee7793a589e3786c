"""What a rollout is told besides windows: crashes, agreement in shadow, labels, rollouts of other models.

Each part is read only where the plan asks for it, and of witnesses alone where a fleet could be large.
"""

from collections.abc import Iterator, Sequence

import sqlalchemy
from sqlalchemy import bindparam, func
from sqlmodel import Session, col, select

from muster_controller.domain.facts import FirstCrash, LabelFacts, Observed
from muster_controller.domain.labels.counts import from_document
from muster_controller.domain.rollouts.judging.looks import Crashed
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import State
from muster_controller.store import versions
from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import (
    EventRecord,
    LabelRecord,
    RolloutMember,
    RolloutRecord,
    ShadowRecord,
)

MAX_LABELS = 5_000  # entries in one tick; the next one takes the rest
MAX_CRASHING = 100  # devices, those with the most crashes: one is enough to decide
_AT_ONCE = 500  # SQLite takes a limited number of parameters
_UNDER_WAY = ("running", "paused")
_COUNT = func.count()
_EVENTS, _ROLLOUTS, _MEMBERS = table(EventRecord).c, table(RolloutRecord).c, table(RolloutMember).c
_CRASHES = (
    sqlalchemy.select(_EVENTS.device, _COUNT)
    .where(_EVENTS.digest == bindparam("digest"), _EVENTS.kind == "crashed")
    .where(_EVENTS.at >= bindparam("since"), _EVENTS.device != "")
    .group_by(_EVENTS.device)
    .order_by(_COUNT.desc(), _EVENTS.device)
    .limit(MAX_CRASHING)
)
_NEWEST_CRASH = sqlalchemy.select(func.max(_EVENTS.id)).where(
    _EVENTS.digest.in_(bindparam("digests", expanding=True)), _EVENTS.kind == "crashed"
)
_BESIDE = (
    sqlalchemy.select(_MEMBERS.device)
    .join(table(RolloutRecord), _ROLLOUTS.id == _MEMBERS.rollout)
    .where(_ROLLOUTS.model != bindparam("model"), _ROLLOUTS.phase.in_(_UNDER_WAY))
    .where(_MEMBERS.device.in_(bindparam("devices", expanding=True)))
    .where(_MEMBERS.given.is_not(None), _MEMBERS.withdrawn == "")
)


def observe(session: Session, plan: Plan, state: State) -> Observed:
    """Return what is known of a rollout's two versions besides windows."""
    found, upto = _labels(session, plan, state) if _wants_labels(plan) else ([], state.ledger.labels_upto)
    counts_crashes = plan.limits.crashes_per_device is not None
    return Observed(
        crashes_upto=_crashes_upto(session, plan)
        if counts_crashes or plan.margins.crashes is not None
        else 0,
        crashes=_crashes(session, plan, state) if counts_crashes else {},
        first_crashes=_first_crashes(session, plan, state) if plan.margins.crashes is not None else {},
        agreement=_agreement(session, plan, state) if plan.limits.agreement is not None else {},
        reliability=reliability(session, plan) if plan.margins.estimate is not None else {},
        labels=found,
        labels_upto=upto,
        beside=_beside(session, plan, state),
    )


def _wants_labels(plan: Plan) -> bool:
    return plan.margins.accuracy is not None or plan.limits.accuracy is not None


def _crashes(session: Session, plan: Plan, state: State) -> dict[str, int]:
    found = ask(session, _CRASHES, digest=plan.digest, since=milliseconds(state.started_at))
    return dict(found.all())


def _crashes_upto(session: Session, plan: Plan) -> int:
    return ask(session, _NEWEST_CRASH, digests=_digests(plan)).scalar() or 0


def crashes_since(session: Session, plan: Plan, since: float, *, limit: int) -> list[Crashed]:
    """Return the first ``limit`` crashes of a plan's two versions since an instant, as they became known."""
    query = (
        select(EventRecord.id, EventRecord.device, EventRecord.digest, EventRecord.at)
        .where(col(EventRecord.digest).in_(_digests(plan)), EventRecord.kind == "crashed")
        .where(col(EventRecord.at) >= milliseconds(since), EventRecord.device != "")
        .order_by(col(EventRecord.id))
        .limit(limit)
    )
    return [
        Crashed(number or 0, device, digest, seconds(at))
        for number, device, digest, at in session.exec(query)
    ]


def _digests(plan: Plan) -> list[str]:
    return [plan.digest, *([plan.previous] if plan.previous is not None else ())]


def _first_crashes(session: Session, plan: Plan, state: State) -> dict[str, FirstCrash]:
    first: dict[str, FirstCrash] = {}
    for devices in _parts(state.witnesses):
        query = (
            select(EventRecord.device, EventRecord.digest, func.min(EventRecord.at))
            .where(
                col(EventRecord.digest).in_(_digests(plan)),
                EventRecord.kind == "crashed",
                col(EventRecord.at) >= milliseconds(state.started_at),
                col(EventRecord.device).in_(devices),
            )
            .group_by(EventRecord.device, EventRecord.digest)
        )
        for device, digest, at in session.exec(query):
            known = first.get(device)
            if known is None or seconds(at) < known.at:
                first[device] = FirstCrash(seconds(at), digest == plan.digest)
    return first


def _agreement(session: Session, plan: Plan, state: State) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for devices in _parts(state.witnesses):
        query = select(ShadowRecord.device, ShadowRecord.agreed, ShadowRecord.rows).where(
            ShadowRecord.candidate == plan.digest,
            ShadowRecord.digest == plan.previous,
            col(ShadowRecord.device).in_(devices),
        )
        found |= {device: (agreed, rows) for device, agreed, rows in session.exec(query)}
    return found


def reliability(session: Session, plan: Plan) -> dict[str, Sequence[tuple[int, int]]]:
    """Return by version how often its answers were right at the publishing, by their confidence."""
    return {digest: versions.get(session, digest).manifest.reliability for digest in _digests(plan)}


def _labels(session: Session, plan: Plan, state: State) -> tuple[list[LabelFacts], int]:
    """Return what labels say that came since the last tick, and the newest's number."""
    found, upto = labels_after(session, plan, state, upto=state.ledger.labels_upto)
    return [label for _, label in found], upto


def labels_after(
    session: Session, plan: Plan, state: State, *, upto: int
) -> tuple[list[tuple[int, LabelFacts]], int]:
    """Return what labels say that came after a number, each with its own, and the newest that was read.

    Corrections are left out; ``MAX_LABELS`` entries are read at once.
    """
    query = (
        select(LabelRecord)
        .where(col(LabelRecord.digest).in_(_digests(plan)), col(LabelRecord.id) > upto)
        .order_by(col(LabelRecord.id))
        .limit(MAX_LABELS)
    )
    newest, found = upto, []
    for row in session.exec(query):
        assert row.id is not None
        newest, counts = row.id, from_document(row.counts)
        if counts.confusion and not row.correction and seconds(row.end) >= state.history_since:
            right = counts.n - counts.wrong
            found.append((row.id, LabelFacts(row.device, row.digest, seconds(row.end), counts.n, right)))
    return found, newest


def _beside(session: Session, plan: Plan, state: State) -> tuple[str, ...]:
    """Return the witnesses that a rollout of another model has given a version and may yet take back."""
    found: set[str] = set()
    for devices in _parts(state.witnesses):
        found |= set(ask(session, _BESIDE, model=plan.model, devices=list(devices)).scalars())
    return tuple(sorted(found))


def _parts(devices: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(devices), _AT_ONCE):
        yield devices[start : start + _AT_ONCE]
