"""Runs the benchmarks by name, each in a process of its own, and prints one row per figure.

``scripts/bench [NAME ...] [-o table|json]``; NAME is a file of this folder without ``.py``. This module needs
nothing but Python: the environment of the benchmarks is made when one is really run.

``scripts/bench drift ...`` and ``scripts/bench rollouts ...`` are handed over to the packages
of these names, which have options and tables of their own.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import describe

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PEERS = ROOT / "scripts/peers"
DRIFT_PEERS = ROOT / "scripts/drift_peers"
ABOUT = (
    "Measure Muster against named peers. `scripts/bench drift --help`: drift detection on public data; "
    "`scripts/bench rollouts --help`: false stops and power of rollouts."
)
# The public data sets are in its environment only.
IN_DRIFT = frozenset({"drift_figures"})
NAMES = sorted(
    path.stem for path in FOLDER.glob("*.py") if path.stem not in {"__main__", "figure", "machine"}
)
# One thread each, so that the ratio of two runs compares work and not cores.
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # The tests' support stages whole agents and signed repositories.
    "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("benchmarks", "tests", "scripts")),
}


def run(name: str, python: str) -> list[dict[str, Any]]:
    """Run one benchmark and return its figures.

    Raises:
        SystemExit: The benchmark failed; its own error is on stderr.
    """
    rows: list[dict[str, Any]] = json.loads(_output(f"benchmark {name}", python, FOLDER / f"{name}.py"))
    return rows


def _output(what: str, *command: str | Path) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{what} failed with exit status {done.returncode}")
    return done.stdout


def hand_over(package: str, arguments: list[str]) -> int:
    """Run an evaluation that has arguments of its own; return its exit status."""
    python = _drift_python() if package == "drift" else _output("installing the peers", PEERS).strip()
    command = [python, "-m", package, *arguments]
    return subprocess.run(command, env=ENVIRONMENT, check=False).returncode


def _drift_python() -> str:
    return _output("installing the data sets", DRIFT_PEERS, "bench-drift").strip()


def render(rows: list[dict[str, Any]], machine: dict[str, str], output: str) -> str:
    """Return the figures and the machine they belong to, as ``table`` or as ``json``."""
    if output == "json":
        return json.dumps({"machine": machine, "figures": rows}, indent=2)
    return f"{table(rows)}\n\n" + "\n".join(f"{key}: {value}" for key, value in machine.items())


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the figures out for people."""
    head = ("name", "ours", "peer", "ratio", "goal", "met")
    body = [
        (
            row["name"],
            f"{row['ours']:.4g} {row['unit']}",
            f"{row['peer']:.4g} {row['unit']} ({row['peer_name']})",
            f"{row['ratio']:.3g}",
            row["goal"],
            "yes" if row["met"] else "NO",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *body)
    )


def main() -> None:
    """Run what was named, or everything."""
    if sys.argv[1:2] in (["drift"], ["rollouts"]):
        raise SystemExit(hand_over(sys.argv[1], sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="scripts/bench", description=ABOUT)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(NAMES)} (default: all)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.exit(
            2, f"scripts/bench: unknown benchmark {unknown[0]!r}, expected one of: {', '.join(NAMES)}\n"
        )
    python = _output("installing the peers", PEERS).strip()
    machine = describe()  # before the benchmarks are its load
    rows = [row for name in arguments.names or NAMES for row in run(name, python)]
    print(render(rows, machine, arguments.output))


if __name__ == "__main__":
    main()
