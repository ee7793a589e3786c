"""False orders: what a broker, a second controller or a stolen director can say to a device."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signer

from adversary.scenario import BROKER, DIRECTOR, Harmless, Kind, Limit, Play, Scenario
from adversary.world import World
from muster_models.errors import Reason
from muster_models.trust.director import PAYLOAD_TYPE
from muster_models.wire import Desired, DesiredModel, encode_desired
from support.repository import SignedRepository, make_signer


def signed(repository: SignedRepository, payload: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    """Return any payload in an envelope by the director's key."""
    envelope = Envelope(payload, kind, {})
    envelope.sign(repository.director_key)
    return json.dumps(envelope.to_dict()).encode()


def saying(change: Mapping[str, object], *, model: Mapping[str, object] | None = None) -> Play:
    """Sign an order with fields changed or added."""

    def play(world: World) -> Reason | None:
        repository = world.repository
        content: dict[str, Any] = json.loads(encode_desired(repository.desired(world.new)))
        content |= change
        if model is not None:
            content["models"][0] |= model
        device = world.device
        came = device.obey(signed(repository, json.dumps(content).encode()))
        assert came is None or not device.wanted
        return came

    return play


def by(signer: Callable[[SignedRepository], Signer]) -> Play:
    def play(world: World) -> Reason | None:
        repository = world.repository
        device = world.device
        came = device.obey(repository.envelope(repository.desired(world.new), signer=signer(repository)))
        assert not device.wanted
        return came

    return play


def tampered(change: Callable[[dict[str, Any]], object]) -> Play:
    """Change a genuine envelope on its way."""

    def play(world: World) -> Reason | None:
        repository = world.repository
        envelope = json.loads(repository.envelope(repository.desired(world.new)))
        change(envelope)
        return world.device.obey(json.dumps(envelope).encode())

    return play


def other_payload(envelope: dict[str, Any]) -> None:
    payload = base64.b64decode(envelope["payload"]).replace(b'"1.1.0"', b'"1.0.0"')
    envelope["payload"] = base64.b64encode(payload).decode()


def garbage(content: bytes) -> Play:
    return lambda world: world.device.obey(content)


def replay(world: World) -> Reason | None:
    """Repeat an order of last week."""
    repository = world.repository
    device = world.device
    first = repository.envelope(repository.desired(world.old, sequence=1))
    assert device.obey(first) is None
    assert device.obey(repository.envelope(repository.desired(world.new, sequence=2))) is None
    came = device.obey(first)
    assert device.wanted == {"digits": "1.1.0"}
    return came


def replay_after_restart(world: World) -> Reason | None:
    repository = world.repository
    device = world.device
    first = repository.envelope(repository.desired(world.old, sequence=1))
    assert device.obey(first) is None
    assert device.obey(repository.envelope(repository.desired(world.new, sequence=2))) is None
    return world.restart().obey(first)


def repeat_newest(world: World) -> Reason | None:
    repository = world.repository
    device = world.device
    newest = repository.envelope(repository.desired(world.new, sequence=2))
    for _ in range(50):
        assert device.obey(newest) is None
    assert device.course.state.sequence == 2
    return None


def dropped(world: World) -> Reason | None:
    """Drop an order; the next one says all that counts, and the greeting tells what the device holds."""
    repository = world.repository
    device = world.device
    assert device.obey(repository.envelope(repository.desired(world.old, sequence=1))) is None
    assert device.course.state.sequence == 1  # what the next greeting says
    assert device.obey(repository.envelope(repository.desired(world.new, sequence=3))) is None
    assert device.wanted == {"digits": "1.1.0"}
    return None


def dropped_for_ever(world: World) -> Reason | None:
    """Drop everything: the device goes on with what it has, and still looks at the repository."""
    device = world.device
    world.repository.withdraw("digits", "1.0.0")
    assert device.refresh() is None
    assert device.start(world.old.digest) is Reason.NOT_LISTED
    return None


def wrong_device(device_name: str) -> Play:
    def play(world: World) -> Reason | None:
        repository = world.repository
        desired = msgspec.structs.replace(repository.desired(world.new), device=device_name)
        return world.device.obey(repository.envelope(desired))

    return play


def expired(world: World) -> Reason | None:
    repository = world.repository
    device = world.device
    device.refresh()
    envelope = repository.envelope(repository.desired(world.new, days=1))
    world.pass_days(2)
    return device.obey(envelope)


