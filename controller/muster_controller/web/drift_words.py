"""What the drift page says in words: its kinds, what moved, and the text alternative of each chart."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from muster_controller.domain.drift.measures import ANSWERS
from muster_controller.service.drift_explain import StepView
from muster_controller.service.drift_views import (
    ControlView,
    DriftView,
    FeatureView,
    HeatCell,
    newest,
)
from muster_controller.service.label_explain import LabelStepView
from muster_controller.service.label_views import LabelsView, VersionTruthView
from muster_controller.store.views.alarms import DRIFT_KINDS, AlarmView
from muster_models.wire import LATENCY_EDGES_MS

MAX_BARS = 12
MAX_ROWS = 24  # features of a table: with 200 features a page stays below its budget of bytes
MAX_CHOICES = 24  # groups that have a button
LEAST = 0.0005  # a share that is written as one
LEGS = {
    "location": "level",
    "scale": "spread",
    "skew": "skew",
    "tails": "tails",
    "missing": "missing values",
    "outside": "values beyond the baseline",
}
QUALITY = ("missing", "outside")
VALUES = tuple(name for name in LEGS if name not in QUALITY)
STATISTICS = {"psi": "PSI", "ks": "KS", "js": "Jensen-Shannon", "wasserstein": "Wasserstein", "linf": "L∞"}
# What is asked of each kind, and where on the page the answer is.
KINDS = {
    "data-quality": ("Data quality", "Are values missing, or impossible?"),
    "data-drift": ("Data drift", "Does the model see other inputs?"),
    "prediction-drift": ("Prediction drift", "Does it answer otherwise?"),
    "concept-drift": ("Concept drift", "Is it right less often?"),
    "performance": ("Performance", "Is it slower, does it fail?"),
}


@dataclass(frozen=True)
class Kind:
    """One kind of drift with what is open about it; ``word`` is the worst state."""

    name: str
    title: str
    question: str
    word: str
    count: int


def kinds(alarms: Iterable[AlarmView], unjudged: Mapping[str, str]) -> list[Kind]:
    """Return every kind with the state of its open alarms; ``unjudged`` says why one cannot have any."""
    held = list(alarms)
    found = []
    for name, (title, question) in KINDS.items():
        states = [alarm.state for alarm in held if alarm.kind == name]
        word = "firing" if "firing" in states else "pending" if states else unjudged.get(name, "calm")
        if name == "prediction-drift" and not states and any(map(_moves_answers, held)):
            word = "moved along"
        found.append(Kind(name, title, question, word, len(states)))
    return found


def _moves_answers(alarm: AlarmView) -> bool:
    """Tell whether the answers of the model moved along with what an alarm is about."""
    return any(moved.get("feature") in ANSWERS for moved in alarm.evidence.get("features", ()))


def unjudged(view: DriftView, truth: LabelsView) -> dict[str, str]:
    """Return the kinds that nothing is said about yet, and why not."""
    found = {} if view.calibrated else dict.fromkeys(KINDS, "not judged yet")
    found.pop("concept-drift", None)
    if not any(version.measure.n for version in truth.versions):
        found["concept-drift"] = "no labels"
    return found


def leg(name: str, kind: str = "numeric") -> str:
    """Return what people call what moved: what has names and no order has shares, and no level or spread."""
    if name in VALUES and kind in {"class", "category"}:
        return "shares"
    return LEGS.get(name, name)


def short(name: str) -> str:
    """Return a column's name without the mark of what the model answers."""
    return name.removeprefix("prediction:")


def subject(level: str, name: str) -> str:
    """Return whom something is about."""
    return "the whole fleet" if level == "fleet" else name


def effect(value: float, unit: str) -> str:
    """Return the size of a change with its sign: a share in percent points, anything else in its unit."""
    if unit == "share":
        return f"{value:+.1%}".replace("%", " %")
    return f"{value:+.2g} {unit}".rstrip()


def signed(value: float | None) -> str:
    """Return a distance with its sign."""
    return "\N{EN DASH}" if value is None else f"{value:+.2f}"


def logarithm(value: float) -> str:
    """Return the logarithm of an e-value, of which one below 1 says nothing."""
    return "\N{EN DASH}" if value < 0 else f"{value:.1f}"


def climb(steps: Sequence[StepView]) -> list[float]:
    """Return the evidence of each round as it is drawn: from nothing upwards."""
    return [max(0.0, step.value) for step in steps]


def highest(steps: Sequence[LabelStepView]) -> list[float]:
    """Return the highest evidence of each round as it is drawn: from nothing upwards."""
    return [max(0.0, step.highest) for step in steps]


def percent(share: float) -> str:
    """Return a share with one digit where it is small, and a zero as nothing to see."""
    if share == 0:
        return "\N{EN DASH}"
    return "< 0.1 %" if share < LEAST else f"{share:.1%}".replace("%", " %")


def controls(feature: FeatureView) -> list[ControlView]:
    """Return the control charts of a column: that of its quality when it left its band."""
    found = [feature.control] if feature.control else []
    if feature.quality and left_band(feature.quality):
        found.append(feature.quality)
    return found


def left_band(control: ControlView) -> bool:
    """Tell whether a window lay outside of its control band."""
    return any(value is not None and value > 1 for value in control.distance)


