"""Everything that writes on a device, each as a course that says what it was told is done.

Run by ``support.shim_process`` in a child whose disk goes wrong; what must hold afterwards is in
``support.invariants``. A refusal ends a course as a ``StorageError``, or is taken as the agent takes it.
"""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from muster_agent.config import Folder, load_settings
from muster_agent.disk import RealDisk
from muster_agent.enroll import enrol, parse_token, renew
from muster_models import wire
from muster_models.errors import StorageError
from muster_models.trust.client import TrustClient
from muster_models.wire import Event, Stored
from support.device_course import DeviceCourse, Ledger
from support.outboxes import open_outbox, part
from support.repository import BASE_URL, NOW, FolderFetcher
from support.store_crashes import WORLD

Tell = Callable[..., None]
Arguments = Mapping[str, str]
Course = Callable[[Path, Tell, Arguments], None]

OUTBOX_BYTES = 4000  # small, so that windows are merged and dropped
ROUNDS = 8


def outbox(device: Path, tell: Tell, _arguments: Arguments) -> None:
    """Add, hand out and forget messages; a refusal loses one of them, and the next is tried."""
    with contextlib.closing(open_outbox(device / "outbox.sqlite", max_bytes=OUTBOX_BYTES)) as box:
        tell("epoch", box.status().epoch)
        for number in range(ROUNDS):
            with contextlib.suppress(StorageError):
                box.add_event("installed", detail=str(number))
                tell("added", number)
            for window in range(3):
                with contextlib.suppress(StorageError):
                    box.add_window(part(3 * number + window))
            with contextlib.suppress(StorageError):
                batch = box.batch(0, 3)
                for sequence, _, payload in batch:
                    tell("sent", sequence, hashlib.sha256(payload).hexdigest(), event_number(payload))
                if batch:
                    upto = batch[-1][0]
                    tell("storing", upto)
                    box.stored(Stored(box.status().epoch, upto))
                    tell("stored", upto)


def event_number(payload: bytes) -> str:
    """Return the number of an event that ``outbox`` added; a dash for any other message."""
    message = wire.decode_uplink(payload)
    return message.detail if isinstance(message, Event) and message.kind == "installed" else "-"


def trust(device: Path, tell: Tell, arguments: Arguments) -> None:
    """Look at the repository, and learn of a new root, a new version and a higher floor."""
    client = TrustClient(
        device / "trust",
        root=base64.b64decode(arguments["root"]),
        base_url=BASE_URL,
        fetcher=FolderFetcher(Path(arguments["repository"])),
        clock=NOW.timestamp,
    )
    client.refresh()
    tell("floor", client.floor("digits"))
    client.manifest("digits", "2.0.0", arguments["digest"])
    tell("floor", client.floor("digits"))


def enrolment(device: Path, tell: Tell, arguments: Arguments) -> None:
    """Exchange a token for an identity."""
    enrol(arguments["url"], parse_token(arguments["token"]), Folder(device))
    tell("enrolled")


def renewal(device: Path, tell: Tell, _arguments: Arguments) -> None:
    """Replace key and certificate."""
    folder = Folder(device)
    renew(load_settings(folder), folder)
    tell("renewed")


class ToldLedger(Ledger):
    """A ledger whose entries outlive the process that makes them."""

    tell: Tell

    def __setattr__(self, name: str, value: object) -> None:
        if name in {"saved", "saving"} and value is not None and hasattr(self, "tell"):
            self.tell(name, base64.b64encode(msgspec.json.encode(value)).decode())
        if name == "done" and hasattr(self, "tell"):
            self.tell(name, value)
        super().__setattr__(name, value)


def store(device: Path, tell: Tell, _arguments: Arguments) -> None:
    """Install version after version: the updater, the store and the state file, on a real disk."""
    ledger = ToldLedger()
    ledger.tell = tell
    DeviceCourse(RealDisk(device / "store"), WORLD, ledger).follow()


def in_place(device: Path, _tell: Tell, _arguments: Arguments) -> None:
    """Write a file as nothing on a device does, which the search must find."""
    try:
        (device / "file").write_bytes(b"new" * 100)
    except OSError as error:
        raise StorageError(str(error)) from error


WRONG: Mapping[str, Course] = {"in place": in_place}
COURSES: Mapping[str, Course] = {
    "outbox": outbox,
    "trust": trust,
    "enrolment": enrolment,
    "renewal": renewal,
    "store": store,
}
