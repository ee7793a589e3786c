"""What a device says about itself to somebody who stands before it."""

from collections.abc import Mapping

from msgspec import Struct

from muster_agent.config import Folder, Settings
from muster_agent.disk import RealDisk
from muster_agent.identity import certificate_life
from muster_agent.runner import Serving
from muster_agent.spare import is_writable
from muster_agent.store import Store
from muster_agent.update.state import report
from muster_models import __version__
from muster_models.engine import CPU
from muster_models.wire import ModelReport, OutboxStatus, ShadowCounts


class Answering(Struct, frozen=True):
    """What answers for one model at this moment.

    Attributes:
        alive: It can answer.
        stopped: It answers with the declared fallback, by order.
        engine, lacking: What it runs on, and why on nothing better that ``agent.toml`` asks for.
        candidate, shadow: The version that is asked the same in shadow, and what was counted about it since
            it was begun with; None where there is none.
    """

    version: str
    manifest: str
    alive: bool
    stopped: bool
    candidate: str | None = None
    shadow: ShadowCounts | None = None
    engine: str = CPU
    lacking: str = ""


class Status(Struct, frozen=True):
    """The state of one device.

    Attributes:
        running: Whether an agent runs; without one the rest is what the disk says.
        online: Whether it has a session with the broker.
        offline: Why there is no session, as of the last attempt; empty where one stands.
        desired: Sequence of the newest desired state that was accepted; 0 for none.
        answering: By model.
        certificate_ends: RFC 3339.
        read_only: The disk takes nothing: what is there goes on, and nothing is installed.
    """

    device: str
    agent: str
    running: bool
    online: bool
    isolation: str
    desired: int
    models: tuple[ModelReport, ...]
    answering: dict[str, Answering]
    outbox: OutboxStatus | None
    certificate_ends: str
    read_only: bool = False
    offline: str = ""


def answering_of(serving: Mapping[str, Serving]) -> dict[str, Answering]:
    """Return what answers, in the form of a status."""
    return {
        model: Answering(
            each.manifest.version,
            each.digest,
            alive=each.alive,
            stopped=each.stopped,
            candidate=each.shadow.version if each.shadow is not None else None,
            shadow=each.shadow.counts if each.shadow is not None else None,
            engine=each.engine,
            lacking=each.lacking,
        )
        for model, each in serving.items()
    }


def stored_status(folder: Folder, settings: Settings) -> Status:
    """Return what the disk says about a device whose agent does not run.

    Raises:
        StorageError: The disk cannot be read.
    """
    state = Store(RealDisk(folder.store)).load()
    return Status(
        device=settings.device,
        agent=__version__,
        running=False,
        online=False,
        isolation=settings.isolation,
        desired=state.sequence,
        models=tuple(report(model) for model in state.models.values()),
        answering={},
        outbox=None,
        certificate_ends=certificate_life(folder)[1].isoformat(),
        read_only=not is_writable(folder.root),
    )


def _counted(counts: ShadowCounts) -> str:
    share = f"{counts.agreed / counts.rows:.1%} of {counts.rows} rows" if counts.rows else "no row yet"
    return f"agrees on {share}  {counts.calls} calls, {counts.errors} failed, {counts.dropped} not asked"


def render(status: Status) -> str:
    """Return a status as a person reads it."""
    state = ("online" if status.online else "offline") if status.running else "not running"
    lines = [
        f"{status.device}  {state}  agent {status.agent}  isolation {status.isolation}",
        f"desired state {status.desired}  certificate until {status.certificate_ends}",
    ]
    if status.offline:
        lines.append(f"no session: {status.offline}")
    if status.read_only:
        lines.append("the disk is read-only: what is there goes on, and nothing is installed")
    if status.outbox is not None:
        lines.append(f"outbox {status.outbox.waiting} waiting, {status.outbox.bytes} bytes")
    for model in status.models:
        current = model.current.version if model.current is not None else "-"
        previous = model.previous.version if model.previous is not None else "-"
        answer = status.answering.get(model.model)
        words = [
            f"{model.model}  {current}  (before: {previous})",
            str(model.phase),
            *([f"{model.reason}: {model.detail}"] if model.reason is not None else []),
            *(["stopped"] if model.stopped else []),
            *(["not answering"] if status.running and (answer is None or not answer.alive) else []),
        ]
        lines.append("  ".join(words))
        if answer is not None and (answer.lacking or answer.engine != CPU):
            lines.append(f"  on {answer.engine}  {answer.lacking}".rstrip())
        if answer is not None and answer.shadow is not None:
            lines.append(f"  in shadow  {answer.candidate}  {_counted(answer.shadow)}")
    return "\n".join(lines)
