"""Hot swap: what answers is replaced while it is being called, and nobody notices."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from muster_agent.runner import Isolation, Patience, Runner, Zygote
from muster_agent.runner.inline import InlineModel
from muster_models.errors import MusterError, PredictionError, Reason
from muster_models.manifest import Budget
from muster_models.trust.verified import VerifiedManifest
from support import small_models
from support.processes import own_family, private_bytes
from support.verified import QUICK, answers, lay_out, rows
from support.waiting import until

Swap = Literal["beside", "stop-then-load"]
SWAPS = 50
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


@pytest.fixture(params=list(Isolation))
def runner(request: pytest.FixtureRequest, zygote: Zygote) -> Iterator[Runner]:
    runner = Runner(zygote, on_failure=unexpected, isolation=request.param, patience=Patience(call=60.0))
    yield runner
    runner.close()


def unexpected(*told: object) -> None:
    raise AssertionError(told)


def version(folder: Path, factor: int, **about: float | str | Budget) -> VerifiedManifest:
    return lay_out(
        folder,
        small_models.scaling(factor),
        golden=answers(1.0, factor),
        version=f"1.{factor}.0",
        **about,  # type: ignore[arg-type]  # name, fallback, budget
    )


class Caller(threading.Thread):
    """Calls a model without pause and keeps what it saw."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        self.stop = threading.Event()
        self.calls = 0
        self.seen: set[float] = set()
        self.errors: list[MusterError] = []

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                answer = self.runner.predict("small", rows(1.0))["y"]
            except MusterError as error:
                self.errors.append(error)
            else:
                assert (answer == answer[0, 0]).all()
                self.seen.add(float(answer[0, 0]))
            self.calls += 1


def swap_under_load(runner: Runner, folder: Path, *, swaps: int, calls: int, swap: Swap) -> int:
    """Replace versions while two threads call them; return the number of calls, none of which failed."""
    budget = msgspec.structs.replace(QUICK, swap=swap)
    versions = [(version(folder / str(n), n, budget=budget), folder / str(n)) for n in (1, 2, 3)]
    runner.activate(*versions[0])
    callers = [Caller(runner) for _ in range(2)]
    for caller in callers:
        caller.start()
    done = 0
    while done < swaps or sum(caller.calls for caller in callers) < calls:
        runner.activate(*versions[done % 3])
        done += 1
    for caller in callers:
        caller.stop.set()
        caller.join()

    assert [error for caller in callers for error in caller.errors] == []
    assert len(callers[0].seen | callers[1].seen) > 1
    return sum(caller.calls for caller in callers)


@pytest.mark.parametrize("swap", ["beside", "stop-then-load"])
def test_no_call_fails_over_fifty_swaps(runner: Runner, tmp_path: Path, swap: Swap) -> None:
    calls = swap_under_load(runner, tmp_path, swaps=SWAPS, calls=2 * SWAPS, swap=swap)

    assert calls >= 2 * SWAPS


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_call_fails_over_a_thousand_swaps(runner: Runner, tmp_path: Path) -> None:
    began = time.monotonic()

    calls = swap_under_load(runner, tmp_path, swaps=1000, calls=100_000, swap="beside")

    log.warning("%d calls over 1000 swaps in %.0f s, none failed", calls, time.monotonic() - began)
    assert calls >= 100_000


def test_a_version_that_does_not_load_leaves_the_old_one_answering(runner: Runner, tmp_path: Path) -> None:
    runner.activate(version(tmp_path / "good", 2), tmp_path / "good")
    broken = lay_out(tmp_path / "bad", b"not a model", golden=answers(1, 1), version="2.0.0")

    with pytest.raises(PredictionError) as caught:
        runner.activate(broken, tmp_path / "bad")

    assert caught.value.reason is Reason.LOAD_FAILED
    assert runner.predict("small", rows(3.0))["y"].tolist() == [[6.0] * 4]
    assert runner.serving()["small"].manifest.version == "1.2.0"


ROOMY = msgspec.structs.replace(QUICK, swap="stop-then-load")


