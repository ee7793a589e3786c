"""``muster publish`` against what the fleet's devices report as their engines."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.config import Folder
from muster_controller.pki import Issued
from muster_controller.store import enrolment
from muster_controller.store.engine import Unit, open_database
from muster_controller.store.tables import Device
from support.ceremony import Site, opened, prepare

NOW = 1_800_000_000.0
NEW, OLD = "onnxruntime 1.32.0", "onnxruntime 1.4.0; CPU: no such provider"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "site", prepare(tmp_path / "founded")) as made:
        made.init()
        yield made


def add_devices(site: Site, **engines: str) -> None:
    """Put devices into the database that said hello with these engines."""
    engine = open_database(Folder(site.controller.home).database)
    try:
        with Unit(engine) as session:
            for device, onnx in engines.items():
                name = device.replace("_", "-")
                permit = enrolment.Permit(name, {})
                enrolment.enrol(session, permit, Issued("", "1", int(NOW) + 86_400), NOW)
                row = session.get_one(Device, name)
                row.runtimes, row.hardware = {"onnx": onnx, "tflite": "tflite-runtime 2.14.0"}, "x86_64"
                session.add(row)
    finally:
        engine.dispose()


def test_devices_that_cannot_load_the_file_are_named_before_it_is_signed(site: Site) -> None:
    add_devices(site, press_1=NEW, press_2=OLD, press_3=OLD)

    done = site.publish("digits/1.0.0", "-o", "json")

    assert done.code == 0, done.err
    assert "will not load: onnxruntime 1.4.0 on 2 devices (press-2, press-3): the file asks for" in done.err
    assert done.err.index("will not load") < done.err.index("To be signed")
    assert json.loads(done.out)["version"]["name"] == "digits@1.0.0"


def test_a_file_that_no_device_can_load_is_refused_unless_it_is_wanted(site: Site) -> None:
    add_devices(site, press_1=OLD)

    refused = site.publish("digits/1.0.0")
    wanted = site.publish("digits/1.0.0", "--despite-engines")

    assert (refused.code, refused.out) == (1, "")
    assert "no device can load model.onnx: onnxruntime 1.4.0 on 1 device (press-1)" in refused.err
    assert "--despite-engines releases it all the same" in refused.err
    assert wanted.code == 0, wanted.err
    assert "will not load" in wanted.err


def test_without_devices_nothing_is_said_of_engines(site: Site) -> None:
    done = site.publish("digits/1.0.0")

    assert done.code == 0, done.err
    assert "will not load" not in done.err
