"""``muster-agent doctor`` on a real device: good where all is well, and a fix for everything that is not."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from muster_agent import doctor
from muster_agent.__main__ import main
from muster_agent.config import Folder, load_settings
from muster_agent.doctor.finding import Finding
from muster_agent.identity import certificate_life
from muster_agent.serving import localsocket
from muster_models import toml_file
from muster_models.trust import memory
from support import agent_site
from support.agent_site import AgentSite

NETWORK = {"controller", "broker", "repository"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path_factory.mktemp("site")) as site:
        yield site


def states(findings: list[Finding]) -> dict[str, str]:
    """Return the worst state of each check."""
    order = ("good", "notice", "wrong")
    return {
        finding.check: max((each.state for each in findings if each.check == finding.check), key=order.index)
        for finding in findings
    }


def examine(site: AgentSite, **changes: object) -> list[Finding]:
    settings = replace(load_settings(site.device), **changes)
    return doctor.examine(site.device, settings)


def one(findings: list[Finding], check: str) -> Finding:
    return next(each for each in findings if each.check == check and each.state != "good")


def test_a_device_that_works_has_nothing_wrong(site: AgentSite) -> None:
    found = states(examine(site))

    assert set(found) == set(doctor.CHECKS)
    assert {check for check, state in found.items() if state == "wrong"} == set()
    assert found["agent"] == "notice"  # none runs
    assert {found[check] for check in NETWORK | {"files", "clock", "certificate", "runtimes"}} == {"good"}


def test_a_running_agent_is_seen(site: AgentSite) -> None:
    process = site.start_agent()
    site.until(lambda: site.hellos)
    found = states(examine(site))
    process.terminate()
    process.wait(20)

    assert found["agent"] == "good"


def test_everything_that_is_not_good_comes_with_a_fix(site: AgentSite) -> None:
    away = replace(load_settings(site.device).mqtt, port=1)
    findings = examine(
        site,
        mqtt=away,
        controller="https://127.0.0.1:1",
        repository="https://127.0.0.1:1",
        outbox_bytes=2**60,
    )
    found = states(findings)

    assert {check for check, state in found.items() if state == "wrong"} == NETWORK
    assert found["disk"] == "notice"
    assert all(finding.fix != "" for finding in findings if finding.state != "good")
    assert all(finding.fix == "" for finding in findings if finding.state == "good")


def test_a_broker_of_somebody_else_fails_by_tls(site: AgentSite, tmp_path: Path) -> None:
    side = load_settings(site.device).mqtt
    plain = replace(side, host="localhost.localdomain", port=side.port)
    named = doctor.examine(site.device, replace(load_settings(site.device), mqtt=plain))

    assert states(named)["broker"] == "wrong"


def test_a_clock_behind_what_was_signed_is_wrong(site: AgentSite) -> None:
    path = site.device.trust / "memory"
    before = memory.load(path)
    issued = certificate_life(site.device)[0].timestamp()
    memory.save(path, memory.at_least(before, issued))
    late = doctor.examine(site.device, load_settings(site.device), clock=lambda: issued - 86_400)
    memory.save(path, before)

    assert [finding.state for finding in late if finding.check == "clock"] == ["wrong", "wrong"]
    assert "something was signed at" in one(late, "clock").said
    assert "timedatectl" in one(late, "clock").fix


@pytest.mark.parametrize(("share", "state"), [(0.5, "good"), (0.8, "notice"), (1.01, "wrong")])
def test_a_certificate_has_a_life(site: AgentSite, share: float, state: str) -> None:
    due, end = (moment.timestamp() for moment in certificate_life(site.device))
    start = end - (end - due) * 3
    findings = doctor.examine(
        site.device, load_settings(site.device), clock=lambda: start + (end - start) * share
    )

    assert states(findings)["certificate"] == state


def test_a_key_that_others_can_read_is_wrong(site: AgentSite) -> None:
    key = site.device.identity / "device.key"
    key.chmod(0o640)
    found = one(examine(site), "files")
    key.chmod(0o600)

    assert found.state == "wrong"
    assert found.fix == f"chmod 600 {key}"


def test_a_damaged_identity_is_told_and_the_rest_is_looked_at(site: AgentSite) -> None:
    pem = site.device.identity / "device.pem"
    content = pem.read_bytes()
    pem.write_bytes(b"-----BEGIN")
    found = states(examine(site))
    pem.write_bytes(content)

    assert {check for check, state in found.items() if state == "wrong"} == {*NETWORK, "certificate"}


def test_a_socket_that_answers_nothing_is_wrong(site: AgentSite) -> None:
    localsocket.listen(site.device.socket).close()
    found = one(examine(site), "agent")
    site.device.socket.unlink()

    assert found.state == "wrong"


def test_the_command_ends_with_one_when_something_is_wrong(
    site: AgentSite, capsys: pytest.CaptureFixture[str]
) -> None:
    good = main(["doctor", str(site.device.root)]), capsys.readouterr().out
    settings = load_settings(site.device)
    site.device.settings.write_text(toml_file.render(replace(settings, controller="https://127.0.0.1:1")))
    wrong = main(["doctor", str(site.device.root), "-o", "json"]), capsys.readouterr().out
    site.device.settings.write_text(toml_file.render(settings))
    findings = {finding["check"]: finding for finding in json.loads(wrong[1])}

    assert good[0] == 0
    assert "good    broker" in good[1]
    assert wrong[0] == 1
    assert findings["controller"]["state"] == "wrong"
    assert "check name, route and firewall" in findings["controller"]["fix"]


def test_doctor_changes_nothing(site: AgentSite) -> None:
    def listing(folder: Folder) -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in folder.root.rglob("*"))

    before = listing(site.device)
    examine(site)

    assert listing(site.device) == before
    assert os.access(site.device.root, os.W_OK)
