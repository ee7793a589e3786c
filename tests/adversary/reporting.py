"""Reports on their way up: what a device, or a broker, can make the controller believe."""

import msgspec
from sqlmodel import select

from adversary.scenario import BROKER, Harmless, Kind, Limit, Play, Scenario
from adversary.world import World
from muster_controller import intake
from muster_controller.store import enrolment
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.tables import EventRecord, Refusal, Running, WindowRecord
from muster_models import topics, wire
from muster_models.errors import Reason
from support.controller import NOW, device_report, make_hello, make_window
from support.outboxes import open_outbox

MINE, OTHERS = "berlin-1", "oslo-1"
OTHER = "f" * 64


def event(sequence: int, **changes: object) -> wire.Event:
    return msgspec.structs.replace(wire.Event(MINE, 1, sequence, NOW, "refused"), **changes)


def send(world: World, topic: str, payload: bytes) -> Reason | None:
    """Let the controller take one message; return why it is refused."""
    before = counted(world)
    with Unit(world.ground.engine) as session:
        intake.store(session, [intake.read(topic, payload)], baselines=world.ground.baselines, now=NOW)
    new = [reason for reason, count in counted(world).items() if count > before.get(reason, 0)]
    return Reason(new[0]) if new else None


def counted(world: World) -> dict[str, int]:
    with Reading(world.ground.engine) as session:
        return {row.reason: row.count for row in session.exec(select(Refusal))}


def events(world: World) -> int:
    with Reading(world.ground.engine) as session:
        return len(session.exec(select(EventRecord)).all())


def as_itself(world: World, message: wire.Uplink) -> Reason | None:
    return send(world, topics.up(message.device, intake.KINDS[type(message)]), wire.encode(message))


def posing(kind: topics.Up) -> Play:
    """Send a message in the name of another device on the own topic."""

    def play(world: World) -> Reason | None:
        messages: dict[topics.Up, wire.Uplink] = {
            "hello": make_hello(OTHERS),
            "report": wire.Report(OTHERS, 1, 1, NOW, (device_report(OTHER),)),
            "event": event(1, device=OTHERS),
            "window": make_window(world.ground, OTHERS, 1),
        }
        came = send(world, topics.up(MINE, kind), wire.encode(messages[kind]))
        assert events(world) == 0
        return came

    return play


def replayed(world: World) -> Reason | None:
    """Repeat genuine messages: each counts once."""
    for _ in range(20):
        assert as_itself(world, event(1)) is None
        assert as_itself(world, make_window(world.ground, MINE, 2)) is None
    with Reading(world.ground.engine) as session:
        assert len(session.exec(select(WindowRecord)).all()) == 1
    assert events(world) == 1
    return None


def replayed_old_report(world: World) -> Reason | None:
    """Repeat an old report after a newer one under its old number: the newer one stands."""
    old = wire.Report(MINE, 1, 1, NOW, (device_report(OTHER),))
    new = wire.Report(MINE, 1, 2, NOW + 1, (device_report(world.ground.release.digest),))
    for report in (old, new, old):
        assert as_itself(world, report) is None
    with Reading(world.ground.engine) as session:
        assert session.exec(select(Running.current)).one() == world.ground.release.digest
    return None


def renamed_replay(world: World) -> Reason | None:
    """Send the message of another device again under the own name: it is one's own word then."""
    stolen = wire.Report(OTHERS, 1, 1, NOW, (device_report(world.ground.release.digest),))
    assert as_itself(world, stolen) is None
    assert as_itself(world, msgspec.structs.replace(stolen, device=MINE)) is None
    with Reading(world.ground.engine) as session:
        assert len(session.exec(select(Running)).all()) == 2
    return None


def revoked(world: World) -> Reason | None:
    with Unit(world.ground.engine) as session:
        enrolment.revoke(session, MINE, NOW)
    return as_itself(world, event(1))


def flooding(payload: bytes) -> Play:
    def play(world: World) -> Reason | None:
        came = send(world, topics.up(MINE, "event"), payload)
        assert as_itself(world, event(1)) is None
        return came

    return play


def window(**changes: object) -> Play:
    return lambda world: as_itself(world, make_window(world.ground, MINE, 1, **changes))


def far_ahead(world: World) -> Reason | None:
    """Number a message so that all later ones would wait for the gap: it is not taken, and nothing waits."""
    assert as_itself(world, event(2**52)) is None
    assert as_itself(world, event(1)) is None
    assert events(world) == 1
    return None


def future_event(world: World) -> Reason | None:
    assert as_itself(world, event(1, at=2.0**39)) is None
    with Reading(world.ground.engine) as session:
        assert session.exec(select(EventRecord)).one().at == int(NOW + intake.AHEAD_SECONDS) * 1000
    return None


def dropped_reports(world: World) -> Reason | None:
    """Drop everything that goes up: the device keeps it and offers it again."""
    outbox = open_outbox(world.folder / "outbox.sqlite")
    for number in range(5):
        outbox.add_event("refused", detail=str(number))
    offered = [outbox.batch(after=0, limit=10) for _ in range(3)]
    outbox.close()
    assert [len(batch) for batch in offered] == [5, 5, 5]
    return None


