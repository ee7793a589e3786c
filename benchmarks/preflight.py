"""How long a preflight of a version takes: forked from the zygote, against a fresh Python that does the same.

Where models run in workers, the zygote holds the engine since the first of them, and its children are born
with it; where they run inline, each preflight child imports it for itself.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from figure import Figure, interleave, publish
from rig.versions import lay_out

from muster_agent.runner import Zygote
from muster_agent.runner.job import Job, Verdict, decode, encode, job_of

ROUNDS = 20
MILLISECONDS = 50.0
CALL_SECONDS = 5.0
Call = Callable[[], object]
FRESH = """
import sys
from muster_agent.runner import preflight
from muster_agent.runner.job import Job, decode, encode
verdict = preflight.run(decode(sys.stdin.buffer.read(), type=Job))
sys.stdout.buffer.write(encode(verdict))
"""


def from_fresh_python(job: Job) -> Verdict:
    """Return the verdict of a Python that was started for it: the same checks, equally confined."""
    command = [sys.executable, "-c", FRESH]
    done = subprocess.run(command, input=encode(job), stdout=subprocess.PIPE, check=True)
    return decode(done.stdout, type=Verdict)


def accepted(verdict: Verdict) -> None:
    """Take a verdict that says yes; a refusal might come sooner.

    Raises:
        SystemExit: It says no.
    """
    if not verdict.accepted:
        raise SystemExit(f"expected digits@1.1.0 to be accepted, got {verdict.reason}: {verdict.detail}")


def measure(job: Job, *, sharing: Zygote, plain: Zygote) -> list[Figure]:
    """Examine the version in turn, in all ways."""
    sharing.bear("worker", job).close()
    calls: dict[str, Call] = {
        "models in workers": lambda: accepted(sharing.preflight(job)),
        "models inline": lambda: accepted(plain.preflight(job)),
        "peer": lambda: accepted(from_fresh_python(job)),
    }
    for call in calls.values():
        call()
    milliseconds = {
        name: value * 1000
        for name, value in interleave(calls, rounds=ROUNDS, clock=time.perf_counter_ns).items()
    }
    peer = milliseconds.pop("peer")
    return [
        Figure(
            f"digits: preflight by the zygote, {mode}, wall", ours, peer, "a fresh Python for each", "ms",
            ours / peer, f"<= {MILLISECONDS:g} ms", met=ours <= MILLISECONDS,
        )
        for mode, ours in milliseconds.items()
    ]  # fmt: skip


def main() -> None:
    """Measure, and print two figures."""
    with ExitStack() as stack:
        zygotes = [Zygote.start() for _ in range(2)]  # first, while this process has one thread
        for zygote in zygotes:
            stack.callback(zygote.close)
        scratch = stack.enter_context(TemporaryDirectory())
        verified, folder = lay_out("digits", Path(scratch))
        job = job_of(verified, folder, call_seconds=CALL_SECONDS)
        figures = measure(job, sharing=zygotes[0], plain=zygotes[1])
    publish(*figures)


if __name__ == "__main__":
    main()
