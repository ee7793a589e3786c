"""A whole real agent: its process, its workers, its broker, its downloads; the controller is a test's."""

import datetime as dt
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muster_agent import Agent, Client
from muster_agent.identity import certificate_life, make_request, ready_key
from muster_agent.update.updater import MAX_CRASHES
from muster_models.errors import MusterError, PredictionError, Reason, StorageError
from muster_models.manifest import Setting
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Desired, DesiredModel, Phase
from support import agent_site, device_side
from support.agent_site import DEVICE, AgentSite, Process
from support.repository import make_signer
from support.small_models import crashing_above, scaling
from support.verified import rows
from zoo.digits import data as digits

Start = Callable[[], Process]
STOP_SECONDS = 20.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


@pytest.fixture
def start(site: AgentSite) -> Iterator[Start]:
    running: list[Process] = []

    def starting() -> Process:
        running.append(site.start_agent())
        return running[-1]

    yield starting
    for process in running:
        stop(process)


def stop(process: Process) -> int:
    process.terminate()
    return process.wait(STOP_SECONDS)


def accuracy(site: AgentSite) -> float:
    with Client(site.device.root) as client:
        outputs = client.predict("digits", digits.rows("live"))
    return float((outputs["probabilities"].argmax(axis=1) == digits.answers("live")).mean())


def version_of(site: AgentSite, model: str = "digits") -> str | None:
    with Client(site.device.root) as client:
        try:
            return client.models().get(model)
        except PredictionError:
            return None


def install(site: AgentSite, version: VerifiedManifest) -> None:
    site.want(version)
    site.until_committed(version)


def test_a_device_installs_what_is_wanted_answers_and_reports_what_it_saw(
    site: AgentSite, start: Start
) -> None:
    first = site.release_digits("1.0.0")
    start()

    site.want(first)

    report = site.until_committed(first)
    assert (report.previous, report.reason) == (None, None)
    assert accuracy(site) > 0.9
    window = site.until(lambda: site.windows)[0]
    assert (window.model, window.manifest, window.calls, window.errors) == ("digits", first.digest, 1, 0)
    assert [event.kind for event in site.events] == ["installed", "activated", "committed"]
    assert site.hellos[0].desired == 0
    assert "onnx" in site.hellos[0].runtimes


def test_a_better_version_takes_over_without_one_failed_call(site: AgentSite, start: Start) -> None:
    first, second = site.release_digits("1.0.0"), site.release_digits("1.1.0")
    start()
    install(site, first)
    failures, done = [], threading.Event()

    def ask() -> None:
        with Client(site.device.root) as client:
            row = {"image": digits.rows("live")["image"][:1]}
            while not done.is_set():
                try:
                    client.predict("digits", row)
                except MusterError as error:
                    failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    site.want(second)
    report = site.until_committed(second)
    done.set()
    asking.join()

    assert failures == []
    assert report.previous is not None
    assert report.previous.manifest == first.digest
    assert version_of(site) == "1.1.0"


def test_a_tampered_file_is_refused_and_the_old_version_stays(site: AgentSite, start: Start) -> None:
    first, second = site.release_digits("1.0.0"), site.release_digits("1.1.0")
    start()
    install(site, first)
    path = site.repository.folder / "blobs" / second.manifest.file("model").sha256
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    site.want(second)

    event = site.until_event("refused", Reason.TAMPERED)
    report = site.until_phase(Phase.REJECTED, second)
    assert event.manifest == second.digest
    assert report.current is not None
    assert report.current.manifest == first.digest
    assert version_of(site) == "1.0.0"


