"""One step of the loop: labels that are new are held against what each version was signed with."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller.config import Settings
from muster_controller.delivery.post import Post
from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.drift.signals import Signal
from muster_controller.domain.labels import detector
from muster_controller.domain.labels.detector import Fall, Promise, State, promise_of
from muster_controller.domain.labels.falls import Terms, follow
from muster_controller.reconcile.alarming import save_signal
from muster_controller.store import drift as drift_store
from muster_controller.store import events, labels, running, versions
from muster_controller.store.device_facts import GroupBook
from muster_controller.store.drift import Known
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.labels import Stored, Watched
from muster_controller.store.versions import Release
from muster_models.errors import SketchError
from muster_models.manifest import Manifest, ValueOutput

MAX_ENTRIES = 5_000  # taken in at once
_NONE: tuple[Fall, ...] = ()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _News:
    """What is to be judged of one version."""

    release: Release
    held: Watched | None
    entries: Sequence[Stored]
    groups: Groups
    others: Sequence[Known]
    left: frozenset[str]


class Truth:
    """Keeps the watch for concept drift of every version up to date."""

    def __init__(self, engine: Engine, settings: Settings, groups: GroupBook | None = None) -> None:
        """Prepare; ``groups`` are those that another step keeps as well."""
        self._engine = engine
        self._post = Post(settings)
        self._settings = settings.labels
        self._groups = groups or GroupBook(settings.drift.group_labels)

    def versions(self) -> list[str]:
        """Return the digests of versions of which there is news, or an alarm that stands."""
        with Reading(self._engine) as session:
            return labels.pending(session)

    def watch(self, digest: str, now: float) -> bool:
        """Take in what is new about one version; return whether more is waiting.

        State and alarms are stored together, so a loop that is killed goes on where it was.

        Raises:
            NotFoundError: The version is not known.
        """
        with Reading(self._engine) as session:
            news = self._news(session, digest)
        before = _decode(news.held)
        promise = promise_of(
            news.release.manifest,
            accuracy_tolerance=self._settings.accuracy_tolerance,
            error_tolerance=self._settings.error_tolerance,
        )
        state, ended = before, _NONE
        if promise is not None:
            state, ended = follow(before, labels.rounds(news.entries), self._terms(news, promise), now=now)
        upto = news.entries[-1].id if news.entries else _upto(news.held)
        after = Watched(upto, bool(state.falls), detector.encode(state))
        if after == news.held:
            return False
        with Unit(self._engine) as session:
            labels.save(session, digest, after, now=now)
            if promise is not None:
                self._tell(session, news, promise, before=before, state=state, ended=ended, now=now)
        return len(news.entries) == MAX_ENTRIES

    def _news(self, session: Session, digest: str) -> _News:
        release = versions.get(session, digest)
        held = labels.watched(session, digest)
        model = release.manifest.model
        return _News(
            release=release,
            held=held,
            entries=labels.after(session, digest, upto=_upto(held), limit=MAX_ENTRIES),
            groups=self._groups.read(session),
            others=drift_store.about_inputs(session, model, release.baseline),
            left=running.left(session, model, digest),
        )

    def _terms(self, news: _News, promise: Promise) -> Terms:
        others = {device: _words(known) for known in news.others for device in known.devices}
        return Terms(promise, news.groups, self._settings.run_length, others, news.left)

    def _tell(
        self,
        session: Session,
        news: _News,
        promise: Promise,
        *,
        before: State,
        state: State,
        ended: Iterable[Fall],
        now: float,
    ) -> None:
        """Store the alarms that stand or ended, and what labels say beside alarms about inputs."""
        manifest = news.release.manifest
        told = {_name(fall): fall for fall in before.falls}
        numbers = {_words(known): known.number for known in news.others}
        for fall in (*ended, *state.falls):
            earlier = told.get(_name(fall))
            is_over = fall not in state.falls
            was_told = earlier is not None and not earlier.other
            if was_told or not (is_over or fall.other):
                signal = _signal(fall, promise, manifest, is_over=is_over or bool(fall.other), now=now)
                save_signal(
                    session, manifest.model, news.release.baseline, signal=signal, post=self._post, now=now
                )
            if fall.other and not is_over:
                drift_store.note_truth(session, numbers[fall.other], _evidence(fall, promise, manifest))
                if earlier is None or not earlier.other:
                    detail = f"{_said(fall, promise, manifest)}, with {fall.other}"
                    events.note(session, "drift", now=now, model=manifest.model, detail=detail)


def _words(known: Known) -> str:
    return f"{known.kind} of {known.feature} (alarm {known.number})"


def _name(fall: Fall) -> tuple[str, str, float]:
    return fall.level, fall.subject, fall.since


def _upto(held: Watched | None) -> int:
    return 0 if held is None else held.upto


def _decode(held: Watched | None) -> State:
    if held is None:
        return detector.NEW
    try:
        return detector.decode(held.state)
    except SketchError as error:
        # A form of an older program: what was seen is kept in the counts, only the watch begins anew.
        _log.warning("the watch for concept drift is begun anew: %s", error)
        return detector.NEW


def _signal(fall: Fall, promise: Promise, manifest: Manifest, *, is_over: bool, now: float) -> Signal:
    return Signal(
        kind="concept-drift",
        level=fall.level,
        subject=fall.subject,
        feature=promise.metric,
        state="resolved" if is_over else "firing",
        since=fall.since,
        fired_at=fall.since,
        resolved_at=now if is_over else None,
        effect=promise.said(fall.badness) - promise.signed,
        unit="share" if promise.is_share else _unit(manifest),
        evidence=_evidence(fall, promise, manifest),
    )


def _unit(manifest: Manifest) -> str:
    return manifest.prediction.unit if isinstance(manifest.prediction, ValueOutput) else ""


def _evidence(fall: Fall, promise: Promise, manifest: Manifest) -> dict[str, Any]:
    moved = {
        "feature": promise.metric,
        "leg": "location",
        "effect": promise.said(fall.badness) - promise.signed,
        "unit": "share" if promise.is_share else _unit(manifest),
        "evidence": fall.value,
        "before": promise.signed,
        "after": promise.said(fall.badness),
    }
    return {
        "features": [moved],
        "metric": promise.metric,
        "version": manifest.name,
        "signed": promise.signed,
        "allowed": promise.said(promise.allowed),
        "now": promise.said(fall.badness),
        "labels": fall.n,
        "devices": list(fall.devices),
        "began": fall.began,
        "value": fall.value,
        "bound": fall.bound,
        "explained_by": fall.other,
        "said": _said(fall, promise, manifest),
    }


def _said(fall: Fall, promise: Promise, manifest: Manifest) -> str:
    who = "the fleet" if fall.level == detector.FLEET else fall.subject
    return (
        f"{promise.metric} of {manifest.name} on {who} is {promise.said(fall.badness):.3g} of late "
        f"({fall.n} labels), signed was {promise.signed:.3g}"
    )
