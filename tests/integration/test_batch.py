"""``muster-agent infer``: rows of a file through a running agent into a file that is whole or not there."""

import csv
import io
import json
import re
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from muster_agent.__main__ import main
from muster_agent.api import Client
from muster_agent.batch.run import Meter, Wish, run
from muster_agent.runner import Serving
from muster_agent.serving.server import Server
from muster_models.errors import InvalidInputError, PredictionError, Reason, StorageError
from muster_models.manifest import TensorSpec
from support.manifests import make_manifest
from support.verified import Array

WIDE = make_manifest(
    model="wide",
    inputs=(TensorSpec("x", "float32", (None, 3)),),
    outputs=(TensorSpec("y", "float32", (None, 3)), TensorSpec("label", "str", (None,))),
)
MIXED = make_manifest(
    model="mixed",
    inputs=(
        TensorSpec("n", "int32", (None,)),
        TensorSpec("on", "bool", (None,)),
        TensorSpec("t", "str", (None,)),
    ),
    outputs=(TensorSpec("sum", "int64", (None,)),),
)
IMAGE = make_manifest(
    model="image",
    inputs=(TensorSpec("picture", "float32", (None, 1, 2, 3)),),
    outputs=(TensorSpec("mean", "float32", (None,)),),
)
ONE = make_manifest(
    model="one", inputs=(TensorSpec("x", "float32", (1, 3)),), outputs=(TensorSpec("y", "float32", (1, 3)),)
)
Outputs = dict[str, Array]


class Device:
    """Answers for four models; may be told to fail, and counts what it was asked."""

    def __init__(self) -> None:
        self.version = "1.0.0"
        self.fail_at: float | None = None
        self.largest = 0
        self.rows = 0

    def serving(self) -> Mapping[str, Serving]:
        return {
            each.model: Serving(
                make_manifest(
                    model=each.model, inputs=each.inputs, outputs=each.outputs, version=self.version
                ),
                "f" * 64,
                stopped=False,
                alive=True,
            )
            for each in (WIDE, MIXED, IMAGE, ONE)
        }

    def served(self, model: str) -> Serving | None:
        return self.serving().get(model)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> Outputs:
        first = next(iter(inputs.values()))
        self.largest = max(self.largest, len(first))
        self.rows += len(first)
        match model:
            case "wide":
                if self.fail_at is not None and bool((first == self.fail_at).any()):
                    raise PredictionError(Reason.CRASHED, "as told")
                x = np.asarray(first, np.float32)
                return {
                    "y": x * np.float32(0.1),
                    "label": np.array([f"a,\n{int(row[0])}" for row in x], object),
                }
            case "one":
                return {"y": first}
            case "image":
                return {"mean": np.asarray(first, np.float32).mean(axis=(1, 2, 3))}
            case _:
                lengths = np.array([len(text) for text in inputs["t"].tolist()])
                return {"sum": inputs["n"].astype(np.int64) + inputs["on"].astype(np.int64) * 100 + lengths}


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def agent(device: Device, tmp_path: Path) -> Iterator[Path]:
    server = Server(device, tmp_path / "agent.sock")
    yield server.path
    server.close()


