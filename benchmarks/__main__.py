"""Runs the benchmarks by name, each in a process of its own, and prints one row per figure.

``scripts/bench [NAME ...] [-o table|json]``; NAME is a file of this folder without ``.py``.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in {"__main__", "figure"})
# One thread each, so that the ratio of two runs compares work and not cores.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER)}


def run(name: str) -> list[dict[str, Any]]:
    """Run one benchmark and return its figures.

    Raises:
        SystemExit: The benchmark failed; its own error is on stderr.
    """
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py"], env=ENVIRONMENT, stdout=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"benchmark {name} failed with exit status {done.returncode}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


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
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure Muster against named peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(NAMES)} (default: all)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}, expected one of: {', '.join(NAMES)}")
    rows = [row for name in arguments.names or NAMES for row in run(name)]
    print(json.dumps(rows, indent=2) if arguments.output == "json" else table(rows))


if __name__ == "__main__":
    main()
