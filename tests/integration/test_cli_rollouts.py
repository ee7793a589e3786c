"""``muster rollout`` against a served controller: plan files, orders, how a watch ends; and stop orders."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_controller.cli.exits import Exit
from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import devices, rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.store.tables import Device
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.office import OPERATOR, Office, open_office
from support.rolling import FLEET as ROLLING
from support.rolling import live, open_fleet, start
from support.served import Served, served

FLEET = ("berlin-1", "berlin-2", "oslo-1")


@dataclass(frozen=True)
class Fleet(Served):
    """A controller whose devices run ``digits@1.0.0``, which declares a fallback."""

    office: Office
    first: str
    second: str


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    office = open_office(tmp_path / "controller")
    office.install()
    first = office.release("1.0.0", fallback=-1.0).version.digest
    second = office.release("1.1.0").version.digest
    office.enrol(*FLEET)
    for device in FLEET:
        office.report(device, current=first, target=first)
    with served(office) as at:
        yield Fleet(at.url, at.token_file, office, first, second)
    office.opened.close()


def fail(fleet: Fleet) -> int:
    """Roll out the second version, let it fail on two devices, and let these go back."""
    office, context = fleet.office, fleet.office.context
    plan = {"stages": [{"percent": 100}], "control": 0.0}
    request = RolloutRequest("digits@1.1.0", "digits@1.0.0", plan)
    number = rollouts.start_rollout(context, OPERATOR, request).rollout.id
    for device, reason in (("berlin-1", Reason.OUT_OF_MEMORY), ("oslo-1", Reason.CRASHED)):
        office.report(
            device,
            current=fleet.first,
            target=fleet.second,
            phase=Phase.ROLLED_BACK,
            reason=reason,
            detail="at start",
        )
    Advancing(context.engine, office.opened.baselines, context.settings).advance("digits", office.clock.now)
    office.clock.now += 1
    for device in FLEET:
        office.report(device, current=fleet.first, target=fleet.first)
    return number


def test_a_rollout_that_went_back_says_why_for_each_reason_and_device(fleet: Fleet) -> None:
    number = str(fail(fleet))

    shown = fleet.muster("rollout", "show", number)
    told = json.loads(fleet.muster("rollout", "show", number, "-o", "json").out)

    assert shown.code == 0, shown.err
    assert "2 of 3: crashed 1, out-of-memory 1" in shown.out
    lines = [line.split() for line in shown.out.splitlines()]
    failed = lines[lines.index(["Failed", "devices"]) :]
    assert ["crashed", "1"] in failed
    assert ["out-of-memory", "1"] in failed
    (berlin,) = [line for line in failed if line[:1] == ["berlin-1"]]
    assert berlin[-3:] == ["out-of-memory", "at", "start"]
    reasons = {one["device"]: one["reason"] for one in told["devices"]}
    assert reasons == {"berlin-1": "out-of-memory", "berlin-2": "", "oslo-1": "crashed"}


def test_a_stop_order_says_what_devices_answer(fleet: Fleet) -> None:
    fleet.office.report("oslo-1", current=fleet.second, target=fleet.second)

    done = fleet.muster("stop", "digits")

    assert done.out == (
        "digits is stopped: 2 devices with digits@1.0.0: its fallback answers, -1; "
        "1 device with digits@1.1.0: it declares no fallback, so calls fail with 'ordered'\n"
    )


@pytest.fixture
def rolling(tmp_path: Path) -> Iterator[Fleet]:
    """A controller whose devices live when told to, and send windows."""
    office = open_fleet(tmp_path / "controller")
    listed = office.context.repository.listed("digits")
    with served(office) as at:
        yield Fleet(at.url, at.token_file, office, listed["1.0.0"], listed["1.1.0"])
    office.opened.close()


FILE = """\
version: digits@1.1.0
previous: digits@1.0.0
stages:
  - {percent: 25, soak: 20s, minimum_rounds: 3}
  - 100%
limits:
  crashes_per_device: null
