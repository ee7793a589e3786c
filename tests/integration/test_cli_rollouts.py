"""What ``muster`` tells of a rollout that failed, and of a model that is stopped on devices that run it."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_controller.api.app import make_api
from muster_controller.reconcile.advancing import Advancing
from muster_controller.service import rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.serving import bind, make_server
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.controller_process import Done, execute
from support.office import OPERATOR, Office, open_office, serving

FLEET = ("berlin-1", "berlin-2", "oslo-1")


@dataclass(frozen=True)
class Served:
    """A controller whose devices run ``digits@1.0.0``, which declares a fallback."""

    office: Office
    url: str
    first: str
    second: str

    def muster(self, *arguments: str) -> Done:
        token = str(self.office.context.folder.token)
        return execute("muster", *arguments, MUSTER_URL=self.url, MUSTER_TOKEN_FILE=token)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    office = open_office(tmp_path / "controller")
    office.install()
    first = office.release("1.0.0", fallback=-1.0).version.digest
    second = office.release("1.1.0").version.digest
    office.enrol(*FLEET)
    for device in FLEET:
        office.report(device, current=first, target=first)
    api = make_server(make_api(office.context, office.opened.token))
    with contextlib.closing(bind("127.0.0.1", 0, setting="port")) as listener, serving(api, listener):
        yield Served(office, f"http://127.0.0.1:{listener.getsockname()[1]}", first, second)
    office.opened.close()


def fail(served: Served) -> int:
    """Roll out the second version, let it fail on two devices, and let these go back."""
    office, context = served.office, served.office.context
    plan = {"stages": [{"percent": 100}], "control": 0.0}
    request = RolloutRequest("digits@1.1.0", "digits@1.0.0", plan)
    number = rollouts.start_rollout(context, OPERATOR, request).rollout.id
    for device, reason in (("berlin-1", Reason.OUT_OF_MEMORY), ("oslo-1", Reason.CRASHED)):
        office.report(
            device,
            current=served.first,
            target=served.second,
            phase=Phase.ROLLED_BACK,
            reason=reason,
            detail="at start",
        )
    Advancing(context.engine, office.opened.baselines, context.settings).advance("digits", office.clock.now)
    office.clock.now += 1
    for device in FLEET:
        office.report(device, current=served.first, target=served.first)
    return number


def test_a_rollout_that_went_back_says_why_for_each_reason_and_device(served: Served) -> None:
    number = str(fail(served))

    shown = served.muster("rollout", "show", number)
    told = json.loads(served.muster("rollout", "show", number, "-o", "json").out)

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


def test_a_stop_order_says_what_devices_answer(served: Served) -> None:
    served.office.report("oslo-1", current=served.second, target=served.second)

    done = served.muster("stop", "digits")

    assert done.out == (
        "digits is stopped: 2 devices with digits@1.0.0: its fallback answers, -1; "
        "1 device with digits@1.1.0: it declares no fallback, so calls fail with 'ordered'\n"
    )
