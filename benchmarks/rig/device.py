"""A real agent on a device of its own: enrolled, connected to a broker, running ``digits`` from the zoo."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from story.ports import free_port
from support import agent_site

VERSION = "1.1.0"
MODEL = agent_site.ZOO / "digits" / VERSION / "model.onnx"


@dataclass(frozen=True)
class Device:
    """An agent that answers.

    Attributes:
        folder: Of the device; its socket lies in it.
        port: Of the loopback interface, which answers as the socket does.
    """

    process: int
    folder: Path
    port: int


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Device]:
    """Run an agent, with ``options`` of ``muster-agent run``, until its model is committed and beyond."""
    with agent_site.running(folder) as site:
        digits = site.release_digits(VERSION)
        port = free_port()
        settings = site.device.settings.read_text()
        site.device.settings.write_text(settings.replace("serve_port = 0", f"serve_port = {port}"))
        process = site.start_agent(*options)
        try:
            site.want(digits, window_seconds=60.0)
            site.until_committed(digits)
            yield Device(process.pid, site.device.root, port)
        finally:
            process.terminate()
            process.wait()
