"""A baseline of what the fleet sketched first, for the version that comes next."""

import base64
import datetime as dt
from dataclasses import dataclass

from muster_controller.service.context import Context
from muster_controller.service.versions import resolve
from muster_controller.store import windows
from muster_controller.store.windows import StoredWindow
from muster_models.errors import ConflictError, MusterError, SketchError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.codec import decode_all
from muster_models.sketch.fleet import of_fleet
from muster_models.sketch.window import Sketch, empty, merge

MAX_WINDOWS = 20_000
AT_ONCE = 500
FEW_DEVICES = 3


@dataclass(frozen=True)
class BootstrapView:
    """A baseline of the fleet.

    Attributes:
        baseline: Its bytes, in base64.
        before: SHA-256 of the baseline over which the windows were sketched.
        start, end: Of the windows, by the devices' clocks.
        limits: What it cannot say.
    """

    model: str
    version: str
    baseline: str
    before: str
    devices: int
    windows: int
    rows: int
    start: dt.datetime
    end: dt.datetime
    limits: tuple[str, ...]


def bootstrap(context: Context, name: str, *, per_device: int) -> BootstrapView:
    """Merge the first windows of a version, so many of each device, into a baseline.

    Raises:
        NotFoundError: No such version.
        ConflictError: There are no windows of it yet, or too few rows in them.
    """
    with context.reading() as session:
        release = resolve(session, name)
        sha256 = release.manifest.file("baseline").sha256
        found = windows.first(
            session, release.digest, release.manifest.model, sha256, each=per_device, limit=MAX_WINDOWS
        )
    if not found:
        raise ConflictError(f"no device has sent a window of {release.manifest.name} with rows yet")
    before = context.sketches.baseline(sha256)
    try:
        made = of_fleet(_merged(found, before), before)
    except SketchError as error:
        raise ConflictError(f"{release.manifest.name}: {error}; ask again later") from error
    devices = {window.device for window in found}
    few = (f"of {len(devices)} devices alone: another device may be peculiar in other ways",)
    return BootstrapView(
        model=release.manifest.model,
        version=release.manifest.name,
        baseline=base64.b64encode(made.baseline.encode()).decode(),
        before=sha256,
        devices=len(devices),
        windows=len(found),
        rows=sum(window.rows for window in found),
        start=_moment(min(window.start for window in found)),
        end=_moment(max(window.end for window in found)),
        limits=(*made.limits, *(few if len(devices) < FEW_DEVICES else ())),
    )


def _merged(found: list[StoredWindow], baseline: Baseline) -> Sketch:
    total = empty(baseline)
    for first in range(0, len(found), AT_ONCE):
        for sketch in decode_all([one.sketch for one in found[first : first + AT_ONCE]], baseline):
            if isinstance(sketch, MusterError):
                raise sketch
            total = merge(total, sketch)
    return total


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
