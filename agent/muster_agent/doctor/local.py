"""Checks of what is on the device itself; none of them needs a network."""

import importlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from muster_agent import sandbox
from muster_agent.api import Client, socket_of
from muster_agent.disk import RealDisk
from muster_agent.doctor.finding import (
    COMPARE_CLOCKS,
    SECONDS,
    SET_CLOCK,
    Case,
    Finding,
    State,
    enrol_again,
    instant,
    short,
)
from muster_agent.identity import NAMES, certificate_life, tls_context
from muster_agent.store import state_trouble
from muster_models.engine import EngineOptions
from muster_models.errors import MusterError, StorageError
from muster_models.manifest import RuntimeKind
from muster_models.runtime.load import installed
from muster_models.trust import memory

_SPARE = 64 * 1024 * 1024  # bytes: a database that grows, a file that is replaced
_PROBE_SECONDS = 20.0  # to import an engine on a slow machine, and to wake what it drives
_MODULES = {
    "onnxruntime": "onnxruntime",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}


def files(case: Case) -> Iterator[Finding]:
    """Nobody else may read a key, and the agent must be able to write its folder."""
    root, user = case.folder.root, os.geteuid()
    keys = sorted(case.folder.identity.glob("*.key*"))
    missing = [name for name in NAMES if not (case.folder.identity / name).exists()]
    if missing:
        said = f"{case.folder.identity} lacks {' and '.join(missing)}"
        yield Finding("files", "wrong", said, enrol_again(case))
    open_ = [path for path in keys if stat.S_IMODE(path.stat().st_mode) & 0o077]
    others = [path for path in (root, *keys) if path.stat().st_uid != user]
    if open_:
        names = " ".join(map(str, open_))
        yield Finding("files", "wrong", f"others can read {names}", f"chmod 600 {names}")
    if others and user != 0:
        names = " ".join(map(str, others))
        yield Finding(
            "files", "wrong", f"{names} belong to another user", f"run as that user, or: chown {user} {names}"
        )
    if not os.access(root, os.W_OK | os.X_OK):
        yield Finding(
            "files", "wrong", f"{root} cannot be written", "mount it writable, or mend its permissions"
        )
    elif not missing and not open_ and not (others and user != 0):
        yield Finding("files", "good", f"{len(keys)} key for its owner alone, {root} can be written")


def root(case: Case) -> Iterator[Finding]:
    """The root that was pinned at enrolment must be there: without it nothing can be trusted."""
    path = case.folder.pinned_root
    try:
        kind = msgspec.json.decode(path.read_bytes())["signed"]["_type"]
    except FileNotFoundError:
        yield Finding("root", "wrong", f"{path} is missing", enrol_again(case))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        yield Finding("root", "wrong", f"{path} is damaged", enrol_again(case))
    else:
        good = kind == "root"
        said = (
            "what was pinned at enrolment is there" if good else f"{path} is {str(kind)[:40]!r}, not a root"
        )
        yield Finding("root", "good" if good else "wrong", said, "" if good else enrol_again(case))


def state(case: Case) -> Iterator[Finding]:
    """What the device knows about its versions must be readable."""
    trouble = state_trouble(RealDisk(case.folder.store)) if case.folder.store.exists() else ""
    fix = "let the agent run: the controller orders anew what belongs here; then look after the disk (dmesg)"
    said = trouble or "what the device knows about its versions can be read"
    yield Finding("state", "wrong" if trouble else "good", said, fix if trouble else "")


def disk(case: Case) -> Iterator[Finding]:
    """There must be room for what waits, and for a version beside the one that runs."""
    usage = shutil.disk_usage(case.folder.root)
    needed = case.settings.outbox_bytes + _SPARE
    state: State = "wrong" if usage.free < _SPARE else "notice" if usage.free < needed else "good"
    fix = f"free {_megabytes(needed - usage.free)} there, or lower outbox_bytes in agent.toml"
    yield Finding(
        "disk",
        state,
        f"{_megabytes(usage.free)} free of {_megabytes(usage.total)}, {_megabytes(needed)} are wanted",
        "" if state == "good" else fix,
    )


def clock(case: Case) -> Iterator[Finding]:
    """The clock must not lie before what was signed, and should agree with the controller's."""
    now, floor = case.clock(), memory.load(case.folder.trust / "memory").time_floor
    if now < floor:
        yield Finding(
            "clock",
            "wrong",
            f"it says {instant(now)}, and something was signed at {instant(floor)}",
            SET_CLOCK,
        )
    else:
        yield Finding("clock", "good", "it does not lie before anything that was signed")