def second_controller(world: World) -> Reason | None:
    """Another controller with its own repository and director talks to the device through the broker."""
    device = world.device
    other = SignedRepository(world.folder / "other", now=world.repository.now)
    return device.obey(other.envelope(other.desired(sequence=100)))


def same_sequence(world: World) -> Reason | None:
    """Two controllers with one key give two orders of one number: the last that comes counts."""
    repository = world.repository
    device = world.device
    assert device.obey(repository.envelope(repository.desired(world.old, sequence=1))) is None
    assert device.obey(repository.envelope(repository.desired(world.new, sequence=1))) is None
    assert device.wanted == {"digits": "1.1.0"}
    assert device.obey(repository.envelope(repository.desired(world.old, sequence=2))) is None
    assert device.wanted == {"digits": "1.0.0"}
    return None


def partial_bundle(world: World) -> Reason | None:
    """An order for two models of which one cannot be had: the other one is installed."""
    repository = world.repository
    device = world.device
    missing = DesiredModel("digits", "7.0.0", "7" * 64)
    desired = repository.desired(world.weather)
    both = Desired(desired.device, 1, desired.issued, desired.expires, (*desired.models, missing))
    assert device.obey(repository.envelope(both)) is None
    assert device.wanted == {"weather": "1.0.0", "digits": "7.0.0"}
    assert device.install(desired.models[0]) is None
    return device.install(missing)


def one_model_twice(world: World) -> Reason | None:
    repository = world.repository
    device = world.device
    assert device.obey(repository.envelope(repository.desired(world.new, world.old))) is None
    assert device.wanted == {"digits": "1.0.0"}
    return None


def bad_setting(value: float) -> Play:
    """Order a genuine version with a setting that its manifest does not declare."""
    return lambda world: world.device.install(world.order(world.new, settings={"threshold": value}))


def many_signatures(envelope: dict[str, Any]) -> None:
    envelope["signatures"] = [
        {"keyid": f"{number:064x}", "sig": "AAAA"} for number in range(1000)
    ] + envelope["signatures"]


