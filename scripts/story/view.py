"""What the demo prints: the chapters as they happen, and a summary with figures at the end."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


class View:
    """A live list of steps on a terminal; plain lines where the output is a file."""

    def __init__(self, url: str) -> None:
        self._console = Console(file=sys.stdout, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        self._url = url
        self._done: list[tuple[str, str, float]] = []
        self._title = ""
        self._detail = ""
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        self._console.print(f"Muster demo. Dashboard: {self._url}")
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, title: str) -> None:
        """Show that a step has begun."""
        self._title, self._detail, self._since = title, "", time.monotonic()
        self._refresh()

    def tell(self, detail: str) -> None:
        """Show what the running step sees now."""
        self._detail = detail
        self._refresh()

    def end(self, fact: str) -> None:
        """Keep what a step has shown."""
        seconds = time.monotonic() - self._since
        self._done.append((self._title, fact, seconds))
        self._console.print(
            Text.assemble(("✔ ", "green"), (self._title, "bold"), f"  {fact}  ", (f"{seconds:.1f} s", "dim")),
            soft_wrap=True,
        )
        self._title = ""
        self._refresh()

    def fail(self, message: str) -> None:
        """Say what did not happen."""
        self._console.print(Text.assemble(("✘ ", "red"), (self._title, "bold"), f"  {message}"))

    def summary(self, seconds: float) -> None:
        """Print every step with what it showed."""
        table = Table(title=f"What was shown, in {seconds:.0f} s", title_justify="left", show_lines=False)
        table.add_column("step", no_wrap=True)
        table.add_column("shown")
        table.add_column("seconds", justify="right")
        for title, fact, took in self._done:
            table.add_row(title, fact, f"{took:.1f}")
        self._console.print(table)

    def note(self, line: str) -> None:
        """Print a line of its own."""
        self._console.print(line)

    def _refresh(self) -> None:
        if self._title:
            self._live.update(Spinner("dots", Text.assemble((self._title, "bold"), f"  {self._detail}")))
        else:
            self._live.update(Text(""))
