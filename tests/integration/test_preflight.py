"""A version that misbehaves is a verdict with a reason, and nothing else happens."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from muster_agent.runner import Zygote, nursery
from muster_agent.runner.job import Job, job_of
from muster_models.errors import Reason
from muster_models.golden import Golden
from muster_models.manifest import Budget, TensorSpec
from support import small_models
from support.verified import QUICK, answers, lay_out

Bad = tuple[bytes, Golden, Budget]
ANSWERS_ITSELF = answers(1.0, 1.0)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


def job(folder: Path, model: bytes, golden: Golden = ANSWERS_ITSELF, budget: Budget = QUICK) -> Job:
    return job_of(lay_out(folder, model, golden=golden, budget=budget), folder, call_seconds=1.0)


def test_a_version_that_answers_its_golden_vectors_is_accepted(zygote: Zygote, tmp_path: Path) -> None:
    verdict = zygote.preflight(job(tmp_path / "v", small_models.scaling(2), answers(3.0, 6.0)))

    assert (verdict.accepted, verdict.reason, verdict.detail) == (True, None, "")
    assert verdict.latency_ms is not None
    assert 0 < verdict.latency_ms < 250
    assert 0 < verdict.peak_bytes < QUICK.memory_bytes
    assert verdict.level in {"landlock", "no-new-privs", "rlimits"}


def budget(**changes: float) -> Budget:
    return msgspec.structs.replace(QUICK, **changes)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((small_models.scaling(2.0), answers(3.0, 6.1), QUICK), Reason.WRONG_OUTPUT),
        ((small_models.dividing_by_zero(), ANSWERS_ITSELF, QUICK), Reason.NOT_FINITE),
        ((small_models.crashing_above(5), answers(9.0, 9.0), QUICK), Reason.CRASHED),
        ((small_models.hanging_above(5), answers(9.0, 9.0), budget(load_seconds=0.5)), Reason.HUNG),
        ((small_models.growing(), answers(4000.0, 4000.0), QUICK), Reason.OUT_OF_MEMORY),
        ((small_models.growing(), answers(100.0, 100.0), budget(memory_bytes=2**26)), Reason.OUT_OF_MEMORY),
        ((small_models.growing(), answers(60.0, 60.0), budget(latency_ms=0.01)), Reason.TOO_SLOW),
        ((small_models.widening(), answers(5.0, 0.0), QUICK), Reason.WRONG_SHAPE),
        ((small_models.scaling(1), ANSWERS_ITSELF, budget(output_bytes=8)), Reason.TOO_LARGE),
        ((small_models.scaling(2)[:-9], ANSWERS_ITSELF, QUICK), Reason.LOAD_FAILED),
        ((b"", ANSWERS_ITSELF, QUICK), Reason.LOAD_FAILED),
        ((b"<html>not a model</html>", ANSWERS_ITSELF, QUICK), Reason.LOAD_FAILED),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else "",
)
def test_a_hostile_version_is_refused_with_its_reason(
    zygote: Zygote, tmp_path: Path, bad: Bad, reason: Reason
) -> None:
    verdict = zygote.preflight(job(tmp_path / "v", *bad))

    assert (verdict.accepted, verdict.reason) == (False, reason)
    assert verdict.detail != ""


def test_a_manifest_that_declares_another_input_is_refused(zygote: Zygote, tmp_path: Path) -> None:
    honest = job(tmp_path / "v", small_models.scaling(1))
    lying = msgspec.structs.replace(honest, inputs=(TensorSpec("z", "float32", (None, 4)),))

    verdict = zygote.preflight(lying)

    assert verdict.reason is Reason.WRONG_SHAPE
    assert "declares inputs ['z:float32'], the file ['x:float32']" in verdict.detail


def test_golden_vectors_that_are_damaged_are_refused(zygote: Zygote, tmp_path: Path) -> None:
    fine = job(tmp_path / "v", small_models.scaling(1))
    (tmp_path / "v/golden.bin").write_bytes(b"\x93garbage")

    verdict = zygote.preflight(fine)

    assert (verdict.accepted, verdict.reason) == (False, Reason.BAD_MANIFEST)


def test_a_model_is_called_with_a_made_up_row_where_nobody_gave_one(zygote: Zygote, tmp_path: Path) -> None:
    alone = msgspec.structs.replace(
        job(tmp_path / "v", small_models.scaling(1)), golden=None, inputs=(), outputs=()
    )

    assert zygote.preflight(alone).accepted


def test_a_file_outside_the_private_folder_cannot_be_loaded(zygote: Zygote, tmp_path: Path) -> None:
    inside = job(tmp_path / "v", small_models.scaling(1))
    (tmp_path / "elsewhere.onnx").write_bytes(small_models.scaling(1))
    if zygote.preflight(inside).level != "landlock":
        pytest.skip("this kernel has no Landlock")

    verdict = zygote.preflight(msgspec.structs.replace(inside, model="../elsewhere.onnx"))

    assert verdict.reason is Reason.LOAD_FAILED


def test_an_engine_that_is_not_there_is_a_verdict(zygote: Zygote, tmp_path: Path) -> None:
    unknown = msgspec.structs.replace(job(tmp_path / "v", b""), kind="openvino")

    verdict = zygote.preflight(unknown)

    assert (verdict.accepted, verdict.reason) == (False, Reason.CRASHED)
    assert zygote.preflight(job(tmp_path / "w", small_models.scaling(1))).accepted


def test_an_engine_is_tried_in_a_child_before_the_zygote_imports_it() -> None:
    assert nursery._try_engine("onnx") is None
    assert nursery._try_engine("openvino") is not None  # type: ignore[arg-type]  # no such engine


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_zygote_is_not_changed_by_what_its_children_do(zygote: Zygote, tmp_path: Path) -> None:
    for number in range(3):
        zygote.preflight(job(tmp_path / f"bad{number}", small_models.crashing_above(5), answers(9.0, 9.0)))
    before = open_files()
    for number in range(3):
        zygote.preflight(job(tmp_path / f"worse{number}", small_models.crashing_above(5), answers(9.0, 9.0)))

    verdict = zygote.preflight(job(tmp_path / "good", small_models.scaling(1)))

    assert verdict.accepted
    assert open_files() <= before