def test_a_desired_state_that_is_replayed_forged_or_for_another_is_refused(
    site: AgentSite, start: Start
) -> None:
    first, second = site.release_digits("1.0.0"), site.release_digits("1.1.0")
    start()
    site.want(first)
    old = site.newest
    assert old is not None
    site.until_committed(first)
    install(site, second)
    wanted = (DesiredModel("digits", "1.0.0", first.digest),)
    newer = Desired(DEVICE, 99, 0.0, 2.0**33, wanted)

    site.send(old)
    site.until_event("refused", Reason.REPLAYED)
    site.send(site.repository.envelope(newer, signer=make_signer()))
    site.until_event("refused", Reason.WRONG_KEY)
    site.send(site.repository.envelope(Desired("press-2", 99, 0.0, 2.0**33, wanted)))
    site.until_event("refused", Reason.WRONG_DEVICE)
    site.send(site.repository.envelope(Desired(DEVICE, 99, 0.0, 1.0, wanted)))
    site.until_event("refused", Reason.EXPIRED)
    site.send(b"\xff garbage")
    site.until_event("refused", Reason.BAD_MESSAGE)

    assert site.status()["desired"] == 2
    assert version_of(site) == "1.1.0"


def test_a_version_that_is_not_listed_any_more_is_refused(site: AgentSite, start: Start) -> None:
    first, second = site.release_digits("1.0.0"), site.release_digits("1.1.0")
    start()
    install(site, first)
    site.repository.withdraw("digits", "1.1.0")

    site.want(second)

    site.until_event("refused", Reason.NOT_LISTED)
    assert version_of(site) == "1.0.0"


def test_a_person_at_the_device_goes_back_without_any_network(site: AgentSite, start: Start) -> None:
    first, second = site.release_digits("1.0.0"), site.release_digits("1.1.0")
    start()
    install(site, first)
    install(site, second)
    site.disconnect()
    site.broker.kill()
    site.side.gate.clear()

    done = site.command("rollback", site.device.root, "digits", "-o", "json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"][0]["current"][1] == "1.0.0"
    site.until(lambda: version_of(site) == "1.0.0")
    assert accuracy(site) > 0.9


def test_going_back_where_nothing_came_before_is_one_line(site: AgentSite, start: Start) -> None:
    start()
    install(site, site.release_digits("1.0.0"))

    done = site.command("rollback", site.device.root, "digits")

    assert done.returncode == 1
    assert done.stderr == "muster-agent: 'digits' has no version before the present one\n"


def test_a_restarted_agent_answers_from_its_disk_before_it_is_online(site: AgentSite, start: Start) -> None:
    install_then_stop(site, start)
    site.disconnect()
    site.broker.kill()

    start()

    site.until(lambda: version_of(site) == "1.0.0")
    assert accuracy(site) > 0.9
    assert site.status()["online"] is False


def install_then_stop(site: AgentSite, start: Start) -> VerifiedManifest:
    first = site.release_digits("1.0.0")
    process = start()
    install(site, first)
    assert stop(process) == 0
    return first


def test_without_an_agent_the_disk_says_what_is_installed(site: AgentSite, start: Start) -> None:
    install_then_stop(site, start)

    status = site.status()

    assert (status["running"], status["desired"], status["answering"]) == (False, 1, {})
    assert status["models"][0]["current"][1] == "1.0.0"
    assert "not running" in site.command("status", site.device.root).stdout
    refused = site.command("rollback", site.device.root, "digits")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("moment", ["downloading", "installed", "activated"])
def test_an_agent_that_is_killed_during_an_update_recovers_and_completes_it(
    site: AgentSite, start: Start, moment: str
) -> None:
    first, second = site.release_digits("1.0.0"), site.release_digits("1.1.0")
    process = start()
    install(site, first)
    site.side.blob_asked.clear()
    if moment == "downloading":
        site.side.gate.clear()
    site.want(second, probation=0.5)
    if moment == "downloading":
        assert site.side.blob_asked.wait(STOP_SECONDS)
    else:
        site.until(lambda: any(e.kind == moment and e.manifest == second.digest for e in site.events))
    process.kill()
    process.wait()
    site.side.gate.set()

    start()

    site.until_committed(second)
    assert version_of(site) == "1.1.0"
    assert accuracy(site) > 0.9


