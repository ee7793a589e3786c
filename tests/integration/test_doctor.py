"""``muster-agent doctor`` on a real device: good where all is well, and a fix for everything that is not."""

import datetime as dt
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from msgspec.structs import replace

from muster_agent import doctor, sandbox
from muster_agent.__main__ import main
from muster_agent.config import Folder, load_settings
from muster_agent.doctor import local
from muster_agent.doctor.finding import Case, Finding
from muster_agent.identity import certificate_life
from muster_agent.serving import localsocket
from muster_agent.store import STATE
from muster_models import toml_file
from muster_models.engine import EngineOptions
from muster_models.trust import memory
from support import agent_site, device_side
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
    process.wait(60)

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


# What is said to do, for each finding


ENROL = r"muster device token press-1 --again; then into a new folder: muster-agent enrol \S+ TOKEN"
CLOCKS = r"^compare the clock with another one first \(date -u\), and set it: timedatectl set-ntp true"
NOBODY = "https://127.0.0.1:1"
REACH = r"check name, route and firewall to 127.0.0.1, port 1, "
Change = Callable[[AgentSite], dict[str, object]]


def without(name: str) -> Change:
    def change(site: AgentSite) -> dict[str, object]:
        (site.device.root / name).rename(site.device.root / f"{name}.away")
        return {}

    return change


def written(name: str, content: bytes) -> Change:
    def change(site: AgentSite) -> dict[str, object]:
        path = site.device.root / name
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            path.rename(f"{path}.away")
        path.write_bytes(content)
        return {}

    return change


def revoked(site: AgentSite) -> dict[str, object]:
    site.side.refused.add("press-1")
    return {}


def empty(site: AgentSite) -> dict[str, object]:
    site.side.files = site.folder / "nowhere"
    return {}


