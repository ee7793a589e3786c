"""A runner whose model takes more memory than its group has: ``python -m support.hungry PROCESSES FOLDER``.

It enters the group by its list of processes, and says on its output why the model's process ended.
"""

import os
import sys
from pathlib import Path

import msgspec

from muster_agent.runner import Runner, Zygote
from muster_models.errors import PredictionError
from support import small_models
from support.verified import QUICK, answers, lay_out, rows


def main(processes: Path, folder: Path) -> None:
    processes.write_text(str(os.getpid()))
    zygote = Zygote.start()
    budget = msgspec.structs.replace(QUICK, memory_bytes=2**32, load_seconds=10.0)
    version = lay_out(folder, small_models.growing(), golden=answers(1.0, 1.0), budget=budget)
    runner = Runner(zygote, on_failure=lambda *_: None)
    runner.activate(version, folder)
    try:
        runner.predict("small", rows(1500.0))
    except PredictionError as error:
        sys.stdout.write(f"{error.reason}: {error}\n")
    runner.close()
    zygote.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
