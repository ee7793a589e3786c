"""Types are known before threads use them: two first uses at once would end the process."""

import subprocess
import sys

# Types that nobody has used, which four threads use at the same time; threads change as often as they can.
PROGRAM = """
import sys, threading, msgspec
from muster_models.known_types import know_types
sys.setswitchinterval(1e-6)
DOCUMENT = {f"outer{at}": {f"inner{one}": 1 for one in range(20)} for at in range(20)}
def use(kind, together):
    together.wait()
    msgspec.convert(DOCUMENT, kind)
for _ in range(40):
    inner = msgspec.defstruct("Inner", [(f"inner{at}", "int | None", None) for at in range(20)])
    outer = msgspec.defstruct("Outer", [(f"outer{at}", inner | None, None) for at in range(20)])
    know_types()
    together = threading.Barrier(4)
    threads = [threading.Thread(target=use, args=(outer, together)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_types_that_are_known_may_be_used_by_several_threads_at_once() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120
    )

    assert (ended.returncode, ended.stderr) == (0, "")
