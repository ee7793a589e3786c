"""A candidate in shadow: a real worker is asked beside the one that answers, and nobody notices."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from muster_agent.runner import Isolation, Patience, Runner, Terms, Zygote
from muster_models.agreement import Comparison, add, nothing
from muster_models.errors import PredictionError, Reason
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.features import VALUE
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Shadow, ShadowCounts
from support import small_models
from support.verified import answers, lay_out, rows

TRUSTED, CANDIDATE = "1.0.0", "1.1.0"
BASELINE = Baseline((ColumnBaseline(VALUE, "numeric", (0.0, 1.0), (0, 10, 10, 0), mean=1.0, sd=10.0),))
PATIENCE, SHORT = Patience(call=60.0), Patience(call=1.0)


@dataclass
class Heard:
    """What the runner told."""

    counts: dict[str, ShadowCounts] = field(default_factory=dict)
    failures: list[tuple[str, str, Reason]] = field(default_factory=list)
    calls: list[PredictionError | None] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    restarted: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def compared(self, _model: str, digest: str, counts: ShadowCounts) -> None:
        with self.changed:
            held = self.counts.get(digest, nothing(counts.candidate))
            self.counts[digest] = add(held, counts)
            self.changed.notify_all()

    def failed(self, model: str, digest: str, reason: Reason, _detail: str) -> None:
        with self.changed:
            self.failures.append((model, digest, reason))
            self.changed.notify_all()

    def until(self, ready: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(ready, 60)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(params=list(Isolation))
def runner(request: pytest.FixtureRequest, zygote: Zygote, heard: Heard) -> Iterator[Runner]:
    runner = make_runner(zygote, heard, request.param)
    yield runner
    runner.close()


@pytest.fixture
def workers(request: pytest.FixtureRequest, zygote: Zygote, heard: Heard) -> Iterator[Runner]:
    runner = make_runner(zygote, heard, Isolation.PROCESS, getattr(request, "param", PATIENCE))
    yield runner
    runner.close()


def make_runner(zygote: Zygote, heard: Heard, isolation: Isolation, patience: Patience = PATIENCE) -> Runner:
    return Runner(
        zygote,
        on_failure=unexpected,
        on_restart=lambda *_: heard.restarted.set(),
        on_call=lambda *call: heard.calls.append(call[-1]),
        on_compared=heard.compared,
        on_shadow_failure=heard.failed,
        isolation=isolation,
        patience=patience,
    )


def unexpected(*told: object) -> None:
    raise AssertionError(told)


def begin(
    runner: Runner, heard: Heard, folder: Path, candidate: bytes, order: Shadow
) -> tuple[VerifiedManifest, VerifiedManifest]:
    """Let a model that doubles answer, and another one beside it."""
    current = lay_out(folder / "current", small_models.scaling(2), golden=answers(1, 2), version=TRUSTED)
    beside = lay_out(folder / "beside", candidate, golden=answers(1, 1), version=CANDIDATE)
    runner.activate(current, folder / "current")
    comparison = Comparison(current.manifest, BASELINE, beside.manifest)
    terms = Terms(order, comparison, current.digest, beside.digest, beside.manifest.version)
    runner.begin_shadow(beside, folder / "beside", terms, ended=heard.ended.set)
    return current, beside


ALL = Shadow(seconds=60, share=1, cpu_percent=100)


@pytest.mark.parametrize(("factor", "agreed"), [(2.0, True), (2.9, True), (3.5, False)])
def test_a_candidate_agrees_within_a_tenth_of_a_standard_deviation(
    runner: Runner,
    heard: Heard,
    tmp_path: Path,
    factor: float,
    agreed: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    current, beside = begin(runner, heard, tmp_path, small_models.scaling(factor), ALL)
    for _ in range(10):
        runner.predict("small", rows(1.0, 1.0))
    heard.until(lambda: heard.counts.get(current.digest, nothing("")).calls == 10)

    counts = heard.counts[current.digest]
    assert (counts.candidate, counts.rows, counts.errors, counts.dropped) == (beside.digest, 20, 0, 0)
    assert counts.agreed == (20 if agreed else 0)
    assert counts.difference == pytest.approx(20 * abs(factor - 2), rel=1e-5)
    assert sum(counts.latency) == 10
    assert heard.calls == [None] * 10


def test_what_is_returned_is_the_same_to_the_byte_with_and_without_a_shadow(
    runner: Runner, heard: Heard, tmp_path: Path
) -> None:
    chance = np.random.default_rng(1)
    asked = [{"x": chance.normal(size=(3, 4)).astype(np.float32)} for _ in range(50)]
    current, _ = begin(runner, heard, tmp_path, small_models.scaling(7), ALL)
    during = [runner.predict("small", inputs)["y"].tobytes() for inputs in asked]
    heard.until(lambda: heard.counts.get(current.digest, nothing("")).rows >= 30)
    runner.end_shadow("small")
    after = [runner.predict("small", inputs)["y"].tobytes() for inputs in asked]

    assert during == after
    assert heard.calls == [None] * 100


BAD = {
    "crashes": (small_models.crashing_above(5), Reason.CRASHED, PATIENCE),
    "hangs": (small_models.hanging_above(5), Reason.HUNG, SHORT),
    "answers NaN": (small_models.not_finite_above(5), Reason.NOT_FINITE, PATIENCE),
}


@pytest.mark.parametrize(("model", "reason", "workers"), BAD.values(), ids=BAD.keys(), indirect=["workers"])
def test_a_candidate_that_fails_in_shadow_is_told_once_and_no_call_fails(
    workers: Runner, heard: Heard, tmp_path: Path, model: bytes, reason: Reason
) -> None:
    current, beside = begin(workers, heard, tmp_path, model, ALL)
    answered = {workers.predict("small", rows(9.0))["y"].tobytes() for _ in range(20)}
    heard.until(lambda: heard.failures)
    answered |= {workers.predict("small", rows(9.0))["y"].tobytes() for _ in range(20)}
    workers.end_shadow("small")

    assert heard.failures == [("small", beside.digest, reason)]
    assert answered == {(rows(18.0)["x"]).tobytes()}
    assert heard.calls == [None] * 40
    assert heard.counts[current.digest].errors == 1
    assert heard.ended.wait(60)


def test_a_candidate_that_takes_no_such_inputs_fails_in_shadow(
    runner: Runner, heard: Heard, tmp_path: Path
) -> None:
    wide = small_models.widening()
    _, beside = begin(runner, heard, tmp_path, wide, ALL)
    runner.predict("small", rows(9.0))
    heard.until(lambda: heard.failures)

    assert heard.failures == [("small", beside.digest, Reason.WRONG_SHAPE)]


def test_the_share_that_is_ordered_is_drawn_and_nothing_of_the_rest_is_offered(
    runner: Runner, heard: Heard, tmp_path: Path
) -> None:
    begin(runner, heard, tmp_path, small_models.scaling(2), replace(ALL, share=0.0))
    for _ in range(20):
        runner.predict("small", rows(1.0))
    runner.end_shadow("small")

    assert heard.counts == {}


def test_an_ended_shadow_lets_go_of_its_files_and_of_its_process(
    runner: Runner, heard: Heard, tmp_path: Path
) -> None:
    begin(runner, heard, tmp_path, small_models.scaling(2), ALL)
    shadow = runner._shadows["small"]
    runner.end_shadow("small")

    assert heard.ended.wait(60)
    assert runner.serving()["small"].shadow is None
    with pytest.raises(PredictionError):
        shadow._candidate.predict(rows(1.0))


def test_removing_a_model_ends_its_shadow(runner: Runner, heard: Heard, tmp_path: Path) -> None:
    begin(runner, heard, tmp_path, small_models.scaling(2), ALL)
    runner.remove("small")

    assert heard.ended.wait(60)


def test_a_candidate_that_does_not_load_is_no_shadow_and_disturbs_nobody(
    runner: Runner, heard: Heard, tmp_path: Path
) -> None:
    with pytest.raises(PredictionError):
        begin(runner, heard, tmp_path, b"no model", ALL)

    assert runner.predict("small", rows(1.0))["y"].tobytes() == rows(2.0)["x"].tobytes()
    assert runner.serving()["small"].shadow is None


def test_the_processor_time_of_a_worker_in_shadow_is_measured_and_not_only_guessed(
    workers: Runner, heard: Heard, tmp_path: Path
) -> None:
    current, _ = begin(workers, heard, tmp_path, small_models.scaling(2), ALL)
    shadow = workers._shadows["small"]
    for _ in range(10):
        workers.predict("small", rows(1.0))
    heard.until(lambda: heard.counts.get(current.digest, nothing("")).calls == 10)

    assert shadow._their_clock() is not None
    assert shadow.budget.spent > 0


def test_a_worker_that_is_started_again_keeps_its_shadow(
    workers: Runner, heard: Heard, tmp_path: Path
) -> None:
    current, _ = begin(workers, heard, tmp_path, small_models.scaling(2), ALL)
    workers.commit("small")
    workers._slots["small"].answering._worker.kill()  # type: ignore[union-attr]  # it is a worker
    assert heard.restarted.wait(60)
    for _ in range(5):
        workers.predict("small", rows(1.0))
    heard.until(lambda: heard.counts.get(current.digest, nothing("")).calls == 5)

    assert heard.failures == []
