"""The real ``muster sample`` against a real controller."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from muster_controller.domain.samples import Order
from muster_controller.store import samples
from muster_controller.store.engine import Unit, open_database
from muster_controller.store.sample_tables import SampleRecord
from muster_models.tensors import encode_tensors
from support.controller_process import ControllerProcess


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path_factory.mktemp("samples")) as running:
        yield running


def test_without_an_order_there_is_none_to_list_or_show(tmp_path: Path) -> None:
    with ControllerProcess(tmp_path) as controller:  # its own: the other tests order
        listed = controller.muster("sample", "list")
        told = controller.muster("sample", "list", "-o", "json")
        shown = controller.muster("sample", "show", "1", "--rows")
        deleted = controller.muster("sample", "delete", "1")

    assert (listed.code, listed.out) == (0, "")
    assert "no rows were ordered" in listed.err
    assert json.loads(told.out) == []
    for done in (shown, deleted):
        assert done.code != 0
        assert "no order 1 for rows" in done.err


def place(controller: ControllerProcess) -> int:
    """Put an order with two rows into the controller's database."""
    engine, now = open_database(controller.home / "database.sqlite"), time.time()
    order = Order(0, "digits", "device = press-1", 5, "odd scores", "operator", now, now + 3600)
    with Unit(engine) as session:
        number = samples.add(session, order, ["press-1"])
        inputs = encode_tensors({"image": np.array([[1.0], [2.0]])})
        outputs = encode_tensors({"label": np.array([["a"], ["b"]], dtype=object)})
        row = SampleRecord(
            order_id=number, device="press-1", digest="a" * 64, at=1, rows=2, inputs=inputs, outputs=outputs
        )
        session.add(row)
    engine.dispose()
    return number


def test_rows_are_shown_one_a_line_and_deleted_by_order(controller: ControllerProcess) -> None:
    number = str(place(controller))

    plain = controller.muster("sample", "show", number)
    shown = controller.muster("sample", "show", number, "--rows", "--reason", "ticket 4")
    told = json.loads(controller.muster("sample", "show", number, "--rows", "-o", "json").out)
    deleted = controller.muster("sample", "delete", number, "--reason", "looked at")
    audit = json.loads(controller.muster("audit", "list", "-o", "json").out)

    rows = [json.loads(line) for line in shown.out.splitlines() if line.startswith("{")]
    assert "odd scores" in plain.out
    assert "{" not in plain.out
    assert [(row["inputs"], row["outputs"]) for row in rows] == [
        ({"image": [1.0]}, {"label": ["a"]}),
        ({"image": [2.0]}, {"label": ["b"]}),
    ]
    assert [batch["rows"] for batch in told["batches"]] == [2]
    assert f"order {number} is over" in deleted.out
    deeds = {(one["action"], one["reason"]) for one in audit}
    assert {("sample.read", "ticket 4"), ("sample.delete", "looked at")} <= deeds


def test_an_order_says_why_or_is_none(controller: ControllerProcess) -> None:
    order = ("sample", "order", "digits", "--where", "all", "--rows", "5", "--hours", "1")

    silent = controller.muster(*order)
    unknown = controller.muster(*order, "--reason", "odd scores")
    endless = controller.muster(*order[:-1], "721", "--reason", "odd scores")

    assert silent.code == 2
    assert "reason" in silent.err
    assert unknown.code != 0
    assert "no version of 'digits' was released" in unknown.err
    assert "within 30 days" in endless.err
