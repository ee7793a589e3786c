"""Four eyes with the real command: what is signed is shown, carried to the second person, and handed over."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ceremony import ZOO, Site, opened, prepare
from support.controller_process import BIN, execute


@pytest.fixture(scope="module")
def two_owners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller in a folder to copy, where ``digits`` needs Ada's and Bo's signatures from the start."""
    folder = prepare(tmp_path_factory.mktemp("prepared"))
    with opened(tmp_path_factory.mktemp("made"), folder) as site:
        site.init()
        public = [option for name in ("ada", "bo") for option in ("--key", str(site.make_key(name)[1]))]
        keys = ("--threshold", "2", "--keys", str(site.keys))
        done = site.muster("keys", "add-owner", "digits", *public, *keys)
        assert done.code == 0, done.err
        return site.folder


@pytest.fixture
def site(two_owners: Path, tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path, two_owners) as site:
        yield site


@pytest.fixture
def owners(site: Site) -> tuple[Path, Path]:
    """The keys of the two."""
    return site.folder / "ada/ada.key", site.folder / "bo/bo.key"


def ask(site: Site, key: Path, version: str = "digits/1.0.0", *options: str) -> Path:
    """Publish with one of two keys; return the request that waits for the other."""
    waiting = site.folder / "waiting.request.json"
    done = site.muster("publish", str(ZOO / version), "--key", str(key), "--request", str(waiting), *options)
    assert done.code == 0, done.err
    return waiting


