"""Runs the peers on the same windows, each as a program of its own environment, and judges what they flag.

A peer that takes long is given some of the devices, windows and features; the drifted ones are among them.
What it flags is counted in its favour: windows in a row that flag one feature of a device are one incident.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift.judge import Score, Truth
from drift.muster import Windows
from drift.runs import Result

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "peers"
MOST_DEVICES, MOST_COLUMNS = 4, 8
OURS = "bench-drift"  # what runs this very module
# None of them is to tell anybody that it was used.
QUIET = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "WHYLOGS_NO_ANALYTICS": "True"}


@dataclass(frozen=True)
class Peer:
    """How a peer is asked.

    Attributes:
        kind: Environment, as ``scripts/drift_peers`` knows it.
        program: With its arguments.
        devices, columns: At most so many.
        before, after: Windows before and after the onset; None for all of them.
    """

    kind: str
    program: tuple[str, ...]
    devices: int = MOST_DEVICES
    columns: int = MOST_COLUMNS
    before: int | None = None
    after: int | None = None


PEERS: dict[str, Peer] = {
    # 0.1 s of CPU per feature-window, and 0.3 s: a sample is what there is time for.
    "evidently": Peer("bench-evidently", ("ask_evidently.py",), devices=2, columns=2, before=5, after=10),
    "kswin": Peer(OURS, ("ask_river.py", "kswin"), devices=1, columns=1, before=10, after=10),
    "whylogs": Peer(OURS, ("ask_whylogs.py",), columns=4, before=5, after=25),
    "nannyml": Peer("bench-nannyml", ("ask_nannyml.py",)),
    "adwin": Peer(OURS, ("ask_river.py", "adwin")),
    "page-hinkley": Peer(OURS, ("ask_river.py", "page-hinkley")),
}


def environment(kind: str) -> str:
    """Return the Python of a peer's environment, which is made on first use.

    Raises:
        SystemExit: It cannot be installed; the message says by which command to see why.
    """
    if kind == OURS:
        return sys.executable
    done = subprocess.run(
        [ROOT / "scripts/drift_peers", kind], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"scripts/bench drift: the peers in requirements/{kind}.txt cannot be installed here; "
            f"see `scripts/drift_peers {kind}`, or ask with --peers none or a shorter list"
        )
    return done.stdout.strip()


@dataclass(frozen=True)
class Sample:
    """The part of a fleet that peers are given.

    Attributes:
        blocks: Shape (devices, windows, rows, columns).
        first: The first window that is judged, and which judged window that is.
    """

    reference: NDArray[np.float32]
    blocks: NDArray[np.float32]
    first: int
    offset: int
    devices: tuple[int, ...]
    columns: tuple[int, ...]

    def cut(self, peer: Peer, truth: Truth) -> "Sample":
        """Return what of it one peer is given."""
        devices = _some([d in truth.devices for d in self.devices], peer.devices)
        columns = _some([c in truth.columns for c in self.columns], peer.columns)
        judged = self.blocks.shape[1] - self.first
        start = 0 if peer.before is None else max(0, truth.onset - peer.before)
        stop = judged if peer.after is None else min(judged, truth.onset + peer.after)
        warm = self.first if peer.before is None else min(self.first, peer.before)
        windows = range(self.first + start - warm, self.first + stop)
        return Sample(
            self.reference[:, columns],
            self.blocks[np.ix_(devices, windows, range(self.blocks.shape[2]), columns)],
            warm,
            start,
            tuple(self.devices[at] for at in devices),
            tuple(self.columns[at] for at in columns),
        )


def sample(fleet: Windows, truth: Truth) -> Sample:
    """Return the part of a fleet from which every peer gets its own; the fleet is used up by it."""
    devices = _some([d in truth.devices for d in range(fleet.setting.devices)], MOST_DEVICES)
    columns = _some([c in truth.columns for c in range(len(fleet.columns))], MOST_COLUMNS)
    blocks = np.stack([block[devices][:, :, columns] for block in fleet.windows()], axis=1)
    reference = fleet.reference()[:, columns]
    return Sample(reference, blocks, fleet.setting.calibration, 0, tuple(devices), tuple(columns))


def peer_result(
    name: str, python: str, given: Sample, truth: Truth, *, case: str, data: str, seed: int
) -> Result:
    """Give a peer its part of a fleet and judge what it flags.

    Raises:
        SystemExit: The peer failed; its own error is on stderr.
    """
    part = given.cut(PEERS[name], truth)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "windows.npz"
        np.savez(path, reference=part.reference, blocks=part.blocks, first=part.first)
        told = _ask(PEERS[name], python, path)
    flags = {(part.devices[d], w - part.first + part.offset, part.columns[c]) for d, w, c in told["flags"]}
    scored = judge_flags(flags, truth, among=part.devices, feature_windows=int(told["feature_windows"]))
    return Result(
        told["method"], case, data, seed, scored, scored.false + scored.true, None, float(told["bytes"]),
        (0.0, float(told["cpu"])),
    )  # fmt: skip


def _some(drifts: Sequence[bool], most: int) -> list[int]:
    """Return at most ``most`` indices: of drifted ones up to half of that, others, and spare drifted ones."""
    drifted = [index for index, drift in enumerate(drifts) if drift]
    others = [index for index, drift in enumerate(drifts) if not drift]
    head = drifted[: max(1, most // 2)]
    return sorted([*head, *others, *drifted[len(head) :]][:most])


def _ask(peer: Peer, python: str, path: Path) -> dict[str, Any]:
    program, *arguments = peer.program
    done = subprocess.run(
        [python, PROGRAMS / program, path, *arguments],
        env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT / "benchmarks")},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench drift: the peer {program} failed with exit status {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def judge_flags(
    flags: set[tuple[int, int, int]], truth: Truth, *, among: Iterable[int], feature_windows: int
) -> Score:
    """Judge flags (device, window, column): a run of windows is one incident, named by its first.

    Each device that drifted and was given to the peer is a subject. It is found by the first flag of a
    drifted column at or after the onset.
    """
    false = true = flagged = 0
    found: dict[int, int] = {}
    for device, window, column in sorted(flags, key=lambda flag: flag[1]):
        drifts = device in truth.devices and column in truth.columns
        is_right = drifts and window >= truth.onset
        if is_right:
            found.setdefault(device, window - truth.onset + 1)
        flagged += not is_right
        if (device, window - 1, column) not in flags:
            true, false = true + is_right, false + (not is_right)
    subjects = len(truth.devices & set(among))
    return Score(feature_windows, false, true, 0, subjects, tuple(found.values()), flagged)
