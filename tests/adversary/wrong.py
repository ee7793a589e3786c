"""Wrong software and extraneous dependencies: signed, but not what was asked for, or more than that."""

from collections.abc import Callable
from typing import Any

import msgspec
from tuf.api.metadata import DelegatedRole, Delegations, Metadata

from adversary.scenario import MIRROR, After, Harmless, Kind, Play, Scenario
from adversary.world import World, contents
from muster_models.errors import Reason
from muster_models.manifest import encode
from muster_models.wire import DesiredModel
from support.repository import make_signer


def listed_as(change: Callable[[World], bytes]) -> Play:
    """List some bytes as ``digits`` 6.6.6, with the release key itself, and order them."""

    def play(world: World) -> Reason | None:
        device = world.device
        keys = world.repository.release_keys["digits"]
        role, order = world.forge_release(change(world), signers=keys)
        world.publish({"model-digits": role})
        return device.install(order)

    return play


def genuine_for(**changes: object) -> Play:
    """Release a version honestly that is not for this device, and order it."""

    def play(world: World) -> Reason | None:
        device = world.device
        return device.install(world.order(world.release("1.2.0", release=3, **changes)))

    return play


def with_files(*names: str) -> Callable[[World], bytes]:
    """Return a manifest whose files have these names."""

    def document(world: World) -> bytes:
        made = msgspec.json.decode(encode(world.repository.manifest(version="6.6.6", release=6)))
        for entry, name in zip(made["files"], names, strict=False):
            entry["name"] = name
        return msgspec.json.encode(made)

    return document


def with_field(name: str, value: object) -> Callable[[World], bytes]:
    """Return a manifest with a field replaced or added."""

    def document(world: World) -> bytes:
        made = msgspec.json.decode(encode(world.repository.manifest(version="6.6.6", release=6)))
        return msgspec.json.encode(made | {name: value})

    return document


def another_role_with_the_same_key(world: World) -> Reason | None:
    key = make_signer()
    for model in ("pumps", "valves"):
        world.repository.add_model(model, signers=[key])
        world.repository.release(contents(model), model=model)
    world.repository.release(contents("valve"), model="valves", version="1.1.0", release=2)
    document = world.repository.document("model-valves")
    pumps = world.listed("1.0.0", "pumps")
    device = world.device
    assert device.install(world.order(pumps)) is None
    world.publish({"model-pumps": document})
    came = device.install(world.order(pumps))
    assert device.start(pumps.digest, "pumps") is None
    assert world.restart().start(pumps.digest, "pumps") is None
    return came


def asks_for_nothing_else(world: World) -> Reason | None:
    device = world.device
    for name in ("extra.onnx", "requirements.txt", "setup.py"):
        world.serve(f"blobs/{name}", b"evil")
    came = device.install(world.order(world.new))
    asked = {path for path, _ in world.server.requests if path.startswith("/blobs/")}
    files = {entry.sha256 for entry in world.new.manifest.files}
    assert asked <= {f"/blobs/{name}" for name in files | {world.new.digest}}
    return came


def role_that_delegates(*, to_itself: bool) -> Play:
    """Let a model's role delegate its paths further, to a key of the attacker."""

    def play(world: World) -> Reason | None:
        device = world.device
        evil = make_signer()
        name = "model-digits" if to_itself else "model-evil"

        def delegate(signed: Any) -> None:
            role = DelegatedRole(name, [evil.public_key.keyid], 1, terminating=True, paths=["models/*/*/*"])
            signed.delegations = Delegations({evil.public_key.keyid: evil.public_key}, {name: role})

        keys = world.repository.release_keys["digits"]
        world.publish({"model-digits": world.forge("model-digits", delegate, signers=keys)})
        return device.install(world.order(world.new))

    return play


def paths_of_another_model(world: World) -> Reason | None:
    device = world.device
    evil = encode(world.repository.manifest(model="weather", version="6.6.6", release=6))
    keys = world.repository.release_keys["digits"]
    role, _ = world.forge_release(evil, signers=keys)

    def move(signed: Any) -> None:
        entry = signed.targets.pop("models/digits/6.6.6/manifest.json")
        entry.path = "models/weather/6.6.6/manifest.json"
        signed.targets[entry.path] = entry

    document: Metadata[Any] = Metadata.from_bytes(role)
    move(document.signed)
    document.sign(keys[0])
    world.publish({"model-digits": document.to_bytes()})
    return device.install(DesiredModel("weather", "6.6.6", world.repository.put_blob(evil).name))