before_rounds: 2
round: 10s
seed: 7
"""


def test_a_plan_file_is_previewed_without_starting_anything(rolling: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(FILE)
    live(rolling.office, 8)

    shown = rolling.muster("rollout", "plan", str(path))
    told = json.loads(rolling.muster("rollout", "plan", str(path), "-o", "json").out)
    again = rolling.muster("rollout", "plan", str(path), "--as-file")

    assert shown.code == 0, shown.err
    for words in ("berlin-2, oslo-3, porto-3", "sha256sum", "earliest end", "Power: what each gate catches"):
        assert words in shown.out
    assert told["plan"]["limits"]["crashes_per_device"] is None
    assert told["obstacles"] == []
    errors = [one for one in told["powers"] if one["gate"] == "errors"]
    assert [one["stage"] for one in errors] == [1, 2]
    assert all(one["smallest"] > one["margin"] for one in errors)
    assert errors[1]["smallest"] < errors[0]["smallest"]
    assert again.out == FILE
    assert "no rollout" in rolling.muster("rollout", "list").err


def test_the_draw_can_be_checked_by_hand(rolling: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(FILE)
    told = json.loads(rolling.muster("rollout", "plan", str(path), "-o", "json").out)

    def place(device: str) -> str:
        return hashlib.sha256(f"digits\n7\n{device}".encode()).hexdigest()[:16]

    command = re.search(r"(printf .*) DEVICE (\|.*); the first", told["reproduce"])
    assert command is not None
    typed = f"{command[1]} {ROLLING[0]} {command[2]}"
    printed = subprocess.run(["sh", "-c", typed], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == place(ROLLING[0])
    ordered = sorted(ROLLING, key=place)
    count = len(told["control"])
    assert sorted(ordered[:count]) == told["control"]
    first = told["stages"][0]
    assert sorted(ordered[count : count + first["devices"]]) == first["names"]


def test_devices_that_the_version_does_not_reach_are_named_with_the_reason(rolling: Fleet) -> None:
    office = rolling.office
    with office.context.unit() as session:
        row = session.get_one(Device, "oslo-1")
        row.agent, row.disk_free_bytes = "0.0.9", 10**9
        other = session.get_one(Device, "oslo-2")
        other.runtimes, other.agent = {"tflite": "ai-edge-litert 2.3.0"}, "0.1.0"
        third = session.get_one(Device, "oslo-3")
        third.disk_free_bytes = 4 * 1024**2
        session.get_one(Device, "lyon-1").last_seen = None
    devices.revoke(office.context, OPERATOR, "porto-1")
    devices.set_labels(office.context, OPERATOR, "porto-2", labels={"pinned": "lab"})

    done = rolling.muster("rollout", "plan", "digits@1.1.0", "-o", "json")
    told = json.loads(done.out)

    assert f"seed {told['plan']['seed']} has it" in done.err
    reasons = {one["device"]: one["reason"] for one in told["ineligible"]}
    assert reasons == {
        "lyon-1": "offline",
        "oslo-1": "agent-too-old",
        "oslo-2": "wrong-runtime",
        "oslo-3": "no-space",
        "porto-1": "revoked",
        "porto-2": "pinned",
    }
    assert told["cohort"] == len(ROLLING) - 2
    details = {one["device"]: one["detail"] for one in told["ineligible"]}
    assert details["oslo-1"] == "its agent is 0.0.9, the version needs 0.1.0"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plan", "{bad}"], "line 3: controll: no such field, did you mean 'control'?"),
        (["plan", "{none}"], "No such file"),
        (["start", "{good}", "--stages", "1,100%"], "--stages belongs into"),
        (["plan", "digits@1.1.0", "--of", "digits@1.0.0"], "--of goes with a plan's file"),
        (["rollback", "1", "--device", "oslo-1", "--stage", "1"], "--device or --stage, not both"),
    ],
)
def test_what_a_file_or_flag_gets_wrong_is_usage(
    rolling: Fleet, tmp_path: Path, arguments: list[str], told: str
) -> None:
    files = {name: str(tmp_path / f"{name}.yaml") for name in ("bad", "good", "none")}
    Path(files["good"]).write_text(FILE)
    Path(files["bad"]).write_text("version: digits@1.1.0\nstages: [100%]\ncontroll: 10%\n")

    done = rolling.muster("rollout", *(word.format(**files) for word in arguments))

    assert done.code == Exit.USAGE
    assert told in done.err


def test_a_file_starts_the_version_that_is_named_beside_it(rolling: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("stages: [1, 100%]\nseed: 7\n")

    done = rolling.muster("rollout", "start", str(path), "--of", "digits@1.1.0", "--reason", "nightly")

    assert done.out == "rollout 1 of digits@1.1.0 has started\n"


def test_a_watch_shows_the_gates_and_its_exit_code_says_how_it_ended(rolling: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(FILE)
    rolling.muster("rollout", "start", str(path))
    live(rolling.office, 14)
    late = rolling.muster("rollout", "watch", "1", "--timeout", "0")
    rolling.muster("rollout", "pause", "1", "--reason", "lunch")
    held = rolling.muster("rollout", "watch", "1", "--until-hold")
    rolling.muster("rollout", "resume", "1", "--reason", "go on")
    one = rolling.muster("rollout", "rollback", "1", "--device", "lyon-1", "--reason", "too warm")
    again = rolling.muster("rollout", "retry", "1", "--reason", "the line is back")
    whole = rolling.muster("rollout", "rollback", "1", "--reason", "the customer asked")
    live(rolling.office, 2)
    back = rolling.muster("rollout", "watch", "1", "--timeout", "5")

    assert late.code == Exit.TIMEOUT, late.err
    for words in ("errors", "of the way", "round "):
        assert words in late.out
    assert held.code == Exit.HOLDS, held.err
    assert one.out == "1 device of rollout 1 goes back; the rollout is running\n"
    assert again.code == Exit.CONFLICT
    assert "no device of this rollout has failed" in again.err
    assert whole.out == "the cohort of rollout 1 goes back; the rollout is rolling-back\n"
    assert back.code == Exit.ROLLOUT_FAILED
    assert "rolled-back" in back.out


def test_on_a_terminal_a_watch_shows_stages_and_gates_in_place(rolling: Fleet) -> None:
    start(rolling.office)
    live(rolling.office, 14)
    late = rolling.on_terminal("rollout", "watch", "1", "--timeout", "0")
    rolling.muster("rollout", "pause", "1", "--reason", "lunch")
    held = rolling.on_terminal("rollout", "watch", "1", "--until-hold")

    assert late.code == Exit.TIMEOUT, late.err
    for words in ("rollout 1", "control 3", "targeted 3", "errors", "░", "of stage 1: "):
        assert words in late.out
    assert held.code == Exit.HOLDS, held.err
    assert "paused" in held.out


def test_a_rollout_that_completes_ends_its_watch_with_0(rolling: Fleet) -> None:
    number = start(rolling.office, control=0.0, stages=[{"percent": 100, "soak_seconds": 0}])
    live(rolling.office, 2)
    rolling.muster("rollout", "promote", str(number), "--reason", "seen enough")
    live(rolling.office, 2)

    done = rolling.muster("rollout", "watch", str(number), "--timeout", "5")

    assert done.code == 0, done.out + done.err
    assert "completed" in done.out


def test_the_evidence_is_explained_from_the_stored_windows(rolling: Fleet) -> None:
    number = str(start(rolling.office))
    live(rolling.office, 14)

    shown = rolling.muster("rollout", "explain", number, "--gate", "errors")
    told = json.loads(rolling.muster("rollout", "explain", number, "-o", "json").out)
    wrong = rolling.muster("rollout", "explain", number, "--gate", "eerrors")

    assert shown.code == 0, shown.err
    assert "the same as the rollout judged by" in shown.err
    assert told["same"]
    assert len(told["rounds"]) > 0
    assert wrong.code != 0
    assert "eerrors" in wrong.err
