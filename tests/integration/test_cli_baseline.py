"""The real ``muster baseline`` and what ``muster publish`` does with its files, against a real controller."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.controller_process import ControllerProcess, Done
from support.sources import DECLARATION, evaluation_rows, write_source


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """One controller for all tests of this file: each test publishes a model of its own."""
    with ControllerProcess(tmp_path_factory.mktemp("baseline")) as running:
        made = running.muster("keys", "init", str(running.folder / "keys"), "--no-passphrase")
        assert made.code == 0, made.err
        yield running


def source(folder: Path, model: str, version: str = "1.0.0", *, more: str = "", rows: int = 200) -> Path:
    text = DECLARATION.replace('"toy"', f'"{model}"').replace('"1.0.0"', f'"{version}"')
    return write_source(folder / version, declaration=more + text, arrays=evaluation_rows(rows))


def publish(controller: ControllerProcess, folder: Path, *options: str) -> Done:
    keys = str(controller.folder / "keys")
    return controller.muster("publish", str(folder), "--keys", keys, "-o", "json", *options)


def baseline_of(done: Done) -> str:
    assert done.code == 0, done.err
    detail: dict[str, Any] = json.loads(done.out)
    files = detail["manifest"]["files"]
    return str(next(file["sha256"] for file in files if file["role"] == "baseline"))


def write_csv(path: Path, rows: int = 600) -> Path:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["time", "first", "x[1]"])
        values = np.random.default_rng(9).normal(size=(rows, 2))
        lines.writerows([at, *row] for at, row in enumerate(values.tolist()))
    return path


def test_a_table_makes_a_baseline_that_a_version_then_ships(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    folder = source(tmp_path, "table", more='baseline = "reference.baseline"\n')

    made = controller.muster(
        "baseline",
        "make",
        str(write_csv(tmp_path / "rows.csv")),
        "--model",
        str(folder),
        "--to",
        str(folder / "reference.baseline"),
        "-o",
        "json",
    )

    assert made.code == 0, made.err
    told = json.loads(made.out)
    assert (told["rows"], told["left_out"], told["origin"]) == (600, ["time"], "reference")
    assert [column["name"] for column in told["columns"]] == [
        "first",
        "prediction:confidence",
        "prediction:class",
    ]
    published = publish(controller, folder)
    assert baseline_of(published) == told["sha256"]
    assert "the evaluation set against the baseline" in published.err
    shown = controller.muster("baseline", "show", str(folder / "reference.baseline"))
    assert told["sha256"] in shown.out
    assert "reference rows" in shown.out


def test_a_candidate_keeps_the_incumbents_baseline_so_that_both_can_be_compared(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    incumbent = baseline_of(publish(controller, source(tmp_path, "kept")))
    candidate = source(tmp_path, "kept", "1.1.0", rows=300)
    changed = source(tmp_path, "kept", "1.2.0").rename(tmp_path / "changed")
    text = (changed / "model.toml").read_text().replace('"first"', '"second"')
    (changed / "model.toml").write_text(text)

    kept = publish(controller, candidate, "--baseline-of", "kept@1.0.0")
    refused = publish(controller, changed, "--baseline-of", "kept@1.0.0")

    assert baseline_of(kept) == incumbent
    assert json.loads(kept.out)["distances"][0]["name"] == "first"
    assert refused.code != 0
    assert "expected the columns ['second'" in refused.err


def test_a_released_model_answers_reference_rows_without_its_source_folder(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    published = baseline_of(publish(controller, source(tmp_path, "released")))
    np.savez(tmp_path / "rows.npz", allow_pickle=False, **evaluation_rows(200))

    made = controller.muster(
        "baseline",
        "make",
        str(tmp_path / "rows.npz"),
        "--model",
        "released",
        "--to",
        str(tmp_path / "a.baseline"),
        "-o",
        "json",
    )
    again = controller.muster(
        "baseline",
        "make",
        str(tmp_path / "rows.npz"),
        "--model",
        "released",
        "--to",
        str(tmp_path / "a.baseline"),
    )

    assert json.loads(made.out)["sha256"] == published
    assert again.code == 5
    assert "is there already; name another file with --to" in again.err


def test_without_reference_rows_a_version_is_published_with_a_provisional_baseline_that_says_so(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    folder = source(tmp_path, "young")

    refused = publish(controller, folder, "--bootstrap")
    with (folder / "model.toml").open("a") as file:
        file.write('[[ranges]]\nfeature = "first"\nminimum = -6.0\nmaximum = 6.0\n')
    published = publish(controller, folder, "--bootstrap")
    early = controller.muster("baseline", "bootstrap", "young@1.0.0")

    assert "a provisional baseline needs [[ranges]]" in refused.err
    assert baseline_of(published)
    shown = controller.muster("drift", "show", "young", "-o", "json")
    assert json.loads(shown.out)["origin"] == "declared"
    assert "declared ranges alone" in controller.muster("drift", "show", "young").out
    assert early.code == 5
    assert "no device has sent a window of young@1.0.0" in early.err


def test_a_model_that_is_neither_a_folder_nor_released_is_said(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    rows = write_csv(tmp_path / "rows.csv", 3)

    gone = controller.muster("baseline", "make", str(rows), "--model", "nobody")
    empty = controller.muster("baseline", "make", str(rows), "--model", str(tmp_path))

    assert "no listed version of 'nobody'" in gone.err
    assert "expected a folder with model.toml, or the name of a model" in empty.err