def forged_watermark(world: World) -> Reason | None:
    """Tell a device that everything is stored: what waits is forgotten, and what comes later is not."""
    outbox = open_outbox(world.folder / "outbox.sqlite")
    outbox.add_event("refused", detail="before")
    (sequence, _, _), *_ = outbox.batch(after=0, limit=10)
    outbox.stored(wire.Stored(outbox.status().epoch, sequence))
    outbox.stored(wire.Stored(outbox.status().epoch, 2**53))
    outbox.stored(wire.Stored(7, 2**53))
    outbox.add_event("refused", detail="after")
    waiting = outbox.batch(after=0, limit=10)
    outbox.close()
    assert len(waiting) == 1
    return None


_REPORTS = Kind.REPORTS
DEVICE = "one enrolled device"
SCENARIOS = (
    *(
        Scenario(
            f"pose-{kind}",
            _REPORTS,
            DEVICE,
            f"sends a {kind} in the name of another device",
            Reason.WRONG_DEVICE,
            posing(kind),
        )
        for kind in ("hello", "report", "event", "window")
    ),
    Scenario(
        "report-revoked",
        _REPORTS,
        "a device that was revoked",
        "goes on reporting",
        Reason.WRONG_DEVICE,
        revoked,
    ),
    Scenario(
        "report-unknown",
        _REPORTS,
        BROKER,
        "reports as a device that nobody enrolled",
        Reason.WRONG_DEVICE,
        lambda world: as_itself(world, event(1, device="nobody-1")),
    ),
    Scenario(
        "report-wrong-topic",
        _REPORTS,
        DEVICE,
        "sends an event on the topic for windows",
        Reason.BAD_MESSAGE,
        lambda world: send(world, topics.up(MINE, "window"), wire.encode(event(1))),
    ),
    Scenario(
        "report-foreign-shard",
        _REPORTS,
        BROKER,
        "sends on a shard that is not the device's",
        Reason.BAD_MESSAGE,
        lambda world: send(world, f"muster/v1/00/{MINE}/up/event", wire.encode(event(1))),
    ),
    Scenario(
        "report-garbage", _REPORTS, DEVICE, "sends random bytes", Reason.BAD_MESSAGE, flooding(b"\xff" * 100)
    ),
    Scenario(
        "report-deep",
        _REPORTS,
        DEVICE,
        "sends 100,000 nested lists",
        Reason.BAD_MESSAGE,
        flooding(b"\x91" * 100_000),
    ),
    Scenario(
        "report-huge",
        _REPORTS,
        DEVICE,
        "sends more than a message may have",
        Reason.TOO_LARGE,
        flooding(b"\x00" * (wire.MAX_BYTES + 1)),
    ),
    Scenario(
        "report-huge-count",
        _REPORTS,
        DEVICE,
        "announces 2^32 entries",
        Reason.BAD_MESSAGE,
        flooding(b"\xdf\xff\xff\xff\xff"),
    ),
    Scenario(
        "window-other-baseline",
        _REPORTS,
        DEVICE,
        "measures against another baseline",
        Reason.BAD_SKETCH,
        window(baseline=OTHER),
    ),
    Scenario(
        "window-other-model",
        _REPORTS,
        DEVICE,
        "reports a version as another model's",
        Reason.BAD_SKETCH,
        window(model="weather"),
    ),
    Scenario(
        "window-bad-sketch",
        _REPORTS,
        DEVICE,
        "sends a sketch that is none",
        Reason.BAD_SKETCH,
        window(sketch=b"\x01\x00\x05junk"),
    ),
    Scenario(
        "window-more-errors-than-calls",
        _REPORTS,
        DEVICE,
        "reports more errors than calls",
        Reason.BAD_MESSAGE,
        window(errors=101),
    ),
    Scenario(
        "window-in-the-future",
        _REPORTS,
        DEVICE,
        "reports a window of next week",
        Reason.BAD_MESSAGE,
        window(end=NOW + 10 * 86_400.0),
    ),
    Scenario(
        "event-in-the-future",
        _REPORTS,
        DEVICE,
        "reports an event of the year 19404",
        Harmless("it is stored for tomorrow at the latest"),
        future_event,
    ),
    Scenario(
        "report-replayed",
        _REPORTS,
        BROKER,
        "repeats every message 20 times",
        Harmless("(device, epoch, sequence) is stored once"),
        replayed,
    ),
    Scenario(
        "old-report-replayed",
        _REPORTS,
        BROKER,
        "repeats an old report after a newer one",
        Harmless("the newer one stands"),
        replayed_old_report,
    ),
    Scenario(
        "report-renamed",
        _REPORTS,
        "one enrolled device that hears another",
        "sends the report of another device as its own",
        Limit("a device can always lie about itself, and about no other"),
        renamed_replay,
    ),
    Scenario(
        "sequence-runs-away",
        _REPORTS,
        DEVICE,
        "numbers a message 2^52",
        Harmless("it is not taken, and nothing waits for the gap"),
        far_ahead,
    ),
    Scenario(
        "reports-dropped",
        _REPORTS,
        BROKER,
        "drops every report",
        Harmless("they wait on the device and are offered again"),
        dropped_reports,
    ),
    Scenario(
        "watermark-forged",
        _REPORTS,
        BROKER,
        "says that everything is stored",
        Limit("what waits at that moment is lost; what comes later is not"),
        forged_watermark,
    ),
)