def now(feature: FeatureView | None, control: ControlView) -> str:
    """Return where a column, or None for calls, is now and by its calibration, in its own unit if it can."""
    moved, distance = newest(control.moved), control.last
    if moved is None or distance is None:
        return "No window yet."
    word = "within its band." if distance <= 1 else "outside its band."
    if control.leg in QUALITY:
        before, after = (percent(share or 0.0) for share in (control.before, control.after))
        return f"Now {after} of the rows, normally {before}: {word}"
    own = ""
    if control.before is not None and control.after is not None:
        unit = "ms" if feature is None else feature.unit
        own = f" at {control.after:.3g} {unit}".rstrip() + f", normally {control.before:.3g}"
    return f"Now{own}: {moved:+.2f} sd, {word}"


def missing_before(feature: FeatureView) -> float:
    """Return the share of missing values in the baseline, half a row of smoothing taken off."""
    return feature.reference[-1] if feature.reference[-1] > 2 * min(feature.reference) else 0.0


def bin_name(feature: FeatureView) -> str:
    """Return the name of the bin that moved most."""
    at = feature.moved
    known = feature.kind == "class" and at.isdigit() and int(at) < len(feature.labels)
    return feature.labels[int(at)] if known else at


def bucket_of(view: DriftView, feature: str, leg_name: str) -> int | None:
    """Return the bucket of time in which the open alarm about a column began; None without one."""
    alarm = view.about(feature, QUALITY if leg_name in QUALITY else VALUES)
    if alarm is None:
        return None
    began = float(alarm.evidence.get("began") or alarm.since.timestamp())
    at = int((began - view.start.timestamp()) / view.bucket_seconds)
    return at if 0 <= at < len(view.buckets) else None


def latency_bars(counts: Sequence[int]) -> list[tuple[str, float, None]]:
    """Return the share of the calls in each bin of latency that lies between others that hold some."""
    held = [at for at, count in enumerate(counts) if count >= LEAST * sum(counts)]
    names = [f"≤ {edge:g} ms" for edge in LATENCY_EDGES_MS] + [f"> {LATENCY_EDGES_MS[-1]:g} ms"]
    return [(names[at], counts[at] / sum(counts), None) for at in range(held[0], held[-1] + 1)]


def measured(version: VersionTruthView, value: float | None) -> str:
    """Return an accuracy as a percentage, an error in the unit of the value."""
    if value is None:
        return "\N{EN DASH}"
    return (
        f"{value:.1%}".replace("%", " %")
        if version.metric == "accuracy"
        else f"{value:.3g} {version.unit}".rstrip()
    )


def points(version: VersionTruthView) -> list[tuple[float, float, float] | None]:
    """Return value, low and high end of each period that has labels."""
    return [
        (one.value, one.value if one.low is None else one.low, one.value if one.high is None else one.high)
        if one.value is not None
        else None
        for one in version.series
    ]


def sentence(alarm: AlarmView) -> str:
    """Return what an alarm says, in one sentence."""
    return alarm.says or ": ".join(alarm.headline)


def is_replayed(alarm: AlarmView) -> bool:
    """Tell whether an alarm can be computed again from the stored windows, or from the stored labels."""
    if alarm.kind == "concept-drift":
        return "version" in alarm.evidence
    return alarm.kind in DRIFT_KINDS and bool(alarm.evidence.get("features"))


def cell(held: HeatCell) -> str:
    """Return what a cell of the heat map says."""
    times = f"{held.distance:.1f} times what is normal for it"
    return f"{leg(held.leg)} {effect(held.effect, held.unit)}, {times}"


def strip_words(name: str, control: ControlView | None, psi: float) -> str:
    """Return what a strip shows."""
    if control is None:
        return f"{name} by window, oldest first: PSI, {psi:.2g} over the whole period"
    return f"{name} by window, oldest first: {outside(control)}"


def outside(control: ControlView) -> str:
    """Return how often something was outside of its control band, and where it is now."""
    known = [value for value in control.distance if value is not None]
    if not known:
        return "no window of a device that has calibrated"
    count = sum(value > 1 for value in known)
    now = f"now {known[-1]:.1f} of the band" if known[-1] <= 1 else f"now {known[-1]:.1f} times the band"
    return f"outside its control band in {count} of {len(known)} windows, {now}"


def ends_of(feature: FeatureView) -> list[str]:
    """Return the names of the bins of a numeric column that stand apart."""
    extra = len(feature.counts) - len(feature.edges) - 1
    return ["\N{INFINITY}", "missing"][-extra:] if extra else []


def named_bars(feature: FeatureView) -> list[tuple[str, float, float | None]]:
    """Return name, share now and share in the baseline of each class or category.

    What does not fit is added up, and what neither holds is left out.
    """
    total, of_baseline = max(1, sum(feature.counts)), sum(feature.reference)
    shares = [count / total for count in feature.counts]
    reference = [share / of_baseline for share in feature.reference]
    first = 1 if feature.kind == "class" else 0
    named: list[tuple[str, float, float]] = [
        (name, shares[at], reference[at])
        for at, name in enumerate(feature.labels, first)
        if at < len(shares) and (shares[at] or reference[at] > 1e-3)  # noqa: PLR2004 - half a row of smoothing
    ]
    if feature.infinite:
        named.append(("infinite", shares[-2], reference[-2]))
    if feature.missing:
        named.append(("missing", shares[-1], reference[-1]))
    return [*named] if len(named) <= MAX_BARS else _shortened(named)


def _shortened(named: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float | None]]:
    kept = sorted(named, key=lambda row: max(row[1], row[2]), reverse=True)[: MAX_BARS - 1]
    rest = [row for row in named if row not in kept]
    more = (f"{len(rest)} more", sum(row[1] for row in rest), sum(row[2] for row in rest))
    return [*(row for row in named if row in kept), more]
