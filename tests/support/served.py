"""The operators' API of a controller, really served, and the ``muster`` command against it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muster_controller.api.app import make_api
from muster_controller.serving import bind, make_server
from support.controller_process import Done, execute, execute_on_terminal
from support.office import Office, serving


@dataclass(frozen=True)
class Served:
    """An address, and who asks there.

    Attributes:
        token_file: Of the operator; somebody else has another one.
    """

    url: str
    token_file: Path

    def muster(self, *arguments: str, token_file: Path | None = None) -> Done:
        """Run a command as the operator, or as whoever has another token."""
        return execute("muster", *arguments, **self._environment(token_file or self.token_file))

    def on_terminal(self, *arguments: str) -> Done:
        """Run a command of the operator at a terminal."""
        return execute_on_terminal("muster", *arguments, **self._environment(self.token_file))

    def _environment(self, token_file: Path) -> dict[str, str]:
        return {"MUSTER_URL": self.url, "MUSTER_TOKEN_FILE": str(token_file)}


@contextlib.contextmanager
def served(office: Office) -> Iterator[Served]:
    """Serve until the block ends."""
    api = make_server(make_api(office.context, office.opened.token))
    with contextlib.closing(bind("127.0.0.1", 0, setting="port")) as listener, serving(api, listener):
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", office.context.folder.token)
