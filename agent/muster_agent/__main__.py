"""The command line of a device: ``muster-agent``.

Exit status: 0 done, 1 refused or failed (one line on stderr says why), 2 wrong usage. What a command needs is
imported when it runs, because a slow machine takes a second for all of it.
"""

import argparse
import gc
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from muster_agent.config import Folder, Settings, load_settings
from muster_models import __version__
from muster_models.engine import CPU_ALONE
from muster_models.errors import InvalidInputError, MusterError, NotFoundError, PredictionError, Reason

if TYPE_CHECKING:
    from muster_agent.status import Status

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
FOLDER_HELP = "the folder of the device, as 'enrol' made it"
ANSWER_SECONDS = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.command(parsed)
    except MusterError as error:
        sys.stderr.write(f"muster-agent: {' '.join(str(error).split())}\n")
        return 1
    except KeyboardInterrupt:
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="muster-agent", description="Run signed models on this device and report what they see."
    )
    parser.add_argument("--version", action="version", version=f"muster-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        added.set_defaults(command=command)
        return added

    enrol = add("enrol", _enrol, "exchange a token, or an operator's consent, for this device's certificate")
    enrol.add_argument("url", metavar="URL", help="the controller's side for devices: https://HOST:PORT")
    enrol.add_argument(
        "token", metavar="TOKEN", nargs="?", help="as 'muster device token' prints it; - reads it from stdin"
    )
    enrol.add_argument("--id", metavar="ID", help="this device's id, where the token is for several devices")
    enrol.add_argument(
        "--request", metavar="ID", help="ask without a token, and wait until an operator lets ID in"
    )
    enrol.add_argument(
        "--ca-sha256", metavar="HEX", help="with --request: the controller, as 'muster device pending' shows"
    )
    enrol.add_argument(
        "--wait-minutes", type=float, default=60.0, help="with --request: how long; 60 by default"
    )
    enrol.add_argument(
        "--folder", type=Path, required=True, help="the folder of the device; made when missing"
    )
    enrol.add_argument("--ca-file", type=Path, help="the controller's ca.pem, where it came by other means")
    _add_output(enrol)

    run = add("run", _run, "run the agent until it is told to stop by SIGTERM")
    run.add_argument("folder", metavar="FOLDER", type=Path, help=FOLDER_HELP)
    run.add_argument("--inline", action="store_true", help="run models in this process, without a sandbox")
    run.add_argument("--verbose", action="store_true", help="log what helps to find a fault")

    status = add("status", _status, "show what runs on this device")
    status.add_argument("folder", metavar="FOLDER", type=Path, help=FOLDER_HELP)
    _add_output(status)

    rollback = add("rollback", _rollback, "go back to the version before, without any network")
    rollback.add_argument("folder", metavar="FOLDER", type=Path, help=FOLDER_HELP)
    rollback.add_argument("model", metavar="MODEL", help="the name of the model, such as digits")
    _add_output(rollback)

    infer = add("infer", _infer, "have a running agent answer every row of a file")
    infer.add_argument(
        "folder", metavar="FOLDER", type=Path, help=f"{FOLDER_HELP}, or the socket of its agent"
    )
    infer.add_argument("model", metavar="MODEL", help="the name of the model, such as digits")
    infer.add_argument(
        "--in", dest="source", metavar="PATH", type=Path, required=True,
        help="rows as .csv, .npy, .npz or .parquet, or a folder of images",
    )  # fmt: skip
    infer.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="what to make: .csv, .npy, .npz or .parquet"
    )
    infer.add_argument("--rows", type=_positive, default=256, help="rows in one request, 256")
    infer.add_argument(
        "--scale", type=float, help="what pixels are multiplied with: 1/255 for floats, else 1"
    )
    _add_output(infer)

    doctor = add("doctor", _doctor, "look for what keeps this device from working, and say how to mend it")
    doctor.add_argument("folder", metavar="FOLDER", type=Path, help=FOLDER_HELP)
    _add_output(doctor)

    check = add("check", _check, "try a model file in a confined child, as before an activation")
    check.add_argument(
        "path", metavar="PATH", type=Path, help="a model file, or a folder with what belongs to it"
    )
    check.add_argument(
        "--device", metavar="FOLDER", type=Path, help="on what this device's settings ask for; else the CPU"
    )
    _add_output(check)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text[:40]!r}")
    return int(text)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="for people or for programs"
    )


def _enrol(arguments: argparse.Namespace) -> int:
    from muster_agent.enroll import enrol, parse_token  # noqa: PLC0415 - see above

    folder = Folder(arguments.folder)
    given: str | None = arguments.token
    if (given is None) == (arguments.request is None):
        raise InvalidInputError(Reason.BAD_SETTING, "expected either a TOKEN or --request ID")
    if given is None:
        settings = _request(arguments, folder)
    else:
        token = parse_token(sys.stdin.readline() if given == "-" else given)
        settings = enrol(arguments.url, token, folder, device=arguments.id, ca_file=arguments.ca_file)
    _print(
        arguments,
        {"device": settings.device, "folder": str(folder.root)},
        f"enrolled as {settings.device}; start it with: muster-agent run {folder.root}",
    )
    return 0


