"""The application of the story: real rows, as each device's instrument sees them, in calls for predictions.

``python -m story.feeder FOLDER``. ``FOLDER/feed.json`` says what each site's instrument does to rows and may
change; ``FOLDER/fed.json`` says how many calls were answered and how many failed.
"""

import importlib.util
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from muster_agent import Client
from muster_models.errors import MusterError
from story.fleet import DEVICES, STATIONS, ZOO

PERIOD_SECONDS = 0.1
BATCH = 25  # rows per call: two hundred and fifty a second and device
Rows = dict[str, NDArray[np.generic]]


@dataclass
class Stream:
    """Endless real rows of one model on one device, and what became of them.

    Attributes:
        failed: Calls without an answer after the first one that was answered.
    """

    device: str
    model: str
    rows: Rows
    client: Client
    chance: np.random.Generator
    calls: int = 0
    answered: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)

    def feed(self, gain: float) -> None:
        """Predict on one batch of rows, each value multiplied by what the instrument does to it."""
        length = len(next(iter(self.rows.values())))
        chosen = self.chance.integers(0, length, BATCH)
        batch = {name: _scaled(values[chosen], gain) for name, values in self.rows.items()}
        try:
            self.client.predict(self.model, batch)
        except MusterError as error:
            # Before its first version arrives a device has nothing to answer with.
            self.failed += self.answered > 0
            if self.answered and len(self.errors) < 5:  # noqa: PLR2004 - the first few explain the rest
                self.errors.append(f"{self.device}/{self.model}: {error}")
        else:
            self.answered += 1
        self.calls += 1


def _scaled(values: NDArray[np.generic], gain: float) -> NDArray[np.generic]:
    return (values.astype(np.float64) * gain).astype(values.dtype)


def load_data(model: str) -> ModuleType:
    """Import ``models/zoo/<model>/data.py``, which reads the real data set from its package."""
    spec = importlib.util.spec_from_file_location(f"zoo_{model}", ZOO / model / "data.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(ZOO / model / "data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_streams(folder: Path) -> list[Stream]:
    """Return a stream for every model that every device of the story runs."""
    rows = {model: load_data(model).rows("live") for model in ("digits", "weather")}
    return [
        Stream(
            device,
            model,
            rows[model],
            Client(folder / "devices" / device),
            np.random.default_rng([seed, index]),
        )
        for seed, device in enumerate(DEVICES)
        for index, model in enumerate(("digits", "weather") if device in STATIONS else ("digits",))
    ]


def gain_of(stream: Stream, feed: dict[str, float]) -> float:
    """Return what the instrument of a stream does to brightness; only images are affected."""
    site = stream.device.rpartition("-")[0]
    return feed.get(site, 1.0) if stream.model == "digits" else 1.0


def main(folder: Path) -> None:
    """Feed until the process is ended."""
    streams = open_streams(folder)
    while True:
        started = time.monotonic()
        feed: dict[str, float] = json.loads((folder / "feed.json").read_text())
        for stream in streams:
            stream.feed(gain_of(stream, feed))
        report(folder, streams)
        time.sleep(max(0.0, PERIOD_SECONDS - (time.monotonic() - started)))


def report(folder: Path, streams: list[Stream]) -> None:
    """Write what was fed so far, in one atomic step."""
    fed = {
        "answered": sum(stream.answered for stream in streams),
        "failed": sum(stream.failed for stream in streams),
        "rows": sum(stream.answered * BATCH for stream in streams),
        "errors": [error for stream in streams for error in stream.errors][:5],
    }
    temporary = folder / "fed.json.new"
    temporary.write_text(json.dumps(fed))
    temporary.rename(folder / "fed.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
