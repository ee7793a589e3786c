"""``muster-controller`` as a process: it starts, ends, and keeps its broker."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.controller_process import SECONDS, ControllerProcess, execute
from support.waiting import until


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path) as running:
        yield running


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def health_of(controller: ControllerProcess) -> dict[str, Any]:
    """Return what the status says of its parts; nothing while nobody answers."""
    found: dict[str, Any] = (controller.status() or {}).get("health") or {}
    return found


def broker_of(controller: ControllerProcess) -> int:
    """Return the broker's process, by what the status says."""
    words = str(health_of(controller).get("broker", "")).rpartition("process ")[2]
    return int(words) if words.isdecimal() else 0


def test_a_folder_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    home = tmp_path / "controller"
    first = execute("muster-controller", "init", str(home))
    again = execute("muster-controller", "init", str(home))

    assert (first.code, again.code) == (0, 1)
    assert again.err == f"muster-controller: {home}: exists already and is not empty\n"
    assert home.stat().st_mode & 0o777 == 0o700
    private = [home / "operator.token", home / "pki/ca.key", *(home / "keys").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["controller"]


def test_a_folder_that_nobody_made_says_how(tmp_path: Path) -> None:
    done = execute("muster-controller", "run", str(tmp_path / "nothing"))

    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "muster-controller init FOLDER" in done.err


def test_api_dashboard_and_device_side_answer(controller: ControllerProcess) -> None:
    device_side = f"https://127.0.0.1:{controller.ports['device']}"
    with httpx.Client(verify=False, trust_env=False, timeout=SECONDS) as client:
        dashboard = client.get(controller.url, follow_redirects=True)
        unknown = client.get(f"{controller.url}/api/v1/nothing")
        device = client.get(f"{device_side}/ca.pem")

    assert dashboard.status_code == 200
    assert "text/html" in dashboard.headers["content-type"]
    assert unknown.status_code == 401
    assert device.text == (controller.home / "pki/ca.pem").read_text()


def test_it_ends_on_request_and_leaves_nothing_behind(controller: ControllerProcess) -> None:
    assert controller.child is not None
    began = children_of(controller.child.pid)

    done = controller.stop()

    assert done.code == 0, done.out
    assert len(began) > 0
    assert [pid for pid in began if is_alive(pid)] == []
    for port in controller.ports.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert "Traceback" not in done.out


@pytest.mark.parametrize(
    ("name", "setting"), [("web", "port"), ("device", "device_port"), ("mqtt", "mqtt_port")]
)
def test_a_port_in_use_is_one_line_and_exit_code_1(tmp_path: Path, name: str, setting: str) -> None:
    controller = ControllerProcess(tmp_path)
    controller.init()
    with socket.create_server(("127.0.0.1", controller.ports[name])):
        done = execute("muster-controller", "run", str(controller.home))

    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("muster-controller: ")
    assert str(controller.ports[name]) in last
    assert setting in last
    assert "Traceback" not in done.err


def test_a_second_controller_of_the_same_folder_is_refused(controller: ControllerProcess) -> None:
    done = execute("muster-controller", "run", str(controller.home))

    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "runs already" in done.err


def test_a_broker_that_is_killed_comes_back(controller: ControllerProcess) -> None:
    controller.wait(lambda: broker_of(controller) > 0)
    first = broker_of(controller)

    os.kill(first, signal.SIGKILL)

    controller.wait(lambda: broker_of(controller) not in {0, first})
    controller.wait(lambda: health_of(controller).get("link") == "online")
    assert not is_alive(first)


def test_after_a_kill_it_starts_again_and_takes_over_the_broker(controller: ControllerProcess) -> None:
    assert controller.child is not None
    controller.wait(lambda: broker_of(controller) > 0)
    orphan = broker_of(controller)
    controller.child.kill()
    controller.child.communicate()

    controller.start()

    controller.wait(lambda: broker_of(controller) not in {0, orphan})
    assert until(lambda: not is_alive(orphan)), "whoever adopted it takes note of its end when it likes"
