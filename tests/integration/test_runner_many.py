"""Twelve small models on one device: each in a worker of its own, all of them within one memory budget."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent.runner import Runner, Zygote
from muster_models.trust.verified import VerifiedManifest
from support import small_models
from support.processes import own_family, private_bytes
from support.verified import answers, lay_out, rows

MODELS = 12
# Memory that workers and zygote do not share with anybody, as measured: 6 MB for a worker of either engine
# (and 3.2 for the zygote), with room for another build of it.
MOST_EACH = 8 * 2**20
MOST_IN_ALL = 96 * 2**20
log = logging.getLogger(__name__)


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


def version(folder: Path, number: int) -> VerifiedManifest:
    golden = answers(1.0, float(number))
    return lay_out(folder, small_models.scaling(number), golden=golden, name=f"small-{number}")


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_twelve_models_answer_within_the_memory_of_one_device(zygote: Zygote, tmp_path: Path) -> None:
    before = set(own_family())
    runner = Runner(zygote, on_failure=_unexpected)
    for number in range(1, MODELS + 1):
        folder = tmp_path / str(number)
        verified = version(folder, number)
        assert runner.preflight(verified, folder).accepted
        runner.activate(verified, folder)
    numbers = range(1, MODELS + 1)
    answered = [runner.predict(f"small-{number}", rows(2.0))["y"][0, 0] for number in numbers]
    workers = [pid for pid in own_family() if pid not in before]
    used = sorted(private_bytes(pid) for pid in workers)
    running = max(threads(pid) for pid in workers)
    runner.close()
    log.warning(
        "%d workers hold %.1f MB alone, the largest %.1f MB", len(used), sum(used) / 1e6, used[-1] / 1e6
    )

    assert answered == [2.0 * number for number in numbers]
    assert len(workers) == MODELS
    assert used[-1] <= MOST_EACH
    assert sum(used) <= MOST_IN_ALL
    assert running == 1


def _unexpected(*told: object) -> None:
    raise AssertionError(told)