def offline(waiting: Path, key: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Sign on a machine that knows no controller."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return subprocess.run(
        [str(BIN / "muster"), "sign", str(waiting), "--key", str(key), *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_publishing_shows_what_it_signs(site: Site, owners: tuple[Path, Path]) -> None:
    both = ("--key", str(owners[0]), "--key", str(owners[1]))
    waived = ("--waive", "accuracy=only to see it fail")
    done = site.muster("publish", str(ZOO / "digits/1.2.0"), *both, *waived)

    assert done.code == 0, done.err
    shown = done.err
    for words in (
        "digits@1.2.0",
        "accuracy=",
        "only to see it fail",
        "baseline.bin",
        "model-digits 1, expires",
    ):
        assert words in shown
    digest = site.told("version", "show", "digits@1.2.0")["version"]["digest"]
    assert digest in shown


def test_two_people_release_a_version_by_a_file_that_is_carried(
    site: Site, owners: tuple[Path, Path]
) -> None:
    waiting = ask(site, owners[0])
    stick = site.folder / "stick" / "request.json"
    stick.parent.mkdir()
    stick.write_bytes(waiting.read_bytes())
    before = site.released()
    signed = offline(stick, owners[1])
    resumed = site.muster("publish", "--resume", str(stick))
    again = site.muster("publish", "--resume", str(stick))
    site.device().refresh()

    assert before == []
    assert signed.returncode == 0, signed.stderr
    assert "digits@1.0.0" in signed.stderr
    assert "have" in signed.stderr
    assert "complete" in signed.stdout
    assert resumed.code == 0, resumed.err
    assert "digits@1.0.0" in resumed.out
    assert again.code == 0, again.err
    assert site.released() == ["digits@1.0.0"]


def test_the_second_person_signs_and_hands_over_in_one_step_where_there_is_a_network(
    site: Site, owners: tuple[Path, Path]
) -> None:
    waiting = ask(site, owners[0])
    done = site.muster("publish", "--resume", str(waiting), "--key", str(owners[1]), "-o", "json")

    assert done.code == 0, done.err
    assert json.loads(done.out)["version"]["name"] == "digits@1.0.0"
    assert "digits@1.0.0" in done.err


def test_one_signature_of_two_releases_nothing(site: Site, owners: tuple[Path, Path]) -> None:
    waiting = ask(site, owners[0])
    twice = offline(waiting, owners[0])
    resumed = site.muster("publish", "--resume", str(waiting))

    assert twice.returncode == 0
    assert "1 more for model-digits" in twice.stdout
    assert resumed.code == 5
    assert "1 more for model-digits" in resumed.err
    assert site.released() == []


def test_a_key_that_holds_no_role_signs_nothing(site: Site, owners: tuple[Path, Path]) -> None:
    waiting = ask(site, owners[0])
    before = waiting.read_bytes()
    stranger, _ = site.make_key("mallory")
    done = offline(waiting, stranger)

    assert done.returncode == 1
    assert "may not sign this" in done.stderr
    assert waiting.read_bytes() == before


def test_a_request_whose_manifest_was_exchanged_is_refused_before_it_is_signed(
    site: Site, owners: tuple[Path, Path]
) -> None:
    waiting = ask(site, owners[0])
    content = json.loads(waiting.read_bytes())
    other = site.folder / "other.json"
    site.muster("publish", str(ZOO / "digits/1.1.0"), "--key", str(owners[0]), "--request", str(other))
    content["manifest"] = json.loads(other.read_bytes())["manifest"]
    waiting.write_text(json.dumps(content))
    done = offline(waiting, owners[1])

    assert done.returncode == 1
    assert "does not list digits@1.1.0" in done.stderr


def test_a_request_that_was_overtaken_by_another_release_is_refused(
    site: Site, owners: tuple[Path, Path]
) -> None:
    first = ask(site, owners[0])
    second = site.folder / "second.json"
    site.muster("publish", str(ZOO / "digits/1.1.0"), "--key", str(owners[0]), "--request", str(second))
    for waiting in (first, second):
        assert offline(waiting, owners[1]).returncode == 0
    released = site.muster("publish", "--resume", str(second))
    late = site.muster("publish", "--resume", str(first))

    assert released.code == 0, released.err
    assert late.code != 0
    assert late.err.count("\n") == 1
    assert site.released() == ["digits@1.1.0"]


def test_a_version_is_withdrawn_by_two_people_too(site: Site, owners: tuple[Path, Path]) -> None:
    site.muster("publish", "--resume", str(ask(site, owners[0])), "--key", str(owners[1]))
    waiting = site.folder / "withdraw.json"
    asked = site.muster(
        "version", "withdraw", "digits@1.0.0", "--key", str(owners[0]), "--request", str(waiting)
    )
    signed = offline(waiting, owners[1], "-o", "json")
    resumed = site.muster("publish", "--resume", str(waiting))

    assert asked.code == 0, asked.err
    assert json.loads(signed.stdout)["complete"] is True
    assert resumed.code == 0, resumed.err
    assert [one["withdrawn_at"] is not None for one in site.told("version", "list")] == [True]


def test_a_request_is_never_overwritten(site: Site, owners: tuple[Path, Path]) -> None:
    waiting = ask(site, owners[0])
    again = site.muster(
        "publish", str(ZOO / "digits/1.0.0"), "--key", str(owners[0]), "--request", str(waiting)
    )

    assert again.code == 5
    assert "may hold signatures" in again.err


def test_whoever_says_no_at_the_terminal_signs_nothing(site: Site, owners: tuple[Path, Path]) -> None:
    waiting = ask(site, owners[0])
    before = waiting.read_bytes()
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [str(BIN / "muster"), "sign", str(waiting), "--key", str(owners[1])],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, b"n\n")
    _, said = child.communicate(timeout=60)
    os.close(ours)

    assert child.returncode == 5
    assert "Sign this? [y/N]" in said
    assert "nothing was signed" in said
    assert waiting.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected a request to sign"),
        (b"{}", "expected a request to sign"),
        (b'{"root":"","targets":"","parts":{}}', "holds no document"),
        (b'{"root":"","targets":"","parts":{"targets":"e30="}}', "root: Failed"),
    ],
)
def test_what_is_no_request_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(content)
    done = offline(path, tmp_path / "key")

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("publish",), ("publish", "x"), ("sign", "x"), ("sign",)])
def test_a_command_that_lacks_something_says_what(arguments: tuple[str, ...]) -> None:
    done = execute("muster", *arguments)

    assert done.code == 2
    assert done.err.count("\n") == 1
