"""A device that hands out rows on order, in the store of a controller."""

import numpy as np

from muster_controller.store import samples, versions
from muster_models.tensors import encode_tensors
from muster_models.wire import Sample
from support.office import Office


def hand_out(office: Office, number: int, rows: int = 2, sequence: int = 1) -> None:
    """Let ``berlin-1`` send rows of the first version of ``digits``."""
    now = office.clock.now
    inputs = encode_tensors({"image": np.arange(rows, dtype=np.float32).reshape(rows, 1)})
    outputs = encode_tensors({"probabilities": np.full((rows, 2), np.nan, np.float32)})
    with office.context.unit() as session:
        digest = versions.find(session, "digits", "1.0.0").digest
        sample = Sample("berlin-1", 1, sequence, now, number, "digits", digest, rows, inputs, outputs)
        samples.receive(session, sample, now)
