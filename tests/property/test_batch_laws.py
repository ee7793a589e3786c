"""Laws of batch work: rows are read as they were written, from any row on; damage is one kind of error."""

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from muster_agent.api import TensorDescription
from muster_agent.batch.parts import Job, open_parts
from muster_agent.batch.run import open_source
from muster_models.errors import InvalidInputError
from support.verified import Array

INPUTS = (TensorDescription("x", "FP32", (-1, 2)), TensorDescription("t", "BYTES", (-1,)))
PICTURE = (TensorDescription("picture", "FP32", (-1, 1, 2, 3)),)
X = np.arange(12, dtype=np.float32).reshape(6, 2)
TEXTS = np.array(["a", "bc", "", "d", "é", "f"])
_npz = io.BytesIO()
np.savez_compressed(_npz, x=X, t=TEXTS)
_npy = io.BytesIO()
np.save(_npy, X)
CSV = "x[0],x[1],t\n" + "".join(f"{a:g},{b:g},{t}\n" for (a, b), t in zip(X.tolist(), TEXTS, strict=True))
GOOD = {
    "rows.npz": (_npz.getvalue(), INPUTS),
    "rows.npy": (_npy.getvalue(), INPUTS[:1]),
    "rows.csv": (CSV.encode(), INPUTS),
    "images/a.pgm": (b"P5\n# c\n3 2\n255\n" + bytes(6), PICTURE),
}


@contextmanager
def written(name: str, content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        yield path.parent if name.startswith("images") else path


def read(
    path: Path, inputs: tuple[TensorDescription, ...], start: int = 0, size: int = 4
) -> dict[str, Array]:
    batches = [batch.inputs for batch in open_source(path, inputs).read(start, size)]
    return (
        {tensor.name: np.concatenate([batch[tensor.name] for batch in batches]) for tensor in inputs}
        if batches
        else {}
    )


@given(st.sampled_from(["rows.npz", "rows.csv"]), st.integers(0, 5), st.integers(1, 8))
def test_rows_are_read_from_any_row_on_in_batches_of_any_size(name: str, start: int, size: int) -> None:
    content, inputs = GOOD[name]
    with written(name, content) as path:
        found = read(path, inputs, start, size)

    assert np.array_equal(found["x"], X[start:])
    assert found["t"].tolist() == TEXTS[start:].tolist()


@example("rows.npy", [(0.375, 0)], 1.0)  # ends numpy's header in the middle of a line
@given(
    st.sampled_from(sorted(GOOD)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_a_damaged_file_is_read_or_refused(name: str, damage: list[tuple[float, int]], kept: float) -> None:
    content, inputs = GOOD[name]
    damaged = bytearray(content)
    for place, value in damage:
        damaged[int(place * (len(damaged) - 1))] = value
    length = len(damaged) if kept > 0.5 else int(kept * 2 * len(damaged))
    with written(name, bytes(damaged[:length])) as path:
        try:
            found = read(path, inputs)
        except InvalidInputError:
            return

    assert all(len(array) <= len(content) for array in found.values())


@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=200))
def test_bytes_that_are_no_rows_are_refused_or_have_none(name: str, content: bytes) -> None:
    with written(name, content) as path:
        try:
            found = read(path, GOOD[name][1])
        except InvalidInputError:
            return

    assert found == {} or name == "rows.csv"


OUTPUTS = st.integers(0, 5).flatmap(
    lambda rows: st.fixed_dictionaries(
        {
            "y": st.lists(
                st.lists(st.floats(width=32), min_size=2, max_size=2), min_size=rows, max_size=rows
            ).map(lambda values: np.array(values, np.float32).reshape(-1, 2)),
            "t": st.lists(st.text(max_size=5), min_size=rows, max_size=rows).map(
                lambda values: np.array(values, object)
            ),
        }
    )
)


@given(st.lists(OUTPUTS, max_size=5), st.integers(0, 5), st.binary(max_size=9), st.integers(1, 4))
def test_what_was_saved_is_there_again_whatever_was_torn_behind_it(
    batches: list[Mapping[str, Array]], saved: int, torn: bytes, size: int
) -> None:
    job = Job("x", 1, 1, "digits", "1.0.0")
    with tempfile.TemporaryDirectory() as folder:
        with open_parts(Path(folder), job) as parts:
            for number, outputs in enumerate(batches):
                if number == saved:
                    parts.save()
                parts.append(outputs, rows=len(outputs["y"]))
            if saved >= len(batches):
                parts.save()
        for path in Path(folder).glob("*.part"):
            with path.open("ab") as file:
                file.write(torn)
        with open_parts(Path(folder), job) as parts:
            held = list(parts.read(size))
            rows = parts.rows
    expected = batches[:saved]

    assert rows == sum(len(outputs["y"]) for outputs in expected)
    for name in ("y", "t"):
        found = [value for outputs in held for value in outputs[name].tolist()]
        wanted = [value for outputs in expected for value in outputs[name].tolist()]
        assert repr(found) == repr(wanted)
