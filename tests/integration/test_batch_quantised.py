"""``muster-agent infer`` for a quantised model: its own steps, or the real numbers that they stand for."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from muster_agent.api import Client, TensorDescription
from muster_agent.batch.run import Wish, open_source, run
from muster_agent.runner import Isolation, Runner, Zygote
from muster_agent.serving.server import Server
from muster_models.errors import InvalidInputError
from muster_models.manifest import Quantisation
from support.quantised import REAL, STEPS, Array, built, laid_out, quantised

QUANTISED = Quantisation((0.25,), (-100,))
ROWS: dict[str, Array] = {"real": REAL, "steps": STEPS}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """An agent's side with a model of one INT8 number, which it answers as it is."""
    folder = tmp_path_factory.mktemp("agent")
    verified = laid_out(built(quantised(folder / "source", STEPS)), folder / "v")
    zygote = Zygote.start()
    runner = Runner(zygote, on_failure=lambda *_: None, isolation=Isolation.INLINE)
    server = Server(runner, folder / "agent.sock")
    runner.activate(verified, folder / "v")
    with Client(folder / "agent.sock") as client:
        yield client
    server.close()
    runner.close()
    zygote.close()


def write_csv(path: Path, values: list[str]) -> Path:
    path.write_text("\n".join(["tensor 0", *values]) + "\n")
    return path


def answers(client: Client, source: Path, rows: int = 256) -> list[int]:
    output = source.with_name("out.csv")
    run(client, Wish(model="toy", source=source, output=output, rows=rows), lambda *_: None)
    with output.open(newline="") as file:
        return [int(float(line[0])) for line in list(csv.reader(file))[1:]]


@pytest.mark.parametrize("kind", list(ROWS))
@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ".parquet"])
def test_steps_and_real_numbers_of_a_file_have_the_same_answers(
    client: Client, tmp_path: Path, kind: str, suffix: str
) -> None:
    rows, path = ROWS[kind], tmp_path / f"rows{suffix}"
    match suffix:
        case ".csv":
            write_csv(path, [str(value) for value in rows[:, 0]])
        case ".npy":
            np.save(path, rows)
        case ".npz":
            np.savez(path, allow_pickle=False, **{"tensor 0": rows})
        case _:
            parquet.write_table(pa.table({"tensor 0": rows[:, 0]}), path)

    assert answers(client, path) == STEPS[:, 0].tolist()


def test_the_whole_file_says_what_its_numbers_are_and_not_one_batch(client: Client, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", ["1", "2", "0.5"])

    assert answers(client, path, rows=1) == [-96, -92, -98]


def test_pixels_are_no_steps_of_a_signed_input(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 255\n" + bytes([0, 100, 200, 255]))
    signed = TensorDescription("x", "INT8", (-1, 2, 2), QUANTISED)

    with pytest.raises(InvalidInputError, match="INT8, which holds no pixels; say --scale"):
        open_source(tmp_path, [signed])

    (batch,) = open_source(tmp_path, [signed], scale=0.5).read(0, 8)
    (raw,) = open_source(tmp_path, [TensorDescription("x", "UINT8", (-1, 2, 2), QUANTISED)]).read(0, 8)

    assert batch.inputs["x"].tolist() == [[[0.0, 50.0], [100.0, 127.5]]]
    assert raw.inputs["x"].tolist() == [[[0, 100], [200, 255]]]
