"""``muster-agent check``: whether a model file, whoever made it, can be run on this device.

The file and what lies beside it are copied into a private folder; a confined child inspects, loads and tries
it. Nothing is signed, installed or kept.
"""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from muster_agent.runner import engines
from muster_agent.runner.job import Job, Verdict, refused
from muster_agent.runner.zygote import Zygote
from muster_models.engine import CPU_ALONE, EngineOptions
from muster_models.errors import ModelFileError, Reason
from muster_models.manifest import Budget, RuntimeKind

ACCEPTED, REFUSED = 0, 1  # exit statuses
MAX_BYTES = 2 * 1024 * 1024 * 1024  # of everything that is copied
MAX_FILES = 1000
# Wider than a version's own: a bare file has declared nothing.
BUDGET = Budget(
    memory_bytes=1024 * 1024 * 1024,
    load_seconds=30.0,
    latency_ms=30_000.0,
    output_bytes=64 * 1024 * 1024,
)
_SUFFIXES: dict[str, RuntimeKind] = {".onnx": "onnx", ".ort": "onnx", ".tflite": "tflite"}
_READERS: dict[RuntimeKind, str] = {"onnx": "onnx", "tflite": "tflite"}
_log = logging.getLogger(__name__)


def main(path: Path, output: Literal["table", "json"] = "table", *, engine: EngineOptions = CPU_ALONE) -> int:
    """Check a model file or a folder with one, say what was found, and return the exit status."""
    zygote = Zygote.start()
    try:
        verdict = check(path, zygote, engine=engine)
    finally:
        zygote.close()
    sys.stdout.write(render(path, verdict, output) + "\n")
    return ACCEPTED if verdict.accepted else REFUSED


def check(
    path: Path, zygote: Zygote, *, budget: Budget = BUDGET, engine: EngineOptions = CPU_ALONE
) -> Verdict:
    """Return whether a model can be run here.

    Args:
        path: A model file, or a folder with one and with what belongs to it: weights in files of their own,
            examples with the answers that are expected.
        zygote: Where the child comes from.
        budget: What the model may use.
        engine: What it is to run on beside the CPU.
    """
    try:
        model = _find_model(path)
        kind = _SUFFIXES[model.suffix]
        with tempfile.TemporaryDirectory(prefix="muster-check-") as place:
            names = _copy(path if path.is_dir() else model, Path(place))
            return engines.preflight(
                zygote,
                Job(
                    kind=kind,
                    folder=place,
                    model=model.name,
                    golden=None,
                    inputs=(),
                    outputs=(),
                    budget=budget,
                    call_seconds=budget.load_seconds,
                    inspect=names if is_inspectable(model, kind) else None,
                    engine=engine,
                ),
            )
    except ModelFileError as error:
        return refused(error.reason, str(error))
    except OSError as error:
        return refused(Reason.STORAGE_FAILED, f"{path}: {error.strerror}")


def render(path: Path, verdict: Verdict, output: Literal["table", "json"]) -> str:
    """Return a verdict for people or for programs."""
    if output == "json":
        return msgspec.json.encode({"path": str(path), **msgspec.to_builtins(verdict)}).decode()
    if not verdict.accepted:
        return f"refused   {path}\n  {verdict.reason}: {verdict.detail}"
    assert verdict.latency_ms is not None
    measured = (
        f"  median call {verdict.latency_ms:.3g} ms, {verdict.peak_bytes / 2**20:.1f} MiB,"
        f" {verdict.seconds:.2f} s in all, confined by {verdict.level}, on {verdict.engine}"
    )
    compared = (
        f"  answers of {verdict.examples} example{'s' if verdict.examples > 1 else ''} are as expected"
        if verdict.examples
        else "  no example was there: that it runs is known, and not what it answers"
    )
    doubts = (*verdict.warnings, *([f"on {verdict.engine}: {verdict.lacking}"] if verdict.lacking else []))
    warnings = (f"  warning: {doubt}" for doubt in doubts)
    return "\n".join((f"accepted  {path}", compared, measured, *warnings))


def _find_model(path: Path) -> Path:
    if not path.is_dir():
        if path.suffix not in _SUFFIXES:
            raise ModelFileError(f"{path.name}: expected a name that ends in {', '.join(_SUFFIXES)}")
        if not path.is_file():
            raise ModelFileError(f"{path}: there is no such file")
        return path
    models = sorted(entry for entry in path.iterdir() if entry.suffix in _SUFFIXES and entry.is_file())
    if len(models) != 1:
        found = ", ".join(model.name for model in models) or "none"
        raise ModelFileError(f"{path}: expected one file of {', '.join(_SUFFIXES)}, found {found}")
    return models[0]


def _copy(source: Path, place: Path) -> tuple[str, ...]:
    """Copy a file, or the plain files of a folder and of its example folders; return the names on top."""
    copied = 0
    for number, path in enumerate(_plain_files(source)):
        copied += path.stat().st_size
        if copied > MAX_BYTES or number >= MAX_FILES:
            raise ModelFileError(
                f"{source}: at most {MAX_BYTES} bytes in {MAX_FILES} files are checked", Reason.TOO_LARGE
            )
        target = place / (path.relative_to(source) if source.is_dir() else path.name)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    return tuple(sorted(entry.name for entry in place.iterdir() if entry.is_file()))


def _plain_files(source: Path) -> Iterator[Path]:
    candidates = (
        sorted((*source.iterdir(), *source.glob("test_data_set_*/*.pb"))) if source.is_dir() else [source]
    )
    # A link may point anywhere, and a device or a pipe has no end.
    yield from (path for path in candidates if path.is_file() and not path.is_symlink())


def is_inspectable(model: Path, kind: RuntimeKind) -> bool:
    """Tell whether the structure of a file can be inspected here before an engine sees it."""
    if model.suffix == ".ort":
        return False  # the engine's own format, which has no reader apart from it
    if find_spec(_READERS[kind]) is None:
        _log.warning("the reader of %s files is not installed: the structure is not inspected", kind)
        return False
    return True
