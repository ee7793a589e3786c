"""A controller whose devices may be asked for rows, and one that hands them out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from muster_controller.store import samples, versions
from muster_models.tensors import encode_tensors
from muster_models.wire import Sample
from support.office import Office, open_office


@contextmanager
def open_asked(folder: Path) -> Iterator[Office]:
    """Found a controller with ``digits@1.0.0`` and three devices."""
    made = open_office(folder)
    made.install()
    made.release()
    made.enrol("berlin-1", "berlin-2", "oslo-1")
    yield made
    made.opened.close()


def hand_out(office: Office, number: int, rows: int = 2, sequence: int = 1) -> None:
    """Let ``berlin-1`` send rows of the first version of ``digits``."""
    now = office.clock.now
    inputs = encode_tensors({"image": np.arange(rows, dtype=np.float32).reshape(rows, 1)})
    outputs = encode_tensors({"probabilities": np.full((rows, 2), np.nan, np.float32)})
    with office.context.unit() as session:
        digest = versions.find(session, "digits", "1.0.0").digest
        sample = Sample("berlin-1", 1, sequence, now, number, "digits", digest, rows, inputs, outputs)
        samples.receive(session, sample, now)
