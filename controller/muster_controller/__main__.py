"""``muster-controller``: founds a controller's folder, and runs it."""

import datetime as dt
import logging
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, validators

from muster_models import __version__
from muster_models.errors import MusterError

app = App(
    name="muster-controller",
    help="The fleet's side: registry, rollouts, drift and the dashboard.",
    version=__version__,
)
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - devices elsewhere cannot reach loopback


@app.command
def init(
    folder: Annotated[Path, Parameter(name="FOLDER")],
    /,
    *,
    port: Annotated[int, Parameter(help="Of the API and the dashboard, on loopback.")] = 8420,
    device_port: Annotated[int, Parameter(help="Where devices enrol and fetch files.")] = 8421,
    mqtt_port: Annotated[int, Parameter(help="Of the broker.")] = 8883,
    window: Annotated[
        float,
        Parameter(
            help="Seconds that a window of measurements lasts; rollouts and drift are judged once a window.",
            validator=validators.Number(gte=0.5, lte=86_400),
        ),
    ] = 300.0,
    database: Annotated[
        str, Parameter(help="URL of a PostgreSQL database; without it, a SQLite file in FOLDER.")
    ] = "",
    name: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="A host name or address by which devices reach this machine."),
    ] = (),
) -> None:
    """Make FOLDER, with settings, certificates, online keys and the operator's token.

    Without --name the controller is for devices on this machine only.
    """
    from muster_controller.config import Settings  # noqa: PLC0415 - the server's imports take a second
    from muster_controller.founding import found  # noqa: PLC0415 - as above
    from muster_models.wire import Reporting  # noqa: PLC0415 - as above

    settings = Settings(
        port=port,
        device_port=device_port,
        mqtt_port=mqtt_port,
        database=database,
        names=tuple(dict.fromkeys((*name, *Settings().names))),
        reporting=Reporting(window_seconds=window),
        device_host=ANY_ADDRESS if name else Settings().device_host,
    )
    found(folder, settings, dt.datetime.now(dt.UTC))
    sys.stdout.write(
        f"{folder} is ready. Start: muster-controller run {folder}\n"
        f"For the operator's command: export MUSTER_URL=http://127.0.0.1:{port} "
        f"MUSTER_TOKEN_FILE={folder.absolute() / 'operator.token'}\n"
    )


@app.command
def run(folder: Annotated[Path, Parameter(name="FOLDER")], /, *, verbose: bool = False) -> None:
    """Run the controller of FOLDER until it is told to end."""
    from muster_controller.app import run as run_controller  # noqa: PLC0415 - takes a second

    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    run_controller(folder)


@app.command
def move(
    folder: Annotated[Path, Parameter(name="FOLDER")],
    /,
    *,
    database: Annotated[
        str, Parameter(help="URL of an empty PostgreSQL database; without it, back to the file in FOLDER.")
    ] = "",
) -> None:
    """Move the rows of FOLDER's controller, which must not run, to another database.

    The old database stays as it is until you remove it.
    """
    from muster_controller.moving import move as move_rows  # noqa: PLC0415 - takes a second

    rows = move_rows(folder, database)
    sys.stdout.write(f"{rows} rows were copied; {folder / 'controller.toml'} names the new database\n")


def main() -> None:
    """Run one command; an error is one line and exit code 1."""
    try:
        app(exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(str(error), 2)
    except MusterError as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"muster-controller: {message}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