@pytest.fixture
def mended(site: AgentSite) -> Iterator[None]:
    """Put everything back that a case took away."""
    before = set(site.device.root.rglob("*"))
    yield
    for path in sorted(site.device.root.rglob("*.away")):
        path.rename(path.with_suffix(""))
    for path in sorted(set(site.device.root.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    site.side.refused.clear()
    site.side.files = site.repository.folder


CASES: dict[str, tuple[Change, str, str, str]] = {
    "no key": (without("identity/device.key"), "files", "lacks device.key", ENROL),
    "no certificate": (without("identity/device.pem"), "files", "lacks device.pem", ENROL),
    "no authority": (without("identity/ca.pem"), "files", "lacks ca.pem", ENROL),
    "an identity that is not whole": (
        without("identity/device.pem"),
        "certificate",
        "no usable identity: device.pem missing",
        ENROL,
    ),
    "what needs the identity": (
        without("identity/device.pem"),
        "broker",
        "could not be looked at: .*device.pem missing",
        "^mend first what stands above as wrong$",
    ),
    "no root": (without("root.json"), "root", "root.json is missing", ENROL),
    "a damaged root": (written("root.json", b"{"), "root", "root.json is damaged", ENROL),
    "another root": (
        written("root.json", b'{"signed": {"_type": "targets"}}'),
        "root",
        "is 'targets', not a root",
        ENROL,
    ),
    "a damaged state": (
        written(f"store/{STATE}", b"x"),
        "state",
        "was damaged in every copy",
        "let the agent run: the controller orders anew",
    ),
    "no controller": (lambda _: {"controller": NOBODY}, "controller", "Connection refused$", REACH),
    "no repository": (lambda _: {"repository": NOBODY}, "repository", "Connection refused$", REACH),
    "no broker": (
        lambda site: {"mqtt": replace(load_settings(site.device).mqtt, port=1)},
        "broker",
        "cannot be reached: Connection refused$",
        REACH,
    ),
    "a device that was revoked": (
        revoked,
        "repository",
        "HTTP status 403",
        f"^this device was revoked, or its certificate replaced: muster device show press-1; .*{ENROL}",
    ),
    "a repository without keys": (
        empty,
        "repository",
        "HTTP status 404",
        "^on the controller: muster keys init$",
    ),
    "little room": (
        lambda _: {"outbox_bytes": 2**60},
        "disk",
        "are wanted",
        r"^free \d+ MB there, or lower outbox_bytes",
    ),
    "no isolation": (
        lambda _: {"isolation": "inline"},
        "sandbox",
        "models run inside the agent",
        '^isolation = "process", unless',
    ),
    "no accelerator": (
        lambda _: {"engine": EngineOptions(onnx_providers=("NoSuchExecutionProvider",))},
        "runtimes",
        "NoSuch",
        "take it out of onnx_providers in agent.toml; until then the CPU answers$",
    ),
    "no agent": (
        lambda _: {},
        "agent",
        "none runs",
        "^start it: systemctl start muster-agent@NAME, or muster-agent run",
    ),
}


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(("change", "check", "said", "fix"), CASES.values(), ids=CASES)
def test_a_fix_is_for_what_was_found(
    site: AgentSite, change: Change, check: str, said: str, fix: str
) -> None:
    settings = replace(load_settings(site.device), **change(site))
    case = Case(site.device, settings, time.time)
    found = one(list(doctor._tried(check, doctor.CHECKS[check], case)), check)

    assert re.search(said, found.said), found
    assert re.search(fix, found.fix), found
    assert not re.search(r"Errno|HTTPSConnection|object at", found.said), found


def test_a_certificate_that_ended_by_this_clock_alone_leads_to_the_clock_first(site: AgentSite) -> None:
    ahead = certificate_life(site.device)[1].timestamp() + 1
    findings = doctor.examine(site.device, load_settings(site.device), clock=lambda: ahead)

    assert re.search(
        f"{CLOCKS}; if it is right, on the controller: {ENROL}", one(findings, "certificate").fix
    )
    assert "ahead of the controller's" in one(findings, "clock").said


def test_servers_whose_certificates_have_ended_by_this_clock_lead_to_the_clock_first(
    site: AgentSite,
) -> None:
    now = dt.datetime.now(dt.UTC)
    with device_side.serving(site.authority, at=now - dt.timedelta(days=1500)) as old:
        port = int(old.url.rpartition(":")[2])
        findings = doctor.examine(
            site.device,
            replace(
                load_settings(site.device),
                controller=old.url,
                repository=f"{old.url}/repository",
                mqtt=replace(load_settings(site.device).mqtt, port=port),
            ),
            clock=lambda: now.timestamp() + 86_400 * 30,
        )

    for check in sorted(NETWORK):
        assert re.search(CLOCKS, one(findings, check).fix), one(findings, check)
        assert "it has expired by the clock of this machine" in one(findings, check).said
    assert "ahead of what the controller's address says" in one(findings, "clock").said


def test_a_certificate_that_is_on_the_list_of_the_revoked_is_told_so(site: AgentSite, tmp_path: Path) -> None:
    pem = x509.load_pem_x509_certificate((site.device.identity / "device.pem").read_bytes())
    revoked = tmp_path / "revoked.pem"
    revoked.write_bytes(site.authority.list_revoked([f"{pem.serial_number:x}"], dt.datetime.now(dt.UTC)))
    with device_side.serving(site.authority, revoked=revoked) as side:
        port = int(side.url.rpartition(":")[2])
        found = one(examine(site, mqtt=replace(load_settings(site.device).mqtt, port=port)), "broker")

    assert found.said.endswith("it refuses this side's certificate, which is revoked")
    assert re.search(f"muster device show press-1; if it may be here, on the controller: {ENROL}", found.fix)


def test_what_cannot_be_written_or_belongs_to_another_is_named(
    site: AgentSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os, "access", lambda *_: False)
    fixes = [finding.fix for finding in examine(site) if finding.check == "files"]

    assert any("or: chown 4711 " in fix for fix in fixes)
    assert "mount it writable, or mend its permissions" in fixes


def test_an_engine_that_is_missing_or_broken_is_named(
    site: AgentSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "installed", dict)
    none = one(examine(site), "runtimes")
    monkeypatch.setattr(local, "installed", lambda: {"onnx": "onnxruntime 1.0"})
    monkeypatch.setitem(local._MODULES, "onnxruntime", "no_such_engine")
    broken = one(examine(site), "runtimes")

    assert none.fix == "pip install 'muster-fleet[onnx]' or '[tflite]'"
    assert broken.fix == "pip install --force-reinstall onnxruntime"


def test_a_sandbox_that_the_kernel_has_not_is_named(site: AgentSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "level", lambda: sandbox.Level.RLIMITS)

    assert "5.13 or newer with landlock" in one(examine(site), "sandbox").fix