def test_a_worker_that_dies_in_probation_brings_the_old_version_back(site: AgentSite, start: Start) -> None:
    first = site.release_small("1.0.0", scaling(2), answer=2.0)
    second = site.release_small("1.1.0", crashing_above(5), answer=1.0)
    start()
    install(site, first)
    site.want(second, probation=600.0)
    site.until_phase(Phase.PROBATION, second)

    with Client(site.device.root) as client:
        site.until(lambda: not outputs_of(client, 10.0))
        report = site.until_phase(Phase.ROLLED_BACK, second)
        site.until(lambda: version_of(site, "small") == "1.0.0")

        assert client.predict("small", rows(10.0))["y"][0, 0] == 20.0

    assert report.reason is Reason.CRASHED
    assert report.current is not None
    assert report.current.manifest == first.digest


def test_a_committed_version_that_begins_to_crash_gives_way_offline_and_is_not_tried_again_unasked(
    site: AgentSite, start: Start
) -> None:
    first = site.release_small("1.0.0", scaling(2), answer=2.0)
    second = site.release_small("1.1.0", crashing_above(5), answer=1.0)
    start()
    install(site, first)
    install(site, second)
    site.disconnect()
    site.broker.kill()
    site.side.gate.clear()

    with Client(site.device.root) as client:
        site.until(lambda: outputs_of(client, 10.0) == 20.0)
        model = site.status()["models"][0]
        site.broker.start()
        site.connect()
        site.side.gate.set()
        event = site.until_event("rolled-back", Reason.CRASHED)
        report = site.until_phase(Phase.ROLLED_BACK, second)
        assert site.newest is not None
        site.send(site.newest)
        site.send(b"\xff garbage")
        site.until_event("refused", Reason.BAD_MESSAGE)  # so the one before it was followed
        unasked = outputs_of(client, 10.0)

    starts = [event for event in site.events if event.kind == "activated" and event.manifest == second.digest]
    assert len(starts) == 1
    assert (model["phase"], model["reason"], model["current"][1]) == ("rolled-back", "crashed", "1.0.0")
    assert (event.manifest, event.detail.partition(":")[0]) == (
        second.digest,
        f"it died {MAX_CRASHES} times in a row",
    )
    assert (report.reason, report.target, report.previous) == (Reason.CRASHED, second.digest, None)
    assert unasked == 20.0

    site.want(second)

    site.until(lambda: version_of(site, "small") == "1.1.0")


def outputs_of(client: Client, value: float) -> float | None:
    try:
        return float(client.predict("small", rows(value))["y"][0, 0])
    except PredictionError:
        return None


def test_a_version_that_answers_its_golden_vectors_wrongly_never_answers_anybody(
    site: AgentSite, start: Start
) -> None:
    bad = site.release_small("1.0.0", scaling(3), answer=2.0)
    start()

    site.want(bad)

    event = site.until_event("refused", Reason.WRONG_OUTPUT)
    assert event.manifest == bad.digest
    assert version_of(site, "small") is None


def test_a_stopped_model_answers_with_its_fallback_which_is_not_measured(
    site: AgentSite, start: Start
) -> None:
    version = site.release_small("1.0.0", scaling(2), answer=2.0)
    start()
    install(site, version)
    answers: list[float | None] = []

    def answers_with(value: float) -> bool:
        answers.append(outputs_of(client, 1.0))
        return answers[-1] == value

    with Client(site.device.root) as client:
        site.want(version, stop=True)
        site.until(lambda: answers_with(-1.0))
        site.until(lambda: site.model_report(lambda model: model.stopped))
        site.want(version)
        site.until(lambda: answers_with(2.0))

    measured = sum(answer == 2.0 for answer in answers)
    site.until(lambda: sum(window.calls for window in site.windows) == measured)


def test_settings_outside_their_declared_range_are_refused(site: AgentSite, start: Start) -> None:
    declared = (Setting("threshold", 0.5, 0.0, 1.0),)
    version = site.release_small("1.0.0", scaling(2), answer=2.0, settings=declared)
    start()

    site.want(version, settings={"threshold": 7.0})

    assert "expected 0.0 to 1.0, got 7.0" in site.until_event("refused", Reason.BAD_SETTING).detail


