"""The client that tuf-conformance drives, by the suite's commands, against a repository of our own.

The suite itself runs by ``scripts/conformance PATH``; no registry has it, so this sample stands in for it.
"""

import datetime as dt
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_models.trust import publisher
from support.http_server import LoopbackServer, serving
from support.repository import SignedRepository, make_signer

CLIENT = Path(__file__).parents[1] / "conformance/client.py"
NAME = "models/digits/1.0.0/manifest.json"
TOP = {"root.json", "timestamp.json", "snapshot.json", "targets.json"}


@dataclass
class Driver:
    """What the suite does: commands, and a look at the two folders and at the requests."""

    repository: SignedRepository
    server: LoopbackServer
    metadata: Path
    targets: Path

    def run(self, *command: str) -> int:
        arguments = ["--metadata-dir", str(self.metadata), *command]
        done = subprocess.run(
            [sys.executable, str(CLIENT), *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode in {0, 1}, done.stderr
        return done.returncode

    def init(self) -> int:
        root = self.metadata.parent / "root.json"
        root.write_bytes(self.repository.root)
        return self.run("init", str(root))

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.url}/metadata", "refresh")

    def download(self, name: str = NAME) -> int:
        wanted = ["--target-name", name, "--target-base-url", f"{self.url}/targets"]
        return self.run(
            "--metadata-url", f"{self.url}/metadata", *wanted, "--target-dir", str(self.targets), "download"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def held(self) -> dict[str, int]:
        """Return the version of each document in the client's folder."""
        documents = {path.name: path for path in self.metadata.glob("*.json")}
        return {name: json.loads(path.read_bytes())["signed"]["version"] for name, path in documents.items()}

    def asked(self) -> list[str]:
        paths = [path for path, _ in self.server.requests]
        self.server.requests.clear()
        return paths


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    repository = SignedRepository(tmp_path / "repository", now=dt.datetime.now(dt.UTC))
    verified = repository.release()
    target = repository.folder / "targets" / NAME
    target.parent.mkdir(parents=True)
    digest = hashlib.sha256(verified.document).hexdigest()
    target.with_name(f"{digest}.manifest.json").write_bytes(verified.document)
    (tmp_path / "targets").mkdir()
    with serving(folder=repository.folder) as server:
        yield Driver(repository, server, tmp_path / "metadata", tmp_path / "targets")


def rotated(repository: SignedRepository) -> None:
    """Give the repository new root keys."""
    old, repository.roots = repository.roots[:2], [make_signer() for _ in range(3)]
    root = publisher.rotate_root(
        repository.document("root"),
        repository.root_keys(),
        signers=[*old, *repository.roots[:2]],
        now=repository.now,
    )
    repository.controller.accept("root", root, repository.now)


def test_init_asks_nobody_and_refresh_fetches_the_top_roles(driver: Driver) -> None:
    begun, before = driver.init(), driver.asked()
    refreshed = driver.refresh()

    assert (begun, before, refreshed) == (0, [], 0)
    assert set(driver.held()) >= TOP
    assert driver.asked()[:2] == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_a_target_is_downloaded_under_its_encoded_name(driver: Driver) -> None:
    driver.init()
    (name,) = (path for path in (driver.repository.folder / "targets").rglob("*.json"))
    done = driver.download()

    assert done == 0
    assert [path.read_bytes() for path in driver.targets.iterdir()] == [name.read_bytes()]


def test_what_is_not_listed_is_not_downloaded(driver: Driver) -> None:
    driver.init()

    assert driver.download("models/digits/9.9.9/manifest.json") == 1
    assert list(driver.targets.iterdir()) == []


def test_a_new_root_is_followed(driver: Driver) -> None:
    driver.init()
    driver.refresh()
    rotated(driver.repository)
    done = driver.refresh()

    assert done == 0
    assert driver.held()["root.json"] == 2


def damaged(driver: Driver) -> None:
    path = driver.repository.metadata / "timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version"', b'"Version"', 1))


def forged(driver: Driver) -> None:
    path = driver.repository.metadata / "timestamp.json"
    document = json.loads(path.read_bytes())
    document["signed"]["version"] += 1
    path.write_text(json.dumps(document))


def older(driver: Driver) -> None:
    path = driver.repository.metadata / "timestamp.json"
    first = path.read_bytes()
    driver.repository.release(version="1.1.0", release=2)
    assert driver.refresh() == 0
    path.write_bytes(first)


@pytest.mark.parametrize("attack", [damaged, forged, older])
def test_what_does_not_verify_is_refused_and_the_last_good_documents_stay(
    driver: Driver, attack: Callable[[Driver], None]
) -> None:
    driver.init()
    driver.refresh()
    attack(driver)
    before = driver.held()
    refused = driver.refresh()

    assert refused == 1
    assert driver.held() == before


def test_a_damaged_target_is_refused(driver: Driver) -> None:
    driver.init()
    (path,) = (driver.repository.folder / "targets").rglob("*.json")
    path.write_bytes(b" " * path.stat().st_size)

    assert driver.download() == 1
    assert list(driver.targets.iterdir()) == []
