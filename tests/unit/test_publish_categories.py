"""A version with categories and pairs: from its source folder to a window of its recorder."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from muster_agent.measure.recorder import Recorder
from muster_models.errors import ManifestError
from muster_models.manifest import FeatureSpec
from muster_models.publish import Built, build, read_source
from muster_models.runtime import load
from muster_models.sketch import codec
from muster_models.sketch.baseline import Baseline, decode_baseline
from muster_models.sketch.correlation import correlation_z, pair_names, reference_correlations
from muster_models.wire import Reporting
from support.category_model import DECLARATION, trips, write_tariff

Array = NDArray[np.generic]
CREATED = "2026-01-01T00:00:00Z"


def built(folder: Path, **changes: str) -> Built:
    declaration = DECLARATION
    for old, new in changes.items():
        declaration = declaration.replace(old, new)
    source = read_source(write_tariff(folder, declaration=declaration))
    return build(source, release=1, created=CREATED, output=folder / "out")


def baseline_of(version: Built) -> Baseline:
    return decode_baseline(version.files[version.manifest.file("baseline").sha256].read_bytes())


def test_a_version_is_built_with_its_categories_and_pairs(tmp_path: Path) -> None:
    version = built(tmp_path)
    baseline = baseline_of(version)

    assert [(column.name, column.kind) for column in baseline.columns] == [
        ("city", "category"),
        ("gear", "category"),
        ("distance", "numeric"),
        ("minutes", "numeric"),
        ("prediction:value", "numeric"),
    ]
    assert [column.values for column in baseline.categories] == [
        ("berlin", "lyon", "oslo"),
        tuple(
            sorted(
                "012345",
                key=lambda code: -baseline.categories[1].counts[baseline.categories[1].values.index(code)],
            )
        ),
    ]
    assert [column.reveal for column in baseline.categories] == [True, False]
    assert pair_names(baseline) == ("distance with minutes",)
    assert reference_correlations(baseline)[0] > 0.9
    assert version.manifest.features[0] == FeatureSpec(
        "city", "city", column=0, kind="category", values=3, reveal=True
    )


def test_the_same_source_gives_the_same_bytes_with_axes_too(tmp_path: Path) -> None:
    axis = '[[features]]\nname = "axis"\ninput = "trip"\nsummary = "projection"\ncomponent = 1\n'
    first, second = (
        built(tmp_path / name, **{'unit = "EUR"': f'unit = "EUR"\n{axis}'}) for name in ("first", "second")
    )

    assert baseline_of(first).axes[0].arrays()[1].shape == (2, 2)
    assert first.digest == second.digest


class Till:
    """A recorder of ``tariff`` with one open window, and the real model behind it."""

    def __init__(self, folder: Path) -> None:
        version = built(folder)
        self.baseline = baseline_of(version)
        self._runtime = load("onnx", version.files[version.manifest.file("model").sha256])
        self._sketches: list[bytes] = []
        self.recorder = Recorder(
            version.manifest,
            self.baseline,
            Reporting(window_seconds=60),
            digest=version.digest,
            clock=lambda: 1000.0,
            emit=lambda part: self._sketches.append(part.sketch),
        )

    def answer(self, inputs: dict[str, Array]) -> None:
        self.recorder.record(inputs, self._runtime.run(inputs), seconds=0.001)

    def data(self) -> bytes:
        """Return the sketch of all calls, as it leaves the device."""
        self.recorder.close()
        return self._sketches[0]


def test_a_recorder_sketches_text_codes_and_pairs(tmp_path: Path) -> None:
    till = Till(tmp_path)
    for start in range(0, 3000, 100):
        till.answer({name: array[start : start + 100] for name, array in trips(3000, seed=4).items()})
    sketch = codec.decode(till.data(), till.baseline)

    assert sketch.rows == 3000
    assert till.recorder.skipped == 0
    assert sketch.counts[0][3] == np.count_nonzero(trips(3000, seed=4)["city"] == "porto")
    assert sketch.others[0].heavy == (("porto", int(sketch.counts[0][3])),)
    assert abs(correlation_z(sketch, till.baseline)[0]) < 4


def test_a_name_that_the_baseline_does_not_hold_stays_on_the_device_unless_declared(tmp_path: Path) -> None:
    till, rows = Till(tmp_path), trips(50)
    rows["gear"][:] = 12345678
    till.answer(rows)
    data = till.data()
    sketch = codec.decode(data, till.baseline)

    assert sketch.others[1].rows == 50
    assert b"12345678" not in data
    assert b"porto" in data


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "pairs = true",
            'pairs = [["distance", "speed"]]',
            "features: pairs: expected two different numbers",
        ),
        ("pairs = true", 'pairs = [["distance", "city"]]', "got \\['city'\\]"),
        ("column = 0\nkind", 'summary = "norm"\nkind', "a summary is a number, not a category"),
        ('column = 1\nunit = "min"', "column = 1\nreveal = true", "only a category has names to reveal"),
        ('column = 1\nunit = "min"', "column = 1\ncomponent = 1", "a projection, and nothing else"),
        ('column = 1\nunit = "min"', 'summary = "projection"', "a projection, and nothing else"),
        ('column = 1\nunit = "min"', 'summary = "projection"\ncomponent = 5', "features: 6 axes of 'trip'"),
    ],
    ids=lambda text: text if isinstance(text, str) else "",
)
def test_features_that_cannot_be_are_refused_with_their_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        built(tmp_path, **{old: new})


def test_text_of_any_width_and_type_is_one_column(tmp_path: Path) -> None:
    till, rows = Till(tmp_path), trips(1)
    names = ["oslo", "a name much longer than any other", "ä", "oslo"] * 30
    for index, name in enumerate(names):
        till.answer({**rows, "city": np.array([[name]], dtype=object if index % 2 else None)})
    sketch = codec.decode(till.data(), till.baseline)

    assert till.recorder.skipped == 0
    assert sketch.counts[0].tolist() == [0, 0, 60, 60, 0, 0]
    assert sketch.others[0].heavy == (("a name much longer than any other", 30), ("ä", 30))


def test_a_feature_that_is_a_number_says_nothing_that_older_agents_would_refuse() -> None:
    assert msgspec.json.decode(msgspec.json.encode(FeatureSpec("speed", "bus", column=3))) == {
        "name": "speed",
        "input": "bus",
        "column": 3,
    }