_ORDERS = Kind.ORDERS
BAD = Reason.BAD_MESSAGE
SCENARIOS = (
    *(
        Scenario(
            f"order-by-{who}",
            _ORDERS,
            f"{who.replace('-', ' ')} key, and the broker",
            "signs an order",
            Reason.WRONG_KEY,
            by(key),
        )
        for who, key in (
            ("a-stranger's", lambda _r: make_signer()),
            ("the-release", lambda r: r.release_keys["digits"][0]),
            ("the-timestamp", lambda r: r.timestamp_key),
            ("the-targets", lambda r: r.targets_key),
            ("a-root", lambda r: r.roots[0]),
        )
    ),
    Scenario(
        "order-unsigned",
        _ORDERS,
        BROKER,
        "removes the signature",
        Reason.UNSIGNED,
        tampered(lambda envelope: envelope.update(signatures=[])),
    ),
    Scenario(
        "order-changed",
        _ORDERS,
        BROKER,
        "changes the version in an order",
        Reason.TAMPERED,
        tampered(other_payload),
    ),
    Scenario(
        "order-of-another-type",
        _ORDERS,
        BROKER,
        "changes the type of the payload",
        BAD,
        tampered(lambda envelope: envelope.update(payloadType="text/plain")),
    ),
    Scenario(
        "order-many-signatures",
        _ORDERS,
        BROKER,
        "adds 1,000 signatures of nobody",
        Harmless("only keys of the director are looked at"),
        tampered(many_signatures),
    ),
    Scenario(
        "order-huge",
        _ORDERS,
        BROKER,
        "sends an envelope of 1 MiB",
        Reason.TOO_LARGE,
        garbage(b"x" * (1 << 20)),
    ),
    Scenario("order-deep", _ORDERS, BROKER, "sends 100,000 open brackets", BAD, garbage(b"[" * 100_000)),
    Scenario("order-garbage", _ORDERS, BROKER, "sends random bytes", BAD, garbage(b"\x00\xff\x80")),
    Scenario("order-replayed", _ORDERS, BROKER, "repeats an order of last week", Reason.REPLAYED, replay),
    Scenario(
        "order-replayed-after-restart",
        _ORDERS,
        BROKER,
        "repeats an old order after a restart",
        Reason.REPLAYED,
        replay_after_restart,
    ),
    Scenario(
        "order-repeated",
        _ORDERS,
        BROKER,
        "repeats the newest order 50 times",
        Harmless("the same order changes nothing"),
        repeat_newest,
    ),
    Scenario(
        "order-dropped",
        _ORDERS,
        BROKER,
        "drops an order (drop-request)",
        Harmless("the greeting says which order is held; any later order says everything"),
        dropped,
    ),
    Scenario(
        "orders-dropped-for-ever",
        _ORDERS,
        BROKER,
        "drops every order",
        Limit("the device keeps its version; what it reads in the repository itself still counts"),
        dropped_for_ever,
        runs=False,
    ),
    Scenario(
        "order-for-another-device",
        _ORDERS,
        BROKER,
        "delivers the order of another device",
        Reason.WRONG_DEVICE,
        wrong_device("berlin-2"),
    ),
    Scenario(
        "order-expired", _ORDERS, BROKER, "keeps an order back until it has expired", Reason.EXPIRED, expired
    ),
    Scenario(
        "second-controller",
        _ORDERS,
        "another fleet's controller, and the broker",
        "orders with its own director",
        Reason.WRONG_KEY,
        second_controller,
    ),
    Scenario(
        "two-controllers-one-key",
        _ORDERS,
        "a second copy of the controller",
        "gives another order of the same number",
        Limit("of two orders by the true key with one number the last counts, until a higher number comes"),
        same_sequence,
    ),
    Scenario(
        "partial-bundle",
        _ORDERS,
        DIRECTOR,
        "orders two models of which one does not exist",
        Reason.NOT_LISTED,
        partial_bundle,
    ),
    Scenario(
        "one-model-twice",
        _ORDERS,
        DIRECTOR,
        "orders two versions of one model at once",
        Harmless("the last one counts"),
        one_model_twice,
    ),
    Scenario(
        "setting-undeclared",
        _ORDERS,
        DIRECTOR,
        "orders a setting that the manifest does not declare",
        Reason.BAD_SETTING,
        bad_setting(1.0),
    ),
    *(
        Scenario(
            f"order-model-{word}",
            _ORDERS,
            DIRECTOR,
            f"orders a model named {says}",
            BAD,
            saying({}, model={"model": name}),
        )
        for word, says, name in (
            ("capitals", "`Digits`", "Digits"),
            ("look-alike", "with a Cyrillic letter", "d\u0456gits"),
            ("parent", "`../digits`", "../digits"),
            ("line", "with a line break at its end", "digits\n"),
            ("full-width", "in full-width letters", "\uff44\uff49\uff47\uff49\uff54\uff53"),
            ("long", "with 300 letters", "d" * 300),
            ("empty", "nothing", ""),
        )
    ),
    *(
        Scenario(f"order-{word}", _ORDERS, DIRECTOR, f"signs an order {says}", BAD, saying(change))
        for word, says, change in (
            ("unknown-field", "with an unknown field", {"run": "rm -rf /"}),
            ("format", "of a later format", {"format": 2}),
            ("negative-sequence", "with a negative number", {"sequence": -1}),
            ("sequence-too-large", "with a number above 2^53", {"sequence": 2**53 + 1}),
            ("no-number", "whose expiry is no number", {"expires": "never"}),
            ("no-models", "whose models are no list", {"models": {"digits": "1.1.0"}}),
        )
    ),
    Scenario(
        "order-many-models",
        _ORDERS,
        DIRECTOR,
        "orders 10,000 models at once",
        Reason.TOO_LARGE,
        saying({"models": [{"model": "digits", "version": "1.1.0", "manifest": "0" * 64}] * 10_000}),
    ),
    Scenario(
        "order-version-path",
        _ORDERS,
        DIRECTOR,
        "orders a version named `../1.0.0`",
        BAD,
        saying({}, model={"version": "../1.0.0"}),
    ),
    Scenario(
        "order-digest-capitals",
        _ORDERS,
        DIRECTOR,
        "orders a digest in capitals",
        BAD,
        saying({}, model={"manifest": "A" * 64}),
    ),
    Scenario(
        "order-endless-probation",
        _ORDERS,
        DIRECTOR,
        "orders a probation of a year",
        BAD,
        saying({}, model={"probation_seconds": 3.2e7}),
    ),
    Scenario(
        "order-quiet",
        _ORDERS,
        DIRECTOR,
        "orders a window every microsecond",
        BAD,
        saying({"reporting": {"window_seconds": 1e-6}}),
    ),
)