def test_a_model_that_is_not_wanted_any_more_is_removed_with_its_files(site: AgentSite, start: Start) -> None:
    first = site.release_digits("1.0.0")
    start()
    install(site, first)

    site.want()

    site.until(lambda: version_of(site) is None)
    site.until(lambda: not list((site.device.store / "blobs").iterdir()))


def test_two_models_run_side_by_side(site: AgentSite, start: Start) -> None:
    first, small = site.release_digits("1.0.0"), site.release_small("1.0.0", scaling(2), answer=2.0)
    start()

    site.want(first, small)

    site.until(lambda: (version_of(site), version_of(site, "small")) == ("1.0.0", "1.0.0"))
    assert accuracy(site) > 0.9


def test_what_is_measured_while_the_broker_is_away_arrives_later_and_once(
    site: AgentSite, start: Start
) -> None:
    start()
    install(site, site.release_digits("1.0.0"))
    site.disconnect()
    site.broker.kill()
    with Client(site.device.root) as client:
        for _ in range(5):
            client.predict("digits", {"image": digits.rows("live")["image"][:10]})
    site.until(lambda: site.status()["outbox"]["waiting"])
    site.broker.start()
    site.connect()

    site.until(lambda: sum(window.calls for window in site.windows) == 5)
    assert len({(window.epoch, window.sequence) for window in site.windows}) == len(site.windows)


def test_the_process_stops_at_once_and_leaves_no_child(site: AgentSite, start: Start) -> None:
    process = start()
    install(site, site.release_digits("1.0.0"))
    children = descendants(process.pid)
    assert len(children) >= 2  # the zygote and a worker

    assert stop(process) == 0

    assert [child for child in children if Path(f"/proc/{child}").exists()] == []
    assert not site.device.socket.exists()


def test_a_killed_agent_takes_its_children_with_it(site: AgentSite, start: Start) -> None:
    process = start()
    install(site, site.release_digits("1.0.0"))
    children = descendants(process.pid)

    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    site.until(lambda: not [child for child in children if is_alive(child)])


def descendants(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(below for child in found for below in descendants(child))]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_certificate_past_two_thirds_of_its_life_is_renewed_while_the_agent_runs(
    site: AgentSite, start: Start
) -> None:
    now = dt.datetime.now(dt.UTC)
    request = make_request(ready_key(site.device.identity / "device.key"), DEVICE)
    aged = site.authority.issue_device(DEVICE, request.encode(), now - dt.timedelta(days=70))
    (site.device.identity / "device.pem").write_text(aged.pem)
    site.side.handlers["/renew"] = lambda body, peer: (
        200,
        json.dumps({"certificate": device_side.sign(site.authority, str(peer), body["csr"])}).encode(),
    )
    start()

    site.until(lambda: certificate_life(site.device)[1] > now + dt.timedelta(days=80))

    assert ("/renew", DEVICE) in site.side.requests
    install(site, site.release_digits("1.0.0"))  # with the new certificate


def test_one_agent_at_a_time_runs_from_a_folder(site: AgentSite, start: Start) -> None:
    start()
    site.until(lambda: site.hellos)

    second = site.command("run", site.device.root)

    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == f"muster-agent: another agent runs from {site.device.root}"


def test_an_application_may_carry_the_agent_in_its_own_process(site: AgentSite) -> None:
    first = site.release_digits("1.0.0")
    with Agent(site.device.root) as agent:
        site.want(first)
        site.until_committed(first)

        outputs = agent.predict("digits", digits.rows("live"))

        assert agent.status().isolation == "inline"
        assert outputs["probabilities"].shape == (len(digits.answers("live")), 10)
        with pytest.raises(StorageError, match="another agent runs from"):
            Agent(site.device.root)
    with Agent(site.device.root):  # what was measured last was kept, and is sent now at the latest
        site.until(lambda: sum(window.calls for window in site.windows) == 1)
