"""Letting machines in and turning them away, with the real commands, the real controller and its broker."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client import SECONDS, Stranger, identity
from support.controller_process import BIN, ControllerProcess, Done, execute
from support.waiting import until


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """A controller that lets machines ask."""
    running = ControllerProcess(tmp_path_factory.mktemp("admission"))
    assert running.init().code == 0
    settings = running.home / "controller.toml"
    settings.write_text(settings.read_text().replace("enrol_on_request = false", "enrol_on_request = true"))
    running.start()
    made = running.muster("keys", "init", str(running.folder / "keys"), "--no-passphrase")
    assert made.code == 0, made.err
    running.wait(lambda: ((running.status() or {}).get("health") or {}).get("link") == "online")
    yield running
    running.stop()


def url(controller: ControllerProcess) -> str:
    return f"https://127.0.0.1:{controller.ports['device']}"


def enrol(controller: ControllerProcess, token: str, folder: Path, *more: str) -> Done:
    return execute("muster-agent", "enrol", url(controller), token, "--folder", str(folder), *more)


def session(controller: ControllerProcess, folder: Path, device: str) -> Stranger:
    """Return an MQTT session with the certificate in a device's folder."""
    home = folder / "identity"
    for kind in ("pem", "key"):
        link = home / f"{device}.{kind}"
        if not link.exists():
            link.symlink_to(home / f"device.{kind}")
    return Stranger(controller.ports["mqtt"], identity(home, device), device)


def test_a_batch_enrols_with_one_token_until_it_is_revoked(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    made = controller.muster("device", "token", "--count", "20", "--prefix", "press-", "--label", "line=3")
    token = made.out.strip()
    first = enrol(controller, token, tmp_path / "1", "-o", "json")
    chosen = enrol(controller, token, tmp_path / "2", "--id", "press-hall", "-o", "json")
    listed = json.loads(controller.muster("device", "tokens", "-o", "json").out)
    revoked = controller.muster("device", "revoke-token", listed[0]["id"], "--reason", "batch is done")
    late = enrol(controller, token, tmp_path / "3")

    assert (made.code, made.err.startswith("for 20 devices until")) == (0, True)
    assert [json.loads(done.out)["device"] for done in (first, chosen)] == ["press-01", "press-hall"]
    assert (listed[0]["subject"], listed[0]["used"], listed[0]["count"]) == ("press-*", 2, 20)
    assert (revoked.code, revoked.out) == (0, "the token for press-* is revoked\n")
    assert (late.code, "was revoked" in late.err) == (1, True)
    assert "no token is out" in controller.muster("device", "tokens").err


def test_a_machine_asks_an_operator_accepts_and_it_comes_in(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    pending = controller.muster("device", "pending")
    found = re.search("--ca-sha256 ([0-9a-f]{64})", pending.err)
    assert found is not None
    command = [str(BIN / "muster-agent"), "enrol", url(controller), "--request", "oven-1"]
    with subprocess.Popen(
        [*command, "--ca-sha256", found[1], "--folder", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as machine:
        assert machine.stderr is not None
        told = machine.stderr.readline()
        code = told.split()[-1]
        listed = controller.muster("device", "pending")
        accepted = controller.muster("device", "accept", code.lower(), "--label", "hall=2")
        out, err = machine.communicate(timeout=SECONDS)

    assert (code in listed.out, "oven-1" in listed.out) == (True, True)
    assert (accepted.code, accepted.out) == (0, "oven-1 is let in\n")
    assert (machine.returncode, err) == (0, "")
    assert out.startswith("enrolled as oven-1")
    assert "hall=2" in controller.muster("device", "show", "oven-1").out


def test_a_machine_that_is_refused_is_told_so(controller: ControllerProcess, tmp_path: Path) -> None:
    ca = json.loads(controller.muster("device", "pending", "-o", "json").out)["ca_sha256"]
    options = ["--request", "oven-2", "--ca-sha256", ca, "--folder", str(tmp_path)]
    late = execute("muster-agent", "enrol", url(controller), *options, "--wait-minutes", "0")
    code = late.err.splitlines()[0].split()[-1]
    refused = controller.muster("device", "refuse", code, "--reason", "nobody knows it")
    again = execute("muster-agent", "enrol", url(controller), *options)

    assert (late.code, "nobody has let oven-2 in" in late.err) == (1, True)
    assert (refused.code, refused.out) == (0, "oven-2 is refused\n")
    assert (again.code, "an operator refused" in again.err) == (1, True)


def test_a_device_that_lost_its_disk_comes_back_and_its_old_session_ends(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    enrol(controller, controller.muster("device", "token", "lathe-1").out.strip(), tmp_path / "old")
    old = session(controller, tmp_path / "old", "lathe-1")
    assert old.connect() is True
    without = controller.muster("device", "token", "lathe-1")
    token = controller.muster("device", "token", "lathe-1", "--again").out.strip()

    assert old.lost.wait(SECONDS) is True
    assert session(controller, tmp_path / "old", "lathe-1").connect() is False
    assert (without.code, "--again" in without.err) == (5, True)
    assert enrol(controller, token, tmp_path / "new").code == 0
    new = session(controller, tmp_path / "new", "lathe-1")
    assert new.connect() is True
    assert session(controller, tmp_path / "old", "lathe-1").connect() is False
    new.close()
    old.close()


def test_a_revoked_device_is_cut_off_within_moments_and_stays_out(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    enrol(controller, controller.muster("device", "token", "lathe-2").out.strip(), tmp_path)
    device = session(controller, tmp_path, "lathe-2")
    assert device.connect() is True

    revoked = controller.muster("device", "revoke", "lathe-2", "--reason", "stolen")

    assert revoked.code == 0
    assert device.lost.wait(SECONDS) is True
    assert until(lambda: not session(controller, tmp_path, "lathe-2").connect()) is True
    device.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("device token", "expected DEVICE"),
        ("device token press-1 --count 3", "expected DEVICE"),
        ("device token --prefix press-", "expected DEVICE"),
        ("device token --count 3", "expected DEVICE"),
        ("device token --count 3 --prefix press- --again", "expected DEVICE"),
    ],
)
def test_a_token_is_for_one_device_or_for_several(
    controller: ControllerProcess, arguments: str, said: str
) -> None:
    done = controller.muster(*arguments.split())

    assert (done.code, said in done.err) == (2, True)


def test_asking_needs_the_fingerprint_of_the_controller(tmp_path: Path) -> None:
    done = execute(
        "muster-agent", "enrol", "https://localhost:1", "--request", "x-1", "--folder", str(tmp_path)
    )
    both = execute("muster-agent", "enrol", "https://localhost:1", "t", "--request", "x", "--folder", "f")

    assert (done.code, "--ca-sha256" in done.err) == (1, True)
    assert (both.code, "either a TOKEN or --request" in both.err) == (1, True)
