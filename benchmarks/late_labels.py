"""Labels that come late: intervals and alarms beside a test at every look, delay, the cost of a push."""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figure import Figure, at_most, publish

from muster_controller.domain.labels import intervals
from muster_controller.domain.labels.counts import Counts
from muster_controller.domain.labels.detector import NEW, Promise, Round
from muster_controller.domain.labels.falls import Terms, follow
from muster_controller.service.label_pushing import push_labels
from support.office import START, open_office
from support.truths import as_lines, labelled

STREAMS, LOOKS = 500, 1000
DEVICES = [f"{site}-{number}" for site in ("berlin", "oslo", "lyon") for number in range(4)]
GROUPS = {name: (f"site={name.partition('-')[0]}",) for name in DEVICES}
PROMISE = Promise("accuracy", signed=0.95, allowed=0.1)
RUN_LENGTH = 2000.0
LABELS = 20  # of a device and round
PUSHED = 50  # devices times 1,000 labels, in ten requests


def left_interval() -> tuple[float, float]:
    """Return the share of streams whose accuracy left its interval at any look, ours and Wald's."""
    chance = np.random.default_rng(31)
    right = np.cumsum(chance.random((STREAMS, LOOKS)) < PROMISE.signed, axis=1)
    n = np.arange(1, LOOKS + 1)
    mean = right / n
    wald = abs(mean - PROMISE.signed) > 1.96 * np.sqrt(mean * (1 - mean) / n)
    ours = [any(_is_outside(int(row[at]), at + 1) for at in range(9, LOOKS, 10)) for row in right]
    # Wald's interval is empty while all are right: from the thirtieth label on it has a chance.
    return float(np.mean(ours)), float(wald[:, 29:].any(axis=1).mean())


def _is_outside(right: int, n: int) -> bool:
    found = intervals.accuracy(right, n)
    return not found.low <= PROMISE.signed <= found.high


def alarms_without_drift(rounds: int) -> tuple[float, float]:
    """Return alarms per 1,000 rounds, ours and of a one-sided test of each device and round at 5 %."""
    chance = np.random.default_rng(32)
    state, opened, tested = NEW, 0, 0
    terms = Terms(PROMISE, GROUPS, RUN_LENGTH)
    for end in range(rounds):
        one = _round(chance, end, {})
        before = {(fall.subject, fall.since) for fall in state.falls}
        state, _ = follow(state, [one], terms, now=float(end))
        opened += len({(fall.subject, fall.since) for fall in state.falls} - before)
        tested += sum(_is_worse(counts) for counts in one.devices.values())
    return opened * 1000 / rounds, tested * 1000 / rounds


def _is_worse(counts: Counts) -> bool:
    expected = 1 - PROMISE.signed
    reach = 1.645 * float(np.sqrt(expected * (1 - expected) / counts.n))
    return counts.wrong / counts.n > expected + reach


def rounds_to_alarm(accuracy: float) -> float:
    """Return the median number of rounds to the alarm about one device of twelve that became worse."""
    terms, needed = Terms(PROMISE, GROUPS, RUN_LENGTH), []
    for seed in range(20):
        chance = np.random.default_rng([33, seed])
        state, _ = follow(NEW, [_round(chance, end, {}) for end in range(30)], terms, now=30.0)
        fallen = 0
        while not any(fall.subject == "oslo-2" for fall in state.falls):
            fallen += 1
            one = _round(chance, 30 + fallen, {"oslo-2": 1 - accuracy})
            state, _ = follow(state, [one], terms, now=30.0 + fallen)
        needed.append(fallen)
    return statistics.median(needed)


def _round(chance: np.random.Generator, end: int, wrong: Mapping[str, float]) -> Round:
    def drawn(share: float) -> Counts:
        bad = int(chance.binomial(LABELS, share))
        cells = {(0, 0): LABELS - bad, (0, 1): bad}
        return Counts(LABELS, {cell: n for cell, n in cells.items() if n})

    usual = 1 - PROMISE.signed
    return Round(float(end), {name: drawn(wrong.get(name, usual)) for name in DEVICES})


@dataclass(frozen=True)
class Cost:
    """Of one label.

    Attributes:
        microseconds: Of CPU.
        size: Bytes of the database.
    """

    microseconds: float
    size: float


def push_cost() -> tuple[Cost, Cost]:
    """Return what a pushed label costs, and an inserted row of it that nobody checks."""
    names = [f"oslo-{number}" for number in range(PUSHED)]
    with tempfile.TemporaryDirectory() as folder:
        office = open_office(Path(folder) / "controller")
        office.install()
        office.enrol(*names)
        digest = office.release(metrics={"accuracy": 0.95}).version.digest
        pushes = [
            labelled(names, digest, at=START - 300 * number, labels=100, wrong=0.05)
            for number in range(1, 11)
        ]
        bodies = [as_lines(lines) for lines in pushes]
        file = office.context.folder.database
        before, started = _size(file), time.process_time()
        for body in bodies:
            push_labels(office.context, "operator", body)
        ours, taken = time.process_time() - started, _size(file) - before
        office.opened.close()
        plain = Path(folder) / "plain.sqlite"
        theirs = _insert(plain, pushes)
        size = _size(plain)
    labels = sum(map(len, pushes))
    return Cost(ours / labels * 1e6, taken / labels), Cost(theirs / labels * 1e6, size / labels)


def _insert(file: Path, pushes: list[list[dict[str, str]]]) -> float:
    with sqlite3.connect(file) as plain:
        plain.execute("CREATE TABLE label (id TEXT PRIMARY KEY, label TEXT)")
        started = time.process_time()
        for lines in pushes:
            plain.executemany(
                "INSERT INTO label VALUES (?, ?)", [(line["id"], line["label"]) for line in lines]
            )
            plain.commit()
        return time.process_time() - started


def _size(file: Path) -> int:
    with sqlite3.connect(file) as database:
        pages, page = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
    return int(pages) * int(page)


def main() -> None:
    """Measure, and print five figures."""
    left, wald = left_interval()
    opened, tested = alarms_without_drift(4000)
    pushed, inserted = push_cost()
    much, little = rounds_to_alarm(0.70), rounds_to_alarm(0.80)
    allowed = 1000 / RUN_LENGTH
    publish(
        Figure(
            "streams whose accuracy left its interval at any of 1,000 looks", left, wald,
            "Wald interval at every look", "share", left / wald, "<= 0.05", met=left <= intervals.LEVEL,
        ),
        Figure(
            "alarms in 1,000 rounds of 12 devices without drift", opened, tested,
            "one-sided test at 5 %", "alarms", opened / tested, f"<= {allowed:g}", met=opened <= allowed,
        ),
        Figure(
            "rounds of 20 labels until one device that fell from 0.95 to 0.70 is named", much, little,
            "the same, to 0.80", "rounds", much / little, "<= 5 rounds", met=much <= 5,
        ),
        at_most(
            "a label pushed",
            ours=pushed.microseconds, peer=("an INSERT that nobody checks", inserted.microseconds),
            unit="us", ratio=20.0,
        ),
        at_most(
            "disk of a label, with its counts",
            ours=pushed.size, peer=("ids and labels in a table", inserted.size), unit="bytes", ratio=1.0,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
