"""What can happen to a model on a device, and what can be done about it: the words of the update machine.

Events and actions are data. ``updater`` says which follows from which; ``app`` carries actions out.
"""

from dataclasses import dataclass
from typing import Literal

from muster_agent.update.state import ModelState
from muster_models.errors import Reason
from muster_models.wire import DesiredModel, Shadow

EventKind = Literal[
    "refused", "installed", "activated", "committed", "rolled-back", "failed", "crashed", "dropped"
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        now: Seconds of a clock that does not jump while the agent runs.
        jitter: A random share, 0..1, that keeps a fleet from retrying in step.
    """

    now: float
    jitter: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Wanted(Event):
    """A desired state that was verified names this version.

    Attributes:
        delay: Seconds to wait before the download, so that a fleet does not start at once.
    """

    model: DesiredModel
    sequence: int
    delay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Unwanted(Event):
    """A desired state that was verified does not name the model any more."""

    sequence: int


@dataclass(frozen=True, kw_only=True)
class About(Event):
    """Something that happened to one version."""

    digest: str


class Downloaded(About):
    """The manifest is trusted and every file is on the disk."""


@dataclass(frozen=True, kw_only=True)
class DownloadFailed(About):
    """The version did not get onto the disk."""

    reason: Reason
    detail: str = ""
    retryable: bool = True


class Verified(About):
    """Every file was hashed again and is what was signed."""


@dataclass(frozen=True, kw_only=True)
class Refused(About):
    """Trust or fit says no; the same version will not do better later."""

    reason: Reason
    detail: str = ""


class PreflightPassed(About):
    """The version answered its golden vectors in a child process."""


@dataclass(frozen=True, kw_only=True)
class PreflightFailed(About):
    """The version did not pass the trial run in a child process."""

    reason: Reason
    detail: str = ""


class ShadowBegan(About):
    """The version is asked what the current one is asked, and its answers are compared and let go."""


@dataclass(frozen=True, kw_only=True)
class ShadowSkipped(About):
    """The version cannot answer in shadow here, for no fault of its own."""

    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class ShadowFailed(About):
    """The version failed in shadow; the current one goes on undisturbed."""

    reason: Reason
    detail: str = ""


class Activated(About):
    """The version answers."""


@dataclass(frozen=True, kw_only=True)
class ActivationFailed(About):
    """The version could not be made to answer; whatever answered before still does."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerFailed(About):
    """The version that answered does not any more, and restarting its worker did not help."""

    reason: Reason
    detail: str = ""


class Tick(Event):
    """Time passed."""


class RollBackOrdered(Event):
    """Somebody at the device wants the version before."""


class Restarted(Event):
    """The agent started; nothing answers yet and the clock is a new one."""


@dataclass(frozen=True)
class Configure:
    """Hand the settings and the stop order to whatever version answers."""

    settings: tuple[tuple[str, float], ...]
    stop: bool


@dataclass(frozen=True)
class Download:
    """Get the manifest and the missing files; answer Downloaded, DownloadFailed or Refused."""

    digest: str


@dataclass(frozen=True)
class Verify:
    """Hash every file again; answer Verified, DownloadFailed or Refused."""

    digest: str


@dataclass(frozen=True)
class Preflight:
    """Run the version in a child; answer PreflightPassed or PreflightFailed."""

    digest: str


@dataclass(frozen=True)
class BeginShadow:
    """Let the version answer beside the current one, unseen.

    Answer ShadowBegan, ShadowSkipped, ShadowFailed, DownloadFailed or Refused; another shadow ends.
    """

    digest: str
    order: Shadow


@dataclass(frozen=True)
class EndShadow:
    """Let the version go that answers in shadow; nothing happens where there is none."""

    digest: str


@dataclass(frozen=True)
class Activate:
    """Make the version answer, in place of what does now; answer Activated or ActivationFailed.

    Doing so for the version that answers already is no mistake, and has the same answer.
    """

    digest: str


@dataclass(frozen=True)
class Deactivate:
    """Let nothing answer."""


@dataclass(frozen=True)
class Abandon:
    """Stop whatever is being done for the version."""

    digest: str


@dataclass(frozen=True)
class Emit:
    """Put an event into the outbox."""

    kind: EventKind
    digest: str
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """Tell the controller the state of the device."""


@dataclass(frozen=True)
class Collect:
    """Remove the files of versions that no slot names."""


AnyEvent = (
    Wanted
    | Unwanted
    | Downloaded
    | DownloadFailed
    | Verified
    | Refused
    | PreflightPassed
    | PreflightFailed
    | ShadowBegan
    | ShadowSkipped
    | ShadowFailed
    | Activated
    | ActivationFailed
    | WorkerFailed
    | Tick
    | RollBackOrdered
    | Restarted
)
Action = (
    Configure
    | Download
    | Verify
    | Preflight
    | BeginShadow
    | EndShadow
    | Activate
    | Deactivate
    | Abandon
    | Emit
    | Report
    | Collect
)
Step = tuple[ModelState, tuple[Action, ...]]
