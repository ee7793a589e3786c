"""Acknowledging, silencing and telling, through the API, on a real database with its loop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from muster_controller.config import JobSettings, Settings, WebhookSettings, check_receivers
from muster_controller.delivery.post import Post
from muster_controller.reconcile.listening import Listening
from muster_controller.reconcile.training import Training
from muster_controller.retraining.endings import end
from muster_controller.service import rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.store import alarms, assignments, devices, outbox
from muster_controller.store.jobs import Ending
from muster_models.errors import InvalidInputError
from support.alarms import DRIFT, deliveries, raise_alarm, remind
from support.office import OPERATOR, Client, Office, open_office

FLEET = tuple(f"{site}-{number}" for site in ("berlin", "lyon", "oslo", "porto") for number in (1, 2))
DESK = WebhookSettings("desk", "https://desk.example/hook?key=secret", "desk.secret")
TRAINER = WebhookSettings("trainer", "http://127.0.0.1:1/train", "desk.secret", kinds=("job",))
RETRAIN = JobSettings("retrain", kinds=("data-drift",), webhook="trainer", per_week=2, cooldown_seconds=0.0)
HOUR, DAY = 3600.0, 86_400.0


@dataclass
class House:
    """An office with its API, and the steps of its loop."""

    office: Office
    api: Client

    @property
    def settings(self) -> Settings:
        return self.office.context.settings

    def alarm(self, **changes: Any) -> int:
        fields = {"baseline": self.office.baseline.digest, **changes}
        return raise_alarm(self.office.context.engine, self.settings, self.office.clock.now, **fields)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and make the steps of the loop that are about alarms."""
        self.office.clock.now += seconds
        now, engine = self.office.clock.now, self.office.context.engine
        remind(engine, self.settings, now)
        Training(engine, self.settings).train(now)

    def told(self, webhook: str = "desk") -> list[str]:
        return [one.type for one in deliveries(self.office.context.engine) if one.webhook == webhook]

    def mark_sent(self) -> None:
        with self.office.context.unit() as session:
            for one in deliveries(self.office.context.engine):
                assert one.id is not None
                if outbox.begin(session, one.id):
                    outbox.succeed(session, one.id, DESK.url, outbox.Outcome(200, ""), self.office.clock.now)

    def attention(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self.api.get("/overview")["attention"]
        return [one for one in found if one["kind"] == "alarm"]

    def audit(self) -> list[str]:
        return [one["action"] for one in self.api.get("/audit")["items"]]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    office = open_office(tmp_path / "controller", webhooks=(DESK, TRAINER), jobs=(RETRAIN,))
    office.install()
    office.release("1.0.0")
    office.enrol(*FLEET)
    yield House(office, Client(office))
    office.opened.close()


def test_an_acknowledged_alarm_needs_no_attention_and_fires_on(house: House) -> None:
    number = house.alarm()
    assert len(house.attention()) == 1

    taken = house.api.post(f"/alarms/{number}/acknowledge", {"reason": "the lamp is being replaced"})
    house.mark_sent()
    house.tick(DAY)

    assert (taken["state"], taken["acknowledged_by"]) == ("firing", OPERATOR)
    assert house.attention() == []
    assert house.told() == ["alarm.firing", "alarm.acknowledged"]  # and it is not told again
    assert "alarm.acknowledge" in house.audit()
    refusal = house.api.refusal(
        "POST", f"/alarms/{number}/acknowledge", status=409, json={"reason": "me too"}
    )
    assert "the lamp is being replaced" in refusal["message"]


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 401}])
def test_an_acknowledgement_needs_a_reason(house: House, body: dict[str, str]) -> None:
    number = house.alarm()

    house.api.refusal("POST", f"/alarms/{number}/acknowledge", status=422, json=body)

    assert len(house.attention()) == 1