@pytest.fixture
def infer(agent: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def inferring(model: str, source: Path, output: Path, *options: str) -> tuple[int, str, str]:
        status = main(["infer", str(agent), model, "--in", str(source), "--out", str(output), *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return inferring


Infer = Callable[..., tuple[int, str, str]]
X = np.arange(30, dtype=np.float32).reshape(10, 3)


def saved(path: Path, array: Array) -> Path:
    np.save(path, array)
    return path


def test_an_array_becomes_an_archive_of_outputs(infer: Infer, device: Device, tmp_path: Path) -> None:
    status, said, progress = infer(
        "wide", saved(tmp_path / "x.npy", X), tmp_path / "y.npz", "--rows", "4", "-o", "json"
    )
    outputs = np.load(tmp_path / "y.npz")
    summary = json.loads(said)

    assert status == 0
    assert np.array_equal(outputs["y"], X * np.float32(0.1))
    assert outputs["label"].tolist() == [f"a,\n{3 * row}" for row in range(10)]
    assert (summary["model"], summary["version"], summary["rows"], summary["resumed"]) == (
        "wide",
        "1.0.0",
        10,
        0,
    )
    assert "10 of 10 (100%) rows" in progress
    assert device.largest == 4
    assert not (tmp_path / "y.npz.part").exists()


def test_a_table_becomes_a_table(infer: Infer, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text('n,ignored,on,t\n1,x,true,ab\n-2,x,0,\n\n3,x,1,"a,b"\n')
    infer("mixed", table, tmp_path / "out.csv")

    assert (tmp_path / "out.csv").read_text().splitlines() == ["sum", "103", "-2", "106"]


def test_columns_of_a_wide_input_are_taken_by_name_or_in_order(infer: Infer, tmp_path: Path) -> None:
    by_name, in_order = tmp_path / "a.csv", tmp_path / "b.csv"
    by_name.write_text("id,x[2],x[0],x[1]\n7,3,1,2\n")
    in_order.write_text("width,height,depth\n1,2,3\n")
    for table in (by_name, in_order):
        infer("wide", table, table.with_suffix(".out.csv"))
    read = [list(csv.reader(io.StringIO(path.read_text()))) for path in sorted(tmp_path.glob("*.out.csv"))]

    assert (
        read[0] == [["y[0]", "y[1]", "y[2]", "label"], ["0.1", "0.2", "0.3", "a,\n1"]]
        or read[0][1][0] == "0.1"
    )
    assert read[0] == read[1]


@pytest.mark.parametrize("first", ["1,2,3", "0.5,,-7e3", "0,1,nan"])
def test_a_table_whose_first_line_is_a_row_is_refused_and_not_robbed_of_it(
    infer: Infer, tmp_path: Path, first: str
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(f"{first}\n4,5,6\n")
    status, _, said = infer("wide", table, tmp_path / "out.csv")

    assert status == 1
    assert "expected the names of the columns in the first line, got numbers" in said
    assert not (tmp_path / "out.csv").exists()


def test_columns_that_are_counted_have_names(infer: Infer, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("0,1,2\n4,5,6\n")
    infer("wide", table, tmp_path / "out.csv")

    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + 2  # a label has two lines


def test_the_progress_of_a_table_says_how_much_there_is(infer: Infer, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("a,b,c\n" + "1,2,3\n\n" * 5)
    _, _, progress = infer("wide", table, tmp_path / "out.npz", "--rows", "2")

    assert progress.splitlines()[-1].startswith("5 of 5 (100%) rows, ")


def test_an_archive_holds_an_array_for_each_input(infer: Infer, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "rows.npz",
        n=np.arange(5, dtype=np.int64),
        on=np.zeros(5, bool),
        t=np.array(["a", "bcd"] * 2 + [""]),
    )
    infer("mixed", tmp_path / "rows.npz", tmp_path / "out.npy", "--rows", "2")

    assert np.load(tmp_path / "out.npy").tolist() == [1, 4, 3, 6, 4]


def test_a_folder_of_images_is_taken_in_the_order_of_names(infer: Infer, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (2, 1):
        (folder / f"{number}.pgm").write_bytes(b"P5\n# made\n3 2\n255\n" + bytes([51 * number] * 6))
    (folder / "notes.txt").write_text("no image")
    infer("image", folder, tmp_path / "out.csv")

    assert (tmp_path / "out.csv").read_text().splitlines() == ["file,mean", "1.pgm,0.2", "2.pgm,0.4"]


@pytest.mark.parametrize(
    ("head", "values"),
    [(b"P5 3 1 255 ", [0, 51, 102]), (b"P6 1 1 255 ", [255, 51, 0])],
    ids=["grey", "colour"],
)
def test_images_fit_an_input_that_is_a_list_of_as_many_values(
    infer: Infer, tmp_path: Path, head: bytes, values: list[int]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.ppm").write_bytes(head + bytes(values))
    infer("wide", folder, tmp_path / "out.npz", "--scale", "10")
    outputs = np.load(tmp_path / "out.npz")

    assert outputs["y"].tolist() == [[float(value) for value in values]]


def test_images_of_another_size_than_an_input_has_values_are_refused(infer: Infer, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.pgm").write_bytes(b"P5 2 2 255 " + bytes(4))
    status, _, said = infer("wide", folder, tmp_path / "out.npz")

    assert status == 1
    assert "the model takes 3 values, got 2 x 2 pixels: 4 values, in colour 12" in said


def test_a_model_of_a_fixed_batch_is_asked_that_many_at_a_time(
    infer: Infer, device: Device, tmp_path: Path
) -> None:
    infer("one", saved(tmp_path / "x.npy", X), tmp_path / "y.npy")

    assert device.largest == 1
    assert np.array_equal(np.load(tmp_path / "y.npy"), X)


def test_after_a_failure_the_same_command_goes_on_where_it_ended(
    infer: Infer, device: Device, tmp_path: Path
) -> None:
    source, output = saved(tmp_path / "x.npy", X), tmp_path / "y.npz"
    device.fail_at = 18.0
    failed = infer("wide", source, output, "--rows", "2")
    there_was = output.exists()
    device.fail_at, device.rows = None, 0
    again = infer("wide", source, output, "--rows", "2", "-o", "json")

    assert failed[0] == 1
    assert "muster-agent: rows 6 to 7: as told" in failed[2]
    assert not there_was
    assert json.loads(again[1])["resumed"] == 6
    assert device.rows == 4
    assert np.array_equal(np.load(output)["y"], X * np.float32(0.1))


@pytest.mark.parametrize("change", ["version", "source"])
def test_what_another_version_or_another_file_answered_is_not_mixed_in(
    infer: Infer, device: Device, tmp_path: Path, change: str
) -> None:
    source, output = saved(tmp_path / "x.npy", X), tmp_path / "y.npz"
    device.fail_at = 18.0
    infer("wide", source, output, "--rows", "2")
    device.fail_at = None
    if change == "version":
        device.version = "1.0.1"
    else:
        saved(source, np.concatenate([X, X]))
    _, said, _ = infer("wide", source, output, "-o", "json")

    assert json.loads(said)["resumed"] == 0
    assert len(np.load(output)["y"]) == (10 if change == "version" else 20)


def test_a_version_that_changes_meanwhile_ends_the_batch(device: Device, agent: Path, tmp_path: Path) -> None:
    def tell(done: int, _rows: int | None) -> None:
        device.version = "1.0.0" if done < 4 else "1.0.1"

    wish = Wish("wide", saved(tmp_path / "x.npy", X), tmp_path / "y.npz", rows=2)
    with Client(agent) as client, pytest.raises(PredictionError, match=r"version 1\.0\.1 of wide runs here"):
        run(client, wish, tell)

    assert not wish.output.exists()


def test_a_kill_at_any_row_leaves_what_a_repeat_completes(
    device: Device, agent: Path, tmp_path: Path
) -> None:
    source, output = saved(tmp_path / "x.npy", X), tmp_path / "y.csv"
    wish = Wish("wide", source, output, rows=1)
    with Client(agent) as client:
        run(client, wish, lambda *_: None)
        expected = output.read_bytes()
        output.unlink()
        for row in range(10):
            device.fail_at = float(3 * row)
            with pytest.raises(PredictionError):
                run(client, wish, lambda *_: None)
            for part in (tmp_path / "y.csv.part").glob("*.part"):
                with part.open("ab") as file:
                    file.write(b"torn")  # what was written and not yet promised
            assert not output.exists()
        device.fail_at = None
        summary = run(client, wish, lambda *_: None)

    assert (summary.resumed, output.read_bytes()) == (9, expected)


def test_two_commands_do_not_make_the_same_output(agent: Path, tmp_path: Path) -> None:
    wish = Wish("wide", saved(tmp_path / "x.npy", X), tmp_path / "y.csv", rows=1)
    failures: list[Exception] = []

    def second() -> None:
        try:
            with Client(agent) as client:
                run(client, wish, lambda *_: None)
        except StorageError as error:
            failures.append(error)

    def tell(done: int, _rows: int | None) -> None:
        if done == 5:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    with Client(agent) as client:
        run(client, wish, tell)

    assert [str(failure).partition(": ")[2] for failure in failures] == [
        "another command makes the same output"
    ]


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def table(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "t.csv").write_text(text)
        return folder / "t.csv"

    return make


def images(content: bytes, name: str = "a.pgm") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "images").mkdir()
        (folder / "images" / name).write_bytes(content)
        return folder / "images"

    return make


BAD: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "no file": ("wide", lambda folder: folder / "x.npy", "No such file"),
    "no suffix": ("wide", lambda folder: saved(folder / "x.npy", X).rename(folder / "x"), "got no suffix"),
    "a wrong shape": (
        "wide",
        lambda folder: saved(folder / "x.npy", np.zeros((3, 10), "f4")),
        r"expected \[-1, 3\], got \[3, 10\]",
    ),
    "Fortran order": ("wide", lambda folder: saved(folder / "x.npy", np.asfortranarray(X)), "C order"),
    "objects": ("wide", lambda folder: saved(folder / "x.npy", X.astype(object)), "no Python objects"),
    "complex": (
        "wide",
        lambda folder: saved(folder / "x.npy", X.astype(complex)),
        "expected FP32, got complex128",
    ),
    "no numpy file": ("wide", lambda folder: table("PK")(folder).rename(folder / "x.npy"), "numpy's format"),
    "no archive": ("mixed", lambda folder: table("PK")(folder).rename(folder / "x.npz"), "not a zip file"),
    "one array for three": ("mixed", lambda folder: saved(folder / "x.npy", X), "expected a .npz"),
    "an array too few": ("mixed", lambda folder: npz(folder / "x.npz", n=X), "no item named 'on.npy'"),
    "lengths that differ": (
        "mixed",
        lambda folder: npz(folder / "x.npz", n=np.zeros(2, "i4"), on=np.zeros(3, bool), t=np.zeros(2, "U1")),
        "as many rows",
    ),
    "a number too large": (
        "mixed",
        lambda folder: npz(folder / "x.npz", n=np.array([2**40]), on=np.zeros(1, bool), t=np.zeros(1, "U1")),
        "outside INT32",
    ),
    "a missing column": ("mixed", table("n,on\n1,1\n"), "'t'"),
    "a column twice": ("mixed", table("n,on,t,t\n1,1,a,b\n"), "once in the first line"),
    "a short line": ("mixed", table("n,on,t\n1,1\n"), "expected 3 fields"),
    "text for a number": ("mixed", table("n,on,t\none,1,a\n"), "column 'n': expected int32"),
    "a fraction for a whole number": ("mixed", table("n,on,t\n1.5,1,a\n"), "column 'n'"),
    "a wide number": ("mixed", table("n,on,t\n99999999999,1,a\n"), "column 'n'"),
    "no truth": ("mixed", table("n,on,t\n1,maybe,a\n"), "column 'on'"),
    "no rows": ("mixed", table("n,on,t\n"), "expected rows, found none"),
    "nothing": ("mixed", table(""), "got 0 columns"),
    "no images": ("image", images(b"", "a.txt"), "expected images"),
    "an image of another size": ("image", images(b"P5 2 2 255 " + bytes(4)), "takes 3 x 2 pixels, got 2 x 2"),
    "an image that is cut off": (
        "image",
        images(b"P5 3 2 255 " + bytes(5)),
        "expected 6 bytes of pixels, got 5",
    ),
    "images for three inputs": ("mixed", images(b""), "a model of one input"),
    "an unknown model": ("unknown", lambda folder: saved(folder / "x.npy", X), "no version of 'unknown'"),
}


@pytest.mark.parametrize(("model", "make", "said"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused_and_nothing_is_made(
    infer: Infer, tmp_path: Path, model: str, make: Callable[[Path], Path], said: str
) -> None:
    output = tmp_path / "out.csv"
    status, _, error = infer(model, make(tmp_path), output)

    assert status == 1
    assert re.search(said, error)
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("out.txt", "expected .csv, .npy, .npz, .parquet, got .txt"), ("out.npy", "a .npy holds one")],
)
def test_an_output_of_no_known_form_is_refused(infer: Infer, tmp_path: Path, name: str, said: str) -> None:
    status, _, error = infer("wide", saved(tmp_path / "x.npy", X), tmp_path / name)

    assert (status, said in error) == (1, True)


def test_a_parquet_becomes_a_parquet_with_a_row_for_each_row(infer: Infer, tmp_path: Path) -> None:
    parquet.write_table(
        pa.table({f"x[{column}]": X[:, column] for column in range(3)}), tmp_path / "x.parquet"
    )
    status, _, error = infer("wide", tmp_path / "x.parquet", tmp_path / "y.parquet", "--rows", "4")
    infer("wide", saved(tmp_path / "x.npy", X), tmp_path / "y.csv")
    made = parquet.read_table(tmp_path / "y.parquet")
    with (tmp_path / "y.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert status == 0, error
    assert made.column_names == list(rows[0])
    assert made["label"].to_pylist() == [row["label"] for row in rows]
    for name in made.column_names[:-1]:
        assert made[name].to_numpy().astype(str).tolist() == [row[name] for row in rows]


def test_parquet_says_what_it_needs_where_that_is_not_installed(
    infer: Infer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    _, _, read = infer("wide", tmp_path / "x.parquet", tmp_path / "y.csv")
    _, _, written = infer("wide", saved(tmp_path / "x.npy", X), tmp_path / "y.parquet")

    assert "reading .parquet needs pyarrow: pip install pyarrow" in read
    assert "writing .parquet needs pyarrow: pip install pyarrow" in written


def png(pixels: Array) -> bytes:
    """Return an image as a PNG, which only Pillow reads."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + zlib.compress(rows)


def test_a_form_that_needs_pillow_says_so(infer: Infer, tmp_path: Path) -> None:
    _, _, error = infer(
        "image", images(png(np.zeros((2, 3), np.uint8)), "a.png")(tmp_path), tmp_path / "y.csv"
    )

    assert "pip install pillow" in error or "cannot identify image" in error


def test_memory_does_not_grow_with_the_file(agent: Path, device: Device, tmp_path: Path) -> None:
    source = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (200_000, 3))
    source.flush()
    wish = Wish("one", tmp_path / "small.npy", tmp_path / "y.npy")
    saved(wish.source, X)
    wide = Wish("wide", tmp_path / "x.npy", tmp_path / "y.npz", rows=2000)
    with Client(agent) as client:
        run(client, wish, lambda *_: None)
        tracemalloc.start()
        run(client, wide, lambda *_: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert device.rows == 200_010
    assert peak < 3_000_000


def test_a_meter_tells_now_and_then_and_at_the_end() -> None:
    stream, now = io.StringIO(), iter([0.0, 0.0, 1.0, 11.0, 12.0])
    meter = Meter(stream, clock=lambda: next(now))
    for done in (0, 5, 50, 100):
        meter.tell(done, 100)
    meter.close()

    assert stream.getvalue().splitlines() == [
        "0 of 100 (0%) rows, 0 per second",
        "50 of 100 (50%) rows, 5 per second",
        "100 of 100 (100%) rows, 8 per second",
    ]


def test_a_meter_ends_with_how_far_it_came() -> None:
    stream, now = io.StringIO(), iter([0.0, 0.0, 1.0])
    meter = Meter(stream, clock=lambda: next(now))
    meter.tell(0, None)
    meter.tell(7, None)
    meter.close()

    assert stream.getvalue().splitlines() == ["0 rows, 0 per second", "7 rows, 7 per second"]


def test_a_source_of_one_form_is_no_other(agent: Path, tmp_path: Path) -> None:
    with Client(agent) as client, pytest.raises(InvalidInputError):
        run(client, Wish("wide", tmp_path, tmp_path / "y.csv"), lambda *_: None)
