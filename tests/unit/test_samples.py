"""Orders for rows on the controller: what is taken for one, what is not, and how its rows end."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from securesystemslib.signer import CryptoSigner
from sqlmodel import SQLModel, func, select

from muster_controller import intake
from muster_controller.config import Settings
from muster_controller.domain.samples import MAX_ORDER_BYTES, Held, Order, check_sample, check_terms, shown
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.store import samples
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.sample_tables import SampleRecord
from muster_controller.store.tables import AuditEntry, Refusal
from muster_models import topics, wire
from muster_models.errors import MessageError, Reason, RequestError
from muster_models.tensors import encode_tensors
from support.controller import NOW, Ground, lay_ground

MARK = b"a-row-of-one-person"
ORDER = Order(1, "digits", "device = berlin-1", 10, "why", "operator", NOW, NOW + 100)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, "berlin-1", "oslo-1")


def place(ground: Ground, order: Order = ORDER, *devices: str) -> int:
    with Unit(ground.engine) as session:
        return samples.add(session, order, devices or ("berlin-1",))


def make_sample(ground: Ground, sequence: int = 1, **changes: Any) -> wire.Sample:
    sample = wire.Sample(
        "berlin-1",
        1,
        sequence,
        NOW,
        1,
        "digits",
        manifest=ground.release.digest,
        rows=4,
        inputs=encode_tensors({"name": np.array([[MARK.decode()]] * 4, dtype=object)}),
        outputs=encode_tensors({"y": np.ones((4, 2), np.float32)}),
    )
    return msgspec.structs.replace(sample, **changes)


def store(ground: Ground, *messages: wire.Uplink, now: float = NOW) -> intake.Stored:
    taken = [
        intake.read(topics.up(message.device, intake.KINDS[type(message)]), wire.encode(message))
        for message in messages
    ]
    with Unit(ground.engine) as session:
        return intake.store(session, taken, baselines=ground.baselines, now=now)


def count(ground: Ground, table: type[SQLModel]) -> int:
    with Reading(ground.engine) as session:
        return session.exec(select(func.count()).select_from(table)).one()


def refusals(ground: Ground) -> dict[tuple[str, str], int]:
    with Reading(ground.engine) as session:
        return {(row.device, row.reason): row.count for row in session.exec(select(Refusal))}


def answer(ground: Ground, number: int = 1) -> samples.Answer:
    with Reading(ground.engine) as session:
        return samples.answers(session, number)[0]


def tick(ground: Ground, now: float) -> list[wire.Desired]:
    """Make one pass of the loop, and return the desired states that it sent."""
    told: list[wire.Desired] = []

    def publish(topic: str, payload: bytes, sent: Callable[[], None] | None = None) -> bool:
        document = msgspec.json.decode(f'"{msgspec.json.decode(payload)["payload"]}"', type=bytes)
        told.append(wire.decode_desired(document))
        return True

    def renew(_now: dt.datetime) -> None:
        return None

    loop = Reconcile(
        ground.engine,
        ground.baselines,
        Settings(),
        director=CryptoSigner.generate_ed25519(),
        outside=Outside(publish=publish, refuse=lambda _: None, renew=renew),
        clock=lambda: now,
    )
    loop.tick(now)
    assert loop.last is not None
    assert loop.last.faults == 0
    return told


def test_rows_that_were_ordered_are_stored_and_counted(ground: Ground) -> None:
    place(ground)

    stored = store(ground, make_sample(ground, 1), make_sample(ground, 2), make_sample(ground, 2))

    assert stored.marks == {("berlin-1", 1): 2}
    assert (count(ground, SampleRecord), answer(ground).rows) == (2, 8)
    assert refusals(ground) == {}


@pytest.mark.parametrize(
    ("changes", "now", "reason"),
    [
        ({"order": 2}, NOW, Reason.NOT_LISTED),
        ({"device": "oslo-1"}, NOW, Reason.NOT_LISTED),
        ({"model": "weather"}, NOW, Reason.BAD_MESSAGE),
        ({"manifest": "f" * 64}, NOW, Reason.BAD_MESSAGE),
        ({"rows": 5}, NOW, Reason.BAD_MESSAGE),
        ({"rows": 0}, NOW, Reason.BAD_MESSAGE),
        ({"inputs": b"junk"}, NOW, Reason.BAD_MESSAGE),
        ({}, NOW + 100, Reason.EXPIRED),
    ],
    ids=["no-order", "not-named", "model", "version", "more-rows", "no-rows", "junk", "over"],
)
def test_rows_that_were_not_ordered_so_are_refused_and_not_kept(
    ground: Ground, changes: dict[str, Any], now: float, reason: Reason
) -> None:
    place(ground)
    bad = make_sample(ground, **changes)

    stored = store(ground, bad, now=now)

    assert stored.marks == {(bad.device, 1): 1}
    assert count(ground, SampleRecord) == 0
    assert refusals(ground) == {(bad.device, reason.value): 1}


def test_rows_beyond_the_cap_are_refused(ground: Ground) -> None:
    place(ground)

    store(ground, *(make_sample(ground, sequence) for sequence in (1, 2, 3)))

    assert answer(ground).rows == 8
    assert refusals(ground) == {("berlin-1", Reason.TOO_LARGE.value): 1}


def test_a_device_says_why_no_row_comes(ground: Ground) -> None:
    place(ground)

    store(ground, wire.Sample("berlin-1", 1, 1, NOW, 1, "digits", reason=Reason.NOT_ALLOWED, detail="no"))

    assert (answer(ground).rows, answer(ground).reason, answer(ground).detail) == (0, "not-allowed", "no")
    assert (count(ground, SampleRecord), refusals(ground)) == (0, {})


def test_only_the_devices_that_are_named_are_told_and_only_until_the_end(ground: Ground) -> None:
    place(ground)

    told = {desired.device: desired.samples for desired in tick(ground, NOW + 1)}
    after = {desired.device: desired.samples for desired in tick(ground, NOW + 101)}

    assert told == {"berlin-1": (wire.SampleOrder(1, "digits", 10, NOW + 100),), "oslo-1": ()}
    assert after["berlin-1"] == ()


def test_at_its_end_an_order_loses_every_row_and_the_file_every_byte_of_them(ground: Ground) -> None:
    place(ground)
    store(ground, make_sample(ground))
    tick(ground, NOW + 99)
    before = traces(ground)

    tick(ground, NOW + 100)

    assert before > 0
    assert (count(ground, SampleRecord), traces(ground)) == (0, 0)
    with Reading(ground.engine) as session:
        assert samples.get(session, 1).ended == NOW + 100
        entry = session.exec(select(AuditEntry)).one()
    assert (entry.actor, entry.action, entry.subject, entry.detail) == (
        "controller", "sample.expire", "sample 1", {"rows": 4},
    )  # fmt: skip


def test_a_loop_that_finds_nothing_due_writes_nothing(ground: Ground) -> None:
    place(ground)
    tick(ground, NOW + 100)
    tick(ground, NOW + 200)

    assert count(ground, AuditEntry) == 1


def test_the_number_of_an_order_is_never_given_again(ground: Ground) -> None:
    first = place(ground)
    tick(ground, NOW + 100)

    assert place(ground) == first + 1


def test_an_order_has_a_bound_in_bytes(ground: Ground) -> None:
    with pytest.raises(MessageError, match="at most"):
        check_sample(make_sample(ground), ORDER, Held(0, MAX_ORDER_BYTES), now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 0}, {"rows": wire.MAX_SAMPLE_ROWS + 1}, {"seconds": 0.0}, {"seconds": 31 * 86_400.0},
        {"seconds": float("nan")}, {"reason": " "}, {"reason": "x" * 401},
    ],
    ids=str,
)  # fmt: skip
def test_terms_that_are_not_as_they_must_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        check_terms(**({"rows": 1, "seconds": 60.0, "reason": "why"} | changes))  # type: ignore[arg-type]


def test_what_json_has_no_number_for_is_shown_as_nothing() -> None:
    tensors = {"x": np.array([[1.0, np.nan], [np.inf, 2.0]]), "name": np.array([["a"], ["b"]], dtype=object)}

    assert shown(tensors) == {"x": [[1.0, None], [None, 2.0]], "name": [["a"], ["b"]]}


def traces(ground: Ground) -> int:
    """Count the rows that can be found in the bytes of the database's files."""
    files = ground.folder.glob("database.sqlite*")
    return sum(path.read_bytes().count(MARK) for path in files)