def test_a_version_that_needs_the_room_never_shares_it(zygote: Zygote, tmp_path: Path) -> None:
    runner = Runner(zygote, on_failure=unexpected)
    runner.activate(version(tmp_path / "old", 2), tmp_path / "old")
    load, alive = runner._load, []

    def watched(*asked: Any) -> Any:
        alive.append(runner.serving()["small"].alive)
        return load(*asked)

    runner._load = watched  # type: ignore[method-assign,assignment]  # as it is called
    runner.activate(version(tmp_path / "new", 3, budget=ROOMY), tmp_path / "new")
    answer = runner.predict("small", rows(1.0))["y"][0, 0]
    runner.close()

    assert alive == [False]
    assert answer == 3.0


def test_what_was_stopped_to_make_room_comes_back_when_the_new_version_does_not_load(
    runner: Runner, tmp_path: Path
) -> None:
    runner.activate(version(tmp_path / "good", 2), tmp_path / "good")
    broken = lay_out(tmp_path / "bad", b"no model", golden=answers(1, 1), version="2.0.0", budget=ROOMY)

    with pytest.raises(PredictionError):
        runner.activate(broken, tmp_path / "bad")

    assert runner.predict("small", rows(3.0))["y"].tolist() == [[6.0] * 4]
    assert runner.serving()["small"].manifest.version == "1.2.0"


def test_a_trial_run_that_needs_the_room_has_it_and_gives_it_back(runner: Runner, tmp_path: Path) -> None:
    runner.activate(version(tmp_path / "good", 2), tmp_path / "good")
    runner.commit("small")
    bad = lay_out(
        tmp_path / "bad", small_models.scaling(2), golden=answers(3, 7), version="2.0.0", budget=ROOMY
    )

    verdict = runner.preflight(bad, tmp_path / "bad")

    assert verdict.reason is Reason.WRONG_OUTPUT
    assert runner.predict("small", rows(3.0))["y"].tolist() == [[6.0] * 4]


def test_a_version_that_does_not_come_back_is_reported(zygote: Zygote, tmp_path: Path) -> None:
    told: list[tuple[object, ...]] = []
    runner = Runner(zygote, on_failure=lambda *about: told.append(about), patience=Patience(replacement=0.1))
    old = version(tmp_path / "old", 2)
    runner.activate(old, tmp_path / "old")
    (tmp_path / "old/model.onnx").write_bytes(b"damaged")
    broken = lay_out(tmp_path / "bad", b"no model", golden=answers(1, 1), version="2.0.0", budget=ROOMY)

    with pytest.raises(PredictionError):
        runner.activate(broken, tmp_path / "bad")
    is_alive = runner.serving()["small"].alive
    runner.close()

    assert [(model, digest, reason) for model, digest, reason, _ in told] == [
        ("small", old.digest, Reason.LOAD_FAILED)
    ]
    assert not is_alive


def test_batches_keep_their_rows_in_order(runner: Runner, tmp_path: Path) -> None:
    runner.activate(version(tmp_path / "v", 2), tmp_path / "v")

    answer = runner.predict("small", rows(*range(1000)))["y"]

    assert np.array_equal(answer[:, 0], 2 * np.arange(1000))


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"z": rows(1.0)["x"]},
        {"x": rows(1.0)["x"].astype(np.float64)},
        {"x": np.zeros((1, 5), np.float32)},
        {"x": np.zeros(4, np.float32)},
        {"x": rows(1.0)["x"], "z": rows(1.0)["x"]},
    ],
)
def test_inputs_that_do_not_fit_are_the_callers_error(
    runner: Runner, tmp_path: Path, inputs: dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]
) -> None:
    runner.activate(version(tmp_path / "v", 2), tmp_path / "v")

    with pytest.raises(PredictionError) as caught:
        runner.predict("small", inputs)

    assert caught.value.reason is Reason.WRONG_SHAPE
    assert "x" in str(caught.value)
    assert runner.predict("small", rows(1.0))["y"].tolist() == [[2.0] * 4]


def test_an_answer_that_is_not_finite_is_an_error_and_the_next_one_is_fine(
    runner: Runner, tmp_path: Path
) -> None:
    folder = tmp_path / "v"
    runner.activate(lay_out(folder, small_models.not_finite_above(5), golden=answers(1, 1)), folder)

    with pytest.raises(PredictionError) as caught:
        runner.predict("small", rows(6.0))

    assert caught.value.reason is Reason.NOT_FINITE
    assert runner.predict("small", rows(5.0))["y"].tolist() == [[5.0] * 4]