def certificate(case: Case) -> Iterator[Finding]:
    """The certificate must be valid, and is renewed at two thirds of its life."""
    try:
        tls_context(case.folder)
    except StorageError as error:
        yield Finding("certificate", "wrong", str(error), enrol_again(case))
        return
    due, end = (moment.timestamp() for moment in certificate_life(case.folder))
    now = case.clock()
    if now >= end:
        yield Finding(
            "certificate",
            "wrong",
            f"it ended at {instant(end)}, and this clock says {instant(now)}",
            COMPARE_CLOCKS + enrol_again(case),
        )
    elif now >= due:
        said = f"it ends at {instant(end)}, and should have been renewed at {instant(due)}"
        yield Finding("certificate", "notice", said, "let the agent run while the controller can be reached")
    else:
        yield Finding(
            "certificate", "good", f"it ends at {instant(end)} and is renewed from {instant(due)} on"
        )


def isolation(case: Case) -> Iterator[Finding]:
    """Models should run confined."""
    level = sandbox.level()
    if case.settings.isolation == "inline":
        said = "models run inside the agent, by agent.toml"
        yield Finding("sandbox", "notice", said, 'isolation = "process", unless an application needs it so')
    elif level is not sandbox.Level.LANDLOCK:
        fix = "a kernel of 5.13 or newer with landlock in its lsm= list"
        yield Finding("sandbox", "notice", f"{level}: models could read files of the agent's user", fix)
    else:
        yield Finding("sandbox", "good", f"models run in processes of their own under {level}")


def runtimes(case: Case) -> Iterator[Finding]:
    """An engine must be there and load, and what the device asks of it should be had."""
    engines = installed()
    if not engines:
        yield Finding(
            "runtimes", "wrong", "no engine is installed", "pip install 'muster-fleet[onnx]' or '[tflite]'"
        )
    for kind, engine in engines.items():
        name = engine.partition(" ")[0]
        try:
            importlib.import_module(_MODULES[name])
        except Exception as error:  # noqa: BLE001 - an engine may fail in its own way
            yield Finding(
                "runtimes",
                "wrong",
                f"{engine} does not load: {short(error)}",
                f"pip install --force-reinstall {name}",
            )
        else:
            yield Finding("runtimes", "good", f"{engine} loads, for {kind}")
            yield from _accelerators(kind, case.settings.engine)


def _accelerators(kind: RuntimeKind, options: EngineOptions) -> Iterator[Finding]:
    """What ``agent.toml`` asks for beside the CPU must be there."""
    if not options.accelerates(kind):
        return
    key = "onnx_providers" if kind == "onnx" else "tflite_delegates"
    wanted = ", ".join(getattr(options, key))
    fix = f"install what is named, or take it out of {key} in agent.toml; until then the CPU answers"
    lacking = _lacking(kind, options, wanted)
    for what in lacking:
        yield Finding("runtimes", "notice", what, fix)
    if not lacking:
        yield Finding("runtimes", "good", f"{wanted} can be had, for {kind}")


def _lacking(kind: RuntimeKind, options: EngineOptions, wanted: str) -> list[str]:
    """Ask in a process of its own what cannot be had: a driver may end it."""
    command = [
        sys.executable,
        "-m",
        "muster_models.runtime.probe",
        kind,
        msgspec.json.encode(options).decode(),
    ]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, env=environment, capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"asking for {wanted} took more than {_PROBE_SECONDS:g} s"]
    if done.returncode != 0:
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
        return [f"asking for {wanted} ended its process ({how})"]
    return msgspec.json.decode(done.stdout, type=list[str])


def agent(case: Case) -> Iterator[Finding]:
    """An agent should run, and answer on its socket."""
    path = socket_of(case.folder.root)
    if not path.exists():
        fix = f"start it: systemctl start muster-agent@NAME, or muster-agent run {case.folder.root}"
        yield Finding("agent", "notice", f"none runs: {path} is not there", fix)
        return
    try:
        with Client(path, seconds=SECONDS) as client:
            models = client.models()
    except MusterError as error:
        fix = "restart it; if this user may not connect, run doctor as the agent's user or in its group"
        yield Finding("agent", "wrong", str(error), fix)
        return
    yield Finding("agent", "good", f"it answers for {', '.join(sorted(models)) or 'no model yet'}")


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"
