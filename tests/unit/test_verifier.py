"""When a device looks at the repository in full, and when one small question will do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_agent.update.verifier import FULL_LOOK_SECONDS, Verifier
from muster_models.errors import TransferError
from support.repository import DEVICE, FolderFetcher, SignedRepository

GLANCE = ["metadata/timestamp.json"]
FULL = ["metadata/2.root.json", "metadata/timestamp.json"]


@dataclass
class Device:
    repository: SignedRepository
    fetcher: FolderFetcher
    verifier: Verifier
    elapsed: float = 0.0

    def check(self) -> list[str]:
        """Check, and return what was asked for."""
        self.fetcher.requests.clear()
        self.verifier.check()
        return list(self.fetcher.requests)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    repository = SignedRepository(tmp_path / "repository")
    fetcher = repository.fetcher()
    client = repository.client(tmp_path / "trust", fetcher=fetcher)
    made = Device(repository, fetcher, Verifier(client, DEVICE, clock=lambda: made.elapsed))
    client.refresh()
    return made


def wait_a_day(device: Device) -> None:
    device.elapsed += FULL_LOOK_SECONDS


def fail(device: Device) -> None:
    device.check()
    device.fetcher.online = False
    wait_a_day(device)
    with pytest.raises(TransferError):
        device.check()
    device.fetcher.online = True


def test_the_first_check_is_a_full_look_and_the_next_ones_are_one_request(device: Device) -> None:
    asked = [device.check() for _ in range(4)]

    assert asked == [FULL, GLANCE, GLANCE, GLANCE]


@pytest.mark.parametrize("after", [wait_a_day, fail], ids=["a day", "a full look that failed"])
def test_a_full_look_comes_after(device: Device, after: Callable[[Device], None]) -> None:
    device.check()
    after(device)

    assert device.check() == FULL
    assert device.check() == GLANCE


def test_just_before_a_day_is_over_one_request_will_do(device: Device) -> None:
    device.check()
    device.elapsed += FULL_LOOK_SECONDS - 1

    assert device.check() == GLANCE


def test_news_are_followed_by_a_full_look_at_once(device: Device) -> None:
    device.check()
    device.repository.release()
    asked = device.check()

    assert asked[:3] == [*GLANCE, *FULL]
    assert len(asked) > 3
    assert device.check() == GLANCE


def test_an_installation_looks_in_full_whatever_the_last_check_said(device: Device) -> None:
    device.check()
    device.fetcher.requests.clear()
    device.verifier.refresh()

    assert device.fetcher.requests == FULL
