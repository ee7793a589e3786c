"""Taking in the truth: what is new is counted, what is known changes nothing, what cannot be is refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from muster_controller.domain.labels.counts import Counts, total
from muster_controller.intake import AHEAD_SECONDS
from muster_controller.service.context import Context
from muster_controller.service.label_lines import CountsLine, IdLine, Line, Refusal, read_lines
from muster_controller.service.label_truth import counts_of, is_nothing, key_of, summed, truth_of
from muster_controller.store import devices, labels, refusals, versions
from muster_controller.store.labels import Cell, Entry, Known
from muster_controller.store.versions import Release
from muster_models.errors import MessageError, MusterError, NotFoundError, Reason

MAX_TOLD = 100
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class RefusalView:
    """A line that was refused, and why."""

    line: int
    reason: str
    message: str


@dataclass(frozen=True)
class Pushed:
    """What became of a push.

    Attributes:
        taken: Lines that said something new.
        repeated: Lines that were known already, and changed nothing.
        corrected: Lines that replaced what was said before.
        refused: Lines that could not be used; the first hundred are in ``refusals``.
    """

    taken: int
    repeated: int
    corrected: int
    refused: int
    refusals: tuple[RefusalView, ...]


def push_labels(context: Context, actor: str, body: bytes) -> Pushed:
    """Take in labels: every line that can be used, and none twice.

    Raises:
        RequestError: The body has no lines, too many, or another form.
    """
    lines = read_lines(body)
    now = context.clock()
    with context.unit() as session:
        push = _Push(session, now, context.settings.reporting.window_seconds, context.settings.labels.days)
        push.take(lines)
        labels.remember(session, push.known.values())
        labels.add(session, push.entries(), actor=actor, now=now)
        counted = [
            refusals.Refused(one.device if one.device in push.devices else "", one.reason, one.message)
            for one in push.refused
        ]
        refusals.count(session, counted, now)
    told = tuple(RefusalView(one.line, one.reason.value, one.message) for one in push.refused[:MAX_TOLD])
    return Pushed(push.taken, push.repeated, push.corrected, len(push.refused), told)


@dataclass
class _Push:
    """The effects of one push.

    Attributes:
        known: Predictions whose label is new or another one.
        devices: Of those named, the ones of this fleet.
    """

    session: Session
    now: float
    window_seconds: float
    days: float
    taken: int = 0
    repeated: int = 0
    corrected: int = 0
    refused: list[Refusal] = field(default_factory=list)
    known: dict[bytes, Known] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    _labels: dict[bytes, str] = field(default_factory=dict)
    _counts: dict[tuple[Cell, bool], Counts] = field(default_factory=dict)
    _given: list[Entry] = field(default_factory=list)
    _releases: dict[tuple[str, str], Release | None] = field(default_factory=dict)

    def take(self, lines: Sequence[Line]) -> None:
        """Carry out what the lines say, in their order."""
        ids = [one for one in lines if isinstance(one, IdLine)]
        self._labels = labels.labels_of(self.session, {one.key for one in ids})
        named = {one.named.device for one in ids}
        named |= {one.device for one in lines if isinstance(one, CountsLine)}
        self.devices = devices.known(self.session, named)
        for one in lines:
            match one:
                case Refusal():
                    self.refused.append(one)
                case IdLine(named=prediction):
                    self._take(one, prediction.device)
                case CountsLine(device=device):
                    self._take(one, device)

    def entries(self) -> list[Entry]:
        """Return what is to be stored of counts."""
        return [*(Entry(cell, counts, flag) for (cell, flag), counts in self._counts.items()), *self._given]

    def _take(self, one: IdLine | CountsLine, device: str) -> None:
        try:
            if device not in self.devices:
                wanted = "expected a device of this fleet"
                raise MessageError(f"{wanted}, got {device[:80]!r}", Reason.WRONG_DEVICE)
            if isinstance(one, IdLine):
                self._take_id(one)
            else:
                self._take_counts(one)
        except MusterError as error:
            self.refused.append(Refusal(one.line, error.reason, str(error), device))

    def _take_id(self, one: IdLine) -> None:
        named, at = one.named, one.named.at / 1000
        release = self._release(named.model, named.version)
        self._check_time(at, at)
        truth = truth_of(one.label, release.manifest, named)
        counts, text = counts_of(named, truth), repr(truth)
        before = self._labels.get(one.key)
        if before == text:
            self.repeated += 1
            return
        if before is None:
            self.taken += 1
        else:
            self.corrected += 1
            counts += -counts_of(named, float(before))
        start = at // self.window_seconds * self.window_seconds
        cell = Cell(named.device, named.model, release.digest, start, start + self.window_seconds)
        place = (cell, before is not None)
        self._counts[place] = self._counts.get(place, Counts()) + counts
        self._labels[one.key] = text
        self.known[one.key] = Known(one.key, text, at)

    def _take_counts(self, one: CountsLine) -> None:
        release = self._release(one.model, f"@{one.version.removeprefix(f'{one.model}@')}")
        if not one.start < one.end:
            raise MessageError(f"expected start before end, got {one.start:.0f} and {one.end:.0f}")
        self._check_time(one.start, one.end)
        counts = summed(one.form, release.manifest)
        cell = Cell(one.device, one.model, release.digest, one.start, one.end)
        key = key_of({"device": one.device, "digest": release.digest, "start": one.start, "end": one.end})
        here = [entry.counts for entry in self._given if entry.key == key]
        stored = labels.counted(self.session, key)
        is_new = stored is None and not here
        change = counts + -total([*here, stored or Counts()])
        if not is_new and is_nothing(change, counts):
            self.repeated += 1
            return
        self.taken, self.corrected = self.taken + is_new, self.corrected + (not is_new)
        self._given.append(Entry(cell, change, not is_new, key))

    def _check_time(self, start: float, end: float) -> None:
        # Written so that what is no number at all is refused as well.
        if not end <= self.now + AHEAD_SECONDS:
            raise MessageError(f"a prediction of {end:.0f} lies in the future; it is {self.now:.0f}")
        if not start >= self.now - self.days * DAY_SECONDS:
            wanted = f"expected a prediction of the last {self.days:g} days"
            raise MessageError(f"{wanted}, got one of {start:.0f}", Reason.EXPIRED)

    def _release(self, model: str, version: str) -> Release:
        """Return a version by the first digits of its digest, or by ``@`` and its name."""
        if (model, version) not in self._releases:
            self._releases[model, version] = self._find(model, version)
        release = self._releases[model, version]
        if release is None:
            wanted = f"expected a version of {model[:64]} that was released"
            raise MessageError(f"{wanted}, got {version.removeprefix('@')[:64]!r}", Reason.NOT_LISTED)
        return release

    def _find(self, model: str, version: str) -> Release | None:
        if version.startswith("@"):
            try:
                return versions.find(self.session, model, version[1:])
            except NotFoundError:
                return None
        return versions.find_by_start(self.session, model, version)
