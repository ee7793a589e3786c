"""A world whose rollout is told everything there is, and its verdicts computed again from what is stored."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed

import msgspec

from muster_controller.domain.facts import Facts, FirstCrash, LabelFacts, Observed, WindowFacts
from muster_controller.domain.rollouts.judging.evidence import Evidence
from muster_controller.domain.rollouts.judging.looks import Crashed
from muster_controller.domain.rollouts.judging.recount import Recount, recount
from muster_controller.domain.rollouts.judging.replay import Inputs
from muster_controller.domain.rollouts.machine import State, from_json, to_json
from support.rollouts import NEW, World


@dataclass
class Witnessed(World):
    """Devices that also crash, are labelled, answer in shadow, and are in rollouts of other models.

    Attributes:
        crashes: In the order in which they became known.
        labels: Likewise; the number of one is its place, from 1.
        agreement: In shadow so far, by device: rows on which both agreed, and rows.
        beside: Devices that a rollout of another model has given a version.
    """

    crashes: list[Crashed] = field(default_factory=list)
    labels: list[LabelFacts] = field(default_factory=list)
    agreement: dict[str, tuple[int, int]] = field(default_factory=dict)
    beside: set[str] = field(default_factory=set)

    def crash(self, device: str, *, times: int = 1) -> None:
        """Let a device tell that what it runs has crashed."""
        digest = self.devices[device].current
        if digest is not None:
            fresh = range(len(self.crashes) + 1, len(self.crashes) + times + 1)
            self.crashes += [Crashed(number, device, digest, self.now) for number in fresh]

    def facts(self, windows: Iterable[WindowFacts] = ()) -> Facts:
        """Return what a decision would see now, and what is known besides windows."""
        told, known = super().facts(tuple(windows)), self.state.ledger.labels_upto
        return changed(
            told,
            observed=Observed(
                crashes=Counter(one.device for one in self.since_the_start() if one.digest == NEW),
                first_crashes=self._first(),
                crashes_upto=len(self.crashes),
                agreement=dict(self.agreement),
                labels=self.labels[known:],
                labels_upto=len(self.labels),
                beside=tuple(self.beside),
            ),
        )

    def since_the_start(self) -> list[Crashed]:
        """Return the crashes that count."""
        return [one for one in self.crashes if self.state.started_at and one.at >= self.state.started_at]

    def _first(self) -> dict[str, FirstCrash]:
        first: dict[str, FirstCrash] = {}
        for one in self.since_the_start():
            first.setdefault(one.device, FirstCrash(one.at, of_version=one.digest == NEW))
        return first

    def records(self) -> list[Evidence]:
        """Return every recorded verdict, as it comes out of the table."""
        made = [decision.evidence for decision in self.decisions if decision.evidence is not None]
        return [restored(one) for one in made]

    def stored(self) -> State:
        """Return the state as it comes out of the table."""
        return from_json(msgspec.json.decode(msgspec.json.encode(to_json(self.state))), self.state.members)

    def recount(self, records: Sequence[Evidence] | None = None) -> list[Recount]:
        """Compute every recorded verdict again."""
        state = self.stored()
        windows = [(n, one) for n, one in enumerate(self.windows, 1) if one.end >= state.history_since]
        inputs = Inputs(windows, state.started_at, list(enumerate(self.labels, 1)))
        told = self.records() if records is None else records
        found = recount(self.plan, state.ledger, told, inputs, crashes=self.since_the_start())
        return [one for one in found if isinstance(one, Recount)]


def restored(evidence: Evidence) -> Evidence:
    """Return evidence as it comes out of a JSON column."""
    document = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(evidence, str_keys=True)))
    return msgspec.convert(document, Evidence, str_keys=True)
