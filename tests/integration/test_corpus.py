"""Damaged and hostile files by the thousand: none takes the agent down, none is taken for what it is not."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from corpus import trial
from corpus.attacks import ATTACKS
from corpus.bases import Base, bases
from corpus.breed import SHARES, Sample, breed
from muster_agent.runner import Zygote
from support import onnx_models, small_models
from support.fixtures import ROOT

SEED = 2026
SAMPLE, WHOLE = 300, 10_000
ZOO = ROOT.parent / "shared/fixtures/zoo"
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def good() -> list[Base]:
    return bases(ZOO if ZOO.is_dir() else None)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def survive(
    zygote: Zygote, good: list[Base], folder: Path, *, numbers: range, caplog: pytest.LogCaptureFixture
) -> trial.Found:
    """Check files of the corpus, and that nothing but verdicts came of them."""
    trial.run(good, numbers[:2], seed=SEED, zygote=zygote, folder=folder)  # imports both engines
    process, files = zygote._control, open_files()
    with caplog.at_level(logging.WARNING, logger="muster_agent"):
        found = trial.run(good, numbers, seed=SEED, zygote=zygote, folder=folder)

    assert zygote._control is process, "the zygote died and was replaced"
    assert "the zygote is gone" not in caplog.text
    assert open_files() <= files
    assert found.others == [], found.table()
    assert (found.lost, found.silent) == ([], []), found.table()
    return found


@pytest.fixture(params=[True, False], ids=["inspected", "not inspected"])
def first(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the number of the first file to check: half of them are checked without the structure gate."""
    if request.param:
        return 0
    monkeypatch.setattr("muster_agent.check.is_inspectable", lambda *_: False)
    return WHOLE // 2


def test_a_sample_of_the_corpus_ends_in_verdicts(
    zygote: Zygote, good: list[Base], tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int
) -> None:
    found = survive(zygote, good, tmp_path, numbers=range(first, first + SAMPLE // 2), caplog=caplog)

    assert found.files == SAMPLE // 2
    assert {family for family, _ in found.verdicts} == set(SHARES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_corpus_ends_in_verdicts(
    zygote: Zygote, good: list[Base], tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int
) -> None:
    found = survive(zygote, good, tmp_path, numbers=range(first, first + WHOLE // 2), caplog=caplog)

    log.warning("seed %d: %s", SEED, found.table())
    assert found.files == WHOLE // 2


def test_the_second_opinion_sees_other_numbers(good: list[Base], tmp_path: Path) -> None:
    scaling = next(base for base in good if base.name == "scaling")
    kept = Sample(0, "whole", "onnx", scaling.data, scaling)
    changed = Sample(1, "whole", "onnx", small_models.scaling(2.01), scaling)
    renamed = Sample(2, "whole", "onnx", onnx_models.linear(np.ones((4, 4), np.float32)), scaling)
    broken = Sample(3, "whole", "onnx", b"", scaling)
    places = [trial.lay_out(s, tmp_path / str(s.number)) for s in (kept, changed, renamed, broken)]

    assert trial.second_opinions(places) == ["same", "other", "other", "unlike"]


def test_the_corpus_is_the_same_every_time(good: list[Base]) -> None:
    first, second = ([breed(good, seed=SEED, number=number).data for number in range(60)] for _ in range(2))

    assert first == second
    assert len(set(first)) > 50


def test_every_attack_can_be_written(good: list[Base]) -> None:
    drawn = [breed(good, seed=1, number=number) for number in range(1500)]
    named = {(sample.kind, sample.name) for sample in drawn if sample.family == "attack"}

    assert named == {(kind, name) for kind, attacks in ATTACKS.items() for name in attacks}