@pytest.mark.parametrize(
    ("columns", "reason"), [(5.0, Reason.WRONG_SHAPE), (20_000.0, Reason.TOO_LARGE)], ids=["shape", "size"]
)
def test_an_answer_of_another_shape_or_size_is_an_error(
    runner: Runner, tmp_path: Path, columns: float, reason: Reason
) -> None:
    folder = tmp_path / "v"
    runner.activate(lay_out(folder, small_models.widening(), golden=answers(4, 0)), folder)

    with pytest.raises(PredictionError) as caught:
        runner.predict("small", rows(columns))

    assert caught.value.reason is reason
    assert runner.predict("small", rows(4.0))["y"].tolist() == [[0.0] * 4]


def test_a_stopped_model_answers_with_its_fallback_until_it_is_activated_again(
    runner: Runner, tmp_path: Path
) -> None:
    verified = version(tmp_path / "v", 2, fallback=-1.0)
    runner.activate(verified, tmp_path / "v")
    runner.stop(verified)
    stopped = runner.serving()["small"].stopped
    while_stopped = runner.predict("small", rows(3.0, 4.0))["y"]
    runner.activate(verified, tmp_path / "v")

    assert stopped
    assert while_stopped.tolist() == [[-1.0] * 4] * 2
    assert while_stopped.dtype == np.float32
    assert runner.predict("small", rows(3.0))["y"].tolist() == [[6.0] * 4]


def test_a_model_can_be_stopped_that_never_ran(runner: Runner, tmp_path: Path) -> None:
    runner.stop(version(tmp_path / "v", 2))

    with pytest.raises(PredictionError) as caught:
        runner.predict("small", rows(1.0))

    assert caught.value.reason is Reason.ORDERED


def test_several_models_answer_beside_each_other(runner: Runner, tmp_path: Path) -> None:
    runner.activate(version(tmp_path / "a", 2), tmp_path / "a")
    runner.activate(version(tmp_path / "b", 3, name="other"), tmp_path / "b")
    runner.remove("small")

    assert runner.predict("other", rows(1.0))["y"].tolist() == [[3.0] * 4]
    with pytest.raises(PredictionError):
        runner.predict("small", rows(1.0))


def test_every_call_is_told_with_its_outcome(zygote: Zygote, tmp_path: Path) -> None:
    told: list[tuple[object, ...]] = []
    runner = Runner(
        zygote,
        on_failure=unexpected,
        on_call=lambda *call: told.append(call),
        isolation=Isolation.INLINE,
    )
    verified = version(tmp_path / "v", 2)
    runner.activate(verified, tmp_path / "v")
    outputs = runner.predict("small", rows(1.0))
    with pytest.raises(PredictionError) as caught:
        runner.predict("small", {})
    runner.close()

    assert [(call[0], call[1]) for call in told] == [("small", verified.digest)] * 2
    assert (told[0][3] is outputs, told[0][5]) == (True, None)
    assert (told[1][3], told[1][5]) == (None, caught.value)
    assert isinstance(told[0][4], float)
    assert 0 < told[0][4] < 60


MEBIBYTES = 24  # of each version


def test_memory_returns_to_that_of_one_model(runner: Runner, tmp_path: Path) -> None:
    folders = [tmp_path / str(factor) for factor in (1, 2)]
    versions = [
        lay_out(
            folder,
            small_models.weighing(factor, MEBIBYTES),
            golden=answers(1.0, factor),
            version=f"1.{factor}.0",
            budget=msgspec.structs.replace(QUICK, memory_bytes=2**29),
        )
        for factor, folder in enumerate(folders, 1)
    ]
    family = own_family()
    for verified, folder in zip(versions, folders, strict=True):
        runner.activate(verified, folder)
    alone = memory_of(runner, family)
    for number in range(20):
        runner.activate(versions[number % 2], folders[number % 2])
        runner.predict("small", rows(1.0))

    assert memory_of(runner, family) - alone < MEBIBYTES * 2**20 // 2


def memory_of(runner: Runner, family: list[int]) -> int:
    """Return the bytes held by this process and its children, once the workers of old versions have ended."""
    workers = 0 if isinstance(runner._slots["small"].answering, InlineModel) else 1

    assert until(lambda: len(own_family()) == len(family) + workers)
    return sum(private_bytes(pid) for pid in own_family())