def test_a_silence_holds_back_and_its_end_tells_what_is_still_so(house: House) -> None:
    body = {"where": "site = berlin", "seconds": 4 * HOUR, "reason": "the hall is being painted"}
    made = house.api.post("/silences", body, status=201)
    number = house.alarm()
    house.tick()
    shown = house.api.get(f"/alarms/{number}")
    assert (house.told(), house.attention()) == ([], [])
    assert (shown["state"], shown["silence"]) == ("firing", made["id"])

    house.tick(4 * HOUR)

    assert house.told() == ["alarm.firing"]
    assert len(house.attention()) == 1
    assert house.api.get("/silences")["items"] == []
    assert len(house.api.get("/silences", past=True)["items"]) == 1


def test_what_is_over_before_a_silence_ends_was_never_told(house: House) -> None:
    silence = house.api.post(
        "/silences", {"model": "digits", "seconds": HOUR, "reason": "a test"}, status=201
    )
    number = house.alarm()
    house.alarm(id=number, state="resolved", resolved_at=house.office.clock.now)

    ended = house.api.post(f"/silences/{silence['id']}/end", {"reason": "done"})
    house.tick()

    assert ended["active"] is False
    assert house.told() == []
    assert house.audit()[:2] == ["silence.end", "silence.add"]
    house.api.refusal("POST", f"/silences/{silence['id']}/end", status=409, json={})


def test_what_was_told_before_a_silence_is_told_to_be_over_after_it(house: House) -> None:
    number = house.alarm()
    house.api.post("/silences", {"kind": "data-drift", "seconds": HOUR, "reason": "a test"}, status=201)
    house.alarm(id=number, state="resolved", resolved_at=house.office.clock.now)
    assert house.told() == ["alarm.firing"]

    house.tick(HOUR)

    assert house.told() == ["alarm.firing", "alarm.resolved"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"seconds": HOUR, "reason": "why"}, 400),
        ({"model": "digits", "seconds": HOUR}, 422),
        ({"model": "digits", "reason": "why"}, 422),
        ({"model": "digits", "seconds": 31 * DAY, "reason": "why"}, 400),
        ({"model": "digits", "seconds": -1, "reason": "why"}, 400),
        ({"kind": "drift", "seconds": HOUR, "reason": "why"}, 400),
        ({"where": "site =", "seconds": HOUR, "reason": "why"}, 400),
        ({"model": "digits", "seconds": HOUR, "reason": "why", "forever": True}, 422),
    ],
)
def test_a_silence_without_reason_end_or_aim_is_refused(
    house: House, body: dict[str, Any], status: int
) -> None:
    house.api.refusal("POST", "/silences", status=status, json=body)

    assert house.api.get("/silences", past=True)["items"] == []


def test_pending_is_told_only_to_whom_asked_and_so_is_its_end(tmp_path: Path) -> None:
    eager = WebhookSettings("eager", "https://eager.example/", "desk.secret", pending=True)
    office = open_office(tmp_path / "controller", webhooks=(DESK, eager))
    house = House(office, Client(office))

    number = house.alarm(state="pending", fired_at=None)
    house.alarm(id=number, state="resolved", fired_at=None, resolved_at=office.clock.now)

    assert house.told("eager") == ["alarm.pending", "alarm.resolved"]
    assert house.told() == []
    office.opened.close()


def test_a_webhook_is_shown_without_what_may_be_secret(house: House) -> None:
    house.alarm()

    (desk, trainer) = house.api.get("/webhooks")["items"]

    assert desk["url"] == "https://desk.example/…"
    assert (desk["waiting"], desk["delivered"], desk["given_up"]) == (1, 0, 0)
    assert trainer["waiting"] == 0
    assert "secret" not in str((desk, trainer))
    house.api.refusal("POST", "/webhooks/nobody/test", status=404)


