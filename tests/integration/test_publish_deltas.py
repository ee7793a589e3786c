"""Patches from the publisher's command to a device's disk: made, shown, signed, uploaded, fetched."""

import json
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from muster_agent.disk import RealDisk
from muster_agent.store import Store
from muster_agent.update.download import Downloader
from muster_models import manifest as manifests
from muster_models.manifest import Manifest
from muster_models.trust.fetcher import Fetcher
from muster_models.trust.verified import VerifiedManifest
from support.ceremony import ZOO, Site, opened, prepare
from support.controller_process import Done
from support.http_server import serving
from support.verified import seal


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A controller with ``digits@1.1.0``; tests release further versions of it."""
    folder = prepare(tmp_path_factory.mktemp("prepared"))
    with opened(tmp_path_factory.mktemp("deltas"), folder) as made:
        made.init()
        made.release("digits/1.1.0")
        yield made


def source(folder: Path, version: str) -> Path:
    """Return the zoo's digits@1.1.0 under another number, with other words in its metadata."""
    made = folder / version
    shutil.copytree(ZOO / "digits/1.1.0", made)
    model = onnx.load(made / "model.onnx")
    model.producer_name, model.doc_string = "another exporter", f"exported for {version}"
    onnx.save(model, made / "model.onnx")
    declared = (made / "model.toml").read_text()
    (made / "model.toml").write_text(declared.replace('version = "1.1.0"', f'version = "{version}"'))
    return made


def publish(site: Site, folder: Path, *options: str) -> Done:
    return site.muster("publish", str(folder), "--keys", str(site.keys), *options)


def released(site: Site, name: str) -> tuple[VerifiedManifest, Manifest]:
    """Return a version as a device has it after checking signatures."""
    detail: dict[str, Any] = site.told("version", "show", name)
    document = (site.controller.home / "blobs" / detail["version"]["digest"]).read_bytes()
    manifest = manifests.parse(document)
    return seal(manifest), manifest


def test_a_publisher_says_what_it_tried_and_a_device_fetches_the_patch_alone(
    site: Site, tmp_path: Path
) -> None:
    done = publish(site, source(tmp_path, "1.3.0"))
    before, _ = released(site, "digits@1.1.0")
    after, manifest = released(site, "digits@1.3.0")
    model = manifest.file("model")
    # Other tests of this module may have released versions that it is named for as well.
    (delta,) = (one for one in model.deltas if one.base == before.manifest.file("model").sha256)
    device = Store(RealDisk(tmp_path / "store"))
    device.load()
    with serving({}, folder=site.controller.home) as server:
        fetcher = Fetcher()
        downloader = Downloader(f"http://127.0.0.1:{server.port}", fetcher, device, chance=random.Random(1))
        downloader.fetch(before, threading.Event())
        asked = len(server.requests)
        downloader.fetch(after, threading.Event())
        fetcher.close()
        fetched = [path for path, _ in server.requests[asked:]]

    device.verify(after)
    assert done.code == 0, done.err
    assert f"model.onnx ({model.length} bytes) from digits@1.1.0: zstd-patch " in done.err
    assert "zstd-patch is shipped" in done.err
    assert "or from" in done.err
    assert delta.length < 0.1 * model.length
    assert fetched == [f"/blobs/{delta.sha256}"]
    assert downloader.rebuilt.files == 1


def test_patches_are_part_of_what_a_second_person_signs_and_must_be_there_when_it_is_handed_over(
    tmp_path: Path,
) -> None:
    waiting = tmp_path / "waiting.request.json"
    with opened(tmp_path / "site", prepare(tmp_path / "prepared")) as site:
        site.init()
        (ada, ada_public), (bo, bo_public) = site.make_key("ada"), site.make_key("bo")
        owners = ("--key", str(ada_public), "--key", str(bo_public), "--threshold", "2")
        owned = site.muster("keys", "add-owner", "digits", *owners, "--keys", str(site.keys))
        first = site.muster("publish", str(ZOO / "digits/1.1.0"), "--key", str(ada), "--key", str(bo))
        made = source(tmp_path, "1.4.0")
        asked = site.muster("publish", str(made), "--key", str(ada), "--request", str(waiting), "-o", "json")
        assert [done.code for done in (owned, first, asked)] == [0, 0, 0], asked.err
        signed = site.muster("sign", str(waiting), "--key", str(bo))
        (model,) = (one for one in json.loads(asked.out)["release"]["files"] if one["role"] == "model")
        patch = site.controller.home / "blobs" / model["deltas"][0]["sha256"]
        kept = patch.read_bytes()
        patch.unlink()
        refused = site.muster("publish", "--resume", str(waiting))
        patch.write_bytes(kept)
        resumed = site.muster("publish", "--resume", str(waiting))

    assert signed.code == 0, signed.err
    assert "or from" in signed.err
    assert (refused.code, resumed.code) == (5, 0)
    assert "publish it again" in refused.err


def test_no_patches_are_made_where_none_are_wanted(site: Site, tmp_path: Path) -> None:
    refused = publish(site, source(tmp_path, "1.6.0"), "--deltas", "9")
    waiting = tmp_path / "waiting.request.json"
    done = publish(site, tmp_path / "1.6.0", "--deltas", "0", "--request", str(waiting))

    assert refused.code == 2
    assert "from 0 to 8" in refused.err
    assert done.code == 0, done.err
    assert "or from" not in done.err
