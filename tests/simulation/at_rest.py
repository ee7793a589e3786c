"""What must hold once the faults are over and everything has come to rest."""

import json
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING

from muster_agent.update.state import AgentState
from muster_models import wire
from simulation.held import belief, expected_files

if TYPE_CHECKING:
    from simulation.device import Device
    from simulation.invariants import Witness


def settle(witness: "Witness", connection: sqlite3.Connection, devices: list["Device"]) -> None:
    """Look at everything once the faults are over and everything has settled."""
    _look_at_mail(witness, connection, devices)
    _look_at_labels(witness, connection)
    wanted = dict(connection.execute("SELECT device, digest FROM assignment").fetchall())
    refusals = connection.execute("SELECT device, reason, last_detail FROM refusal").fetchall()
    if refusals:
        witness.broke("nothing of an honest device is refused", f"{refusals}")
    for device in devices:
        assert device.agent is not None
        state = device.agent.course.state
        slots = (model.current for model in state.models.values())
        current = {slot.manifest for slot in slots if slot is not None}
        if current != {digest for name, digest in wanted.items() if name == device.name}:
            witness.broke("devices run what they should", f"{device.name}: {state.models}")
        _look_for_garbage(witness, device, state)
    _look_at_last_beliefs(witness, connection, devices)


def _look_at_last_beliefs(
    witness: "Witness", connection: sqlite3.Connection, devices: list["Device"]
) -> None:
    """See that what is believed at last is what is so."""
    query = "SELECT device, current, previous, target, phase FROM running"
    believed = {(device, tuple(belief)) for device, *belief in connection.execute(query)}
    said = {
        (device.name, belief(report))
        for device in devices
        if device.agent is not None
        for report in device.agent.course.reports()
    }
    if believed != said:
        witness.broke("what is believed at last is so", f"{sorted(map(str, believed ^ said))}")


def _look_for_garbage(witness: "Witness", device: "Device", state: AgentState) -> None:
    left = set(device.disk.files()) - expected_files(device.disk, state)
    if left:
        witness.broke("no garbage stays", f"{device.name}: {sorted(left)}")


def _look_at_labels(witness: "Witness", connection: sqlite3.Connection) -> None:
    """See that what is counted is what applications know, each label once and as it was corrected last."""
    labels, wrong = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for device, digest, counts in connection.execute("SELECT device, digest, counts FROM label"):
        held = json.loads(counts)
        labels[device, digest] += held.get("n", 0)
        for predicted, true, n in held.get("confusion", ()):
            wrong[device, digest] += n * (predicted != true)
    truth = witness.rollouts.truth
    for what, stored, known in (("labels", labels, truth.labels), ("wrong ones", wrong, truth.wrong)):
        if +stored != +known:
            broken = f"{what}: too few {dict(known - stored)}, too many {dict(stored - known)}"
            witness.broke("every label is counted exactly once", broken)


def _look_at_mail(witness: "Witness", connection: sqlite3.Connection, devices: list["Device"]) -> None:
    (ahead,) = connection.execute("SELECT count(*) FROM received").fetchone()
    if ahead:
        witness.broke("no gap stays below what was sent", f"{ahead} messages wait behind one")
    for device in devices:
        assert device.agent is not None
        status = device.agent.outbox.status()
        _look_at_windows(witness, connection, device.name, status)
        _look_at_shadows(witness, connection, device.name, status)
        _look_at_events(witness, connection, device.name)


def _look_at_windows(
    witness: "Witness", connection: sqlite3.Connection, device: str, status: wire.OutboxStatus
) -> None:
    query = "SELECT digest, start, end, calls FROM window WHERE device = ?"
    rows = connection.execute(query, (device,)).fetchall()
    if status.merged or status.dropped:
        found: Counter[str] = Counter()
        for digest, _, _, calls in rows:
            found[digest] += calls
        added = Counter({digest: n for (d, digest), n in witness.mail.calls.items() if d == device})
        if found - added or (added - found and not status.dropped):
            witness.broke("every call is stored exactly once", f"{device}: added {added}, stored {found}")
        return
    stored = Counter((device, digest, start, end) for digest, start, end, _ in rows)
    whole = Counter({key: n for key, n in witness.mail.windows.items() if key[0] == device})
    if stored != whole:
        lost, more = whole - stored, stored - whole
        witness.broke("every window is stored exactly once", f"lost {dict(lost)}, too many {dict(more)}")


def _look_at_shadows(
    witness: "Witness", connection: sqlite3.Connection, device: str, status: wire.OutboxStatus
) -> None:
    query = "SELECT device, digest, candidate, calls FROM shadow WHERE device = ?"
    stored = Counter({tuple(key): calls for *key, calls in connection.execute(query, (device,))})
    added = Counter({key: calls for key, calls in witness.mail.shadows.items() if key[0] == device})
    if stored - added or (added - stored and not status.dropped):
        witness.broke("what was asked in shadow is stored exactly once", f"added {added}, stored {stored}")


def _look_at_events(witness: "Witness", connection: sqlite3.Connection, device: str) -> None:
    query = "SELECT kind, digest, detail FROM event WHERE device = ? AND kind <> 'dropped'"
    stored = Counter((device, *row) for row in connection.execute(query, (device,)))
    added = Counter({key: n for key, n in witness.mail.events.items() if key[0] == device})
    if stored != added:
        lost, more = added - stored, stored - added
        witness.broke("every event is stored exactly once", f"lost {dict(lost)}, too many {dict(more)}")
