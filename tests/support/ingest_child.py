"""A process that only ingests, so that a test can kill it: ``ingest_child FOLDER PORT DATABASE``."""

import sys
import threading
import time
from pathlib import Path

from muster_controller.ingest import Ingest
from muster_controller.link import Address, Link
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import open_database
from support.databases import parse_place


def main(folder: Path, port: int, place: Path | str) -> None:
    link = Link(Address("127.0.0.1", port, folder / "pki"))
    ingest = Ingest(
        open_database(place),
        Baselines(Blobs(folder / "blobs")),
        clock=time.time,
        publish=link.publish,
        greeted=lambda: None,
    )
    ingest.start()
    link.start(ingest.handle, online=lambda: None)
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), parse_place(sys.argv[3]))
