"""Stage and control of a rollout without a machine: windows in, evidence out, round by round."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed

import numpy as np

from muster_controller.domain.facts import LabelFacts, Observed, WindowFacts
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.evidence import Evidence, Gate
from muster_controller.domain.rollouts.judging.experiment import Cast
from muster_controller.domain.rollouts.judging.judge import judge
from muster_controller.domain.rollouts.judging.ledger import Ledger, begin_stage, freeze
from muster_controller.domain.rollouts.judging.rounds import take_in
from muster_controller.domain.rollouts.outcome import CODES, Outcome, Trialled
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.roster import Names
from muster_models.wire import LATENCY_EDGES_MS
from support.rollouts import NEW, OLD

Answer = Callable[[str, bool, int], WindowFacts | None]
BEFORE = 12  # rounds


def calls(
    device: str,
    index: int,
    *,
    is_new: bool = False,
    count: int = 200,
    errors: int = 0,
    milliseconds: float = 1.0,
    counters: Mapping[str, int] | None = None,
) -> WindowFacts:
    """Return a window of a second without a sketch, whose calls all took the same time."""
    latency = [0] * (len(LATENCY_EDGES_MS) + 1)
    latency[sum(edge <= milliseconds for edge in LATENCY_EDGES_MS)] = count
    return WindowFacts(
        device=device,
        manifest=NEW if is_new else OLD,
        start=float(index),
        end=float(index + 1),
        calls=count,
        errors=errors,
        latency=latency,
        counters=counters or {},
    )


@dataclass
class Arms:
    """A few devices of which the first become the stage.

    Attributes:
        answer: Returns the window of a device, whether it has the new version, and the round; None: silence.
        silent: Devices that run the version and send nothing.
        gone: Devices that cannot be reached.
        taken: Every window with its number.
    """

    plan: Plan
    answer: Answer
    stage: int = 3
    control: int = 3
    now: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    silent: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    crashes: dict[str, int] = field(default_factory=dict)
    agreement: dict[str, tuple[int, int]] = field(default_factory=dict)
    taken: list[tuple[int, WindowFacts]] = field(default_factory=list)
    labels: list[tuple[int, LabelFacts]] = field(default_factory=list)
    is_admitted: bool = False

    def __post_init__(self) -> None:
        self.arms = {f"new-{i}": 0 for i in range(self.stage)}
        self.arms |= {f"old-{i}": CONTROL for i in range(self.control)}

    def run(self, rounds: int) -> Evidence:
        """Admit the stage after the time before, let it run for some rounds, and return the evidence."""
        if not self.is_admitted:
            self.tick(BEFORE)
            self.ledger = freeze(begin_stage(self.ledger))
            self.is_admitted = True
        self.tick(rounds)
        return self.judge()

    def tick(self, rounds: int) -> None:
        """Let rounds pass, each with the windows of all devices."""
        for _ in range(rounds):
            said = [self.answer(d, self.is_admitted and arm == 0, self.now) for d, arm in self.arms.items()]
            self.now += 1
            self.take(w for w in said if w is not None and w.device not in self.silent | self.gone)

    def take(self, windows: Iterable[WindowFacts] = (), labels: Iterable[LabelFacts] = ()) -> None:
        """Take in windows and labels now."""
        fresh, known = list(windows), list(labels)
        self.taken += [(len(self.taken) + i, window) for i, window in enumerate(fresh, 1)]
        self.labels += [(len(self.labels) + i, label) for i, label in enumerate(known, 1)]
        self.ledger = take_in(
            self.plan,
            self.ledger,
            fresh,
            arms=self.arms,
            started=float(BEFORE),
            now=float(self.now),
            observed=Observed(
                crashes=self.crashes,
                agreement=self.agreement,
                labels=known,
                labels_upto=len(self.labels),
                beside=self.beside,
            ),
            upto=len(self.taken),
        )

    def judge(self) -> Evidence:
        """Return the evidence as it is now."""
        running = sorted(d for d, arm in self.arms.items() if arm == 0)
        seen = Trialled(
            names=Names(running),
            codes=np.full(len(running), CODES[Outcome.RUNNING], np.int8),
            heard=np.array([device not in self.gone for device in running], np.bool_),
            control=self.control,
            reasons={},
        )
        cast = Cast(self.arms, self.arms.keys() - self.gone)
        return judge(self.plan, self.ledger, seen, stage=0, step="soak", now=float(self.now), cast=cast)


def gate(evidence: Evidence, name: str) -> Gate:
    """Return one gate of the evidence, or one check of the experiment."""
    return next(one for one in (*evidence.gates, *evidence.experiment) if one.name == name)


def misdated(window: WindowFacts, ahead: float) -> WindowFacts:
    """Return a window of a device whose clock runs ahead."""
    return changed(window, start=window.start + ahead, end=window.end + ahead)
