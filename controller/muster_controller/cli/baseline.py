"""``muster baseline``: what the sketches of a version are compared with."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli import patches
from muster_controller.cli.connection import Api, Connection, unarmour
from muster_controller.cli.output import note, write_fields, write_json, write_section
from muster_models.errors import ConflictError, NotFoundError, RequestError

if TYPE_CHECKING:
    from muster_models.manifest import Manifest
    from muster_models.publish.baselines import Declared, Distance
    from muster_models.runtime import Runtime
    from muster_models.sketch.baseline import Baseline

app = App(name="baseline", help="What the sketches of a version are compared with.")
HERE = Connection()
ORIGINS = {
    "reference": "reference rows",
    "declared": "declared ranges alone: provisional",
    "fleet": "windows of the fleet: drift is relative to those",
}
COLUMNS = {
    "column": "name",
    "kind": "kind",
    "rows": "rows",
    "bins": "bins",
    "mean": "mean",
    "sd": "sd",
    "missing": "missing",
    "lag": "lag",
    "unit": "unit",
}
To = Annotated[
    Path | None, Parameter(help="Where it is written; MODEL.baseline in this folder otherwise.", negative="")
]


@app.command(name="make")
def make(
    data: Annotated[Path, Parameter(name="DATA", help=".parquet, .csv, .npy or .npz: one row per call.")],
    /,
    *,
    model: Annotated[
        str, Parameter(help="A source folder, or MODEL or MODEL@VERSION that was released; it answers.")
    ],
    to: To = None,
    connection: Connection = HERE,
) -> None:
    """Measure a baseline on reference rows: the model answers them, and rows and answers are binned.

    The file goes beside a version's model file, where model.toml names it: baseline = "FILE".
    """
    from muster_models.publish.baselines import make_reference  # noqa: PLC0415 - imports the engines
    from muster_models.publish.reference_file import read_reference  # noqa: PLC0415 - as above

    with _answering(model, connection) as answering:
        rows = read_reference(data, answering.runtime.inputs, answering.declared.features)
        made = make_reference(answering.runtime, answering.declared, rows.inputs)
    path = _write(made, to or Path(f"{answering.name}.baseline"))
    told = {
        **describe(made),
        "file": str(path),
        "data": str(data),
        "data_sha256": _sha256(data),
        "rows": len(rows),
        "left_out": list(rows.unused),
    }
    _show(told, connection)


@app.command(name="show")
def show(
    file: Annotated[Path, Parameter(name="FILE", help="A file of 'muster baseline make'.")],
    /,
    *,
    connection: Connection = HERE,
) -> None:
    """Show what a baseline holds."""
    from muster_models.publish.baselines import read_baseline  # noqa: PLC0415 - imports the engines

    _show({**describe(read_baseline(file)), "file": str(file)}, connection)


@app.command(name="bootstrap")
def bootstrap(
    name: Annotated[str, Parameter(name="VERSION", help="MODEL@VERSION whose windows are merged.")],
    /,
    *,
    windows: Annotated[int, Parameter(help="Of each device, so many of its first windows.")] = 24,
    to: To = None,
    connection: Connection = HERE,
) -> None:
    """Make a baseline of the fleet's first windows of a version, for the version that comes next.

    Drift is then relative to those windows: what was wrong in them is what the baseline calls usual.
    """
    from muster_models.sketch.baseline import decode_baseline  # noqa: PLC0415 - with the engines

    with connection.open() as api:
        told = api.get(f"/versions/{name}/bootstrap", {"windows": windows})
    made = decode_baseline(unarmour(told.pop("baseline")))
    path = _write(made, to or Path(f"{told['model']}.baseline"))
    for limit in told["limits"]:
        note(limit)
    _show({**describe(made), **told, "file": str(path)}, connection)


def describe(baseline: "Baseline") -> dict[str, Any]:
    """Return a baseline for people: what it is named, of what it was made, and its columns."""
    columns = [
        {
            "name": column.name,
            "kind": column.kind,
            "rows": column.rows,
            "bins": column.bins,
            "mean": None if column.kind in {"category", "class"} else column.mean,
            "sd": None if column.kind in {"category", "class"} else column.sd,
            "missing": column.counts[-1] / column.rows,
            "lag": column.lag,
            "unit": column.unit,
        }
        for column in baseline.columns
    ]
    return {
        "sha256": baseline.digest,
        "bytes": len(baseline.encode()),
        "origin": baseline.origin,
        "pairs": 0 if baseline.pairs is None else len(baseline.pairs.pairs),
        "columns": columns,
    }


def fetch(api: Api, name: str) -> "Baseline":
    """Return the baseline of a released version.

    Raises:
        NotFoundError: There is no such version.
    """
    from muster_models.sketch.baseline import decode_baseline  # noqa: PLC0415 - with the engines

    return decode_baseline(patches.content(api, _manifest(api, name).file("baseline").sha256))


def note_distances(distances: "Sequence[Distance]") -> None:
    """Say on stderr how far the evaluation set lies from a baseline that was not made of it."""
    if not distances:
        return
    note("the evaluation set against the baseline, which was made of other rows:")
    width = max(len(one.name) for one in distances)
    for one in distances:
        note(f"  {one.name.ljust(width)}  psi {one.psi:.3f}  ks {one.ks:.3f}  chi2 {one.chi2:.2f}")


@dataclass(frozen=True)
class _Answering:
    name: str
    runtime: "Runtime"
    declared: "Declared"


@contextlib.contextmanager
def _answering(model: str, connection: Connection) -> Iterator[_Answering]:
    """Load a model from its source folder, or from the controller."""
    from muster_models.publish.source import DECLARATION  # noqa: PLC0415 - imports the engines

    if (Path(model) / DECLARATION).is_file():
        with _of_folder(Path(model)) as answering:
            yield answering
        return
    if "/" in model or Path(model).is_dir():
        raise NotFoundError(f"{model}: expected a folder with {DECLARATION}, or the name of a model")
    with tempfile.TemporaryDirectory() as work, _released(model, connection, Path(work)) as answering:
        yield answering


@contextlib.contextmanager
def _of_folder(folder: Path) -> Iterator[_Answering]:
    from muster_models.manifest import labels_of  # noqa: PLC0415 - imports the engines
    from muster_models.publish.baselines import Declared  # noqa: PLC0415 - as above
    from muster_models.publish.gate import inspect  # noqa: PLC0415 - as above
    from muster_models.publish.source import read_declaration  # noqa: PLC0415 - as above
    from muster_models.runtime import load  # noqa: PLC0415 - as above

    declared = read_declaration(folder)
    inspect(declared.runtime, folder / declared.file, names=frozenset({declared.file, *declared.weights}))
    runtime = load(declared.runtime, folder / declared.file, labels=labels_of(declared.prediction))
    try:
        wanted = Declared(declared.features, declared.prediction, declared.pairs)
        yield _Answering(declared.model, runtime, wanted)
    finally:
        runtime.close()


@contextlib.contextmanager
def _released(model: str, connection: Connection, work: Path) -> Iterator[_Answering]:
    from muster_models.manifest import labels_of  # noqa: PLC0415 - imports the engines
    from muster_models.publish.baselines import Declared  # noqa: PLC0415 - as above
    from muster_models.runtime import load  # noqa: PLC0415 - as above
    from muster_models.sketch.baseline import decode_baseline  # noqa: PLC0415 - as above

    with connection.open() as api:
        manifest = _manifest(api, model)
        for entry in manifest.files:
            if entry.role in {"model", "weights"}:
                (work / entry.name).write_bytes(patches.content(api, entry.sha256))
        before = decode_baseline(patches.content(api, manifest.file("baseline").sha256))
    path = work / manifest.file("model").name
    runtime = load(manifest.runtime, path, labels=labels_of(manifest.prediction))
    try:
        yield _Answering(
            manifest.model, runtime, Declared(manifest.features, manifest.prediction, _paired(before))
        )
    finally:
        runtime.close()


def _paired(baseline: "Baseline") -> list[tuple[str, str]]:
    if baseline.pairs is None:
        return []
    names = [baseline.columns[paired.column].name for paired in baseline.pairs.columns]
    return [(names[pair.first], names[pair.second]) for pair in baseline.pairs.pairs]


def _manifest(api: Api, name: str) -> "Manifest":
    from muster_models import manifest as manifests  # noqa: PLC0415 - with the engines

    if "@" not in name:
        releases = [one for one in api.items("/versions", {"model": name}) if one["withdrawn_at"] is None]
        if not releases:
            raise NotFoundError(f"no listed version of {name!r}, and no such folder")
        name = str(max(releases, key=lambda one: int(one["release"]))["digest"])
    digest = api.get(f"/versions/{name}")["version"]["digest"]
    return manifests.parse(patches.content(api, digest))


def _write(baseline: "Baseline", path: Path) -> Path:
    try:
        with path.open("xb") as file:
            file.write(baseline.encode())
    except FileExistsError as error:
        raise ConflictError(f"{path}: is there already; name another file with --to") from error
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from error
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _show(told: dict[str, Any], connection: Connection) -> None:
    if connection.output == "json":
        write_json(told)
        return
    said = {**told, "origin": ORIGINS[told["origin"]]}
    fields = {
        "file": "file",
        "sha-256": "sha256",
        "bytes": "bytes",
        "made of": "origin",
        "rows": "rows",
        "devices": "devices",
        "windows": "windows",
        "left out": "left_out",
        "pairs": "pairs",
    }
    write_fields(said, {title: path for title, path in fields.items() if path in said})
    write_section("Columns", said["columns"], COLUMNS)
