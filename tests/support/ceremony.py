"""Publishers and their keys beside a real controller: what they run, and what a device then believes."""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster_models.trust.client import TrustClient
from support.controller_process import ControllerProcess, Done, execute
from support.repository import BASE_URL, FolderFetcher

ZOO = Path(__file__).parents[2] / "models/zoo"


@dataclass(frozen=True)
class Site:
    """A controller with a signed repository, and the folder of its offline keys."""

    controller: ControllerProcess

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


class Files(FolderFetcher):
    """Serves a controller's folder as its HTTP server does."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "tuf")


def keyid_of(public: Path) -> str:
    done = execute("muster", "keys", "public", str(public))
    return done.err.removeprefix("key id ").strip()
