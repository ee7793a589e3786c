"""A whole real agent: its process, its workers, its broker, its downloads; the controller is a test's."""

import datetime as dt
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster_agent import Agent, Client
from muster_agent.identity import certificate_life, make_request, ready_key
from muster_agent.store import ASIDE, OLD_STATE, STATE
from muster_agent.update.updater import MAX_CRASHES
from muster_models.errors import MusterError, PredictionError, Reason, StorageError
from muster_models.manifest import Setting
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Desired, DesiredModel, Phase
from support import agent_site, device_side
from support.agent_site import DEVICE, AgentSite, Process
from support.repository import make_signer
from support.small_models import (
    crashing_above,
    dividing_by_zero,
    growing,
    hanging_above,
    scaling,
    widening,
)
from support.verified import Array, rows
from zoo.digits import data as digits

Start = Callable[[], Process]
STOP_SECONDS = 60.0


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


class Asking(threading.Thread):
    """Somebody who asks a model without pause, and keeps what failed and what came."""

    def __init__(self, root: Path, model: str, inputs: dict[str, Array]) -> None:
        super().__init__()
        self._root, self._model, self._inputs = root, model, inputs
        self.done = threading.Event()
        self.failures: list[MusterError] = []
        self.answers: list[dict[str, Array]] = []

    def run(self) -> None:
        with Client(self._root) as client:
            while not self.done.is_set():
                try:
                    self.answers.append(client.predict(self._model, self._inputs))
                except MusterError as error:
                    self.failures.append(error)


@contextmanager
def asking(site: AgentSite, model: str, inputs: dict[str, Array]) -> Iterator[Asking]:
    """Ask as long as the block lasts."""
    asked = Asking(site.device.root, model, inputs)
    asked.start()
    try:
        yield asked
    finally:
        asked.done.set()
        asked.join()


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
    with asking(site, "digits", {"image": digits.rows("live")["image"][:1]}) as asked:
        site.want(second)
        report = site.until_committed(second)

    assert asked.failures == []
    assert report.previous is not None
    assert report.previous.manifest == first.digest
    assert version_of(site) == "1.1.0"