RELEASE_AND_ONLINE = "the release key of the model, and the online keys"
_WRONG = Kind.WRONG
_STOLEN = After.NEW_ONLINE_KEYS
_RELEASE = After.NEW_RELEASE_KEY
BAD = Reason.BAD_MANIFEST
SCENARIOS = (
    Scenario(
        "other-model-listed",
        _WRONG,
        RELEASE_AND_ONLINE,
        "lists the manifest of another model as this one's",
        Reason.NOT_LISTED,
        listed_as(lambda world: world.weather.document),
        after=_RELEASE,
    ),
    Scenario(
        "other-version-listed",
        _WRONG,
        RELEASE_AND_ONLINE,
        "lists the manifest of an old version as a new one",
        Reason.NOT_LISTED,
        listed_as(lambda world: world.old.document),
        after=_RELEASE,
    ),
    Scenario(
        "no-manifest-listed",
        _WRONG,
        RELEASE_AND_ONLINE,
        "lists a model file where a manifest belongs",
        BAD,
        listed_as(lambda _world: b"\x08\x07\x12\x04onnx"),
        after=_RELEASE,
    ),
    Scenario(
        "shared-key-role",
        _WRONG,
        "the online keys",
        "serves one model's role as another's that has the same key",
        Reason.TAMPERED,
        another_role_with_the_same_key,
        after=_STOLEN,
    ),
    Scenario(
        "wrong-digest-ordered",
        _WRONG,
        "the director key",
        "orders this model with the manifest of another",
        Reason.NOT_LISTED,
        lambda world: world.device.install(DesiredModel("digits", "1.1.0", world.weather.digest)),
    ),
    Scenario(
        "wrong-hardware",
        _WRONG,
        "the director key",
        "orders a genuine version for other hardware",
        Reason.WRONG_HARDWARE,
        genuine_for(hardware=("riscv64",)),
    ),
    Scenario(
        "wrong-runtime",
        _WRONG,
        "the director key",
        "orders a genuine version for another engine",
        Reason.WRONG_RUNTIME,
        genuine_for(runtime="tflite"),
    ),
    Scenario(
        "newer-agent",
        _WRONG,
        "the director key",
        "orders a genuine version for a newer agent",
        Reason.AGENT_TOO_OLD,
        genuine_for(min_agent="99.0.0"),
    ),
    *(
        Scenario(
            f"file-name-{word}",
            _WRONG,
            RELEASE_AND_ONLINE,
            f"names a file {says}",
            BAD,
            listed_as(with_files(name)),
            after=_RELEASE,
        )
        for word, says, name in (
            ("parent", "`../../agent.toml`", "../../agent.toml"),
            ("absolute", "`/etc/passwd`", "/etc/passwd"),
            ("hidden", "`.profile`", ".profile"),
            ("nul", "with a NUL byte", "model\x00.onnx"),
            ("unicode", "in look-alike letters", "m\u043edel.onnx"),
            ("line", "with a line break at its end", "model.onnx\n"),
            ("long", "with 300 letters", "m" * 300),
        )
    ),
    Scenario(
        "file-names-repeat",
        _WRONG,
        RELEASE_AND_ONLINE,
        "gives two files one name",
        BAD,
        listed_as(with_files("model.onnx", "model.onnx")),
        after=_RELEASE,
    ),
    Scenario(
        "many-files",
        _WRONG,
        RELEASE_AND_ONLINE,
        "names 100,000 files in one manifest",
        Reason.TOO_LARGE,
        listed_as(
            with_field("files", [{"name": "a", "role": "card", "sha256": "0" * 64, "length": 1}] * 100_000)
        ),
        after=_RELEASE,
    ),
    Scenario(
        "negative-length",
        _WRONG,
        RELEASE_AND_ONLINE,
        "says that a file has -1 bytes",
        BAD,
        listed_as(with_field("files", [{"name": "a", "role": "model", "sha256": "0" * 64, "length": -1}])),
        after=_RELEASE,
    ),
    Scenario(
        "dependencies-field",
        Kind.EXTRANEOUS,
        RELEASE_AND_ONLINE,
        "adds a field of dependencies to the manifest",
        BAD,
        listed_as(with_field("dependencies", ["evil"])),
        after=_RELEASE,
    ),
    Scenario(
        "extra-files",
        Kind.EXTRANEOUS,
        MIRROR,
        "offers more files than the version has",
        Harmless("no path is asked for but those of the signed manifest"),
        asks_for_nothing_else,
    ),
    Scenario(
        "role-delegates",
        Kind.EXTRANEOUS,
        RELEASE_AND_ONLINE,
        "lets the model's role delegate to a key of his own",
        Reason.TAMPERED,
        role_that_delegates(to_itself=False),
        after=_RELEASE,
    ),
    Scenario(
        "role-delegates-to-itself",
        Kind.EXTRANEOUS,
        RELEASE_AND_ONLINE,
        "lets the model's role delegate to its own name",
        Harmless("a role is read once"),
        role_that_delegates(to_itself=True),
        after=_RELEASE,
    ),
    Scenario(
        "paths-of-another-model",
        Kind.EXTRANEOUS,
        RELEASE_AND_ONLINE,
        "lists a version of another model in the role that he holds",
        Reason.NOT_LISTED,
        paths_of_another_model,
        after=_RELEASE,
    ),
)
