"""Templates and the words they use for times, sizes and states."""

import datetime as dt
import hashlib
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from muster_controller.domain.rollouts.planning.terms import write_share
from muster_controller.web import charts, cost_words, drift_words

STATIC = Path(__file__).parent / "static"
UNKNOWN = "\N{EN DASH}"
LEAST = 1e-12  # e-value that is drawn
MINUTE, HOUR, DAY = 60, 3600, 86_400
TONES = {
    "good": "calm completed committed healthy resolved idle activated installed met delivered done"
    " updated returned",
    "bad": "unhealthy failed rejected rolled-back rolling-back rollback-incomplete firing refused revoked"
    " crashed missed given-up gone",
    "warn": "moved-along inconclusive paused hold pending silent withdrawn stopped aborted dropped waived"
    " acknowledged silenced waiting unknown pending-approval drill incomplete due retrying"
    " unreachable returning",
}
TONE_OF = {word: name for name, words in TONES.items() for word in words.split()}


@cache
def build_id() -> str:
    """Return a name for the present static files, so that browsers may keep them for ever."""
    content = b"".join(path.read_bytes() for path in sorted(STATIC.iterdir()) if path.is_file())
    return hashlib.sha256(content).hexdigest()[:12]


def make_environment(clock: Callable[[], float]) -> Environment:
    """Return the environment of all pages; a name that a page misspells is an error, not an empty cell."""
    environment = Environment(
        loader=PackageLoader("muster_controller.web"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": lambda instant: ago(instant, clock()),
        "since": lambda instant, until: lasting((until or _utc(clock())) - instant),
        "short": lambda digest: (digest or "")[:12],
        "bytes": size,
        "log_share": log_share,
        "log10": lambda value: math.log10(max(value, LEAST)),
        "lasting": lambda seconds: lasting(dt.timedelta(seconds=seconds)),
        "percent": write_share,
        "share": lambda value: UNKNOWN if value is None else f"{value:.0%}",
        "figure": figure,
        "counted": lambda count, word: f"{count:,} {word}{'' if count == 1 else 's'}",
        "shares": lambda counts: [count / max(1, sum(counts)) for count in counts],
        "tone": tone,
        "seconds": lambda value: f"{value:g} s" if value < MINUTE else f"{value / MINUTE:.3g} min",
    }
    environment.globals |= {
        "charts": charts,
        "words": drift_words,
        "cost_words": cost_words,
        "build": build_id(),
    }
    return environment


def tone(word: str) -> str:
    """Return the colour class of a word of state."""
    return TONE_OF.get(word, "")


def ago(instant: dt.datetime | None, now: float) -> str:
    """Say how far an instant lies from ``now`` (Unix seconds)."""
    if instant is None:
        return "never"
    distance = _utc(now) - instant
    return f"in {lasting(-distance)}" if distance < dt.timedelta(0) else f"{lasting(distance)} ago"


def lasting(duration: dt.timedelta) -> str:
    """Say how long a duration is, in one unit."""
    seconds = max(0.0, duration.total_seconds())
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def size(length: int) -> str:
    """Return a number of bytes for people."""
    value = float(length)
    for unit in ("B", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004 - decimal prefixes
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def log_share(value: float, bound: float) -> float:
    """Return how far an e-value has come from 1 towards its bound, on the scale on which evidence adds up."""
    if value <= 1 or bound <= 1:
        return 0.0
    return min(1.0, math.log(value) / math.log(bound))


def figure(value: Any) -> str:
    """Return a number to three digits, and a dash for what is not known."""
    if value is None or value != value:  # noqa: PLR0124 - NaN differs from itself
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
