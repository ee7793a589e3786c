"""What is stored of a rollout, to compute its evidence again from."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from sqlmodel import Session

from muster_controller.domain.facts import LabelFacts, WindowFacts
from muster_controller.domain.rollouts.judging.evidence import Evidence
from muster_controller.domain.rollouts.judging.recount import OF_EVERYBODY
from muster_controller.domain.rollouts.judging.replay import Inputs
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import State
from muster_controller.store import observed, rollouts, windows
from muster_controller.store.baselines import Baselines
from muster_controller.store.facts import window_facts
from muster_controller.store.windows import StoredWindow
from muster_models.errors import RequestError

MAX_WINDOWS = 100_000
MAX_CRASHES = 100_000


@dataclass(frozen=True)
class Record:
    """One recorded verdict.

    Attributes:
        differences: Between the record and what is said beside it for lists, in words.
    """

    id: int
    evidence: Evidence
    differences: tuple[str, ...] = ()


class Stored:
    """Everything that verdicts rest on; windows are read while ``inputs`` are gone through, once.

    Attributes:
        records: Oldest first.
        count: Windows that were read so far.
        without: Gates that rest on every window of the version, where those are more than ``most``: only
            those of the devices that are compared are read then.
    """

    def __init__(
        self, session: Session, number: int, plan: Plan, state: State, *, baselines: Baselines, most: int
    ) -> None:
        """Read what is stored of a rollout that has begun.

        Raises:
            RequestError: A record cannot be read, or there is too much to be read at once.
        """
        self._session, self._plan, self._state, self._baselines = session, plan, state, baselines
        self.count = 0
        self.records = [_record(held, content) for held, content in rollouts.evidence_of(session, number)]
        self.crashes = observed.crashes_since(session, plan, state.started_at, limit=MAX_CRASHES + 1)
        if len(self.crashes) > MAX_CRASHES:
            raise RequestError(f"more than {MAX_CRASHES} crashes are stored: too many to be read at once")
        is_whole = (
            windows.count_of_versions(
                session, plan.model, self._digests, since=state.history_since, upto=state.ledger.upto
            )
            <= most
        )
        self.without = () if is_whole else tuple(sorted(OF_EVERYBODY))
        self.inputs = Inputs(
            windows=self._facts(self._every() if is_whole else self._of_witnesses(most)),
            started=state.started_at,
            labels=self._labels(),
            reliability=observed.reliability(session, plan) if plan.margins.estimate is not None else {},
        )

    @property
    def _digests(self) -> list[str]:
        return [self._plan.digest, *([] if self._plan.previous is None else [self._plan.previous])]

    def _every(self) -> Iterator[list[StoredWindow]]:
        """Yield windows of the version, and of the one before those of devices that are compared."""
        state, witnesses = self._state, set(self._state.witnesses)
        for page in windows.of_versions(
            self._session, self._plan.model, self._digests, since=state.history_since, upto=state.ledger.upto
        ):
            yield [one for one in page if one.digest == self._plan.digest or one.device in witnesses]

    def _of_witnesses(self, most: int) -> Iterator[list[StoredWindow]]:
        state = self._state
        found = windows.of_devices(
            self._session,
            self._plan.model,
            state.witnesses,
            since=state.history_since,
            upto=state.ledger.upto,
            limit=most + 1,
        )
        if len(found) > most:
            raise RequestError(
                f"the devices that are compared sent more than {most} windows: too many at once"
            )
        yield found

    def _facts(self, pages: Iterator[list[StoredWindow]]) -> Iterator[tuple[int, WindowFacts]]:
        for page in pages:
            facts = window_facts(page, self._baselines)
            if len(facts) != len(page):
                lost = len(page) - len(facts)
                raise RequestError(f"the baseline of {lost} windows of {self._plan.model} is lost")
            self.count += len(facts)
            yield from zip((one.id for one in page), facts, strict=True)

    def _labels(self) -> Iterator[tuple[int, LabelFacts]]:
        upto, last = 0, self._state.ledger.labels_upto
        while upto < last:
            found, newest = observed.labels_after(self._session, self._plan, self._state, upto=upto)
            yield from (one for one in found if one[0] <= last)
            if newest == upto:
                return
            upto = newest


def _record(number: int, held: rollouts.Evidence) -> Record:
    try:
        evidence = msgspec.convert(held.content, Evidence, str_keys=True)
    except msgspec.ValidationError as error:
        raise RequestError(f"record {number} of evidence cannot be read: {error}") from error
    beside = (held.stage, held.verdict)
    told = (evidence.stage, str(evidence.verdict))
    apart = () if beside == told else (f"listed as stage {held.stage + 1}, {held.verdict}",)
    return Record(number, evidence, apart)
