"""Publishers and their keys beside a real controller: what they run, and what a device then believes."""

import contextlib
import datetime as dt
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muster_controller.api.app import make_api
from muster_controller.config import Folder, Settings
from muster_controller.founding import found
from muster_controller.service.opening import open_folder
from muster_controller.serving import bind, make_server
from muster_controller.store.blobs import Blobs
from muster_models.trust.client import TrustClient
from support.controller_process import Done, execute
from support.office import serving
from support.repository import BASE_URL, FolderFetcher

ZOO = Path(__file__).parents[2] / "models/zoo"


@dataclass
class Bureau:
    """The operators' side of a controller, without broker and loop, and the real ``muster`` against it.

    Attributes:
        folder: Holds the controller's own folder, and what the people around it write.
    """

    folder: Path
    url: str = ""
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def home(self) -> Path:
        """The controller's folder."""
        return self.folder / "controller"

    def start(self) -> None:
        """Open the folder and listen."""
        opened = open_folder(Folder(self.home), Settings(), clock=time.time)
        self._running.callback(opened.close)
        listener = self._running.enter_context(contextlib.closing(bind("127.0.0.1", 0, setting="port")))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._running.enter_context(serving(make_server(make_api(opened.context, opened.token)), listener))

    def stop(self) -> None:
        """End; what is on the disk is all that stays."""
        self._running.close()

    def muster(self, *arguments: str, **environment: str) -> Done:
        """Run the operator's command against it."""
        settings = {"MUSTER_URL": self.url, "MUSTER_TOKEN_FILE": str(self.home / "operator.token")}
        return execute("muster", *arguments, **{**settings, **environment})


@dataclass(frozen=True)
class Site:
    """A controller with a signed repository, and the folder of its offline keys."""

    controller: Bureau

    @property
    def folder(self) -> Path:
        return self.controller.folder

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def metadata(self) -> Path:
        return self.controller.home / "tuf/metadata"

    def init(self, *options: str, **environment: str) -> None:
        """Make the offline keys, unencrypted."""
        made = self.muster("keys", "init", str(self.keys), "--no-passphrase", *options, **environment)
        assert made.code == 0, made.err

    def muster(self, *arguments: str, **environment: str) -> Done:
        return self.controller.muster(*arguments, **environment)

    def told(self, *arguments: str, **environment: str) -> Any:
        """Return the JSON that a command prints."""
        done = self.muster(*arguments, "-o", "json", **environment)
        assert done.code == 0, done.err
        return json.loads(done.out)

    def publish(self, version: str = "digits/1.0.0", *options: str, **environment: str) -> Done:
        return self.muster("publish", str(ZOO / version), "--keys", str(self.keys), *options, **environment)

    def release(self, version: str = "digits/1.0.0") -> None:
        """Publish what must succeed."""
        done = self.publish(version)
        assert done.code == 0, done.err

    def holders(self) -> dict[str, tuple[int, list[str]]]:
        """Return threshold and keys of every role."""
        return {one["role"]: (one["threshold"], one["keys"]) for one in self.told("keys", "show")}

    def released(self) -> list[str]:
        return [one["name"] for one in self.told("version", "list")]

    def make_key(self, name: str) -> tuple[Path, Path]:
        """Make a key as its owner does, on a machine without a controller; return it and its public half."""
        path, public = self.folder / name / f"{name}.key", self.folder / f"{name}.public.json"
        made = execute("muster", "keys", "make", str(path), "--no-passphrase")
        assert made.code == 0, made.err
        public.write_text(made.out)
        return path, public

    def device(self, name: str = "device") -> TrustClient:
        """Return a device that was enrolled when root was in its first version; it keeps what it learned."""
        return TrustClient(
            self.folder / name,
            root=(self.metadata / "1.root.json").read_bytes(),
            base_url=BASE_URL,
            fetcher=Files(self.controller.home),
            clock=lambda: dt.datetime.now(dt.UTC).timestamp(),
        )


def prepare(folder: Path) -> Path:
    """Found a controller in a folder for tests to copy: founding takes longer than most of them."""
    found(folder / "controller", Settings(), dt.datetime.now(dt.UTC))
    return folder


@contextmanager
def opened(folder: Path, prepared: Path) -> Iterator[Site]:
    """Open a copy of what was prepared."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    bureau = Bureau(folder)
    bureau.start()
    try:
        yield Site(bureau)
    finally:
        bureau.stop()


class Files(FolderFetcher):
    """Serves a controller's folder as its HTTP server does."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "tuf")
        self._blobs = Blobs(Folder(home).blobs)

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(f"{BASE_URL}/")
        if path.startswith("blobs/"):
            return iter([self._blobs.path(path.removeprefix("blobs/")).read_bytes()])
        return super()._fetch(url)


def keyid_of(public: Path) -> str:
    done = execute("muster", "keys", "public", str(public))
    return done.err.removeprefix("key id ").strip()