def test_rollouts_are_told_of_through_the_same_outbox(house: House) -> None:
    context, digest = house.office.context, house.office.context.repository.listed("digits")["1.0.0"]
    with context.unit() as session:
        assignments.assign(session, "digits", dict.fromkeys(FLEET, digest), rollout=0, probation_seconds=1.0,
                           now=house.office.clock.now)  # fmt: skip
    house.office.release("1.1.0")
    plan = {"stages": [{"percent": 25}, {"percent": 100}], "seed": "7"}
    number = rollouts.start_rollout(context, OPERATOR, RolloutRequest("digits@1.1.0", None, plan)).rollout.id

    rollouts.pause(context, OPERATOR, number, "lunch")
    rollouts.abort(context, OPERATOR, number, mode="keep", reason="no")

    assert house.told() == ["rollout.started", "rollout.paused", "rollout.aborted"]
    last = deliveries(context.engine)[-1]
    assert last.subject == f"rollout/{number}"
    assert last.content["items"][0]["phase"] == "aborted"


def test_a_fleet_that_is_not_heard_of_is_one_alarm_and_one_message(house: House) -> None:
    listening = Listening(house.office.context.engine, house.settings)
    listening.listen(house.office.clock.now)
    for _ in range(30):
        house.office.clock.now += 120
        listening.listen(house.office.clock.now)
        house.tick()
    silent = house.api.get("/alarms", kind="silence")["items"]
    assert [(one["level"], one["subject"], one["state"]) for one in silent if one["fired_at"]] == [
        ("fleet", "all", "firing")
    ]
    assert [one["title"] for one in house.attention()] == ["silence of all"]

    with house.office.context.unit() as session:
        devices.saw(session, FLEET, house.office.clock.now)
    house.office.clock.now += 120
    listening.listen(house.office.clock.now)

    assert house.told() == ["alarm.firing", "alarm.resolved"]
    assert {one["state"] for one in house.api.get("/alarms", kind="silence")["items"]} == {"resolved"}


def test_a_shift_asks_a_receiver_for_a_job_with_its_evidence(house: House) -> None:
    number = house.alarm()
    house.tick()
    house.tick(HOUR)

    (job,) = house.api.get("/jobs")["items"]
    (asked,) = [one for one in deliveries(house.office.context.engine) if one.webhook == "trainer"]
    assert (job["state"], job["alarm"], job["cause"]) == ("running", number, "data-drift")
    assert job["parent"]["name"] == "digits@1.0.0"
    assert asked.content["items"][0]["evidence"]["features"][0]["feature"] == "brightness"
    assert house.api.get("/jobs/triggers")["items"][0]["held_back"] == [
        {"alarm": number, "why": f"job {job['id']} was started for it"}
    ]

    done = house.api.post(f"/jobs/{job['id']}/finish", {"outcome": "done", "reason": "digits@1.3.0"})

    assert done["state"] == "done"
    house.api.refusal("POST", f"/jobs/{job['id']}/finish", status=409, json={"outcome": "failed"})


def test_a_silenced_alarm_starts_no_job(house: House) -> None:
    house.api.post("/silences", {"model": "digits", "seconds": HOUR, "reason": "a test"}, status=201)
    house.alarm()
    house.tick()
    assert house.api.get("/jobs")["items"] == []

    house.tick(HOUR)

    assert len(house.api.get("/jobs")["items"]) == 1


def test_jobs_are_capped_per_week_however_many_alarms_there_are(house: House) -> None:
    for index in range(4):
        number = house.alarm(subject=f"site=s{index}")
        house.tick(HOUR)
        for job in house.api.get("/jobs", state="running")["items"]:
            house.api.post(f"/jobs/{job['id']}/finish", {"outcome": "done"})
        house.alarm(id=number, subject=f"site=s{index}", state="firing")

    assert len(house.api.get("/jobs")["items"]) == 2
    held = house.api.get("/jobs/triggers")["items"][0]["held_back"]
    assert "2 jobs in seven days, at most 2" in {one["why"] for one in held}


