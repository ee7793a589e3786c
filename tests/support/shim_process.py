"""Takes runs on its input, does each in a child of its own, and says how the child ended. See ``shim.py``."""

import ctypes
import gc
import os
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from muster_models.errors import StorageError
from support import batch_course
from support.device_writers import COURSES, WRONG
from support.shim import REFUSED, Outcome, Run
from support.weaknesses import WEAKNESSES

_SHIM = ctypes.CDLL(None)  # preloaded


def main() -> None:
    gc.freeze()
    for line in sys.stdin.buffer:
        outcome = _do(msgspec.json.decode(line, type=Run))
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


def _do(run: Run) -> Outcome:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _live(run, writer)
    os.close(writer)
    said = b"".join(iter(lambda: os.read(reader, 65536), b""))
    os.close(reader)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    calls, error = msgspec.json.decode(said, type=tuple[int, str]) if said else (0, "")
    return Outcome(code, calls, error)


def _live(run: Run, writer: int) -> NoReturn:
    told = os.open(run.told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(*words: object) -> None:
        line = " ".join(map(str, words)).encode()
        os.write(told, line + b"\n")
        _SHIM.shim_note(line)

    status, error, strike = 0, "", run.strike
    if run.weakness:
        WEAKNESSES[run.weakness]()
    if run.record:
        _SHIM.shim_record(run.record.encode())
    _SHIM.shim_arm(run.device.encode(), strike.call, strike.mode, strike.error, int(strike.lasts))
    try:
        {**COURSES, **WRONG, "infer": batch_course.infer}[run.course](Path(run.device), tell, run.arguments)
    except StorageError:
        status = REFUSED
    except BaseException as caught:  # noqa: BLE001 - told to the test, which fails
        status, error = 1, repr(caught)
    os.write(writer, msgspec.json.encode((_SHIM.shim_calls(), error)))
    os._exit(status)


if __name__ == "__main__":
    main()
