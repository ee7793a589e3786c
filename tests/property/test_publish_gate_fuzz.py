"""Whatever bytes it is given, the gate accepts them or says why not, and soon."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muster_models.errors import ModelFileError
from muster_models.manifest import RuntimeKind
from muster_models.publish.gate import inspect
from support.fixtures import ROOT
from support.mutation import mutate
from support.tflite_models import File, Operator, loop, with_operators

SECONDS = 2.0
FILES: dict[RuntimeKind, list[bytes]] = {
    "onnx": [path.read_bytes() for path in sorted(ROOT.glob("models/zoo/*/*/*.onnx"))],
    "tflite": [
        *(path.read_bytes() for path in sorted(ROOT.glob("models/zoo/*/*/*.tflite"))),
        File().encode(),
        with_operators(Operator(options=loop(0, 0))).encode(),
    ],
}


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@given(seed=st.integers(0, 2**32))
@settings(
    max_examples=400,
    deadline=SECONDS * 1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_damaged_model_file_is_accepted_or_refused_and_nothing_else(
    kind: RuntimeKind, seed: int, tmp_path: Path
) -> None:
    path, chance = tmp_path / f"model.{kind}", random.Random(seed)
    path.write_bytes(mutate(chance.choice(FILES[kind]), chance))
    try:
        inspect(kind, path, names=frozenset({path.name}))
    except ModelFileError as refused:
        message = str(refused)
    else:
        message = "accepted"

    assert 0 < len(message) < 2_000


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@given(data=st.binary(max_size=400))
@settings(deadline=SECONDS * 1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_refused(kind: RuntimeKind, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model.{kind}"
    path.write_bytes(data)

    with pytest.raises(ModelFileError):
        inspect(kind, path, names=frozenset({path.name}))


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_model_file_is_refused_wherever_it_is_cut(kind: RuntimeKind, tmp_path: Path) -> None:
    """The last bytes count as much as the first ones; only the last four may be padding."""
    data = min(FILES[kind], key=len)
    path = tmp_path / f"model.{kind}"
    for length in range(len(data) - 4):
        path.write_bytes(data[:length])

        with pytest.raises(ModelFileError):
            inspect(kind, path, names=frozenset({path.name}))
