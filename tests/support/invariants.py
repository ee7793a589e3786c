"""What must hold on a device after whatever happened to its disk: docs/power-loss.md as code.

Each function opens what a process left behind, as the agent does at its start, and fails where a rule is
broken; the numbers are those of the document. Some go on to do what was interrupted, because that must work.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization

from muster_agent.config import Folder, load_settings
from muster_agent.disk import Disk, RealDisk
from muster_agent.identity import ready_key, tls_context
from muster_agent.measure.outbox import Outbox
from muster_agent.store import OLD_STATE, Store
from muster_agent.update.state import AgentState
from muster_models import wire
from muster_models.trust.client import TrustClient
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Stored
from support.device_course import DeviceCourse, Ledger
from support.device_writers import OUTBOX_BYTES, event_number
from support.outboxes import open_outbox, part
from support.store_crashes import WORLD, expected_files, incomplete

Told = Mapping[str, list[list[str]]]
LAST = 10_000  # number of an event that no course adds


def read_told(path: Path) -> Told:
    """Return what a course said before it ended, by first word; a line that was cut off was not said."""
    told: dict[str, list[list[str]]] = defaultdict(list)
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            word, *rest = line.split()
            told[word].append(rest)
    return told


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


# The store and the state file


def versions_are_whole(disk: Disk) -> AgentState:
    """1, 2: what the state counts on is there, whole, read from the disk itself; return the state."""
    state = Store(disk).load()
    assert incomplete(disk, state) is None
    return state


def store_holds(folder: Path, told: Told) -> None:
    """1, 2, 3, 6, 7: a state that was saved or being saved, and the orders end as without the accident."""
    disk = RealDisk(folder / "store")
    known = [
        msgspec.json.decode(base64.b64decode(one), type=AgentState)
        for word in ("saved", "saving")
        for (one,) in told[word][-1:]
    ]
    state = versions_are_whole(disk)
    assert state in (known or [AgentState()])
    ledger = Ledger(done=max((int(number) for (number,) in told["done"]), default=0))
    DeviceCourse(disk, WORLD, ledger).follow()
    assert ledger.done == len(WORLD.orders)
    Store(disk)
    left = files_below(folder / "store") - expected_files(ledger.saved, disk) - {OLD_STATE}
    assert left == set()


# The outbox


def outbox_holds(folder: Path, told: Told) -> None:
    """3, 4, 6, 7: what was added is there or was handed over, under one number for ever, without a hole."""
    with closing(open_outbox(folder / "outbox.sqlite", max_bytes=OUTBOX_BYTES)) as outbox:
        epoch = outbox.status().epoch
        assert told["epoch"] in ([], [[str(epoch)]])
        sent = {int(sequence): (digest, event) for sequence, digest, event in told["sent"]}
        assert outbox.status().last >= max(sent, default=0)
        outbox.add_event("installed", detail=str(LAST))
        outbox.add_window(part(LAST))
        held = drain(outbox)
        forgotten = _check_numbers(held, sent, told)
        events = [event for payload in held.values() if (event := event_number(payload)) != "-"]
        assert len(events) == len(set(events))
        handed_over = {event for number, (_, event) in sent.items() if number in forgotten}
        assert {number for (number,) in told["added"]} <= {*events, *handed_over}
        assert str(LAST) in events
    assert files_below(folder) == {"outbox.sqlite"}


def _check_numbers(held: Mapping[int, bytes], sent: Mapping[int, tuple[str, str]], told: Told) -> set[int]:
    """Return the numbers that were handed over and are forgotten."""
    assert list(held) == list(range(min(held), max(held) + 1))
    storing = max((int(upto) for (upto,) in told["storing"]), default=0)
    stored = max((int(upto) for (upto,) in told["stored"]), default=0)
    assert stored < min(held) <= storing + 1
    for number in sent.keys() & held.keys():
        assert hashlib.sha256(held[number]).hexdigest() == sent[number][0]
    return {number for number in sent if number < min(held)}


def drain(outbox: Outbox) -> dict[int, bytes]:
    """Return every message by number, and let the outbox forget them."""
    held: dict[int, bytes] = {}
    while batch := outbox.batch(0, 100):
        held |= {sequence: payload for sequence, _, payload in batch}
        assert all(wire.decode_uplink(payload) for payload in held.values())
        outbox.stored(Stored(outbox.status().epoch, max(held)))
    return held


# What is trusted


def trust_holds(
    client: TrustClient, told: Told, *, runs: VerifiedManifest, wanted: VerifiedManifest, since: float
) -> None:
    """1, 4, 5, 7: what runs may go on running, floors and time are where they were, and the rest follows."""
    assert client.reverify(runs.document).digest == runs.digest
    assert client.time_floor >= since
    floors_hold(client, told)
    trust_goes_on(client, wanted)


def floors_hold(client: TrustClient, told: Told) -> None:
    """5: no version below the highest floor that was seen comes back."""
    assert client.floor("digits") >= max((int(floor) for (floor,) in told["floor"]), default=0)


def trust_goes_on(client: TrustClient, wanted: VerifiedManifest) -> None:
    """7: what was interrupted can be done again."""
    client.refresh()
    again = client.manifest("digits", wanted.manifest.version, wanted.digest)
    assert again.digest == wanted.digest


def trust_has_no_garbage(folder: Path, *, roots: int) -> None:
    """6: the cache holds the documents and nothing else."""
    roles = {f"cache/{role}.json" for role in ("root", "timestamp", "snapshot", "targets", "model-digits")}
    history = {f"cache/root_history/{version}.root.json" for version in range(1, roots + 1)}
    assert files_below(folder) == {"memory", *roles, *history}


# The identity and the settings


def identity_holds(folder: Folder) -> None:
    """1: key and certificate belong together, and the certificate comes from the authority beside it."""
    tls_context(folder)  # refuses a key that is not the certificate's
    assert load_settings(folder).device
    assert folder.pinned_root.read_bytes()


def identity_has_no_garbage(folder: Folder) -> None:
    """6: three files of the identity, the pinned root and the settings."""
    names = {"device.key", "device.pem", "ca.pem"}
    expected = {f"identity/{name}" for name in names} | {"agent.toml", "root.json"}
    assert files_below(folder.root) == expected


def one_key_was_shown(folder: Folder, shown: Collection[bytes]) -> None:
    """7: a token serves one key, so whoever repeats a request repeats the key."""
    key = ready_key(folder.identity / "device.key").public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    assert set(shown) == {key.public_bytes(serialization.Encoding.DER, form)}