def test_a_byte_that_is_damaged_on_the_way_is_fetched_again_without_anybody_asking(
    site: AgentSite, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = site.release_digits("1.0.0")
    model = f"/repository/blobs/{first.manifest.file('model').sha256}"
    answer, damaged = site.side.answer, list[str]()

    def damages_once(path: str, body: bytes, peer: str | None) -> tuple[int, bytes]:
        status, content = answer(path, body, peer)
        if path == model and not damaged:
            damaged.append(path)
            return status, content[:-1] + bytes([content[-1] ^ 1])
        return status, content

    monkeypatch.setattr(site.side, "answer", damages_once)
    start()
    site.want(first)

    site.until_committed(first)
    assert damaged == [model]
    assert [event.kind for event in site.events if event.kind == "refused"] == []


def test_what_little_changed_comes_as_patches_and_one_that_was_tampered_with_costs_a_file_and_an_event(
    site: AgentSite, start: Start
) -> None:
    first = site.release_digits("1.0.0")
    second = site.release_digits("1.1.0", first)
    baseline, golden = second.manifest.file("baseline"), second.manifest.file("golden")
    path = site.repository.folder / "blobs" / golden.deltas[0].sha256
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    start()
    install(site, first)

    site.want(second)

    site.until_committed(second)
    event = site.until_event("refused", Reason.TAMPERED)
    asked = {path.rpartition("/")[2] for path, _ in tuple(site.side.requests)}
    assert "a patch failed" in event.detail
    assert event.manifest == second.digest
    assert {baseline.deltas[0].sha256, golden.deltas[0].sha256, golden.sha256} <= asked
    assert baseline.sha256 not in asked
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


def test_going_back_with_a_model_that_is_not_here_names_those_that_are(site: AgentSite, start: Start) -> None:
    start()
    none = site.until(lambda: site.command("rollback", site.device.root, "nosuch").stderr)
    install(site, site.release_digits("1.0.0"))
    other = site.command("rollback", site.device.root, "nosuch").stderr

    assert "no agent runs" in none or none == "muster-agent: there is no model 'nosuch'; none is here\n"
    assert other == "muster-agent: there is no model 'nosuch'; here are digits\n"


def test_an_agent_that_has_just_started_says_that_a_model_is_being_loaded(
    site: AgentSite, start: Start
) -> None:
    install_then_stop(site, start)
    agent = Agent(site.device.root)
    with Client(site.device.root) as client, agent._closing:
        asked = [caught_by(client.predict), caught_by(agent.predict)]
        agent.start()
        site.until(lambda: version_of(site) == "1.0.0")
        unknown = caught_by(lambda _, rows: client.predict("nosuch", rows))
        agent.stop()
        assert agent._thread is not None
        agent._thread.join(STOP_SECONDS)

    assert asked == ["'digits' is being loaded; ask again in a moment"] * 2
    assert unknown == "no version of 'nosuch' runs here"


def caught_by(predict: Callable[[str, Mapping[str, Array]], object]) -> str:
    with pytest.raises(PredictionError) as caught:
        predict("digits", digits.rows("live"))
    assert caught.value.reason in {Reason.LOAD_FAILED, Reason.BAD_MESSAGE, Reason.NOT_LISTED}
    return str(caught.value)


def test_a_state_that_is_damaged_in_every_copy_is_told_to_the_fleet_and_ordered_anew(
    site: AgentSite, start: Start
) -> None:
    first = install_then_stop(site, start)
    for name in (STATE, OLD_STATE):
        (site.device.store / name).write_bytes(b"damaged")

    start()

    event = site.until_event("dropped", Reason.STORAGE_FAILED)
    site.until(lambda: version_of(site) == "1.0.0")
    assert event.detail.startswith("the state was damaged in every copy: the device begins anew")
    assert (site.device.store / ASIDE).read_bytes() == b"damaged"
    site.until_committed(first)


def test_the_log_says_what_an_operator_looks_for(site: AgentSite, start: Start) -> None:
    version = site.release_small("1.0.0", scaling(2), answer=2.0)
    start()
    install(site, version)
    site.want(version, stop=True)
    site.until(lambda: site.model_report(lambda model: model.stopped))
    site.send(b"\xff garbage")
    site.until_event("refused", Reason.BAD_MESSAGE)
    log = (site.folder / "agent.log").read_text()

    digest = version.digest[:12]
    for line in (
        "INFO muster_agent.loop: desired state 1 is followed: small@1.0.0\n",
        f"INFO muster_agent.notices: installed small version {digest}\n",
        "INFO muster_agent.update.installer: small@1.0.0 answers\n",
        f"INFO muster_agent.notices: activated small version {digest}\n",
        f"INFO muster_agent.notices: committed small version {digest}\n",
        "INFO muster_agent.loop: desired state 2 is followed: small@1.0.0\n",
        "WARNING muster_agent.update.installer: small@1.0.0 is stopped by order\n",
        "WARNING muster_agent.notices: refused: bad-message: ",
    ):
        assert line in log


def test_a_restarted_agent_answers_from_its_disk_before_it_is_online(site: AgentSite, start: Start) -> None:
    install_then_stop(site, start)
    site.disconnect()
    site.broker.kill()

    start()

    site.until(lambda: version_of(site) == "1.0.0")
    assert accuracy(site) > 0.9
    assert site.status()["online"] is False
    offline = site.until(lambda: site.status()["offline"])
    assert offline == f"broker 127.0.0.1:{site.broker.port}: Connection refused"
    assert f"no session: {offline}" in site.command("status", site.device.root).stdout


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


def test_a_stopped_model_answers_with_its_fallback_after_a_kill_and_without_any_network(
    site: AgentSite, start: Start
) -> None:
    version = site.release_small("1.0.0", scaling(2), answer=2.0)
    process = start()
    install(site, version)
    site.want(version, stop=True)
    site.until(lambda: site.model_report(lambda model: model.stopped))
    site.disconnect()
    site.broker.kill()
    site.side.gate.clear()
    process.kill()
    process.wait()

    start()

    with Client(site.device.root) as client:
        site.until(lambda: outputs_of(client, 1.0) is not None)

        assert outputs_of(client, 1.0) == -1.0
    assert site.status()["answering"]["small"]["stopped"] is True


HOSTILE = {
    "a crash": (crashing_above(0.5), 1.0, 1.0, Reason.CRASHED),
    "a hang": (hanging_above(0.5), 1.0, 1.0, Reason.HUNG),
    "hunger": (growing(), 4000.0, 4000.0, Reason.OUT_OF_MEMORY),
    "no number": (dividing_by_zero(), 1.0, 1.0, Reason.NOT_FINITE),
    "another shape": (widening(), 2.0, 2.0, Reason.WRONG_SHAPE),
    "too much": (widening(), 20_000_000.0, 1.0, Reason.TOO_LARGE),
    "another answer": (scaling(3), 1.0, 2.0, Reason.WRONG_OUTPUT),
    "no model": (b"not a model", 1.0, 1.0, Reason.LOAD_FAILED),
}


def test_the_old_version_never_stops_answering_while_bad_ones_are_refused(
    site: AgentSite, start: Start
) -> None:
    good = site.release_small("1.0.0", scaling(2), answer=2.0)
    bad = {
        name: site.release_small(
            f"1.{number}.0",
            model,
            asked=asked,
            answer=answer,
            load_seconds=2.0 if name == "a hang" else 60.0,
        )
        for number, (name, (model, asked, answer, _)) in enumerate(HOSTILE.items(), 1)
    }
    start()
    install(site, good)
    reasons = {}
    with asking(site, "small", rows(1.0)) as somebody:
        for name, version in bad.items():
            site.want(version)
            reasons[name] = site.until_phase(Phase.REJECTED, version).reason

    assert reasons == {name: reason for name, (*_, reason) in HOSTILE.items()}
    assert somebody.failures == []
    assert len(somebody.answers) > len(bad)
    assert {float(answer["y"][0, 0]) for answer in somebody.answers} == {2.0}


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