def test_a_job_that_nobody_answers_for_has_failed_and_that_is_an_alarm_until_one_succeeds(
    house: House,
) -> None:
    house.alarm()
    house.tick()
    house.tick(RETRAIN.timeout_seconds + 1)

    (job,) = house.api.get("/jobs")["items"]
    (alarm,) = house.api.get("/alarms", kind="job")["items"]
    assert (job["state"], job["detail"]) == ("failed", "nobody said in time how it ended")
    assert (alarm["state"], alarm["subject"], alarm["evidence"]["job"]) == ("firing", "retrain", job["id"])
    assert "alarm.firing" in house.told()

    again = house.api.post(f"/jobs/{job['id']}/retry", {"reason": "the trainer is up"}, status=201)
    house.api.post(f"/jobs/{again['id']}/finish", {"outcome": "done"})

    assert house.api.get(f"/alarms/{alarm['id']}")["state"] == "resolved"
    assert again["evidence"] == job["evidence"]


def test_two_failures_of_one_trigger_are_one_alarm(house: House) -> None:
    house.alarm()
    house.tick()
    (job,) = house.api.get("/jobs")["items"]
    house.api.post(f"/jobs/{job['id']}/finish", {"outcome": "failed", "reason": "no data"})
    again = house.api.post(f"/jobs/{job['id']}/retry", status=201)
    house.api.refusal("POST", f"/jobs/{job['id']}/retry", status=409, json={})

    house.api.post(f"/jobs/{again['id']}/finish", {"outcome": "failed"})

    (alarm,) = house.api.get("/alarms", kind="job")["items"]
    assert alarm["evidence"]["job"] == again["id"]


class LostError(Exception):
    """Thrown to undo a transaction."""


def raise_and_lose(house: House) -> None:
    with house.office.context.unit() as session:
        number, _ = alarms.save(session, replace(DRIFT, baseline=house.office.baseline.digest))
        Post(house.settings).alarm_changed(session, number, house.office.clock.now)
        raise LostError


def test_an_alarm_and_what_is_told_of_it_are_one_transaction(house: House) -> None:
    with pytest.raises(LostError):
        raise_and_lose(house)

    assert (house.told(), house.api.get("/alarms")["items"]) == ([], [])


def test_who_does_not_hold_the_fence_cannot_say_how_a_job_ended(house: House) -> None:
    house.alarm()
    house.tick()
    (job,) = house.api.get("/jobs")["items"]

    with house.office.context.unit() as session, pytest.raises(Exception, match="another process"):
        end(session, None, job["id"], Ending("succeed", ""), now=1.0, fence="not mine")  # type: ignore[arg-type]  # refused first

    assert house.api.get(f"/jobs/{job['id']}")["state"] == "running"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"webhooks": (DESK, DESK)}, "have one name"),
        ({"webhooks": (WebhookSettings("a", "ftp://x/", "s"),)}, "expected https"),
        ({"webhooks": (WebhookSettings("a", "http://desk.example/", "s"),)}, "only to this machine"),
        ({"webhooks": (WebhookSettings("a", "https://me:pw@desk.example/", "s"),)}, "without a user"),
        ({"webhooks": (WebhookSettings("a", "https://desk.example/a b", "s"),)}, "no spaces"),
        ({"webhooks": (WebhookSettings("a", "https://desk.example:x/", "s"),)}, "webhook a"),
        ({"webhooks": (WebhookSettings("a", "https://d.example/", "s", kinds=("drift",)),)}, "a kind out of"),
        ({"jobs": (JobSettings("j", ("data-drift",)),)}, "a command or a webhook"),
        ({"jobs": (JobSettings("j", ("data-drift",), webhook="nobody"),)}, "no webhook"),
        ({"jobs": (JobSettings("j", ("rollout",), command=("true",)),)}, "a kind out of"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        check_receivers(Settings(**settings))
