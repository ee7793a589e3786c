"""Every recorded verdict computed again from a real database, through the command line; forged ones show."""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, delete, select

from muster_controller.api.app import make_api
from muster_controller.cli.exits import Exit
from muster_controller.service.rollout_explain import UNRECORDED, RolloutExplained, explain
from muster_controller.serving import bind, make_server
from muster_controller.store import events
from muster_controller.store.tables import EventRecord, EvidenceRecord
from muster_models.errors import RequestError
from muster_models.wire import Event
from support.controller_process import Done, execute
from support.database_marks import BOTH
from support.office import Office, serving
from support.rolling import live, open_fleet, start

CRASHING = ("berlin-2", "oslo-3")  # of the first stage, by the seed


@dataclass(frozen=True)
class Told:
    """A controller whose rollout compares crashes, and went back because of one device's."""

    office: Office
    url: str
    number: int

    def muster(self, *arguments: str) -> Done:
        token = str(self.office.context.folder.token)
        return execute("muster", *arguments, MUSTER_URL=self.url, MUSTER_TOKEN_FILE=token)

    def explain(self, **options: Any) -> RolloutExplained:
        return explain(self.office.context, self.number, **options)

    def forge(self, change: Callable[[dict[str, Any]], object]) -> int:
        """Change the newest record behind the controller's back, and return its number."""
        with self.office.context.unit() as session:
            row = session.exec(select(EvidenceRecord).order_by(col(EvidenceRecord.id).desc())).first()
            assert row is not None
            content = copy.deepcopy(row.content)
            change(content)
            row.content = content
            session.add(row)
            return row.id or 0


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    office = open_fleet(tmp_path / "controller")
    number = start(office, margins={"crashes": 1.5})
    live(office, 10)
    _crash(office, CRASHING[0], times=1)
    live(office, 3)
    _crash(office, CRASHING[1], times=4)
    live(office, 2)
    api = make_server(make_api(office.context, office.opened.token))
    with contextlib.closing(bind("127.0.0.1", 0, setting="port")) as listener, serving(api, listener):
        yield Told(office, f"http://127.0.0.1:{listener.getsockname()[1]}", number)
    office.opened.close()


def _crash(office: Office, device: str, *, times: int) -> None:
    digest, now = office.context.repository.listed("digits")["1.1.0"], office.clock.now
    with office.context.unit() as session:
        for sequence in range(times):
            events.add(session, Event(device, 1, sequence + 1, now + sequence, "crashed", "digits", digest))


def crashed(content: dict[str, Any]) -> None:
    gate = next(one for one in content["gates"] if one["name"] == "crashed devices")
    gate["evidence"] = 1.0


def spared(content: dict[str, Any]) -> None:
    content["verdict"] = "healthy"
    for gate in content["gates"]:
        gate["verdict"] = "healthy"


@BOTH
def test_every_gate_of_every_verdict_is_computed_again(told: Told) -> None:
    found = told.explain()
    gate = next(one for one in found.verdicts[-1].gates if one.name == "crashed devices")

    assert found.differences == ()
    assert found.same
    assert len(found.verdicts) > 5
    assert (found.verdicts[-1].verdict, found.verdicts[-1].again) == ("unhealthy", "unhealthy")
    assert gate.again == "healthy"


def test_the_command_ends_with_0_where_all_agrees_and_with_9_where_a_record_was_forged(told: Told) -> None:
    same = told.muster("rollout", "explain", str(told.number))
    number = told.forge(crashed)
    apart = told.muster("rollout", "explain", str(told.number))
    one = told.muster("rollout", "explain", str(told.number), "--gate", "crashed devices", "-o", "json")

    assert same.code == Exit.OK, same.err
    assert "computed again from" in same.err
    assert apart.code == Exit.DIFFERS
    assert f"record {number}, crashed devices: evidence: 1, again" in apart.err
    assert one.code == Exit.DIFFERS
    shown = json.loads(one.out)
    assert [[gate["name"] for gate in verdict["gates"]] for verdict in shown["verdicts"][-1:]] == [
        ["crashed devices"]
    ]
    assert [verdict["id"] for verdict in shown["verdicts"] if not verdict["agrees"]] == [number]


def test_a_record_that_was_whitewashed_or_is_gone_shows(told: Told) -> None:
    number = told.forge(spared)
    white = told.explain()
    with told.office.context.unit() as session:
        session.execute(delete(EvidenceRecord).where(col(EvidenceRecord.id) == number))
    gone = told.explain()

    assert f"record {number}: listed as stage 1, unhealthy" in white.differences
    assert any(words.startswith(f"record {number}: verdict: healthy, again") for words in white.differences)
    assert UNRECORDED in gone.differences
    assert not white.same
    assert not gone.same


def test_crashes_that_are_gone_or_were_added_show(told: Told) -> None:
    with told.office.context.unit() as session:
        session.execute(delete(EventRecord).where(col(EventRecord.device) == CRASHING[0]))

    assert any("crashed devices" in words for words in told.explain().differences)


def test_a_record_without_a_look_or_that_cannot_be_read_is_said_to_be_so(told: Told) -> None:
    number = told.forge(lambda content: content.pop("look"))
    without = told.explain()
    told.forge(lambda content: content.update(stage="first"))

    assert f"record {number}: it does not say what was known then" in without.differences[0]
    with pytest.raises(RequestError, match=f"record {number} of evidence cannot be read"):
        told.explain()


def test_what_rests_on_more_windows_than_are_read_at_once_is_left_out_and_said(told: Told) -> None:
    every = told.explain().windows
    partly = told.explain(most=every + 5)
    with pytest.raises(RequestError, match="too many"):
        told.explain(most=10)

    assert partly.same
    assert set(partly.unchecked) in (set(), {"failed calls", "late calls", "missing predictions"})