def _request(arguments: argparse.Namespace, folder: Folder) -> Settings:
    from muster_agent.request import request  # noqa: PLC0415 - see above

    ca = (arguments.ca_sha256 or "").replace(":", "").lower()
    if re.fullmatch("[0-9a-f]{64}", ca) is None:
        raise InvalidInputError(Reason.BAD_SETTING, "--request needs --ca-sha256 with 64 hexadecimal digits")
    minutes: float = arguments.wait_minutes
    end = time.monotonic() + 60 * minutes

    def wait(seconds: float) -> bool:
        time.sleep(max(0.0, min(seconds, end - time.monotonic())))
        return time.monotonic() < end

    def show(code: str) -> None:
        # On stderr, because stdout is for what programs read.
        sys.stderr.write(f"waiting to be let in; on the controller: muster device accept {code}\n")
        sys.stderr.flush()

    return request(arguments.url, arguments.request, folder, ca=ca, show=show, wait=wait)


def _run(arguments: argparse.Namespace) -> int:
    from muster_agent.notify import take_notifier  # noqa: PLC0415 - see above
    from muster_agent.runner import Zygote  # noqa: PLC0415 - see above

    notifier = take_notifier(os.environ)
    # Forked before the rest of the agent is imported, so that no child carries that: 10 MB. What there is by
    # now stays; a collection that walked over it would give each process a copy of its own: 4 MB.
    gc.freeze()
    zygote = Zygote.start()
    from muster_agent.app import Agent  # noqa: PLC0415 - see above

    level = logging.DEBUG if arguments.verbose else logging.INFO
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("tuf").setLevel(logging.WARNING)  # it tells of every key that did not sign
    agent = Agent(
        arguments.folder,
        isolation="inline" if arguments.inline else None,
        zygote=zygote,
        notifier=notifier,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    try:
        agent.run()
    finally:
        notifier.stopping()
        agent.close()
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from muster_agent.control import STATUS_PATH  # noqa: PLC0415 - see above
    from muster_agent.status import stored_status  # noqa: PLC0415 - see above

    folder, settings = _opened(arguments.folder)
    _print_status(arguments, _asked(folder, STATUS_PATH, b"") or stored_status(folder, settings))
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from muster_agent.control import ROLL_BACK_PATH, RollBackRequest  # noqa: PLC0415 - see above

    folder, _ = _opened(arguments.folder)
    status = _asked(folder, ROLL_BACK_PATH, msgspec.json.encode(RollBackRequest(arguments.model)))
    if status is None:
        raise NotFoundError(f"no agent runs from {folder.root}; start one with: muster-agent run FOLDER")
    _print_status(arguments, status)
    return 0


def _infer(arguments: argparse.Namespace) -> int:
    from muster_agent.api import Client  # noqa: PLC0415 - see above
    from muster_agent.batch import run  # noqa: PLC0415 - see above

    wish = run.Wish(
        arguments.model, arguments.source, arguments.out, rows=arguments.rows, scale=arguments.scale
    )
    meter = run.Meter(sys.stderr, clock=time.monotonic)
    with Client(arguments.folder) as client:
        try:
            summary = run.run(client, wish, meter.tell)
        finally:
            meter.close()
    said = f"{summary.rows} rows by {summary.model} {summary.version} in {summary.output}"
    _print(arguments, summary, said)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from muster_agent import doctor  # noqa: PLC0415 - see above

    folder, settings = _opened(arguments.folder)
    findings = doctor.examine(folder, settings)
    _print(arguments, findings, doctor.render(findings))
    return 1 if any(finding.state == "wrong" for finding in findings) else 0


def _check(arguments: argparse.Namespace) -> int:
    from muster_agent import check  # noqa: PLC0415 - see above

    engine = CPU_ALONE if arguments.device is None else _opened(arguments.device)[1].engine
    return check.main(arguments.path, arguments.output, engine=engine)


def _opened(root: Path) -> tuple[Folder, Settings]:
    folder = Folder(root)
    return folder, load_settings(folder)


def _asked(folder: Folder, path: str, body: bytes) -> "Status | None":
    """Return what a running agent answers; None when none runs."""
    from muster_agent.api import Client, socket_of  # noqa: PLC0415 - see above
    from muster_agent.status import Status  # noqa: PLC0415 - see above

    with Client(socket_of(folder.root), seconds=ANSWER_SECONDS) as client:
        try:
            return msgspec.json.decode(client.command(path, body), type=Status)
        except PredictionError as error:
            if error.reason is Reason.LOAD_FAILED:
                return None
            raise


def _print_status(arguments: argparse.Namespace, status: "Status") -> None:
    from muster_agent.status import render  # noqa: PLC0415 - see above

    _print(arguments, status, render(status))


def _print(arguments: argparse.Namespace, content: object, text: str) -> None:
    sys.stdout.write((msgspec.json.encode(content).decode() if arguments.output == "json" else text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
