"""The client that theupdateframework's tuf-conformance suite drives: the shipped fetcher and a pinned root.

    PYTHONPATH=models pytest <checkout>/tuf_conformance --entrypoint "python tests/conformance/client.py"

It needs what the suite needs: ``faketime`` on PATH and a loopback interface. The suite fixes the commands.
"""

import argparse
import sys
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater

from muster_models.trust.fetcher import Fetcher

PINNED = ".pinned"


def main() -> int:
    """Run one command of the suite; 0 where the client accepted what it was served."""
    arguments = parser().parse_args()
    folder = Path(arguments.metadata_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.command == "init":
        (folder / PINNED).write_bytes(Path(arguments.root).read_bytes())
        Updater(str(folder), "http://unused.test", bootstrap=(folder / PINNED).read_bytes())
        return 0
    try:
        follow(arguments, folder)
    except (RepositoryError, DownloadError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def follow(arguments: argparse.Namespace, folder: Path) -> None:
    """Refresh, and download every wanted target with the same updater."""
    updater = Updater(
        str(folder),
        arguments.metadata_url,
        arguments.target_dir,
        arguments.target_base_url,
        Fetcher(),
        bootstrap=(folder / PINNED).read_bytes(),
    )
    updater.refresh()
    for name in arguments.target_name or []:
        target = updater.get_targetinfo(name)
        if target is None:
            raise ValueError(f"{name} is not listed")
        if updater.find_cached_target(target) is None:
            updater.download_target(target)


def parser() -> argparse.ArgumentParser:
    """Return the reader of the suite's command lines."""
    reader = argparse.ArgumentParser()
    reader.add_argument("--metadata-dir", required=True)
    reader.add_argument("--metadata-url")
    reader.add_argument("--target-name", action="append")
    reader.add_argument("--target-base-url")
    reader.add_argument("--target-dir")
    commands = reader.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    return reader


if __name__ == "__main__":
    sys.exit(main())
